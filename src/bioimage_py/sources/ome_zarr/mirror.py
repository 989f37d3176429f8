"""Making an OME-Zarr like one that is there, with all groups, levels and labels, whose voxels are still to be copied."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bioimage_py.errors import (
    InvalidArgumentError,
    SourceNotFoundError,
)
from bioimage_py.metadata import (
    VERSIONS,
    Level,
    is_collection,
    ome_of,
    well_paths,
)
from bioimage_py.sources.base import Source
from bioimage_py.sources.chunk_access import encoding_of
from bioimage_py.sources.creating import plan_output
from bioimage_py.sources.location import locate
from bioimage_py.sources.ome_zarr.image_group import ImageGroup
from bioimage_py.sources.ome_zarr.listing import OmeZarrImage, image_keys, in_version, joined_key, read_image
from bioimage_py.sources.ome_zarr.writing import GROUP_FILES, OME_XML, NewImage, NewLevel
from bioimage_py.sources.opening import as_source
from bioimage_py.sources.registry import family_of
from bioimage_py.sources.stores import Node, group_attributes, has_consolidated
from bioimage_py.sources.zarr import read_node, zarr_format_of
from bioimage_py.storage import StoreFolder

__all__ = ["create_ome_zarr"]


@dataclass(frozen=True)
class Mirror:
    tree: OmeZarrTree  # what it is like
    group: ImageGroup
    zarr_format: int  # 3 for OME-Zarr 0.5, 2 for 0.4

    @classmethod
    def plan(cls, tree: OmeZarrTree, group: ImageGroup, zarr_format: int | None) -> Mirror:
        """Return what will be made; nothing is touched."""
        stored = _format_of(tree)
        wanted = zarr_format
        if wanted is None and group.key is not None:
            wanted = family_of("zarr").format_around(group.path, group.key)
        if wanted is None:
            wanted = stored
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
    ) -> NewLevel:
        """Return how an array is made that is like one of the input, unless the user or the version of Zarr wants it otherwise.

        `full` is the full-size array of its image, `keys` are those of the array and of the new one, and `given` has `chunks`, `shards`
        and `codec`, one extent per axis of the image.
        """
        self.group.check_dtype(source.dtype)
        said = {
            name: extents_for(source, full, value, name)
            if value is not None and name in ("chunks", "shards")
            else value
            for name, value in given.items()
        }
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
        return NewLevel.planned(keys[1], spec, stored, attributes)

    def new(self, levels: Sequence[NewLevel]) -> NewImage:
        """Return what is made, with these arrays."""
        tree = self.tree
        return NewImage(
            self.group,
            self.zarr_format,
            self._attributes(),
            levels,
            tree.files,
            tree.consolidated,
            in_free_place=True,
        )

    def _attributes(self) -> dict[str, dict[str, Any]]:
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


def _following(source: Source, zarr_format: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grid of the input where the user does not say another: also grids that would not be chosen anew."""
    kept: dict[str, Any] = {}
    if given.get("chunks") is None and given.get("shards") is None and source.chunks is not None:
        kept["chunks"] = source.chunks
        if zarr_format == 3:
            kept["shards"] = source.shards
    return {**kept, **{name: value for name, value in given.items() if value is not None}}


def extents_for(source: Source, full: Source, extents: Any, what: str) -> Any:
    """Return extents given per axis of an image as those of an array of it: of labels without channels, for example."""
    own, axes = source.metadata.axes, full.metadata.axes
    values = tuple(extents)
    if source.ndim == full.ndim or len(values) != full.ndim:
        return values
    if own is None or axes is None or not set(own) <= set(axes):
        raise InvalidArgumentError(
            f"{what} {values} are for the {full.ndim} axes of {full.name}, and {source.name} has {source.ndim} others: copy it by itself"
        )
    return tuple(values[axes.index(axis)] for axis in own)


@dataclass(frozen=True)
class OmeZarrTree:
    """An OME-Zarr image, or a group of images, with all that goes with it."""

    root: StoreFolder
    key: str  # of the group in the container, empty for the container itself
    kind: str  # `"image"`, `"plate"`, `"well"`, `"labels"` or `"container"`
    images: tuple[OmeZarrImage, ...]  # in the order that it lists them
    # Attributes of all groups on the way to the arrays, as stored, by their keys below the group; `""` is the group.
    groups: Mapping[str, Mapping[str, Any]]
    files: Mapping[str, bytes] = field(default_factory=dict)  # what else belongs to the format, by key
    left_out: tuple[str, ...] = ()  # what is not part of an image, as far as that can be listed
    missing: tuple[str, ...] = ()  # images and wells that it lists, and that are not there
    consolidated: tuple[str, ...] = ()  # keys of its groups that have consolidated metadata

    @property
    def name(self) -> str:
        return f"{self.root.path}:{self.key}" if self.key else self.root.path

    @property
    def version(self) -> str:
        """The version of OME-NGFF that the first image says, or `""`."""
        return self.images[0].version

    def with_labels(self) -> Iterator[OmeZarrImage]:
        """Yield each image, and after it its labels."""
        for image in self.images:
            yield image
            yield from image.labels

    def below(self, key: str) -> str:
        """Return a key of the container as one below the group."""
        return key.removeprefix(self.key).strip("/")


def read_tree(path: str | os.PathLike[str], key: str | None = None, **options: Any) -> OmeZarrTree:
    """Read all metadata of an OME-Zarr image or group of images."""
    location = locate(path, key)
    root = StoreFolder.at(location.path, options)
    top = read_node(root.child(location.key))
    keys = [] if top is None or top.array is not None else image_keys(top, location.key)
    if top is None or not keys:
        raise SourceNotFoundError(
            f"there is no OME-Zarr image at {root.path}{':' + location.key if location.key else ''}"
        )
    images = tuple(read_image(root, name) for name in keys)
    tree = OmeZarrTree(root, location.key or "", _kind(top), images, {})
    folder = top.folder
    groups = {"": top.attributes, **_groups_around(tree, folder)}
    files = {}
    if is_collection(top.attributes) and (series := group_attributes(folder.child("OME"))):
        groups["OME"] = series
    if (xml := folder.read(OME_XML)) is not None:
        groups.setdefault("OME", {})
        files[OME_XML] = xml
    levels = {tree.below(level) for image in tree.with_labels() for level in image.levels}
    left = tuple(_unknown(folder, groups, {*levels, *files})) if root.is_local else ()
    missing = tuple(_not_there(top, groups))
    consolidated = tuple(key for key in groups if has_consolidated(folder.child(key)))
    return OmeZarrTree(root, tree.key, tree.kind, images, groups, files, left, missing, consolidated)


def _kind(top: Node) -> str:
    if top.first is not None:
        return "image"
    ome = ome_of(top.attributes)
    found = next((name for name in ("plate", "well", "labels") if name in ome), None)
    return found or "container"


def _groups_around(tree: OmeZarrTree, folder: StoreFolder) -> dict[str, Mapping[str, Any]]:
    """Return the attributes of all groups between the top and the arrays; those of images are known already."""
    known = {tree.below(image.key): image.attributes for image in tree.with_labels()}
    found: dict[str, Mapping[str, Any]] = {}
    for image in tree.with_labels():
        for level in image.levels:
            parts = tree.below(level).split("/")
            for n in range(1, len(parts)):
                key = "/".join(parts[:n])
                if key not in found:
                    found[key] = known[key] if key in known else group_attributes(folder.child(key))
    for image in tree.images:
        # A group of labels may be there, and list none yet.
        key = joined_key(tree.below(image.key), "labels")
        if key not in found and (listing := group_attributes(folder.child(key))):
            found[key] = listing
    return found


def _unknown(folder: StoreFolder, groups: Mapping[str, Any], known: set[str]) -> Iterator[str]:
    """Yield the keys of what lies in the groups and is neither a group, nor an array, nor a file that is known."""
    for group in groups:
        for entry in folder.child(group).entries():
            key = joined_key(group, entry.name)
            if key not in groups and key not in known and entry.name not in GROUP_FILES:
                yield key


def _not_there(top: Node, groups: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the images, wells and fields that are listed without being there."""
    for name in top.images:
        if name not in groups:
            yield name
            continue
        for field_name in well_paths(groups[name]):
            if joined_key(name, field_name) not in groups:
                yield joined_key(name, field_name)


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
