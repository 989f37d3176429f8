"""Making the groups and arrays of a whole OME-Zarr: all of them or none, and nothing in place of what is not their own."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Self

from bioimage_py.errors import Hint, InvalidArgumentError, OutputExistsError
from bioimage_py.metadata import Level, label_names
from bioimage_py.sources.base import Source
from bioimage_py.sources.new import plan_output
from bioimage_py.sources.ome_zarr.listing import joined_key
from bioimage_py.sources.ome_zarr.mirror import Mirror, MirroredLevel
from bioimage_py.sources.ome_zarr.writing import GROUP_FILES, make_in_rooms, register_label, write_attributes
from bioimage_py.sources.opening import as_source
from bioimage_py.sources.stores import (
    aside_of_the_dead,
    check_room,
    group_attributes,
    is_abandoned,
    level_paths,
    removable_array,
    remove_array,
    update_consolidated,
)
from bioimage_py.sources.zarr import group_files, read_node, store_rules
from bioimage_py.storage import StoreFolder


def make_mirror(mirror: Mirror, levels: Sequence[MirroredLevel], *, overwrite: bool) -> None:
    """Make all groups and arrays; what was there comes back, and what was made goes, if that fails."""
    root = StoreFolder.at(mirror.group.path)
    folder = root.inside(mirror.group.key)
    attributes = mirror.attributes()
    old = _check_room(mirror, levels, attributes, overwrite=overwrite)
    with ExitStack() as rooms:
        new = ((level.key, level.making, level.attributes) for level in levels)
        make_in_rooms(rooms, root, new, overwrite=overwrite)
        undo = rooms.enter_context(_Kept())
        for key, said in attributes.items():
            place = folder.inside(key)
            undo.keep(place)
            for name, content in group_files(mirror.zarr_format).items():
                if place.read(name) is None:
                    place.write_json(name, content)
            write_attributes(place, _with_old_labels(key, said, place), mirror.zarr_format, fresh=True)
        for name, data in mirror.tree.files.items():
            undo.keep_file(folder, name)
            folder.inside(name.rpartition("/")[0]).write(name.rpartition("/")[2], data)
        if mirror.group.key is not None:
            undo.keep(root.inside("labels"))
            register_label(root.inside("labels"), mirror.group.name, mirror.zarr_format)
    for array in old:
        remove_array(array)
    groups = {key: folder.child(key) for key in attributes}
    arrays = [root.child(level.key) for level in levels]
    update_consolidated(
        [*groups.values(), *arrays, *old], [groups[key] for key in mirror.tree.consolidated if key in groups]
    )


def check_mirror(mirror: Mirror, levels: Sequence[MirroredLevel], *, overwrite: bool) -> None:
    """Raise what `make_mirror` would raise before it makes anything."""
    _check_room(mirror, levels, mirror.attributes(), overwrite=overwrite)
    root, rules = StoreFolder.at(mirror.group.path), store_rules(mirror.zarr_format)
    for level in levels:
        check_room(root, level.key, overwrite, rules)


def _check_room(
    mirror: Mirror, levels: Sequence[MirroredLevel], attributes: Mapping[str, Any], *, overwrite: bool
) -> list[StoreFolder]:
    """Return the arrays of what is there that have no successor, after checking that all of it may be replaced."""
    root = StoreFolder.at(mirror.group.path)
    folder = root.inside(mirror.group.key)
    if folder.is_local and not os.path.lexists(folder.path):
        return []
    there = read_node(folder) is not None or bool(folder.entries_if_local())
    if there and not overwrite and not is_abandoned(folder):
        raise OutputExistsError(
            f"{folder.path} is there already",
            hints=[Hint.of("to replace it, give {}", overwrite=True), Hint("or choose another path")],
        )
    new = {level.key.removeprefix(mirror.group.key or "").strip("/") for level in levels}
    old = []
    for key in attributes:
        place = folder.inside(key)
        listed = [joined_key(key, path) for path in level_paths(group_attributes(place))]
        old += [path for path in listed if path not in new]
    if old and not folder.is_local:
        raise OutputExistsError(
            f"{folder.path} has levels that cannot be removed from here ({', '.join(old)}): remove it first"
        )
    strange = list(_strange(folder, attributes, {*new, *old, *mirror.tree.files}))
    if strange:
        raise OutputExistsError(
            f"{folder.path} also holds {', '.join(strange[:5])}{', …' if len(strange) > 5 else ''}, which {mirror.tree.name} does "
            "not have: choose another path, or remove it yourself"
        )
    rules = store_rules(mirror.zarr_format)
    found = [removable_array(folder, key, rules) for key in dict.fromkeys(old)]
    return [array for array in found if array is not None]


class _Kept:
    """Metadata files of groups as they were, for the case that making the new ones fails."""

    def __init__(self) -> None:
        self._files: list[tuple[StoreFolder, str, bytes | None]] = []
        self._new: list[str] = []

    def keep(self, group: StoreFolder) -> None:
        if group.is_local and not os.path.lexists(group.path):
            self._new.append(group.path)
        for name in ("zarr.json", ".zgroup", ".zattrs", ".zmetadata"):
            self._files.append((group, name, group.read(name)))

    def keep_file(self, folder: StoreFolder, key: str) -> None:
        above, _, name = key.rpartition("/")
        place = folder.child(above)
        self._files.append((place, name, place.read(name)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            return
        for folder, name, data in reversed(self._files):
            if data is None:
                folder.delete(name)
            else:
                folder.write(name, data)
        for path in reversed(self._new):
            with suppress(OSError):
                os.rmdir(path)  # noqa: PTH106 - and nothing that somebody else has put there


def _with_old_labels(key: str, said: dict[str, Any], place: StoreFolder) -> dict[str, Any]:
    if key.rpartition("/")[2] != "labels":
        return said
    names = label_names(said)
    stay = [name for name in label_names(group_attributes(place)) if name not in names]
    if not stay:
        return said
    if isinstance(said.get("ome"), Mapping):
        return {**said, "ome": {**said["ome"], "labels": [*names, *stay]}}
    return {**said, "labels": [*names, *stay]}


def _strange(folder: StoreFolder, groups: Mapping[str, Any], known: set[str]) -> list[str]:
    """Return what is in the groups of an OME-Zarr that is to be replaced, and is not part of it."""
    if not folder.is_local:
        return []
    around = {"/".join(key.split("/")[:n]) for key in known for n in range(1, key.count("/") + 1)}
    found = []
    for group in groups:
        labels = group.rpartition("/")[2] == "labels"
        stay = label_names(group_attributes(folder.child(group))) if labels else ["labels"]
        for entry in folder.child(group).entries():
            key = joined_key(group, entry.name)
            aside = aside_of_the_dead(entry.name)
            if (
                key not in groups
                and key not in known
                and key not in around
                and entry.name not in {*GROUP_FILES, *stay}
                and (aside is None or joined_key(group, aside) not in known)
            ):
                found.append(key)
    return found


def create_ome_zarr(
    path: str | os.PathLike[str],
    *,
    like: Any = None,
    levels: Sequence[Sequence[float] | Level] = (),
    overwrite: bool = False,
    **new_array: Any,
) -> list[Source]:
    """Make an OME-Zarr image with all its levels and metadata; the voxels are the caller's to write.

    Parameters
    ----------
    path
        `"out.ome.zarr"`, or `"out.ome.zarr/labels/cells"` for a label image in it. Zarr v3 makes an OME-Zarr 0.5, and
        `zarr_format=2` a 0.4.
    like
        An array, handle, path or source, for shape, dtype and metadata.
    levels
        The levels below the full-size one: by how much their voxels are larger than full-size voxels, per axis, such as
        `[(1, 2, 2), (2, 4, 4)]`. Shapes are the ceilings of the divisions, and the first voxel lies where the mean of a window of
        voxels lies. A `Level` says otherwise.
    overwrite
        Whether an image that is there is replaced; its labels stay.
    **new_array
        As for `create_output`: shape, dtype, chunks, shards, codec, zarr_format, fill_value, attributes, axes, voxel_size, units.

    Returns
    -------
    list of Source
        The levels, full size first, under the keys "0", "1", ….

    Raises
    ------
    InvalidArgumentError
        If a level has another number of factors than there are axes, one is below 1, or OME-Zarr cannot describe the axes.
    OutputExistsError
        If an image is there and `overwrite` is False, or something else is.

    Examples
    --------
    >>> import tempfile
    >>> image = tempfile.mkdtemp() + "/a.ome.zarr"
    >>> made = create_ome_zarr(image, shape=(9, 64, 64), dtype="uint8", voxel_size=(2, 0.5, 0.5), levels=[(1, 2, 2)])
    >>> [(level.key, level.shape, level.metadata.voxel_size, level.metadata.origin) for level in made]
    [('0', (9, 64, 64), (2.0, 0.5, 0.5), None), ('1', (9, 32, 32), (2.0, 1.0, 1.0), (0.0, 0.25, 0.25))]
    """
    planned = plan_output(path, like=None if like is None else as_source(like), **new_array)
    if planned.image_key is None:
        raise InvalidArgumentError(
            f"{planned.name!r} is not a place for an OME-Zarr image: give a path that ends in .ome.zarr, or the key labels/… in one"
        )
    coarser = [_level(n, given, len(planned.spec.shape)) for n, given in enumerate(levels, 1)]
    return planned.create_levels(coarser, overwrite=overwrite)


def _level(number: int, given: Any, ndim: int) -> Level:
    level = given if isinstance(given, Level) else Level(str(number), tuple(given))
    if len(level.factors) != ndim or not all(math.isfinite(f) and f >= 1 for f in level.factors):
        raise InvalidArgumentError(
            f"level {number} needs one factor of at least 1 per axis, {ndim} in all, got {level.factors}"
        )
    return level
