"""Axes and voxel size in the attributes of a single chunked array (not of an OME-Zarr group)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.metadata.model import ImageMetadata
from bioimage_py.metadata.sanity import without_nonsense

__all__ = ["from_attributes", "plain_value", "to_attributes"]

_OWN = ("axes", "voxel_size", "units", "origin", "channel_names", "channel_colors", "contrast_limits")
_PER_CHANNEL = ("channel_names", "channel_colors", "contrast_limits")
_COLOR = re.compile("[0-9A-F]{6}")


def to_attributes(metadata: ImageMetadata, *, numbers_as_text: bool = True) -> dict[str, Any]:
    """Return plain JSON attributes: the source's own, and axes, voxel_size, units, origin where they are known.

    Parameters
    ----------
    metadata
        What to write.
    numbers_as_text
        Whether NaN and infinities, for which JSON has no word, become `"NaN"`, `"Infinity"` and `"-Infinity"`, as in
        Zarr's fill values. Readers of JSON that is not plain refuse all of it.
    """
    attributes = dict(metadata.attributes)
    if numbers_as_text:
        attributes = {name: _finite(value) for name, value in attributes.items()}
    for name in _OWN:
        value = getattr(metadata, name)
        if value is not None:
            attributes[name] = [list(item) if isinstance(item, tuple) else item for item in value]
    return attributes


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value


def plain_value(value: Any) -> Any:
    """Return a value of an attribute in the types that JSON has; numpy's numbers and arrays become Python's.

    Raises
    ------
    InvalidArgumentError
        If it, or something in it, is none of None, bool, int, float, str, and lists and dicts of them.

    Examples
    --------
    >>> import numpy as np
    >>> plain_value({"gain": np.float32(2), "offsets": (np.arange(3),)})
    {'gain': 2.0, 'offsets': [[0, 1, 2]]}
    """
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
    """Read what `to_attributes` wrote; everything else, malformed entries included, stays an attribute.

    Parameters
    ----------
    attributes
        As stored.
    ndim
        Axes of the array.
    name
        What the array is called in the warning about sizes and units that are nonsense.
    """
    left = dict(attributes)
    found: dict[str, Any] = {}
    for key in _OWN:
        value = left.get(key)
        if isinstance(value, list) and (key in _PER_CHANNEL or len(value) == ndim):
            parsed = _parse(key, value)
            if parsed is not None:
                found[key] = parsed
                del left[key]
    metadata = without_nonsense(ImageMetadata(**found), ndim, name or "attributes")
    if metadata.voxel_size is None and "voxel_size" in found:
        left["voxel_size"] = list(found["voxel_size"])
    return replace(metadata, attributes=left)


def _parse(name: str, value: list[Any]) -> tuple[Any, ...] | None:
    if name in ("axes", "channel_names"):
        unique = name != "axes" or len(set(map(str, value))) == len(value)
        return tuple(value) if unique and all(isinstance(v, str) for v in value) else None
    if name == "units":
        return tuple(value) if all(v is None or isinstance(v, str) for v in value) else None
    if name == "channel_colors":
        return tuple(value) if all(isinstance(v, str) and _COLOR.fullmatch(v) for v in value) else None
    if name == "contrast_limits":
        pairs = all(isinstance(v, list) and len(v) == 2 and all(map(_is_number, v)) for v in value)
        return tuple((v[0], v[1]) for v in value) if pairs else None
    return tuple(float(v) for v in value) if all(map(_is_number, value)) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
