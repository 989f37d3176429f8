"""Voxel size and place in the `info` file of neuroglancer precomputed, which has them in nanometres and voxels, x first."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bioimage_py.errors import BioimagePyWarning
from bioimage_py.metadata import ImageMetadata, Level, from_attributes, without_nonsense

OWN_ENTRY = "bioimage_py"
"""The entry of the info file that holds what neuroglancer has no words for."""
_NANOMETERS = {
    "angstrom": 0.1, "picometer": 1e-3, "nanometer": 1.0, "micrometer": 1e3, "millimeter": 1e6, "centimeter": 1e7,
    "meter": 1e9, "inch": 2.54e7,
}  # fmt: skip
_AXES = ("c", "z", "y", "x")
_WHOLE = 1e-3
"""By which part of a voxel a place may be off a whole number of voxels."""


def metadata_of(info: Mapping[str, Any], scale: Mapping[str, Any], ndim: int, name: str) -> ImageMetadata:
    """Return axes, voxel size and place of a scale in nanometres, or what `create` put into the info file besides.

    Neuroglancer places the corners of volumes, and this package the centres of voxels: the first voxel of a coarser scale
    lies half a coarse voxel from the corner.
    """
    own = info.get(OWN_ENTRY)
    metadata = from_attributes(own, ndim, name) if isinstance(own, Mapping) else ImageMetadata()
    if metadata.axes is None:
        metadata = replace(metadata, axes=_AXES[-ndim:])
    (size, offset), (full, first) = (_placed(one) for one in (scale, info["scales"][0]))
    extra = (None,) * (ndim - 3)
    if isinstance(own, Mapping):
        factors = tuple(s / f if f else 1.0 for s, f in zip(size, full, strict=True))
        if metadata.voxel_size is None or scale == info["scales"][0]:
            return metadata
        centre = (o * s - p + (s - 1) / 2 for o, p, s in zip(offset, first, factors, strict=True))
        level = Level("", (*(1.0 for _ in extra), *factors), (*(0.0 for _ in extra), *centre))
        own_size, own_origin = level.placed(metadata.voxel_size, metadata.origin)
        return replace(metadata, voxel_size=own_size, origin=own_origin)
    origin = tuple(o * s + (s - f) / 2 for o, s, f in zip(offset, size, full, strict=True))
    found = replace(
        metadata,
        voxel_size=(*(1.0 for _ in extra), *size),
        units=(*extra, *("nanometer",) * 3),
        origin=(*(0.0 for _ in extra), *origin) if any(origin) else None,
    )
    return without_nonsense(found, ndim, name)


def place_of(metadata: ImageMetadata) -> dict[str, Any]:
    """Return `resolution` and `voxel_offset` of a new scale; 1 nm and 0 where the metadata do not say."""
    size = _size_in_nanometers(metadata)
    offset = _offset(metadata)
    return {
        "resolution": list(size[::-1]) if size else [1.0, 1.0, 1.0],
        "voxel_offset": list(offset[::-1]) if offset else [0, 0, 0],
    }


def place_of_level(level: ImageMetadata, full: ImageMetadata) -> tuple[dict[str, Any], bool]:
    """Return `resolution` and `voxel_offset` of a new smaller scale, and whether its offset is that place exactly."""
    first = place_of(full)
    sizes, ones = level.voxel_size or (), (1.0,) * len(level.voxel_size or ())
    factors = [a / b for a, b in zip(sizes, full.voxel_size or ones, strict=True)][:-4:-1]
    origin = (0.0,) * len(sizes)
    moved = [
        (a - b) / s
        for a, b, s in zip(
            level.origin or origin, full.origin or origin, full.voxel_size or ones, strict=True
        )
    ][:-4:-1]
    exact = [(o + m - (f - 1) / 2) / f for o, m, f in zip(first["voxel_offset"], moved, factors, strict=True)]
    offset = [math.floor(n + _WHOLE) for n in exact]
    place = {
        "resolution": [r * f for r, f in zip(first["resolution"], factors, strict=True)],
        "voxel_offset": offset,
    }
    return place, all(abs(n - e) <= _WHOLE for n, e in zip(offset, exact, strict=True))


def warn_of_lost(metadata: ImageMetadata, name: str, *lost_of_levels: str) -> None:
    """Issue one BioimagePyWarning that names what neuroglancer will not see; this package reads it all again but places of levels."""
    lost = [*lost_of_levels]
    axes = metadata.axes
    if axes is not None and axes != _AXES[-len(axes) :]:
        lost.append(f"the names of axes {', '.join(axes)} (written as {', '.join(_AXES[-len(axes) :])})")
    if metadata.voxel_size is not None and _size_in_nanometers(metadata) is None:
        lost.append(f"the voxel size {metadata.voxel_size} (without a unit of length; 1 nm is written)")
    if metadata.origin is not None and any(metadata.origin) and _offset(metadata) is None:
        lost.append(f"the origin {metadata.origin} (not a whole number of voxels; 0 is written)")
    if metadata.orientations is not None:
        lost.append("the anatomical orientations of the axes")
    lost += [
        what.replace("_", " ")
        for what in ("channel_names", "channel_colors", "contrast_limits")
        if getattr(metadata, what) is not None
    ]
    if lost:
        warnings.warn(f"{name}: neuroglancer will not see {'; '.join(lost)}", BioimagePyWarning, stacklevel=4)


def _placed(scale: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return size and offset of the voxels of a scale, slowest axis first."""
    size, offset = scale.get("resolution", (1, 1, 1)), scale.get("voxel_offset", (0, 0, 0))
    return tuple(float(r) for r in size[::-1]), tuple(float(o) for o in offset[::-1])


def _size_in_nanometers(metadata: ImageMetadata) -> tuple[float, ...] | None:
    if metadata.voxel_size is None or metadata.units is None:
        return None
    sizes = []
    for size, unit in zip(metadata.voxel_size[-3:], metadata.units[-3:], strict=True):
        factor = _NANOMETERS.get(unit or "")
        if factor is None:
            return None
        sizes.append(size * factor)
    return tuple(sizes)


def _offset(metadata: ImageMetadata) -> tuple[int, ...] | None:
    """Return the place in whole voxels, or None if it is between voxels or neuroglancer could not tell where."""
    if metadata.origin is None or metadata.voxel_size is None or _size_in_nanometers(metadata) is None:
        return None
    exact = [o / s for o, s in zip(metadata.origin[-3:], metadata.voxel_size[-3:], strict=True)]
    whole = tuple(round(n) for n in exact)
    return whole if all(abs(n - e) <= _WHOLE for n, e in zip(whole, exact, strict=True)) else None
