"""What is in an OME-Zarr: its images, their levels and their labels."""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bioimage_py.errors import (
    MissingDependencyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import (
    VERSIONS,
    NgffImage,
    has_systems,
    images_of,
    label_names,
    ome_of,
    with_systems,
)
from bioimage_py.sources.base import FileSource, Source
from bioimage_py.sources.location import locate
from bioimage_py.sources.ome_zarr.nodes import Nodes
from bioimage_py.sources.opening import open_source
from bioimage_py.sources.registry import family_entry
from bioimage_py.sources.stores import Node, group_attributes, images_below, level_paths
from bioimage_py.sources.zarr import read_node
from bioimage_py.storage import StoreFolder, url_options


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
    shapes
        Of the levels.
    dtype
        Of the levels, such as `"uint16"`.
    axes
        Of the levels, as the group names them; None where it does not.
    """

    path: str
    key: str
    version: str
    levels: tuple[str, ...]
    attributes: Mapping[str, Any]
    labels: tuple[OmeZarrImage, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    shapes: tuple[tuple[int, ...], ...] = ()
    dtype: str = ""
    axes: tuple[tuple[str, ...] | None, ...] = ()


def list_ome_zarr(path: str | os.PathLike[str], key: str | None = None, **options: Any) -> list[OmeZarrImage]:
    """Return the images at a path: one, all of a multi-image container, or the fields of all wells of a plate.

    Raises
    ------
    SourceNotFoundError
        If there is no OME-Zarr image.
    StorageError
        If the metadata of an image name levels or labels that are not there, or do not fit the arrays.
    """
    location, nodes = locate(path, key), Nodes()
    root = StoreFolder.at(location.path, options)
    top = read_node(root.child(location.key))
    shown = f"{location.path}:{location.key}" if location.key else location.path
    if top is None or top.array is not None:
        raise SourceNotFoundError(f"there is no OME-Zarr group at {shown}")
    keys, damaged = listed_images(top, location.key, nodes)
    if damaged:
        raise next(iter(damaged.values()))
    if not keys:
        raise SourceNotFoundError(
            f"the group {shown} is not an OME-Zarr: its attributes have no multiscales, plate, well or bioformats2raw.layout"
        )
    return [read_image(root, name, nodes) for name in keys]


def ome_zarr_group(path: str | os.PathLike[str], key: str | None = None, **options: Any) -> Node | None:
    """Return the group at a path if it is an OME-Zarr image or lists some; None if there is none, or something else.

    An array of an image is none.
    """
    location = locate(path, key)
    if location.family is not None and location.family != family_entry("zarr"):
        return None
    root = StoreFolder.at(location.path, options)
    if root.is_local and not os.path.isdir(root.path):  # noqa: PTH112 - links and odd names count as for the system
        return None
    node = read_node(root.child(location.key))
    if node is None or node.array is not None or not (node.first or node.images):
        return None
    return node


def listed_images(top: Node, key: str | None, nodes: Nodes) -> tuple[list[str], dict[str, StorageError]]:
    """Return the keys, in the container, of the images that a group is or lists, and why some, or their wells, cannot be read.

    `key` is that of the group.
    """
    damaged: dict[str, StorageError] = {}

    def readable(folder: StoreFolder) -> Node | None:
        try:
            return nodes.group(folder)
        except StorageError as error:
            damaged[joined_key(key, folder.path.removeprefix(top.folder.path))] = error
            return None

    names = images_below(top, readable) if top.first is None else [""]
    return [joined_key(key, name) for name in names], damaged


def read_image(root: StoreFolder, key: str, nodes: Nodes, *, with_labels: bool = True) -> OmeZarrImage:
    """Read all metadata of an image and its labels; StorageError if they do not fit the arrays."""
    folder = root.child(key)
    attributes = nodes.attributes(folder)
    images = list(images_of(attributes))
    axes = {joined_key(key, dataset.path): image.axes for image in images for dataset in image.datasets}
    levels = list(axes)
    found = _level_nodes(root, levels, folder.path, nodes)
    for image in images:
        check_levels(image, {d.path: found[joined_key(key, d.path)] for d in image.datasets}, folder.path)
    names = label_names(nodes.attributes(folder.child("labels"))) if with_labels else []
    labels = (read_image(root, joined_key(key, f"labels/{name}"), nodes, with_labels=False) for name in names)
    return OmeZarrImage(
        path=root.path,
        key=key,
        version=version_of(attributes),
        levels=tuple(levels),
        attributes=attributes,
        labels=tuple(labels),
        options=root.options,
        shapes=tuple(found[level].shape for level in levels),
        dtype=found[levels[0]].dtype,
        axes=tuple(axes.values()),
    )


def _level_nodes(root: StoreFolder, levels: list[str], name: str, known: Nodes) -> dict[str, Node]:
    if not levels:
        raise StorageError(
            f"{name} is listed as an image, but its metadata name no levels, or it is not there"
        )
    nodes = {level: known.array(root.child(level)) for level in levels}
    found = {level: node for level, node in nodes.items() if node is not None and node.array is not None}
    missing = [level for level in levels if level not in found]
    if missing:
        raise StorageError(
            f"the metadata of {name} name the levels {', '.join(levels)}, but there is no array {', '.join(missing)}"
            f"{'; there is ' + ', '.join(found) if found else ''}"
        )
    return found


def check_levels(image: NgffImage, nodes: Mapping[str, Node], name: str) -> None:
    """Raise StorageError unless the levels of an image are of one kind, and of that which its metadata say."""
    ndims = {path: len(node.shape) for path, node in nodes.items()}
    if len(set(ndims.values())) > 1:
        raise StorageError(f"the levels of {name} have different numbers of axes: {ndims}")
    dtypes = {path: node.dtype for path, node in nodes.items()}
    if len(set(dtypes.values())) > 1:
        raise StorageError(f"the levels of {name} have different dtypes: {dtypes}")
    ndim = next(iter(ndims.values()))
    if image.axes is not None and len(image.axes) != ndim:
        raise StorageError(
            f"the metadata of {name} name {len(image.axes)} axes ({', '.join(image.axes)}), but its levels have {ndim}"
        )
    for dataset in image.datasets:
        for what, values in (("scale", dataset.scale), ("translation", dataset.translation)):
            if values is not None and len(values) != ndim:
                raise StorageError(
                    f"the metadata of {name} say the {what} {list(values)} of level {dataset.path!r}, which has {ndim} axes"
                )
    shapes = [(path, node.shape) for path, node in nodes.items()]
    for (path, shape), (after, smaller) in itertools.pairwise(shapes):
        if any(b > a for a, b in zip(shape, smaller, strict=True)):
            raise StorageError(
                f"the levels of {name} do not go from large to small: {path!r} has shape {shape}, and {after!r} after it {smaller}"
            )


def wrong_scales(image: NgffImage, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, str]]:
    """Yield levels, by their paths, whose scales do not fit their shapes, and what they would be.

    The scale of a level times its shape has to be that of the full-size array, but for less than one of its voxels.
    """
    first = image.datasets[0]
    for dataset in image.datasets:
        shape, full = shapes[dataset.path], shapes[first.path]
        if dataset.scale is None:  # before version 0.4 none has one
            if any(other.scale for other in image.datasets):
                yield dataset.path, "its metadata say no scale"
        elif not all(0 < size < math.inf for size in dataset.scale):
            yield dataset.path, f"its scale is {list(dataset.scale)}"
        elif first.scale is not None and all(first.scale):
            factors = [size / base for size, base in zip(dataset.scale, first.scale, strict=True)]
            if any(abs(m - n / f) > 1 - 1e-6 for m, n, f in zip(shape, full, factors, strict=True)):
                said = " x ".join(f"{factor:.4g}" for factor in factors)
                yield (
                    dataset.path,
                    f"its scale {list(dataset.scale)} is {said} that of the full-size array, but shapes are {full} and {shape}",
                )


def paired_arrays(
    a: str | os.PathLike[str], b: str | os.PathLike[str]
) -> Iterator[tuple[str, tuple[str, str] | None, tuple[str, str] | None]]:
    """Yield the arrays that two OME-Zarrs name, those at the same place of both together: images, their levels, and their labels."""
    first, second = _named_arrays(a), _named_arrays(b)
    if len({image for image, *_ in first}) == len({image for image, *_ in second}) == 1:
        first, second = ({("", *name[1:]): place for name, place in one.items()} for one in (first, second))
    for name in dict.fromkeys((*first, *second)):
        one, other = first.get(name), second.get(name)
        shown = one or other
        assert shown is not None
        yield shown[1], one, other


def _named_arrays(path: str | os.PathLike[str]) -> dict[tuple[str, str, int], tuple[str, str]]:
    """Return path and key of the arrays that an OME-Zarr names, there or not, by image, label and number of the level."""
    location, nodes = locate(path), Nodes()
    root = StoreFolder.at(location.path)
    top = read_node(root.child(location.key))
    keys, damaged = ([], {}) if top is None else listed_images(top, location.key, nodes)
    # Whoever opens a group that cannot be read is told so.
    found = {(_below(location.key, key), "", 0): (location.path, key) for key in damaged}
    for key in keys:
        for label, group in _groups_of(root, key, nodes):
            try:
                levels = dict.fromkeys(level_paths(nodes.attributes(root.child(group)))) or {"0": None}
            except StorageError:
                levels = {"": None}
            for n, level in enumerate(levels):
                found[_below(location.key, key), label, n] = (location.path, joined_key(group, level))
    return found


def _groups_of(root: StoreFolder, key: str, nodes: Nodes) -> Iterator[tuple[str, str]]:
    """Yield `""` and the key of an image, then name and key of each of its labels."""
    yield "", key
    labels = joined_key(key, "labels")
    try:
        yield from (
            (name, joined_key(labels, name)) for name in label_names(nodes.attributes(root.child(labels)))
        )
    except StorageError:
        yield "labels", labels


def _below(key: str | None, name: str) -> str:
    return name.removeprefix(key or "").strip("/")


def joined_key(key: str | None, name: str) -> str:
    return "/".join(part for part in (key or "", name.strip("/")) if part)


_NAMES = (
    "multiscales", "omero", "image-label", "labels", "plate", "well", "bioformats2raw.layout", "series", "scene",
)  # fmt: skip
"""What the specification has in the attributes of a group; 0.5 puts it below `ome`."""

_VERSIONED = ("image-label", "plate", "well")
"""What says its own version in 0.4, as each entry of `multiscales` does."""


def version_of(attributes: Mapping[str, Any]) -> str:
    ome = ome_of(attributes)
    entries = ome.get("multiscales")
    holders = [ome, *(ome.get(name) for name in _VERSIONED), *(entries if isinstance(entries, list) else ())]
    return next(
        (str(holder["version"]) for holder in holders if isinstance(holder, Mapping) and "version" in holder),
        "",
    )


def in_version(attributes: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return the attributes of a group as a version writes them; those of a group that says nothing of it stay."""
    inside = isinstance(attributes.get("ome"), Mapping)
    ome = {name: value for name, value in ome_of(attributes).items() if name != "version"}
    if inside:
        others = {name: value for name, value in attributes.items() if name != "ome"}
    else:
        others = {name: value for name, value in ome.items() if name not in _NAMES}
        ome = {name: value for name, value in ome.items() if name in _NAMES}
    if not ome and not inside:
        return others
    within = version if version == VERSIONS[2] else None
    if isinstance(ome.get("multiscales"), list):
        ome["multiscales"] = [
            _versioned(with_systems(entry, version), within)
            for entry in ome["multiscales"]
            if isinstance(entry, Mapping)
        ]
    for name in _VERSIONED:
        if name in ome:
            # Plates say it in both versions.
            ome[name] = _versioned(ome[name], version if name == "plate" else within)
    return {**others, **ome} if within else {**others, "ome": {"version": version, **ome}}


def _versioned(entry: Any, version: str | None) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    rest = {name: value for name, value in entry.items() if name != "version"}
    return rest if version is None else {**rest, "version": version}


def labels_beside(source: FileSource) -> list[Source]:
    """Open the full-size arrays of the labels in the OME-Zarr image that an array is a level of; none where there are none.

    They are opened for reading, and closed by whoever asked.
    """
    if source.kind != "zarr" or not source.key or "labels" in source.key.split("/"):
        return []
    spec = source.to_spec()
    options = url_options(spec)
    group = source.key.rpartition("/")[0] or None
    try:
        images = list_ome_zarr(source.path, group, **options)
    except SourceNotFoundError:
        return []
    found: list[Source] = []
    for image in images:
        if source.key in image.levels:
            found += [open_source(source.path, label.levels[0], **options) for label in image.labels]
    return found


def check_ome_zarr(path: str | os.PathLike[str], key: str | None = None) -> str:
    """Return what an OME-Zarr group is by the specification (`"Image"`, `"ImageLabel"`, `"HCS"`, …), after checking it whole.

    Parameters
    ----------
    path
        Local path of the container.
    key
        Of a group in it. Default: the container itself.

    Raises
    ------
    MissingDependencyError
        If ome-zarr-models is not installed.
    UnsupportedFormatError
        For OME-Zarr 0.6.
    StorageError
        If the group is not valid, with what is wrong.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # about features of Zarr that arrays elsewhere have
            import ome_zarr_models
            import zarr
    except ImportError as error:
        raise MissingDependencyError.of(
            "checking OME-Zarr needs ome-zarr-models", "ome-zarr-models"
        ) from error
    location = locate(path, key)
    folder = StoreFolder.at(location.path).child(location.key)
    attributes = group_attributes(folder)
    if has_systems(version_of(attributes)):
        raise UnsupportedFormatError(
            f"{folder.path} is OME-Zarr 0.6, and ome-zarr-models knows 0.4 and 0.5 only: check it with ngff-zarr, or as 0.5"
        )
    version: Literal["0.4", "0.5"] = "0.5" if "ome" in attributes else "0.4"
    try:
        group = zarr.open_group(folder.path, mode="r", zarr_format=3 if version == "0.5" else 2)
        found = ome_zarr_models.open_ome_zarr(group, version=version)
    except (RuntimeError, ValueError, FileNotFoundError) as error:
        raise StorageError(f"{folder.path} is not a valid OME-Zarr {version}: {error}") from error
    return type(found).__name__
