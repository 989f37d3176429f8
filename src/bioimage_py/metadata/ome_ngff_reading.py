"""What the attributes of an OME-Zarr group say: images with their levels, channels, wells and fields. Pure dicts in."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from bioimage_py.metadata.model import ImageMetadata
from bioimage_py.metadata.ome_ngff import RESERVED, channel_count

__all__ = [
    "NgffDataset",
    "NgffImage",
    "images_of",
    "is_collection",
    "label_names",
    "ome_of",
    "own_attributes",
    "series_of",
    "well_paths",
    "with_channels",
]

_COLOR = re.compile(r"#?([0-9a-fA-F]{6})([0-9a-fA-F]{2})?")


@dataclass(frozen=True)
class NgffDataset:
    """One level of an image as a group describes it.

    Attributes
    ----------
    path
        Its key below the group.
    scale, translation
        Of this level, the image's own transformations included; None where nothing, or nothing usable, is said.
    problems
        What is said of it and cannot be: for people.
    """

    path: str
    scale: tuple[float, ...] | None
    translation: tuple[float, ...] | None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class NgffImage:
    """One entry of `multiscales`.

    Attributes
    ----------
    name
        What it is called; may be empty.
    axes, units
        Names and units of the axes as they are written; None where they are not, or not usable.
    datasets
        The levels, full size first.
    """

    name: str
    axes: tuple[str, ...] | None
    units: tuple[str | None, ...] | None
    datasets: tuple[NgffDataset, ...]

    def dataset(self, path: str) -> NgffDataset | None:
        """Return the level of a path, or None."""
        return next((found for found in self.datasets if found.path == path), None)

    def metadata_of(self, dataset: NgffDataset, known: ImageMetadata) -> ImageMetadata:
        """Return what is known of an array with what this image says of it in its place; nothing is checked."""
        origin = dataset.translation
        return replace(
            known,
            axes=self.axes or known.axes,
            units=self.units or known.units,
            voxel_size=dataset.scale or known.voxel_size,
            origin=origin if origin is not None and any(origin) else known.origin,
        )


def ome_of(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a group's attributes that follows the specification, be it of version 0.4 or 0.5."""
    ome = attributes.get("ome")
    return ome if isinstance(ome, Mapping) else attributes


def own_attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a group that are no part of the specification, and those that go with the voxels."""
    ome = ome_of(attributes)
    kept = {name: ome[name] for name in ("omero", "image-label") if isinstance(ome.get(name), Mapping)}
    return {**{name: value for name, value in attributes.items() if name not in RESERVED}, **kept}


def images_of(attributes: Mapping[str, Any]) -> Iterator[NgffImage]:
    """Yield the images that a group describes; entries that are malformed are left out."""
    found = ome_of(attributes).get("multiscales")
    for image in found if isinstance(found, list) else ():
        if isinstance(image, Mapping) and isinstance(image.get("datasets"), list):
            names, units = _axes(image.get("axes"))
            datasets = tuple(
                _dataset(entry, image)
                for entry in image["datasets"]
                if isinstance(entry, Mapping) and isinstance(entry.get("path"), str)
            )
            yield NgffImage(str(image.get("name") or ""), names, units, datasets)


def is_collection(attributes: Mapping[str, Any]) -> bool:
    """Whether a group is a bioformats2raw container: several images, numbered from 0."""
    return "bioformats2raw.layout" in ome_of(attributes)


def series_of(attributes: Mapping[str, Any]) -> list[str]:
    """Return the paths of the images that the group `OME` of a bioformats2raw container lists."""
    found = ome_of(attributes).get("series")
    return [path for path in found if isinstance(path, str)] if isinstance(found, list) else []


def label_names(attributes: Mapping[str, Any]) -> list[str]:
    """Return the names that a group `labels` lists."""
    found = ome_of(attributes).get("labels")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def well_paths(attributes: Mapping[str, Any]) -> list[str]:
    """Return the paths of the wells of a plate, or of the fields of a well."""
    ome = ome_of(attributes)
    for holder, entries in (("plate", "wells"), ("well", "images")):
        found = ome.get(holder)
        listed = found.get(entries) if isinstance(found, Mapping) else None
        if isinstance(listed, list):
            paths = [entry.get("path") for entry in listed if isinstance(entry, Mapping)]
            return [path.strip("/") for path in paths if isinstance(path, str)]
    return []


def with_channels(
    metadata: ImageMetadata, attributes: Mapping[str, Any], shape: Sequence[int]
) -> ImageMetadata:
    """Return metadata with the names, colours and contrast limits that the group says of its channels."""
    omero = ome_of(attributes).get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(channels, list) or not all(isinstance(channel, Mapping) for channel in channels):
        return metadata
    names = [label for channel in channels if isinstance(label := channel.get("label"), str) and label]
    colors = [color for channel in channels if (color := _color(channel.get("color"))) is not None]
    limits = [pair for channel in channels if (pair := _limits(channel.get("window"))) is not None]
    said = ImageMetadata(
        channel_names=tuple(names) or None,
        channel_colors=tuple(colors) or None,
        contrast_limits=tuple(limits) or None,
    ).for_channels(channel_count(metadata.axes, shape))
    return replace(
        metadata,
        channel_names=said.channel_names or metadata.channel_names,
        channel_colors=said.channel_colors or metadata.channel_colors,
        contrast_limits=said.contrast_limits or metadata.contrast_limits,
    )


def _dataset(entry: Mapping[str, Any], image: Mapping[str, Any]) -> NgffDataset:
    """Put together the transformations of a level and those that the image has for all of them."""
    scale: tuple[float, ...] | None = None
    origin: tuple[float, ...] | None = None
    problems = []
    for holder in (entry, image):
        steps = holder.get("coordinateTransformations")
        for step in steps if isinstance(steps, list) else ():
            kind = step.get("type") if isinstance(step, Mapping) else None
            values = step.get(kind) if kind in ("scale", "translation") else None
            if not isinstance(values, list) or not values or not all(map(_is_number, values)):
                continue
            before = scale or origin
            if before is not None and len(before) != len(values):
                problems.append(f"{kind} {values} has another length than {list(before)}")
            elif kind == "scale":
                scale = _product(scale, values)
                origin = None if origin is None else _product(origin, values)
            else:
                origin = _sum(origin, values)
    return NgffDataset(str(entry["path"]).strip("/"), scale, origin, tuple(problems))


def _product(a: tuple[float, ...] | None, b: Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, b)) if a is None else tuple(x * y for x, y in zip(a, b, strict=True))


def _sum(a: tuple[float, ...] | None, b: Sequence[float]) -> tuple[float, ...]:
    return tuple(map(float, b)) if a is None else tuple(x + y for x, y in zip(a, b, strict=True))


def _axes(axes: Any) -> tuple[tuple[str, ...] | None, tuple[str | None, ...] | None]:
    """Return names and units of axes as version 0.3 (names) or later (dicts) writes them."""
    if not isinstance(axes, list):
        return None, None
    entries = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in axes]
    if not all(isinstance(entry.get("name"), str) for entry in entries):
        return None, None
    units = tuple(entry["unit"] if isinstance(entry.get("unit"), str) else None for entry in entries)
    return tuple(entry["name"] for entry in entries), units if any(units) else None


def _color(value: Any) -> str | None:
    found = _COLOR.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else found[1].upper()


def _limits(window: Any) -> tuple[float, float] | None:
    if not isinstance(window, Mapping):
        return None
    start, end = window.get("start"), window.get("end")
    if not (_is_number(start) and _is_number(end) and math.isfinite(start) and math.isfinite(end)):
        return None
    return start, end


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
