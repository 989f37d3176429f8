"""What the attributes of an OME-Zarr group say: images with their levels, channels, wells and fields. Pure dicts in."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bioimage_py.metadata.model import ImageMetadata, is_number
from bioimage_py.metadata.ome_ngff import (
    PROVISIONAL,
    RESERVED,
    axes_and_datasets,
    channel_count,
    has_systems,
    listed_channels,
)

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
    names_axes: bool = True  # False before version 0.3, whose images are all t, c, z, y, x

    def metadata_of(self, dataset: NgffDataset, known: ImageMetadata, ndim: int) -> ImageMetadata:
        """Return metadata with what this image says of the array in their place; nothing is checked."""
        origin = dataset.translation
        implied = None if self.names_axes or ndim != 5 else tuple("tczyx")
        return replace(
            known,
            axes=self.axes or known.axes or implied,
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
    for image in _mappings(ome_of(attributes).get("multiscales")):
        if isinstance(image.get("datasets"), list):
            axes = axes_of(image)
            names = tuple(axis["name"] for axis in axes)
            units = tuple(unit if isinstance(unit := axis.get("unit"), str) else None for axis in axes)
            turned = tuple(o if isinstance(o := axis.get("orientation"), Mapping) else None for axis in axes)
            datasets = tuple(
                _dataset(entry, image, names)
                for entry in _mappings(image["datasets"])
                if isinstance(entry.get("path"), str)
            )
            yield NgffImage(
                str(image.get("name") or ""),
                names or None,
                units if any(units) else None,
                datasets,
                turned if any(turned) else None,
                "axes" in image or _SYSTEMS in image,
            )


_SYSTEMS = "coordinateSystems"
_PLACED = ("axes", "datasets", _SYSTEMS, "coordinateTransformations")


def with_systems(image: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return an entry of `multiscales` with axes and levels as a version has them; what the levels are not placed in is left out."""
    if has_systems(version) == (_SYSTEMS in image):
        return dict(image)
    found = next(images_of({"multiscales": [image]}))
    placed = []
    for dataset in found.datasets:
        scale = dataset.scale or (1.0,) * len(found.axes or ())
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": list(scale)}]
        if dataset.translation is not None:
            steps.append({"type": "translation", "translation": list(dataset.translation)})
        placed.append((dataset.path, steps))
    rest = {name: value for name, value in image.items() if name not in _PLACED}
    return {**rest, **axes_and_datasets([dict(axis) for axis in axes_of(image)], placed, version)}


def has_other_systems(attributes: Mapping[str, Any]) -> bool:
    """Whether an image of version 0.6 has coordinate systems beside the one that its levels are placed in."""
    images = _mappings(ome_of(attributes).get("multiscales"))
    more = (len(_mappings(one.get(_SYSTEMS))) > 1 or "coordinateTransformations" in one for one in images)
    return any(more)


def is_collection(attributes: Mapping[str, Any]) -> bool:
    """Whether a group is a bioformats2raw container: several images, numbered from 0."""
    return "bioformats2raw.layout" in ome_of(attributes)


def series_of(attributes: Mapping[str, Any]) -> list[str]:
    """Return the paths of the images that the group `OME` of a bioformats2raw container lists."""
    return _texts(attributes, "series")


def scene_paths(attributes: Mapping[str, Any]) -> list[str]:
    """Return the paths of the images that a scene of version 0.6 places, in the order in which it names them."""
    scene = ome_of(attributes).get("scene")
    steps = _mappings(scene.get("coordinateTransformations")) if isinstance(scene, Mapping) else []
    ends = (end for step in steps for end in _mappings([step.get("input"), step.get("output")]))
    paths = (path.strip("/") for end in ends if isinstance(path := end.get("path"), str))
    return list(dict.fromkeys(filter(None, paths)))


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
        if isinstance(found, Mapping) and isinstance(found.get(entries), list):
            paths = [entry.get("path") for entry in _mappings(found[entries])]
            return [path.strip("/") for path in paths if isinstance(path, str)]
    return []


def with_channels(
    metadata: ImageMetadata, attributes: Mapping[str, Any], shape: Sequence[int]
) -> ImageMetadata:
    """Return metadata with the names, colours and contrast limits that the group says of its channels."""
    channels = listed_channels(ome_of(attributes).get("omero"))
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


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _dataset(entry: Mapping[str, Any], image: Mapping[str, Any], axes: tuple[str, ...]) -> NgffDataset:
    """Put together the transformations of a level and, up to version 0.5, those that the image has for all of them."""
    problems: list[str] = []
    steps = _mappings(entry.get("coordinateTransformations"))
    if _SYSTEMS in image:
        # What the image has leads on to other coordinate systems; that of the levels is the first one.
        steps = steps[:1]
    else:
        steps += _mappings(image.get("coordinateTransformations"))
    scale, origin = _placed({"type": "sequence", "transformations": steps}, axes, problems)
    return NgffDataset(str(entry["path"]).strip("/"), scale, origin, tuple(problems))


_Numbers = tuple[float, ...] | None


def _placed(step: Mapping[str, Any], axes: tuple[str, ...], problems: list[str]) -> tuple[_Numbers, _Numbers]:
    """Return scale and place after a transformation."""
    scale: _Numbers = None
    origin: _Numbers = None
    for kind, values in _steps(step, axes, problems):
        before, size = scale or origin, len(values)
        if before is not None and len(before) != size:
            problems.append(f"{kind} {values} has another length than {list(before)}")
        elif kind == "scale":
            scale = tuple(map(operator.mul, scale or (1.0,) * size, values))
            origin = origin and tuple(map(operator.mul, origin, values))
        else:
            origin = tuple(map(operator.add, origin or (0.0,) * size, values))
    return scale, origin


def _steps(
    step: Mapping[str, Any], axes: tuple[str, ...], problems: list[str]
) -> Iterator[tuple[str, list[float]]]:
    """Yield a transformation as scales and translations, with their numbers; what these cannot express is a problem."""
    kind = str(step.get("type"))
    values = step.get(kind)
    if kind == "identity" and axes:
        yield "scale", [1.0] * len(axes)
    elif kind in ("sequence", "bijection"):
        for inner in _mappings(step.get("transformations") if kind == "sequence" else [step.get("forward")]):
            yield from _steps(inner, axes, problems)
    elif kind == "byDimension":
        yield from _by_dimension(_mappings(step.get("transformations")), axes, problems)
    elif kind in ("scale", "translation"):
        if "path" in step:
            problems.append(f"the {kind} is in the array {step['path']!r}, which is not read")
        elif isinstance(values, list) and values and all(map(is_number, values)):
            yield kind, values
    elif kind in ("affine", "rotation"):
        yield from _diagonal(kind, values, problems)
    elif kind == "mapAxis" and not (isinstance(values, list) and values == list(range(len(values)))):
        problems.append(f"the transformation mapAxis {values} changes the order of the axes")
    elif kind in ("displacements", "coordinates"):
        problems.append(f"a transformation of type {kind} cannot be expressed by a voxel size")


def _diagonal(kind: str, rows: Any, problems: list[str]) -> Iterator[tuple[str, list[float]]]:
    size = len(rows) if isinstance(rows, list) else 0
    wide = size + (kind == "affine")
    if not size or any(
        not isinstance(row, list) or len(row) != wide or not all(map(is_number, row)) for row in rows
    ):
        return
    if any(row[n] != 0 for k, row in enumerate(rows) for n in range(size) if n != k):
        problems.append(f"the {kind} {rows} turns the axes")
        return
    yield "scale", [row[k] for k, row in enumerate(rows)]
    if kind == "affine":
        yield "translation", [row[-1] for row in rows]


def _by_dimension(
    steps: list[Mapping[str, Any]], axes: tuple[str, ...], problems: list[str]
) -> Iterator[tuple[str, list[float]]]:
    scale, origin = [1.0] * len(axes), [0.0] * len(axes)
    for step in steps:
        into, out = (_axis_numbers(step, side, axes) for side in ("input", "output"))
        for inner in _mappings([step.get("transformation", step)]):
            placed = _placed(inner, tuple(axes[n] for n in into), problems)
            for values, found in zip((scale, origin), placed, strict=True):
                if found is not None and len(found) == len(into):
                    for axis, value in zip(into, found, strict=True):
                        values[axis] = value
        if into != out:
            problems.append("a transformation byDimension changes the order of the axes")
            return
    if axes:
        yield "scale", scale
        if any(origin):
            yield "translation", origin


def _axis_numbers(step: Mapping[str, Any], side: str, axes: tuple[str, ...]) -> list[int]:
    """Return which axes a part is about: written as numbers, or as names."""
    said = next((step[name] for name in (f"{side}Axes", f"{side}_axes", side) if name in step), None)
    found = [axes.index(axis) if axis in axes else axis for axis in (said if isinstance(said, list) else ())]
    return [n for n in found if isinstance(n, int) and 0 <= n < len(axes)]


def axes_of(image: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the axes of an image, from version 0.6 on of the coordinate system of its levels; none where they are not usable."""
    axes = image.get("axes")
    systems = _mappings(image.get(_SYSTEMS))
    if systems:
        named = {name: system for system in systems if isinstance(name := system.get("name"), str)}
        axes = named.get(_output_of(image), systems[0]).get("axes", axes)
    # Version 0.3 has names, later ones have dicts.
    entries = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in axes] if isinstance(axes, list) else []  # fmt: skip
    return entries if all(isinstance(entry.get("name"), str) for entry in entries) else []


def _output_of(image: Mapping[str, Any]) -> str:
    """Return the name of the coordinate system that the full-size level is placed in."""
    for entry in _mappings(image["datasets"]):
        for step in _mappings(entry.get("coordinateTransformations")):
            output = step.get("output")
            name = output.get("name") if isinstance(output, Mapping) else output
            if isinstance(name, str):
                return name
    return ""


def _color(value: Any) -> str | None:
    found = _COLOR.fullmatch(value) if isinstance(value, str) else None
    return None if found is None else found[1].upper()


def _limits(window: Any) -> tuple[float, float] | None:
    if not isinstance(window, Mapping) or window.get(PROVISIONAL):
        return None
    start, end = window.get("start"), window.get("end")
    if not (is_number(start) and is_number(end) and math.isfinite(start) and math.isfinite(end)):
        return None
    return start, end
