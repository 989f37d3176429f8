"""Making OME-Zarr images and label images: a group, its levels, and the metadata that viewers read."""

from __future__ import annotations

import itertools
import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

from bioimage_py.errors import BioimagePyWarning, Hint, InvalidArgumentError, OutputExistsError
from bioimage_py.metadata import (
    RESERVED,
    VERSIONS,
    ImageMetadata,
    Level,
    has_systems,
    image_attributes,
    images_of,
    label_names,
    ome_of,
)
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import Source
from bioimage_py.sources.ome_zarr.image_group import ImageGroup
from bioimage_py.sources.ome_zarr.listing import joined_key, version_of
from bioimage_py.sources.registry import family_of
from bioimage_py.sources.stores import (
    Node,
    aside_of_the_dead,
    check_room,
    group_attributes,
    is_abandoned,
    is_listed,
    level_paths,
    mark_new,
    new_container,
    own_record,
    removable_array,
    remove_array,
    room_for_array,
    try_out,
    update_consolidated,
)
from bioimage_py.sources.zarr import (
    ARRAY_FILES,
    described_array,
    group_files,
    image_metadata,
    make_zarr_array,
    read_node,
    store_rules,
    tensorstore_spec,
)
from bioimage_py.storage import StoreFolder, is_leftover

_log = logging.getLogger(__name__)

OME_XML = "OME/METADATA.ome.xml"
"""Where bioformats2raw keeps the OME-XML."""
GROUP_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata", ".DS_Store")


@dataclass(frozen=True)
class NewLevel:
    """One array of an image to be made."""

    key: str  # in its container
    spec: ArraySpec
    making: Mapping[str, Any]  # how TensorStore makes it
    attributes: Mapping[str, Any]  # its own, beyond what the group says

    @classmethod
    def planned(
        cls,
        key: str,
        spec: ArraySpec,
        stored: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> NewLevel:
        """Return how an array is made: with the metadata `stored` where Zarr can; what the group says is not said twice."""
        own = dict(attributes or {})
        if stored is not None:
            making = tensorstore_spec(stored)
            try:
                try_out(making)
            except InvalidArgumentError as error:
                _log.debug("%s is encoded again: %s", key, error)
            else:
                return cls(key, spec, making, own)
        alone = replace(spec, metadata=ImageMetadata(axes=spec.metadata.axes))
        making, said = described_array(alone)
        said.pop("axes", None)
        return cls(key, spec, making, {**said, **own})


@dataclass(frozen=True)
class NewImage:
    """The groups and arrays of an OME-Zarr to be made: all of them or none, and nothing in place of what is not their own."""

    group: ImageGroup
    zarr_format: int
    attributes: Mapping[
        str, Mapping[str, Any]
    ]  # of its groups, by their keys below `group`, whose own is `""`
    levels: Sequence[NewLevel]
    # What else is in it, by key; None for what is removed with the image that is replaced.
    files: Mapping[str, bytes | None] = field(default_factory=dict)
    consolidated: Sequence[str] = ()  # keys of groups that get consolidated metadata
    in_free_place: bool = (
        False  # whether it is made in place of nothing, not even of a group without an image
    )

    def check(self, *, overwrite: bool) -> None:
        """Raise what `make` would raise before it makes anything."""
        self._replaced(overwrite=overwrite)
        root, rules = StoreFolder.at(self.group.path), store_rules(self.zarr_format)
        # Where there is no container yet, there is room for all arrays or for none.
        there = not root.is_local or os.path.lexists(root.path)
        for level in self.levels if there else self.levels[:1]:
            check_room(root, level.key, overwrite, rules)

    def make(self, *, overwrite: bool) -> None:
        """Make all groups and arrays; what was there comes back, and what was made goes, if that fails."""
        root = StoreFolder.at(self.group.path)
        if root.is_local and not os.path.lexists(root.path):
            self._make_container(root)
            return
        folder = root.inside(self.group.key)
        there, old = self._replaced(overwrite=overwrite)
        with ExitStack() as rooms:
            make_in_rooms(rooms, root, self.levels, overwrite=overwrite)
            undo = rooms.enter_context(_Kept())
            for key, said in self.attributes.items():
                place = folder.inside(key)
                undo.keep(place)
                for entry in place.entries_if_local() if overwrite else ():
                    if is_leftover(entry.name):
                        os.unlink(entry.path)  # noqa: PTH108 - scandir gives texts
                for name, content in group_files(self.zarr_format).items():
                    if place.read(name) is None:
                        place.write_json(name, content)
                listed = label_names(group_attributes(place)) if _is_of_labels(key) else ()
                write_attributes(place, said, self.zarr_format, fresh=there)
                for name in listed:
                    register_label(place, name, self.zarr_format)
            for name, data in {**dict.fromkeys(own_record(folder)), **self.files}.items():
                undo.keep_file(folder, name)
                place, last = folder.inside(name.rpartition("/")[0]), name.rpartition("/")[2]
                if data is None:
                    place.delete(last)
                else:
                    place.write(last, data)
            if self.group.key is not None:
                undo.keep(root.inside("labels"))
                register_label(root.inside("labels"), self.group.name, self.zarr_format)
        for array in old:
            remove_array(array)
        self._consolidate(root, old)

    def _consolidate(self, root: StoreFolder, removed: Sequence[StoreFolder] = ()) -> None:
        folder = root.child(self.group.key)
        groups = {key: folder.child(key) for key in self.attributes}
        arrays = [root.child(level.key) for level in self.levels]
        kept = [groups[key] for key in self.consolidated if key in groups]
        update_consolidated([*groups.values(), *arrays, *removed], kept)

    def _make_container(self, root: StoreFolder) -> None:
        """Make the container too, in which nothing has to be looked at then; of equal arrays each after the first has its files."""
        folder = root.child(self.group.key)
        made: dict[tuple[int, int], dict[str, bytes]] = {}
        with new_container(root, self.levels[0].key, store_rules(self.zarr_format)):
            for level in self.levels:
                place, kind = root.child(level.key), (id(level.making), id(level.attributes))
                mark_new(place)
                if kind not in made:
                    make_zarr_array(level.making, level.attributes, place)
                    read = ((name, place.read(name)) for name in ARRAY_FILES)
                    made[kind] = {name: content for name, content in read if content is not None}
                else:
                    for name, content in made[kind].items():
                        place.write(name, content)
            for key, said in self.attributes.items():
                for name, document in group_files(self.zarr_format, said).items():
                    folder.child(key).write_json(name, document)
            for name, data in self.files.items():
                if data is not None:
                    folder.child(name.rpartition("/")[0]).write(name.rpartition("/")[2], data)
            if self.group.key is not None:
                register_label(root.child("labels"), self.group.name, self.zarr_format)
        if self.consolidated or is_listed(root):
            self._consolidate(root)

    def _replaced(self, *, overwrite: bool) -> tuple[bool, list[StoreFolder]]:
        """Return whether something is replaced, and the arrays that have no successor, after checking that all of it may be."""
        folder = StoreFolder.at(self.group.path).inside(self.group.key)
        if folder.is_local and not os.path.lexists(folder.path):
            return False, []
        listed = [
            joined_key(key, path)
            for key in self.attributes
            for path in level_paths(group_attributes(folder.inside(key)))
        ]
        there = bool(listed)
        if self.in_free_place:
            there = read_node(folder) is not None or bool(folder.entries_if_local())
        if there and not overwrite and not is_abandoned(folder):
            raise OutputExistsError(
                f"{folder.path} is {'there' if self.in_free_place else 'an OME-Zarr image'} already",
                hints=[Hint.of("to replace it, give {}", overwrite=True), Hint("or choose another path")],
            )
        new = {level.key.removeprefix(self.group.key or "").strip("/") for level in self.levels}
        old = [key for key in dict.fromkeys(listed) if key not in new]
        if old and not folder.is_local:
            raise OutputExistsError(
                f"{folder.path} has levels that cannot be removed from here ({', '.join(old)}): remove the image first"
            )
        # A crash can leave new arrays without their metadata: whether those may be replaced is checked one by one.
        strange = _strange(folder, self.attributes, {*new, *old, *self.files, *own_record(folder)})
        if strange:
            raise OutputExistsError(
                f"{folder.path} also holds {', '.join(strange[:5])}{', …' if len(strange) > 5 else ''}, which is not part of the new "
                "image: choose another path, or remove it yourself"
            )
        rules = store_rules(self.zarr_format)
        found = [removable_array(folder, key, rules) for key in old]
        return there, [array for array in found if array is not None]


def _is_of_labels(key: str) -> bool:
    return key.rpartition("/")[2] == "labels"


def level_spec(spec: ArraySpec, level: Level) -> ArraySpec:
    shape = tuple(-int(-n // factor) for n, factor in zip(spec.shape, level.factors, strict=True))
    return replace(spec, shape=shape)


def make_image(
    group: ImageGroup, spec: ArraySpec, levels: Sequence[Level], *, overwrite: bool
) -> list[Source]:
    """Make the arrays of an image and its metadata, and open the arrays for writing, full size first.

    The metadata have axes as `axes_for_ngff` returns them. An image that is replaced keeps its labels; nothing that is not a level of it
    is ever removed.
    """
    metadata = spec.metadata
    if group.key is not None:
        image = read_node(StoreFolder.at(group.path))
        if image is not None and metadata.voxel_size is None:
            metadata = _placed_as_the_image(image, spec)
        if image is not None:
            shapes = [level_spec(spec, level).shape for level in levels]
            wanted = [shape for shape, _ in levels_for_labels(image.folder, metadata.axes or ())]
            _warn_of_other_levels(group, shapes, wanted)
    attributes = image_attributes(
        metadata,
        spec.shape,
        spec.dtype,
        levels,
        version=spec.ome_zarr_version or version_around(group, spec.zarr_format),
        name=group.name,
        labels_of=None if group.key is None else "../../",
    )
    new = _new_image(group, spec, levels, attributes)
    new.make(overwrite=overwrite)
    return [family_of("zarr").open_path(group.path, level.key, "r+") for level in new.levels]


def check_image(group: ImageGroup, spec: ArraySpec, levels: Sequence[Level], *, overwrite: bool) -> None:
    """Raise what `make_image` would raise before it makes anything."""
    _new_image(group, spec, levels, {}).check(overwrite=overwrite)


def _new_image(
    group: ImageGroup, spec: ArraySpec, levels: Sequence[Level], attributes: Mapping[str, Any]
) -> NewImage:
    new = [NewLevel.planned(group.level_key(level.path), level_spec(spec, level)) for level in levels]
    if group.key is not None:
        return NewImage(group, spec.zarr_format, {"": attributes}, new)
    xml = None if spec.ome_xml is None or not attributes else spec.ome_xml()
    text = None if xml is None else xml.encode()
    groups = {"": attributes}
    if text is not None or StoreFolder.at(group.path).read(OME_XML) is not None:
        groups["OME"] = {}
    files = {OME_XML: text} if "OME" in groups else {}
    return NewImage(group, spec.zarr_format, groups, new, files)


def make_in_rooms(
    rooms: ExitStack, root: StoreFolder, levels: Iterable[NewLevel], *, overwrite: bool
) -> None:
    """Make arrays; they go again if the stack ends with an error."""
    for level in levels:
        rules = store_rules(level.spec.zarr_format)
        room = rooms.enter_context(room_for_array(root, level.key, overwrite, rules))
        make_zarr_array(level.making, level.attributes, room)


def _warn_of_other_levels(
    group: ImageGroup, shapes: Sequence[tuple[int, ...]], wanted: Sequence[tuple[int, ...]]
) -> None:
    if not wanted or list(shapes) == list(wanted):
        return
    same = len(shapes) == len(wanted)
    said = f"has the shapes {', '.join(map(str, wanted))}" if same else f"has {len(wanted)}"
    warnings.warn(
        f"{group.path}/{group.key} gets {len(shapes)} level(s) of shape {', '.join(map(str, shapes))}, but the image {said}, and "
        "OME-Zarr wants the same for its labels: some viewers will not show them",
        BioimagePyWarning,
        stacklevel=4,
    )


def levels_for_labels(
    image: StoreFolder, axes: Sequence[str]
) -> list[tuple[tuple[int, ...], tuple[float, ...] | None]]:
    """Return shape and scale along some axes of the levels of an image, full size first; none where it has not all of the axes."""
    found = next(images_of(group_attributes(image)), None)
    names = [axis.lower() for axis in (found.axes if found is not None else None) or ()]
    if found is None or not set(axes) <= set(names):
        return []
    kept = [names.index(axis) for axis in axes]
    levels = []
    for dataset in found.datasets:
        node = read_node(image.child(dataset.path))
        if node is None or len(node.shape) != len(names):
            return []
        scale = dataset.scale if dataset.scale is not None and len(dataset.scale) == len(names) else None
        levels.append(
            (tuple(node.shape[n] for n in kept), None if scale is None else tuple(scale[n] for n in kept))
        )
    return levels


def steps_between(
    levels: Sequence[tuple[tuple[int, ...], tuple[float, ...] | None]],
) -> list[tuple[int, ...]] | None:
    """Return by how much each level is smaller than the one before, None where no whole windows of voxels give such shapes.

    Levels are shape and scale; the scale decides where several windows would give a shape.
    """
    steps = []
    for (larger, fine), (smaller, coarse) in itertools.pairwise(levels):
        step = []
        for axis, (n, m) in enumerate(zip(larger, smaller, strict=True)):
            near = round(n / m) if m else 0
            said = near if fine is None or coarse is None else round(coarse[axis] / fine[axis])
            fitting = (f for f in (said, near, near + 1, near - 1) if f >= 1 and -(-n // f) == m)
            step.append(next(fitting, 0))
        if 0 in step or set(step) == {1}:
            return None
        steps.append(tuple(step))
    return steps


def _placed_as_the_image(found: Node, spec: ArraySpec) -> ImageMetadata:
    """Return the metadata of labels that say nothing of voxels, with what the image says that has as many along each axis."""
    full = None if found.first is None else read_node(found.folder.child(found.first))
    if full is None:
        return spec.metadata
    image = image_metadata(full)
    axes, own = image.axes or (), spec.metadata.axes or ()
    kept = [axes.index(axis) for axis in own if axis in axes]
    if len(kept) != len(own) or tuple(full.shape[n] for n in kept) != spec.shape:
        return spec.metadata
    placed = image.with_axes_selected(kept)
    said = ("voxel_size", "units", "origin", "orientations")
    return replace(spec.metadata, **{name: getattr(placed, name) for name in said})


def version_around(group: ImageGroup, zarr_format: int) -> str:
    """Return the version of OME-Zarr that a new image, or a label image in another one, has if no other is asked for."""
    return _version_at(None if group.key is None else StoreFolder.at(group.path), zarr_format)


def _version_at(image: StoreFolder | None, zarr_format: int) -> str:
    said = "" if image is None else version_of(group_attributes(image))
    return said if has_systems(said) and zarr_format == 3 else VERSIONS[zarr_format]


def register_label(labels: StoreFolder, name: str, zarr_format: int) -> None:
    """List a label image in the group `labels`, as viewers find it only there."""
    attributes = group_attributes(labels)
    names = label_names(attributes)
    if name in names:
        return
    listed: dict[str, Any] = {"labels": [*names, name]}
    if zarr_format == 3:
        known = ome_of(attributes) if "ome" in attributes else {}
        image = labels.parent()
        listed = {"ome": {**known, "version": _version_at(image, 3), **listed}}
    write_attributes(labels, listed, zarr_format, fresh=False)


def write_attributes(
    folder: StoreFolder, attributes: Mapping[str, Any], zarr_format: int, *, fresh: bool
) -> None:
    """Write attributes of a group; those that are there and are not an image's stay, unless the image is a fresh one.

    Who calls it updates the consolidated metadata.
    """
    old = {} if fresh else group_attributes(folder)
    merged = {**{name: value for name, value in old.items() if name not in RESERVED}, **attributes}
    if zarr_format == 2:
        folder.write_json(".zattrs", merged)
        return
    written = folder.read_json("zarr.json") or {}
    folder.write_json("zarr.json", {**written, "attributes": merged})


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


def _strange(folder: StoreFolder, groups: Mapping[str, Any], known: set[str]) -> list[str]:
    """Return what is in the groups of an OME-Zarr that is to be replaced, and is not part of it."""
    if not folder.is_local:
        return []
    around = {"/".join(key.split("/")[:n]) for key in known for n in range(1, key.count("/") + 1)}
    found = []
    for group in groups:
        of_labels = _is_of_labels(group)
        stay = label_names(group_attributes(folder.child(group))) if of_labels else ["labels"]
        for entry in folder.child(group).entries():
            key = joined_key(group, entry.name)
            aside = aside_of_the_dead(entry.name)
            if (
                key not in groups
                and key not in known
                and key not in around
                and entry.name not in {*GROUP_FILES, *stay}
                and not is_leftover(entry.name)
                and (aside is None or joined_key(group, aside) not in known)
            ):
                found.append(key)
    return found
