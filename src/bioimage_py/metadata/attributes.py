"""Axes and voxel size in the attributes of a single chunked array (not of an OME-Zarr group)."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError
from bioimage_py.metadata.model import PER_CHANNEL, ImageMetadata, is_number
from bioimage_py.metadata.overrides import spatial_axes, without_nonsense
from bioimage_py.metadata.units import normalise_unit

_COLOR = re.compile("[0-9A-F]{6}")


def to_attributes(metadata: ImageMetadata, *, numbers_as_text: bool = True) -> dict[str, Any]:
    """Return the attributes of the source, and axes, voxel_size, units, origin where known, as JSON values.

    The source's own attributes with our names stay, with a warning. `numbers_as_text`: see `without_nan`.
    """
    attributes = without_nan(metadata.attributes) if numbers_as_text else dict(metadata.attributes)
    kept = []
    for name in _IS_ENTRY:
        value = getattr(metadata, name)
        if value is None or (name == "units" and _means(attributes.get(name), value)):
            continue
        if name in attributes and not _is_ours(name, attributes[name]):
            kept.append(name)
            continue
        attributes[name] = [list(item) if isinstance(item, tuple) else item for item in value]
    if kept:
        names = ", ".join(kept)
        _warn(
            f"the input has attributes of its own called {names}; they are kept, and {names} of the image are not written"
        )
    return attributes


def without_nan(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes with NaN and infinities as text, as in Zarr's fill values, with a warning: JSON has no such numbers."""
    as_text = {name: text for name, value in attributes.items() if (text := _finite(value)) != value}
    if as_text:
        _warn(
            f"NaN and infinities in the attributes {', '.join(as_text)} are written as text: JSON has no such numbers"
        )
    return {**attributes, **as_text}


def _warn(text: str) -> None:
    warnings.warn(text, BioimagePyWarning, stacklevel=5)


def _means(said: Any, units: tuple[str | None, ...]) -> bool:
    """Whether units as the source spells them are these, so that its spelling can stay."""
    if isinstance(said, str):
        return {normalise_unit(said)} == {unit for unit in units if unit is not None}
    return (
        isinstance(said, list)
        and all(isinstance(unit, str) for unit in said)
        and tuple(map(normalise_unit, said)) == units
    )


def _is_ours(name: str, value: Any) -> bool:
    """Whether a value could be one that `to_attributes` has written, and may be replaced."""
    if not isinstance(value, list) or _parse(name, value) is None:
        return False
    return name != "units" or any(map(normalise_unit, value)) or not any(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return type(value)(map(_finite, value)) if isinstance(value, (list, tuple)) else value


def plain_value(value: Any) -> Any:
    """Return a value in the types of JSON; InvalidArgumentError if there is none for it."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain_value(item) for key, item in value.items()}
    raise InvalidArgumentError(
        f"{str(value)[:80]!r} of type {type(value).__name__} cannot be stored as an attribute; numbers, texts, and lists "
        "and dicts of them can"
    )


def from_attributes(attributes: Mapping[str, Any], ndim: int, name: str = "") -> ImageMetadata:
    """Read what `to_attributes` wrote; all else, malformed entries included, stays an attribute. `name` is for warnings."""
    left = dict(attributes)
    found: dict[str, Any] = {}
    for key in _IS_ENTRY:
        value = left.get(key)
        if isinstance(value, list) and (key in PER_CHANNEL or len(value) == ndim):
            parsed = _parse(key, value)
            if parsed is not None:
                found[key] = parsed
                del left[key]
    units = found.get("units")
    if units is not None and units != tuple(map(normalise_unit, units)):
        # Somebody else's: it stays as it is spelled, and where it is not about axes at all, nothing is read from it.
        left["units"] = attributes["units"]
        if not any(map(normalise_unit, units)) and not {"axes", "voxel_size"} & set(found):
            del found["units"]
    elif isinstance(left.get("units"), str) and "voxel_size" in found:
        found["units"] = _for_space(left["units"], found.get("axes"), ndim)
    metadata = without_nonsense(ImageMetadata(**found), ndim, name or "attributes")
    if metadata.voxel_size is None and "voxel_size" in found:
        left["voxel_size"] = list(found["voxel_size"])
    return replace(metadata, attributes=left)


def _for_space(unit: str, axes: Sequence[str] | None, ndim: int) -> tuple[str | None, ...]:
    space = spatial_axes(axes, ndim)
    return tuple(normalise_unit(unit) if axis in space else None for axis in range(ndim))


def with_resolution(metadata: ImageMetadata, ndim: int) -> ImageMetadata:
    """Return metadata with the voxel size that CREMI, daisy and funlib write: `resolution` and `offset`, slowest axis first.

    These have one entry per axis, or per axis of space, and stay attributes too. A voxel size known otherwise stays; funlib
    has `offset` beside `voxel_size` too.
    """
    said = metadata.attributes
    space = spatial_axes(metadata.axes, ndim)
    origin = metadata.origin
    if origin is None:
        offset = _along(said.get("offset"), space, ndim, 0.0)
        origin = offset if offset is not None and any(offset) and all(map(math.isfinite, offset)) else None
    if metadata.voxel_size is not None:
        return replace(metadata, origin=origin)
    sizes = _along(said.get("resolution"), space, ndim, 1.0)
    if sizes is None or not all(0 < size < math.inf for size in sizes):
        return metadata
    unit, units = said.get("units"), metadata.units
    if isinstance(unit, str):
        units = _for_space(unit, metadata.axes, ndim)
    return replace(metadata, voxel_size=sizes, units=units if any(units or ()) else None, origin=origin)


def _along(values: Any, space: Sequence[int], ndim: int, other: float) -> tuple[float, ...] | None:
    """Return one number per axis from one per axis, or per axis of space."""
    if not isinstance(values, list) or not all(map(is_number, values)):
        return None
    if len(values) == ndim:
        return tuple(map(float, values))
    if len(values) != len(space):
        return None
    by_axis = dict(zip(space, values, strict=True))
    return tuple(float(by_axis.get(axis, other)) for axis in range(ndim))


def _parse(name: str, value: list[Any]) -> tuple[Any, ...] | None:
    if not all(map(_IS_ENTRY[name], value)) or (name == "axes" and len(set(value)) != len(value)):
        return None
    if name == "contrast_limits":
        return tuple((low, high) for low, high in value)
    return tuple(map(float, value)) if name in ("voxel_size", "origin") else tuple(value)


_IS_ENTRY: Mapping[str, Callable[[Any], bool]] = {
    "axes": lambda one: isinstance(one, str),
    "voxel_size": is_number,
    "units": lambda one: one is None or isinstance(one, str),
    "origin": is_number,
    "channel_names": lambda one: isinstance(one, str),
    "channel_colors": lambda one: isinstance(one, str) and _COLOR.fullmatch(one) is not None,
    "contrast_limits": lambda one: isinstance(one, list) and len(one) == 2 and all(map(is_number, one)),
    "orientations": lambda one: one is None or isinstance(one, Mapping),
}
"""Our names of attributes, and what an entry of each looks like."""
