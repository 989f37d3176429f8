"""Making an OME-Zarr like one that is there, with all groups, levels and labels, whose voxels are still to be copied."""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.metadata import (
    VERSIONS,
    WRITTEN_VERSIONS,
    Level,
    has_systems,
    images_of,
    ome_of,
    scene_paths,
    zarr_format_for,
)
from bioimage_py.sources.base import Source
from bioimage_py.sources.chunk_access import encoding_of
from bioimage_py.sources.creating import plan_output
from bioimage_py.sources.ome_zarr.image_group import ImageGroup
from bioimage_py.sources.ome_zarr.listing import OmeZarrImage, in_version, joined_key
from bioimage_py.sources.ome_zarr.tree import OmeZarrTree
from bioimage_py.sources.ome_zarr.writing import NewImage, NewLevel, version_around
from bioimage_py.sources.opening import as_source
from bioimage_py.sources.registry import family_of
from bioimage_py.sources.zarr import zarr_format_of

__all__ = ["create_ome_zarr"]


@dataclass(frozen=True)
class Mirror:
    tree: OmeZarrTree  # what it is like
    group: ImageGroup
    zarr_format: int
    version: str  # of OME-Zarr

    @classmethod
    def plan(
        cls, tree: OmeZarrTree, group: ImageGroup, zarr_format: int | None, version: str | None = None
    ) -> Mirror:
        """Return what will be made; nothing is touched."""
        stored = tree.zarr_format
        wanted = zarr_format_for(version, zarr_format)
        if wanted is None and group.key is not None:
            wanted = family_of("zarr").format_around(group.path, group.key)
        if wanted is None:
            wanted = stored
        if wanted not in VERSIONS:
            raise InvalidArgumentError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
        same = wanted == stored and (version in (None, tree.version) or _are_drafts(version, tree.version))
        if same and group.key is None:
            version = tree.version
        version = version or version_around(group, wanted)
        if version != tree.version and not _can_change(tree):
            raise InvalidArgumentError(
                f"{tree.name} is an OME-Zarr of version {tree.version or '(unknown)'}, which is copied as it is only, with "
                f"zarr_format={stored}: for version {version} open its full-size array, copy that, and make the levels anew"
            )
        if scene_paths(tree.groups.get("", {})) and not has_systems(version):
            raise InvalidArgumentError(
                f"{tree.name} is a scene, which OME-Zarr {version} does not have: copy its images one by one, such as "
                f"{tree.images[0].key!r}"
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
        return cls(tree, group, wanted, version)

    @property
    def is_like(self) -> bool:
        """Whether groups say what those of the input say, word for word."""
        return self.version == self.tree.version and self.zarr_format == self.tree.zarr_format

    def arrays_of(self, image: OmeZarrImage) -> Iterator[tuple[str, str, Hashable]]:
        """Yield of each array of an image its key, its key in the new container, and its kind.

        The levels come first, full size first, then those of its labels. What is planned of an array is the same for all of
        its kind: their own metadata are equal, so are those of the full-size arrays of their images, and axes have the same names.
        """
        full = self._stored(image.levels[0], image.axes[0])
        for one in (image, *(image.labels if self.group.key is None else ())):
            for level, axes in zip(one.levels, one.axes, strict=True):
                key = joined_key(self.group.key, self.tree.below(level))
                yield level, key, (self._stored(level, axes), full)

    def _stored(self, key: str, axes: tuple[str, ...] | None) -> Hashable:
        node = self.tree.array(key)
        # Equal metadata are one object, which the tree keeps.
        return id(node.array), id(node.attributes), axes

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
            if name in ("chunks", "shards") and value not in (None, "auto")
            else value
            for name, value in given.items()
        }
        if said.get("shards") == "auto" and source.shards is not None:
            said["shards"] = None
        node = self.tree.array(keys[0])
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
        found = {
            key: dict(said) if self.is_like else in_version(said, self.version)
            for key, said in self.tree.groups.items()
            if self.group.key is None or key.split("/")[0] != "labels"
        }
        alone = bool(self.tree.key) and "image-label" in ome_of(self.tree.images[0].attributes)
        if self.tree.kind == "image" and (alone or self.group.key is not None):
            found[""] = _placed(found[""], as_label=self.group.key is not None)
        return found


def _are_drafts(version: str | None, other: str) -> bool:
    return has_systems(version or "") and has_systems(other)


def _can_change(tree: OmeZarrTree) -> bool:
    """Whether all that its images say of their levels can be said by another version."""
    known = tree.version in WRITTEN_VERSIONS or has_systems(tree.version)
    images = (said for one in tree.with_labels() for said in images_of(one.attributes))
    return known and not any(dataset.problems for image in images for dataset in image.datasets)


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
    if given.get("chunks") is None and given.get("shards") in (None, "auto") and source.chunks is not None:
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
        `"out.ome.zarr"`, or `"out.ome.zarr/labels/cells"` for a label image in it.
    like
        An array, handle, path or source, for shape, dtype and metadata.
    levels
        The levels below the full-size one: by how much their voxels are larger than full-size voxels, per axis, such as
        `[(1, 2, 2), (2, 4, 4)]`. Shapes are the ceilings of the divisions, and the first voxel lies where the mean of a window of
        voxels lies. A `Level` says otherwise.
    overwrite
        Whether an image that is there is replaced; its labels stay.
    **new_array
        As for `create_output`: shape, dtype, chunks, shards, codec, zarr_format, ome_zarr_version, fill_value, attributes, axes, voxel_size, units.

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
