"""What an OME-Zarr group says about the arrays in it: which is the full-size one, and axes, units and voxel sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from bioimage_py.metadata import ImageMetadata, normalise_unit

__all__ = ["first_dataset", "with_multiscales"]


def _multiscales(attributes: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the images of a group, whether its attributes follow version 0.4 or 0.5."""
    ome = attributes.get("ome")
    found = (ome if isinstance(ome, Mapping) else attributes).get("multiscales")
    for image in found if isinstance(found, list) else ():
        if isinstance(image, Mapping) and isinstance(image.get("datasets"), list):
            yield image


def first_dataset(attributes: Mapping[str, Any]) -> str | None:
    """Return the path of the full-size array of an OME-Zarr image group, or None if the group is none."""
    for image in _multiscales(attributes):
        for dataset in image["datasets"]:
            path = dataset.get("path") if isinstance(dataset, Mapping) else None
            if isinstance(path, str):
                return path.strip("/")
    return None


def with_multiscales(
    metadata: ImageMetadata, attributes: Mapping[str, Any], path: str, ndim: int
) -> ImageMetadata | None:
    """Return the metadata with what a group's attributes say about its array `path`, or None if they say nothing."""
    for image in _multiscales(attributes):
        for dataset in image["datasets"]:
            if isinstance(dataset, Mapping) and str(dataset.get("path", "")).strip("/") == path:
                return _described(metadata, image, dataset, ndim)
    return None


def _described(
    metadata: ImageMetadata, image: Mapping[str, Any], dataset: Mapping[str, Any], ndim: int
) -> ImageMetadata:
    names, units = _axes(image.get("axes"), ndim)
    scale, origin = [1.0] * ndim, [0.0] * ndim
    known = False
    for holder in (dataset, image):
        steps = holder.get("coordinateTransformations")
        for step in steps if isinstance(steps, list) else ():
            values = step.get(step.get("type")) if isinstance(step, Mapping) else None
            if not (isinstance(values, list) and len(values) == ndim and all(_is_number(v) for v in values)):
                continue
            if step["type"] == "scale":
                known = True
                scale = [s * v for s, v in zip(scale, values, strict=True)]
                origin = [o * v for o, v in zip(origin, values, strict=True)]
            elif step["type"] == "translation":
                origin = [o + v for o, v in zip(origin, values, strict=True)]
    return replace(
        metadata,
        axes=names or metadata.axes,
        units=units or metadata.units,
        voxel_size=tuple(scale) if known else metadata.voxel_size,
        origin=tuple(origin) if any(origin) else metadata.origin,
    ).fitting(ndim)


def _axes(axes: Any, ndim: int) -> tuple[tuple[str, ...] | None, tuple[str | None, ...] | None]:
    """Return names and units of axes as version 0.3 (names) or later (dicts) writes them."""
    if not isinstance(axes, list) or len(axes) != ndim:
        return None, None
    entries = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in axes]
    if not all(isinstance(entry.get("name"), str) for entry in entries):
        return None, None
    units = tuple(
        (normalise_unit(entry["unit"]) or entry["unit"]) if isinstance(entry.get("unit"), str) else None
        for entry in entries
    )
    return tuple(entry["name"] for entry in entries), units if any(units) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
