"""OME-Zarr groups: which arrays and images are in them, and what they say about each of their arrays."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import BioimagePyWarning
from bioimage_py.metadata import (
    ImageMetadata,
    NgffDataset,
    NgffImage,
    images_of,
    is_collection,
    label_names,
    own_attributes,
    scene_paths,
    series_of,
    well_paths,
    with_channels,
    without_nonsense,
)

if TYPE_CHECKING:
    from bioimage_py.storage import StoreFolder


def first_dataset(attributes: Mapping[str, Any]) -> str | None:
    return next(iter(level_paths(attributes)), None)


def level_paths(attributes: Mapping[str, Any]) -> list[str]:
    return [dataset.path for image in images_of(attributes) for dataset in image.datasets]


def coarser_paths(folder: StoreFolder, path: str) -> list[str]:
    """Return the paths of the levels below the level `path` of an image in a group, finest first."""
    for image in images_of(group_attributes(folder)):
        paths = [dataset.path for dataset in image.datasets]
        if path in paths:
            return paths[paths.index(path) + 1 :]
    return []


def with_multiscales(
    metadata: ImageMetadata, attributes: Mapping[str, Any], path: str, shape: tuple[int, ...], name: str
) -> ImageMetadata | None:
    """Return the metadata with what a group's attributes say about its array `path`, or None if they say nothing.

    What does not fit the array is left out, with one BioimagePyWarning that names both sides.
    """
    for image in images_of(attributes):
        dataset = next((found for found in image.datasets if found.path == path), None)
        if dataset is None:
            continue
        problems = _disagreements(image, dataset, len(shape))
        if problems:
            warnings.warn(
                f"{name}: the OME-Zarr metadata of its group do not fit the array, which has {len(shape)} axes (shape {shape}): "
                f"{'; '.join(problems)}. What does not fit is left out",
                BioimagePyWarning,
                stacklevel=4,
            )
        described = image.metadata_of(dataset, metadata, len(shape))
        sane = without_nonsense(described, len(shape), name)
        sane = with_channels(sane, attributes, shape)
        own = own_attributes(attributes)
        return replace(sane, attributes={**own, **sane.attributes}) if own else sane
    return None


def _disagreements(image: NgffImage, dataset: NgffDataset, ndim: int) -> list[str]:
    found = list(dataset.problems)
    if image.axes is not None and len(image.axes) != ndim:
        found.append(f"they name {len(image.axes)} axes ({', '.join(image.axes)})")
    for what, values in (("scale", dataset.scale), ("translation", dataset.translation)):
        if values is not None and len(values) != ndim:
            found.append(f"the {what} of level {dataset.path!r} has {len(values)} entries {list(values)}")
    return found


def image_paths(folder: StoreFolder, attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys of what a group lists besides arrays: images of a container, wells of a plate, fields, labels."""
    wells = well_paths(attributes)
    if wells:
        # A plate may be numbered by bioformats2raw besides.
        return tuple(wells)
    if is_collection(attributes):
        listed = series_of(group_attributes(folder.child("OME")))
        return tuple(listed or _numbered(folder))
    if scene := scene_paths(attributes):
        return tuple(scene)
    if folder.path.rstrip("/").rpartition("/")[2] == "labels":
        return tuple(label_names(attributes))
    return ()


def _numbered(folder: StoreFolder) -> Iterator[str]:
    """Yield "0", "1", … as far as there are image groups; a bioformats2raw container without a list has no gaps."""
    for number in itertools.count():
        if first_dataset(group_attributes(folder.child(str(number)))) is None:
            return
        yield str(number)


def group_attributes(folder: StoreFolder) -> Mapping[str, Any]:
    v3 = folder.read_json("zarr.json")
    if v3 is None:
        return folder.read_json(".zattrs") or {}
    found = v3.get("attributes")
    return found if isinstance(found, Mapping) else {}
