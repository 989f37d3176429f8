"""Axes and voxel size in the attributes of a single chunked array (not of an OME-Zarr group)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bioimage_py.metadata.model import ImageMetadata, normalise_unit

__all__ = ["from_attributes", "to_attributes"]

_OWN = ("axes", "voxel_size", "units", "origin", "channel_names")


def to_attributes(metadata: ImageMetadata) -> dict[str, Any]:
    """Return plain JSON attributes: the source's own, and axes, voxel_size, units, origin where they are known."""
    attributes = dict(metadata.attributes)
    for name in _OWN:
        value = getattr(metadata, name)
        if value is not None:
            attributes[name] = list(value)
    return attributes


def from_attributes(attributes: Mapping[str, Any], ndim: int) -> ImageMetadata:
    """Read what `to_attributes` wrote; everything else, malformed entries included, stays an attribute."""
    left = dict(attributes)
    found: dict[str, Any] = {}
    for name in _OWN:
        value = left.get(name)
        if isinstance(value, list) and (name == "channel_names" or len(value) == ndim):
            parsed = _parse(name, value)
            if parsed is not None:
                found[name] = parsed
                del left[name]
    return ImageMetadata(**found, attributes=left).fitting(ndim)


def _parse(name: str, value: list[Any]) -> tuple[Any, ...] | None:
    if name in ("axes", "channel_names"):
        return tuple(value) if all(isinstance(v, str) for v in value) else None
    if name == "units":
        ok = all(v is None or isinstance(v, str) for v in value)
        return tuple(None if v is None else normalise_unit(v) or v for v in value) if ok else None
    ok = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    return tuple(float(v) for v in value) if ok else None
