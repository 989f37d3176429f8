"""The ways in which N5 writers say axes, units and voxel size, and what is written so that their readers find it.

n5-viewer has `pixelResolution` and `downsamplingFactors`; COSEM has `transform`; neuroglancer, Paintera and z5 have `resolution`,
`units`, `axes` and `offset`, which hold for the arrays below as well. All but COSEM count axes fastest first. Units are written as
symbols: neuroglancer opens nothing that has other ones.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bioimage_py.errors import BioimagePyWarning
from bioimage_py.metadata import (
    ImageMetadata,
    bdv_metadata,
    bdv_view,
    from_attributes,
    is_number,
    normalise_unit,
    to_attributes,
    unit_symbol,
    with_resolution,
    without_nonsense,
)
from bioimage_py.storage import is_url

_LEVEL = re.compile(r"s(\d+)")
_SAID = ("transform", "pixelResolution", "resolution", "downsamplingFactors", "offset")


def metadata_from(
    attributes: Mapping[str, Any], above: Sequence[Mapping[str, Any]], folder: str, ndim: int
) -> ImageMetadata:
    """Return axes, voxel size, units and attributes of an array, slowest axis first.

    `above` are the attributes of the groups around it, the nearest first. What is malformed stays a plain attribute: metadata never
    keeps an array from being opened.
    """
    left = dict(attributes)
    transformed = _from_transform(left.get("transform"), ndim, _turned(left.get("axes"), ndim))
    found = transformed or _from_bdv(left, above, folder, ndim) or _from_resolution(left, above, folder, ndim)
    turned = {name: _turned(left.get(name), ndim) for name in ("axes", "units")}
    if found.voxel_size is None and not any(map(normalise_unit, turned["units"] or ())):
        turned["units"] = None  # it is about something else
    for name, values in turned.items():
        if values is not None:
            del left[name]
    units, axes = turned["units"], turned["axes"]
    own = from_attributes(left if axes is None else {**left, "axes": axes}, ndim, folder)
    known = found.units or (None if units is None else tuple(units))
    said = without_nonsense(replace(found, units=known, axes=found.axes or own.axes), ndim, folder)
    kept = dict(own.attributes)
    if said.voxel_size or own.voxel_size:
        for name in _SAID:
            kept.pop(name, None)
    return replace(
        own,
        axes=said.axes or own.axes,
        units=said.units or own.units,
        voxel_size=own.voxel_size or said.voxel_size,
        origin=own.origin or said.origin,
        attributes=kept,
    ).fitting(ndim)


def _from_transform(transform: Any, ndim: int, named: list[Any] | None) -> ImageMetadata | None:
    """Read COSEM's way; its lists are slowest first, unless their own names of axes, and not those beside it, say the opposite."""
    if not isinstance(transform, Mapping):
        return None
    axes, units = _texts(transform.get("axes"), ndim), _texts(transform.get("units"), ndim)
    scale, origin = _numbers(transform.get("scale"), ndim), _numbers(transform.get("translate"), ndim)
    if scale is None:
        return None
    names = [name.lower() for name in axes or ()]
    x_first = "x" in names and "y" in names and names.index("x") < names.index("y")
    step = -1 if x_first and list(axes or ()) != named else 1
    return ImageMetadata(
        axes=axes and axes[::step],
        voxel_size=scale[::step],
        units=units and units[::step],
        origin=origin[::step] if origin and any(origin) else None,
    )


def _from_bdv(
    attributes: Mapping[str, Any], above: Sequence[Mapping[str, Any]], folder: str, ndim: int
) -> ImageMetadata | None:
    """Read the XML file beside a container of BigDataViewer, three folders up from `setup0/timepoint0/s0`."""
    parts = folder.rstrip("/").split("/")
    view = bdv_view("/".join(parts[-3:]))
    if view is None or ndim != 3 or is_url(folder):
        return None
    factors = _factors(attributes, above, folder, ndim)
    return bdv_metadata("/".join(parts[:-3]), view.setup, None if factors is None else factors[::-1])


def _from_resolution(
    attributes: Mapping[str, Any], above: Sequence[Mapping[str, Any]], folder: str, ndim: int
) -> ImageMetadata:
    """Read what n5-viewer and neuroglancer write, beside the array or in a group around it."""
    places = (attributes, *above)
    size, unit, offset = None, None, None
    for place in places:
        pixel = place.get("pixelResolution")
        size = _numbers(pixel.get("dimensions") if isinstance(pixel, Mapping) else pixel, ndim)
        if size is not None:
            unit = pixel.get("unit") if isinstance(pixel, Mapping) else None
            break
        size = _numbers(place.get("resolution"), ndim)
        if size is not None:
            offset = _numbers(place.get("offset"), ndim)
            break
    if size is None:
        return ImageMetadata()
    units = _first(places, "units", ndim) or ([unit] * ndim if isinstance(unit, str) else None)
    axes = _first(places, "axes", ndim)
    factors = _factors(attributes, above, folder, ndim) or (1.0,) * ndim
    origin = [(f - 1) / 2 * s for f, s in zip(factors, size, strict=True)]
    if offset is not None:
        origin = [o + n for o, n in zip(origin, offset, strict=True)]
    return ImageMetadata(
        axes=None if axes is None else tuple(axes[::-1]),
        voxel_size=tuple(s * f for s, f in zip(size, factors, strict=True))[::-1],
        units=None if units is None else tuple(value or None for value in units[::-1]),
        origin=tuple(origin)[::-1] if any(origin) else None,
    )


def _factors(
    attributes: Mapping[str, Any], above: Sequence[Mapping[str, Any]], folder: str, ndim: int
) -> tuple[float, ...] | None:
    """Return by how much the voxels of this level are larger, which the level says or a group lists for all levels."""
    own = _numbers(attributes.get("downsamplingFactors"), ndim)
    level = _LEVEL.fullmatch(folder.rstrip("/").rpartition("/")[2])
    if own is not None or level is None:
        return own
    for place in above:
        for name in ("downsamplingFactors", "scales"):
            listed = place.get(name)
            if isinstance(listed, list) and int(level[1]) < len(listed):
                return _numbers(listed[int(level[1])], ndim)
    return None


def attributes_of(metadata: ImageMetadata) -> dict[str, Any]:
    """Return the attributes of an array, in our words and in those of n5-viewer, COSEM and neuroglancer."""
    said = dict(metadata.attributes)
    spelled = said.get("units")
    listed = [spelled] if isinstance(spelled, str) else _turned(spelled, len(metadata.units or ())) or []
    if metadata.units is not None and any(map(normalise_unit, listed)):
        del said["units"]  # another spelling of what is written
    others = list(_names_of_others(said, metadata))
    renamed = {f"input_{name}": said.pop(name) for name in others}
    if renamed:
        warnings.warn(
            f"attributes {', '.join(others)} of the input mean something else in N5 and are written as {', '.join(renamed)}",
            BioimagePyWarning,
            stacklevel=5,
        )
    metadata = _with_symbols(replace(metadata, attributes={**said, **renamed}))
    attributes = to_attributes(metadata)
    for name in ("axes", "units", "voxel_size"):
        values = getattr(metadata, name)
        if values is not None:
            turned = ["" if value is None else value for value in values[::-1]]
            attributes["resolution" if name == "voxel_size" else name] = turned
    attributes.pop("voxel_size", None)
    sizes, units, axes = metadata.voxel_size, metadata.units, metadata.axes
    if sizes is None:
        return attributes
    place = metadata.origin or (0.0,) * len(sizes)
    if "offset" in attributes:
        attributes["offset"] = list(place[::-1])
    named = {unit for unit in units or () if unit is not None}
    # It has one unit for all, which says too much of an axis of space that has none.
    unknown = any(unit is None and axis in "zyx" for axis, unit in zip(axes or (), units or (), strict=False))
    if len(named) == 1 and not unknown:
        attributes["pixelResolution"] = {"dimensions": list(sizes[::-1]), "unit": named.pop()}
    if axes is not None and units is not None:
        attributes["transform"] = {
            "axes": list(axes),
            "scale": list(sizes),
            "translate": list(place),
            "units": [unit or "" for unit in units],
        }
    return attributes


def _names_of_others(said: Mapping[str, Any], metadata: ImageMetadata) -> list[str]:
    found = [name for name in ("axes", "units") if name in said]
    if metadata.voxel_size is None:
        return found
    ndim = len(metadata.voxel_size)
    size = None if "resolution" in said else metadata.voxel_size
    known = with_resolution(replace(metadata, voxel_size=size, origin=None), ndim)
    same = (known.voxel_size, known.origin or None) == (metadata.voxel_size, metadata.origin or None)
    found += [name for name in ("resolution", "offset") if name in said and not same]
    return [*found, *(name for name in ("pixelResolution", "transform") if name in said)]


def _with_symbols(metadata: ImageMetadata) -> ImageMetadata:
    if metadata.units is None:
        return metadata
    symbols = [("", 1.0) if unit is None else unit_symbol(unit) for unit in metadata.units]

    def converted(values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return values and tuple(
            value if factor == 1 else float(f"{value * factor:.15g}")
            for value, (_, factor) in zip(values, symbols, strict=True)
        )

    return replace(
        metadata,
        units=tuple(symbol or None for symbol, _ in symbols),
        voxel_size=converted(metadata.voxel_size),
        origin=converted(metadata.origin),
    )


def _first(places: Sequence[Mapping[str, Any]], name: str, ndim: int) -> tuple[str, ...] | None:
    return next((found for place in places if (found := _texts(place.get(name), ndim)) is not None), None)


def _turned(values: Any, ndim: int) -> list[Any] | None:
    fits = isinstance(values, list) and len(values) == ndim
    if not fits or not all(value is None or isinstance(value, str) for value in values):
        return None
    return [value or None for value in values[::-1]]


def _numbers(values: Any, ndim: int) -> tuple[float, ...] | None:
    fine = isinstance(values, list) and len(values) == ndim and all(map(is_number, values))
    return tuple(map(float, values)) if fine else None


def _texts(values: Any, ndim: int) -> tuple[str, ...] | None:
    if not isinstance(values, list) or len(values) != ndim or not all(isinstance(v, str) for v in values):
        return None
    return tuple(values)
