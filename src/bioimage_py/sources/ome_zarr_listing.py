"""What is in an OME-Zarr: its images, their levels and their labels; and making an empty one of the same kind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bioimage_py.errors import SourceNotFoundError, StorageError
from bioimage_py.metadata.ome_ngff import VERSIONS
from bioimage_py.metadata.ome_ngff_reading import label_names, ome_of
from bioimage_py.sources.base import Source
from bioimage_py.sources.creating import plan_output
from bioimage_py.sources.hierarchy import Node, images_below
from bioimage_py.sources.image_group import ImageGroup
from bioimage_py.sources.kvstore import StoreFolder
from bioimage_py.sources.location import locate
from bioimage_py.sources.ome_zarr import group_attributes, level_paths
from bioimage_py.sources.ome_zarr_writing import NewLevel, make_arrays
from bioimage_py.sources.opening import open_source
from bioimage_py.sources.zarr_metadata import read_node, zarr_format_of

__all__ = ["OmeZarrImage", "list_ome_zarr", "mirror_ome_zarr"]


@dataclass(frozen=True)
class OmeZarrImage:
    """An image, or label image, of an OME-Zarr.

    Attributes
    ----------
    path
        Of the container.
    key
        Of the image's group in it; empty for the container itself.
    version
        Of OME-NGFF, as the group says, or `""`.
    levels
        Keys of the arrays in the container, full size first. Each opens as `open_source(path, key)`.
    attributes
        Of the group, as stored.
    labels
        The label images in it.
    options
        How a URL is reached.
    """

    path: str
    key: str
    version: str
    levels: tuple[str, ...]
    attributes: Mapping[str, Any]
    labels: tuple[OmeZarrImage, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def list_ome_zarr(path: str | os.PathLike[str], key: str | None = None, **options: Any) -> list[OmeZarrImage]:
    """Return the images at a path: one, all of a multi-image container, or the fields of all wells of a plate.

    Raises
    ------
    SourceNotFoundError
        If there is no OME-Zarr image.
    StorageError
        If the metadata of an image name levels that are not there, or levels and arrays have different numbers of axes.
    """
    location = locate(path, key)
    root = StoreFolder.at(location.path, options)
    top = read_node(root.child(location.key))
    if top is None or top.array is not None:
        raise SourceNotFoundError(f"there is no OME-Zarr group at {location.path}{_in_words(location.key)}")
    images = [_joined(location.key, name) for name in _images(top)]
    if not images:
        raise SourceNotFoundError(
            f"the group {location.path}{_in_words(location.key)} is no OME-Zarr: its attributes have no multiscales, plate, well "
            "or bioformats2raw.layout"
        )
    return [_described(root, name, with_labels=True) for name in images]


def _images(top: Node) -> Iterator[str]:
    if top.first is not None:
        yield ""
    else:
        yield from images_below(top, read_node)


def _described(root: StoreFolder, key: str, *, with_labels: bool) -> OmeZarrImage:
    folder = root.child(key)
    attributes = group_attributes(folder)
    levels = [_joined(key, path) for path in level_paths(attributes)]
    _check_levels(root, levels, folder.path)
    names = label_names(group_attributes(folder.child("labels"))) if with_labels else []
    return OmeZarrImage(
        path=root.path,
        key=key,
        version=_version(attributes),
        levels=tuple(levels),
        attributes=attributes,
        labels=tuple(_described(root, _joined(key, f"labels/{name}"), with_labels=False) for name in names),
        options=root.options,
    )


def _check_levels(root: StoreFolder, levels: list[str], name: str) -> None:
    nodes = {level: read_node(root.child(level)) for level in levels}
    missing = [level for level, node in nodes.items() if node is None or node.array is None]
    if missing:
        there = [level for level in levels if level not in missing]
        raise StorageError(
            f"the metadata of {name} name the levels {', '.join(levels)}, but there is no array {', '.join(missing)}"
            f"{'; there is ' + ', '.join(there) if there else ''}"
        )
    ndims = {level: len(node.shape) for level, node in nodes.items() if node is not None}
    if len(set(ndims.values())) > 1:
        raise StorageError(f"the levels of {name} have different numbers of axes: {ndims}")


def _version(attributes: Mapping[str, Any]) -> str:
    ome = ome_of(attributes)
    holders = (ome, *(entry for entry in ome.get("multiscales", ()) if isinstance(entry, Mapping)))
    return next((str(holder["version"]) for holder in holders if "version" in holder), "")


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
    OME-NGFF changes. Levels whose encodings agree can then be copied without decoding.

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
    wanted = zarr_format or (2 if image.version == VERSIONS[2] else 3)
    pairs = []
    for one in (image, *image.labels):
        inner = one.key.removeprefix(image.key).strip("/") or None
        sources = [open_source(one.path, level, **one.options) for level in one.levels]
        levels = [
            _mirrored(one, level, source, wanted, new_array)
            for level, source in zip(one.levels, sources, strict=True)
        ]
        group = ImageGroup(os.fspath(path), inner)
        attributes = _of_version(one.attributes, VERSIONS[wanted])
        made = make_arrays(group, levels, attributes, overwrite=overwrite)
        pairs += list(zip(sources, made, strict=True))
    return pairs


def _mirrored(
    image: OmeZarrImage, level: str, source: Source, zarr_format: int, given: Mapping[str, Any]
) -> NewLevel:
    """Return a level like one that is there: stored alike, unless the user or the version of Zarr wants it otherwise."""
    path = level.removeprefix(image.key).strip("/")
    node = read_node(StoreFolder.at(image.path, image.options).child(level))
    assert node is not None
    assert node.array is not None
    options = _following(source, zarr_format, given)
    spec = plan_output("unnamed.zarr", like=source, zarr_format=zarr_format, **options).spec
    alike = zarr_format_of(node) == zarr_format and not any(given.values())
    inside = ("attributes", "consolidated_metadata")
    stored = {name: value for name, value in node.array.items() if name not in inside} if alike else None
    return NewLevel(path, spec, stored, node.attributes)


def _following(source: Source, zarr_format: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the grid of the input where the user does not say another: also grids that would not be chosen anew."""
    kept: dict[str, Any] = {}
    if given.get("chunks") is None and given.get("shards") is None and source.chunks is not None:
        kept["chunks"] = source.chunks
        if zarr_format == 3:
            kept["shards"] = source.shards
    return {**kept, **{name: value for name, value in given.items() if value is not None}}


def _of_version(attributes: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return the attributes of an image group as another version writes them."""
    inside = "ome" in attributes
    ome = {name: value for name, value in ome_of(attributes).items() if name != "version"}
    others = {name: value for name, value in attributes.items() if name != "ome"} if inside else {}
    if not inside:
        known = ("multiscales", "omero", "image-label")
        others = {name: value for name, value in ome.items() if name not in known}
        ome = {name: value for name, value in ome.items() if name in known}
    in_entries = version == VERSIONS[2]
    ome["multiscales"] = [_versioned(entry, version if in_entries else None) for entry in ome["multiscales"]]
    if "image-label" in ome:
        ome["image-label"] = _versioned(ome["image-label"], version if in_entries else None)
    return {**others, **ome} if in_entries else {**others, "ome": {"version": version, **ome}}


def _versioned(entry: Any, version: str | None) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    rest = {name: value for name, value in entry.items() if name != "version"}
    return rest if version is None else {**rest, "version": version}


def _joined(key: str | None, name: str) -> str:
    return "/".join(part for part in (key or "", name) if part)


def _in_words(key: str | None) -> str:
    return f":{key}" if key else ""
