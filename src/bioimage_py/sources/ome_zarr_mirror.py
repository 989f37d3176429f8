"""Making an OME-Zarr like one that is there, with all groups, levels and labels, whose voxels are still to be copied."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Self

from bioimage_py.errors import InvalidArgumentError, OutputExistsError
from bioimage_py.metadata.ome_ngff import VERSIONS
from bioimage_py.metadata.ome_ngff_reading import label_names, ome_of
from bioimage_py.sources import zarr
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import Source
from bioimage_py.sources.creating import plan_output
from bioimage_py.sources.encoding import encoding_of
from bioimage_py.sources.image_group import ImageGroup
from bioimage_py.sources.kvstore import StoreFolder
from bioimage_py.sources.ome_zarr import group_attributes, level_paths
from bioimage_py.sources.ome_zarr_listing import OmeZarrImage, joined_key
from bioimage_py.sources.ome_zarr_tree import GROUP_FILES, OmeZarrTree, read_tree
from bioimage_py.sources.ome_zarr_versions import in_version
from bioimage_py.sources.ome_zarr_writing import NewLevel, described_level, register_label, write_attributes
from bioimage_py.sources.opening import open_source
from bioimage_py.sources.store_room import StoreRules, make_array, room_for_array
from bioimage_py.sources.zarr_metadata import group_files, read_node, zarr_format_of

__all__ = ["Mirror", "MirroredLevel", "extents_for", "mirror_ome_zarr"]


@dataclass(frozen=True)
class MirroredLevel:
    """An array of the new OME-Zarr.

    Attributes
    ----------
    key
        In its container.
    spec
        How it looks.
    making
        How TensorStore makes it.
    attributes
        Its own, beyond what the group says.
    """

    key: str
    spec: ArraySpec
    making: dict[str, Any]
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Mirror:
    """A new OME-Zarr before it exists.

    Attributes
    ----------
    tree
        What it is like.
    group
        Where it will be.
    zarr_format
        3 for OME-Zarr 0.5, 2 for 0.4.
    """

    tree: OmeZarrTree
    group: ImageGroup
    zarr_format: int

    @classmethod
    def plan(cls, tree: OmeZarrTree, group: ImageGroup, zarr_format: int | None) -> Mirror:
        """Return what will be made; nothing is touched.

        Raises
        ------
        InvalidArgumentError
            If it would have to say something that its version of OME-NGFF has no words for, or cannot be a label image.
        """
        stored = _format_of(tree)
        wanted = stored if zarr_format is None else zarr_format
        if wanted not in VERSIONS:
            raise InvalidArgumentError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
        if wanted != stored and tree.version not in VERSIONS.values():
            raise InvalidArgumentError(
                f"{tree.name} is an OME-Zarr of version {tree.version or '(unknown)'}, which is copied as it is only, with "
                f"zarr_format={stored}: for version {VERSIONS[wanted]} open its full-size array, copy that, and make the levels anew"
            )
        if group.key is not None and tree.kind != "image":
            raise InvalidArgumentError(
                f"{group.path}/{group.key} is a place for one label image, and {tree.name} is a {tree.kind} of "
                f"{len(tree.images)} images: name one of them, such as {tree.images[0].key!r}"
            )
        if tree.kind == "labels":
            raise InvalidArgumentError(
                f"{tree.name} is a group of labels: name one of them, such as {tree.images[0].key!r}, or their image"
            )
        return cls(tree, group, wanted)

    def arrays(self) -> Iterator[tuple[OmeZarrImage, OmeZarrImage, str, str]]:
        """Yield what is copied: an image, it or a label image of it, a level's key, and its key in the new container.

        They come image by image, of each the levels, full size first, then those of its labels.
        """
        for image in self.tree.images:
            for one in (image, *(image.labels if self.group.key is None else ())):
                for level in one.levels:
                    yield image, one, level, joined_key(self.group.key, self.tree.below(level))

    def level(
        self, source: Source, full: Source, keys: tuple[str, str], given: Mapping[str, Any]
    ) -> MirroredLevel:
        """Return how an array is made that is like one of the input, unless the user or the version of Zarr wants it otherwise.

        Parameters
        ----------
        source
            The array, opened.
        full
            The full-size array of its image.
        keys
            Of the array, and of the new one in its container.
        given
            `chunks`, `shards` and `codec`, None or missing for those of the input. Extents are one per axis of the image;
            labels take those of their axes.
        """
        self.group.check_dtype(source.dtype)
        said = _for_axes_of(source, full, given)
        node = read_node(self.tree.root.child(keys[0]))
        assert node is not None
        assert node.array is not None
        spec = plan_output(
            "unnamed.zarr",
            like=source,
            zarr_format=self.zarr_format,
            encoding=encoding_of(source),
            **_following(source, self.zarr_format, said),
        ).spec
        alike = zarr_format_of(node) == self.zarr_format and not any(v is not None for v in said.values())
        inside = ("attributes", "consolidated_metadata")
        stored = {name: value for name, value in node.array.items() if name not in inside} if alike else None
        attributes = {
            name: value
            for name, value in node.attributes.items()
            if name != "_ARRAY_DIMENSIONS" or self.zarr_format == 2
        }
        return MirroredLevel(keys[1], spec, *described_level(NewLevel("", spec, stored, attributes)))

    def attributes(self) -> dict[str, dict[str, Any]]:
        """Return the attributes of the new groups, by their keys below the new image, in the words of its version."""
        same = self.zarr_format == _format_of(self.tree)
        found = {
            key: dict(said) if same else in_version(said, VERSIONS[self.zarr_format])
            for key, said in self.tree.groups.items()
            if self.group.key is None or key.split("/")[0] != "labels"
        }
        alone = bool(self.tree.key) and "image-label" in ome_of(self.tree.images[0].attributes)
        if self.tree.kind == "image" and (alone or self.group.key is not None):
            found[""] = _placed(found[""], as_label=self.group.key is not None)
        return found

    def make(self, levels: Sequence[MirroredLevel], *, overwrite: bool) -> None:
        """Make all groups and arrays; what was there comes back, and what was made goes, if that fails.

        Raises
        ------
        OutputExistsError
            If something is there that may not, or must not, be replaced; nothing is touched then.
        StorageError
            If it cannot be written.
        """
        root = StoreFolder.at(self.group.path)
        folder = root.child(self.group.key)
        attributes = self.attributes()
        old = self.check_room(levels, attributes, overwrite=overwrite)
        rules = StoreRules("Zarr", read_node, zarr.OWN_ENTRY, group_files(self.zarr_format))
        with ExitStack() as rooms:
            for level in levels:
                room = rooms.enter_context(room_for_array(root, level.key, overwrite, rules))
                described, own = level.making, level.attributes
                if self.zarr_format == 3 and own:
                    described = {**described, "metadata": {**described["metadata"], "attributes": own}}
                make_array(described, room, overwrite=overwrite)
                if self.zarr_format == 2 and own:
                    room.write_json(".zattrs", own)
            undo = rooms.enter_context(_Kept())
            for key, said in attributes.items():
                place = folder.child(key)
                undo.keep(place)
                for name, content in group_files(self.zarr_format).items():
                    if place.read(name) is None:
                        place.write_json(name, content)
                write_attributes(place, _with_old_labels(key, said, place), self.zarr_format, fresh=True)
            for name, data in self.tree.files.items():
                undo.keep_file(folder, name)
                folder.child(name.rpartition("/")[0]).write(name.rpartition("/")[2], data)
            if self.group.key is not None:
                undo.keep(root.child("labels"))
                register_label(root.child("labels"), self.group.name, self.zarr_format)
        for key in old:
            shutil.rmtree(folder.child(key).path)

    def check_room(
        self, levels: Sequence[MirroredLevel], attributes: Mapping[str, Any], *, overwrite: bool
    ) -> list[str]:
        """Return the arrays of what is there that have no successor, after checking that all of it may be replaced."""
        root = StoreFolder.at(self.group.path)
        folder = root.child(self.group.key)
        if folder.is_local and not os.path.lexists(folder.path):
            return []
        there = read_node(folder) is not None or bool(folder.entries_if_local())
        if there and not overwrite:
            raise OutputExistsError(
                f"{folder.path} is there already: give overwrite=True to replace it, or choose another path"
            )
        new = {level.key.removeprefix(self.group.key or "").strip("/") for level in levels}
        old = []
        for key in attributes:
            place = folder.child(key)
            listed = [joined_key(key, path) for path in level_paths(group_attributes(place))]
            old += [path for path in listed if path not in new]
        if old and not folder.is_local:
            raise OutputExistsError(
                f"{folder.path} has levels that cannot be removed from here ({', '.join(old)}): remove it first"
            )
        strange = list(_strange(folder, attributes, {*new, *old, *self.tree.files}))
        if strange:
            raise OutputExistsError(
                f"{folder.path} also holds {', '.join(strange[:5])}{', …' if len(strange) > 5 else ''}, which {self.tree.name} has "
                "not: choose another path, or remove it yourself"
            )
        return [key for key in old if (node := read_node(folder.child(key))) and node.array is not None]


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


def mirror_ome_zarr(
    image: OmeZarrImage,
    path: str | os.PathLike[str],
    *,
    zarr_format: int | None = None,
    overwrite: bool = False,
    **new_array: Any,
) -> list[tuple[Source, Source]]:
    """Make an OME-Zarr with all levels and labels of an image, empty, and return which array is to be copied into which.

    Arrays have the chunks, shards and fill values of the input, and metadata stay word for word but for what the version of
    OME-NGFF changes. Levels whose encodings agree can then be copied without decoding. `copy` does all of it at once.

    Parameters
    ----------
    image
        From `list_ome_zarr`.
    path
        Of the new container, ending in `.ome.zarr`.
    zarr_format
        3 for OME-Zarr 0.5, 2 for 0.4. Default: that of the input.
    overwrite
        Whether an image that is there is replaced.
    **new_array
        As for `create_output`: chunks, shards, codec.
    """
    group = ImageGroup.at(os.fspath(path), None)
    if group is None:
        raise InvalidArgumentError(f"{path} is no place for an OME-Zarr: give a path that ends in .ome.zarr")
    mirror = Mirror.plan(read_tree(image.path, image.key or None, **image.options), group, zarr_format)

    def opened(key: str) -> Source:
        return open_source(image.path, key, **image.options)

    keys = list(mirror.arrays())
    sources = [opened(level) for _, _, level, _ in keys]
    full = {level: source for (_, _, level, _), source in zip(keys, sources, strict=True)}
    levels = [
        mirror.level(source, full[of.levels[0]], (level, key), new_array)
        for (of, _, level, key), source in zip(keys, sources, strict=True)
    ]
    mirror.make(levels, overwrite=overwrite)
    made = [zarr.open_path(group.path, level.key, "r+") for level in levels]
    return list(zip(sources, made, strict=True))


def _format_of(tree: OmeZarrTree) -> int:
    node = read_node(tree.root.child(tree.images[0].levels[0]))
    assert node is not None
    return zarr_format_of(node)


def _placed(attributes: Mapping[str, Any], *, as_label: bool) -> dict[str, Any]:
    """Return the attributes of an image that becomes a label image of another, or the other way round."""
    ome = dict(ome_of(attributes))
    label = dict(ome["image-label"]) if isinstance(ome.get("image-label"), Mapping) else {}
    label.pop("source", None)
    if as_label:
        label["source"] = {"image": "../../"}
    ome["image-label"] = label
    return {**attributes, "ome": ome} if "ome" in attributes else ome


def _with_old_labels(key: str, said: dict[str, Any], place: StoreFolder) -> dict[str, Any]:
    """Return the list of labels with those that are there and stay."""
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
    """Return what is in the groups of an OME-Zarr that is to be replaced, and is no part of it."""
    if not folder.is_local:
        return []
    around = {"/".join(key.split("/")[:n]) for key in known for n in range(1, key.count("/") + 1)}
    found = []
    for group in groups:
        labels = group.rpartition("/")[2] == "labels"
        stay = label_names(group_attributes(folder.child(group))) if labels else ["labels"]
        for entry in folder.child(group).entries():
            key = joined_key(group, entry.name)
            if (
                key not in groups
                and key not in known
                and key not in around
                and entry.name not in {*GROUP_FILES, *stay}
            ):
                found.append(key)
    return found


def _following(source: Source, zarr_format: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grid of the input where the user does not say another: also grids that would not be chosen anew."""
    kept: dict[str, Any] = {}
    if given.get("chunks") is None and given.get("shards") is None and source.chunks is not None:
        kept["chunks"] = source.chunks
        if zarr_format == 3:
            kept["shards"] = source.shards
    return {**kept, **{name: value for name, value in given.items() if value is not None}}


def _for_axes_of(source: Source, full: Source, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was said of the axes of an image for an array that may have fewer of them, such as labels."""
    found = dict(given)
    for name in ("chunks", "shards"):
        if given.get(name) is not None:
            found[name] = extents_for(source, full, given[name], name)
    return found


def extents_for(source: Source, full: Source, extents: Any, what: str) -> Any:
    """Return extents given per axis of an image as those of an array of it: of labels without channels, for example.

    Raises
    ------
    InvalidArgumentError
        If the array has an axis that the image has not.
    """
    own, axes = source.metadata.axes, full.metadata.axes
    values = tuple(extents)
    if source.ndim == full.ndim or len(values) != full.ndim:
        return values
    if own is None or axes is None or not set(own) <= set(axes):
        raise InvalidArgumentError(
            f"{what} {values} are for the {full.ndim} axes of {full.name}, and {source.name} has {source.ndim} others: copy it by itself"
        )
    return tuple(values[axes.index(axis)] for axis in own)
