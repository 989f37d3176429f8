"""Making an OME-Zarr like one that is there, with all groups, levels and labels, whose voxels are still to be copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.metadata import VERSIONS, ome_of
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import Source
from bioimage_py.sources.chunk_access import encoding_of
from bioimage_py.sources.new import plan_output
from bioimage_py.sources.ome_zarr.image_group import ImageGroup
from bioimage_py.sources.ome_zarr.listing import OmeZarrImage, in_version, joined_key
from bioimage_py.sources.ome_zarr.tree import OmeZarrTree
from bioimage_py.sources.ome_zarr.writing import NewLevel, described_level
from bioimage_py.sources.registry import family_of
from bioimage_py.sources.zarr import read_node, zarr_format_of


@dataclass(frozen=True)
class MirroredLevel:
    key: str  # in its container
    spec: ArraySpec
    making: dict[str, Any]  # how TensorStore makes it
    attributes: dict[str, Any]  # its own, beyond what the group says


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
    ) -> MirroredLevel:
        """Return how an array is made that is like one of the input, unless the user or the version of Zarr wants it otherwise.

        `full` is the full-size array of its image, `keys` are those of the array and of the new one, and `given` has `chunks`, `shards`
        and `codec`, one extent per axis of the image.
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


def _for_axes_of(source: Source, full: Source, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was said of the axes of an image for an array that may have fewer of them, such as labels."""
    found = dict(given)
    for name in ("chunks", "shards"):
        if given.get(name) is not None:
            found[name] = extents_for(source, full, given[name], name)
    return found


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
