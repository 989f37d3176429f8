"""What the attributes of an OME-Zarr group say: images with their levels, channels, wells and fields. Pure dicts in."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from bioimage_py.metadata.model import ImageMetadata
from bioimage_py.metadata.ome_ngff import PROVISIONAL, RESERVED, channel_count

_COLOR = re.compile(r"#?([0-9a-fA-F]{6})([0-9a-fA-F]{2})?")


@dataclass(frozen=True)
class NgffDataset:
    """One level of an image as a group describes it."""

    path: str  # its key below the group
    # The image's own transformations included; None where nothing usable is said.
    scale: tuple[float, ...] | None
    translation: tuple[float, ...] | None
    problems: tuple[str, ...] = ()  # what is said of it and cannot be


@dataclass(frozen=True)
class NgffImage:
    """One entry of `multiscales`."""

    name: str  # may be empty
    # As they are written; None where they are not usable.
    axes: tuple[str, ...] | None
    units: tuple[str | None, ...] | None
    datasets: tuple[NgffDataset, ...]  # the levels, full size first
    orientations: tuple[Mapping[str, Any] | None, ...] | None = None  # of RFC-4, as they are written

    def dataset(self, path: str) -> NgffDataset | None:
        return next((found for found in self.datasets if found.path == path), None)

    def metadata_of(self, dataset: NgffDataset, known: ImageMetadata) -> ImageMetadata:
        """Return metadata with what this image says of the array in their place; nothing is checked."""
        origin = dataset.translation
        return replace(
            known,
            axes=self.axes or known.axes,
            units=self.units or known.units,
            orientations=self.orientations or known.orientations,
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
            axes = _axes_of(image)
            names, units = _axes(axes)
            datasets = tuple(
                _dataset(entry, image)
                for entry in image["datasets"]
                if isinstance(entry, Mapping) and isinstance(entry.get("path"), str)
            )
            turned = None if names is None else _orientations(axes)
            yield NgffImage(str(image.get("name") or ""), names, units, datasets, turned)


def is_collection(attributes: Mapping[str, Any]) -> bool:
    """Whether a group is a bioformats2raw container: several images, numbered from 0."""
    return "bioformats2raw.layout" in ome_of(attributes)


def series_of(attributes: Mapping[str, Any]) -> list[str]:
    """Return the paths of the images that the group `OME` of a bioformats2raw container lists."""
    return _texts(attributes, "series")


def label_names(attributes: Mapping[str, Any]) -> list[str]:
    return _texts(attributes, "labels")


def _texts(attributes: Mapping[str, Any], name: str) -> list[str]:
    found = ome_of(attributes).get(name)
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


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
    """Put together the transformations of a level and, up to version 0.5, those that the image has for all of them."""
    placed = _Placed([], _axis_names(_axes_of(image)))
    own = entry.get("coordinateTransformations")
    if "coordinateSystems" in image:
        # What the image has leads on to other coordinate systems; that of the levels is the first one.
        placed.add_all(own[:1] if isinstance(own, list) else own)
    else:
        placed.add_all(own)
        placed.add_all(image.get("coordinateTransformations"))
    return NgffDataset(str(entry["path"]).strip("/"), placed.scale, placed.origin, tuple(placed.problems))


@dataclass
class _Placed:
    """Scale and place of a level, after one transformation and the next."""

    problems: list[str]
    axes: tuple[str, ...]
    scale: tuple[float, ...] | None = None
    origin: tuple[float, ...] | None = None

    def add_all(self, steps: Any) -> None:
        for step in steps if isinstance(steps, list) else ():
            if isinstance(step, Mapping):
                self.add(step)

    def add(self, step: Mapping[str, Any]) -> None:
        kind = step.get("type")
        values = step.get(kind) if kind in ("scale", "translation", "affine", "rotation", "mapAxis") else None
        if kind == "sequence":
            self.add_all(step.get("transformations"))
        elif kind == "bijection" and isinstance(step.get("forward"), Mapping):
            self.add(step["forward"])
        elif kind == "byDimension":
            self._add_by_dimension(step.get("transformations"))
        elif kind in ("scale", "translation") and "path" in step:
            self.problems.append(f"the {kind} is in the array {step['path']!r}, which is not read")
        elif kind in ("affine", "rotation"):
            self._add_matrix(kind, values)
        elif kind == "mapAxis" and not _keeps_axes(values):
            self.problems.append(f"the transformation mapAxis {values} changes the order of the axes")
        elif kind in ("displacements", "coordinates"):
            self.problems.append(f"a transformation of type {kind} cannot be expressed by a voxel size")
        elif kind in ("scale", "translation"):
            self._add(kind, values)

    def _add(self, kind: str, values: Any) -> None:
        if not isinstance(values, list) or not values or not all(map(_is_number, values)):
            return
        before = self.scale or self.origin
        if before is not None and len(before) != len(values):
            self.problems.append(f"{kind} {values} has another length than {list(before)}")
        elif kind == "scale":
            self.scale = _combined(operator.mul, self.scale, values)
            self.origin = None if self.origin is None else _combined(operator.mul, self.origin, values)
        else:
            self.origin = _combined(operator.add, self.origin, values)

    def _add_matrix(self, kind: str, rows: Any) -> None:
        if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
            return
        size = len(rows)
        wide = size + (kind == "affine")
        if any(len(row) != wide or not all(map(_is_number, row)) for row in rows):
            return
        if any(row[n] != 0 for k, row in enumerate(rows) for n in range(size) if n != k):
            self.problems.append(f"the {kind} {rows} turns the axes")
            return
        self._add("scale", [row[k] for k, row in enumerate(rows)])
        if kind == "affine":
            self._add("translation", [row[-1] for row in rows])

    def _add_by_dimension(self, steps: Any) -> None:
        size = len(self.axes)
        scale, origin = [1.0] * size, [0.0] * size
        for step in steps if isinstance(steps, list) else ():
            inner = step.get("transformation", step) if isinstance(step, Mapping) else {}
            into, out = (
                self._numbers_of(step, f"{side}Axes", f"{side}_axes", side) for side in ("input", "output")
            )
            one = _Placed(self.problems, tuple(self.axes[n] for n in into))
            one.add(inner)
            if into != out:
                self.problems.append("a transformation byDimension changes the order of the axes")
                return
            for values, found in ((scale, one.scale), (origin, one.origin)):
                if found is not None and len(found) == len(into):
                    for axis, value in zip(into, found, strict=True):
                        values[axis] = value
        self._add("scale", scale)
        if any(origin):
            self._add("translation", origin)

    def _numbers_of(self, step: Any, *names: str) -> list[int]:
        """Return which axes a part is about: written as numbers, or as names."""
        known = step if isinstance(step, Mapping) else {}
        said = next((known[name] for name in names if name in known), None)
        listed = said if isinstance(said, list) else []
        found = [self.axes.index(axis) if axis in self.axes else axis for axis in listed]
        return [n for n in found if isinstance(n, int) and 0 <= n < len(self.axes)]


def _keeps_axes(order: Any) -> bool:
    return isinstance(order, list) and order == list(range(len(order)))


def _combined(
    operation: Callable[[float, float], float], a: tuple[float, ...] | None, b: Sequence[float]
) -> tuple[float, ...]:
    return tuple(map(float, b)) if a is None else tuple(map(operation, a, b))


def _axes_of(image: Mapping[str, Any]) -> Any:
    """Return the axes of an image as they are written: from version 0.6 on those of the coordinate system of its levels."""
    systems = image.get("coordinateSystems")
    if not isinstance(systems, list):
        return image.get("axes")
    known = [system for system in systems if isinstance(system, Mapping)]
    named = {system.get("name"): system for system in known if isinstance(system.get("name"), str)}
    system = named.get(_output_of(image.get("datasets")), known[0] if known else {})
    return system.get("axes", image.get("axes"))


def _output_of(datasets: Any) -> str | None:
    """Return the name of the coordinate system that the full-size level is placed in."""
    for entry in datasets if isinstance(datasets, list) else ():
        steps = entry.get("coordinateTransformations") if isinstance(entry, Mapping) else None
        for step in steps if isinstance(steps, list) else ():
            output = step.get("output") if isinstance(step, Mapping) else None
            name = output.get("name") if isinstance(output, Mapping) else output
            if isinstance(name, str):
                return name
    return None


def _axis_names(axes: Any) -> tuple[str, ...]:
    return _axes(axes)[0] or ()


def _orientations(axes: list[Any]) -> tuple[Mapping[str, Any] | None, ...] | None:
    said = [axis.get("orientation") if isinstance(axis, Mapping) else None for axis in axes]
    found = tuple(one if isinstance(one, Mapping) else None for one in said)
    return found if any(found) else None


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
    if not isinstance(window, Mapping) or window.get(PROVISIONAL):
        return None
    start, end = window.get("start"), window.get("end")
    if not (_is_number(start) and _is_number(end) and math.isfinite(start) and math.isfinite(end)):
        return None
    return start, end


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
