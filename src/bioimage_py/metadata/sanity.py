"""What an image cannot mean: voxel sizes that no voxel has, units that are none. Named in one warning, and left out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bioimage_py.errors import BioimagePyWarning
from bioimage_py.metadata.model import ImageMetadata
from bioimage_py.metadata.units import normalise_unit


def without_nonsense(metadata: ImageMetadata, ndim: int, name: str) -> ImageMetadata:
    """Return metadata with common names of units, without sizes and units that make no sense; one warning names them.

    An axis whose size is not positive and finite has none, and no unit. Fields that do not have `ndim` entries are dropped.
    """
    fitted = _of_length(metadata, ndim)
    axes = fitted.axes or tuple(f"axis {n}" for n in range(ndim))
    sizes, wrong_sizes = _sizes(fitted.voxel_size, axes)
    units, wrong_units = _units(fitted.units, axes, wrong_sizes)
    origin = fitted.origin
    problems = [f"voxel size {size:g} of {axis}" for axis, size in wrong_sizes.items()]
    problems += [f"unit {unit!r} of {axis}" for axis, unit in wrong_units.items()]
    if origin is not None and not all(map(math.isfinite, origin)):
        problems.append(f"origin {origin}")
        origin = None
    if problems:
        warnings.warn(
            f"{name}: {', '.join(problems)} makes no sense and is ignored: give the right one with voxel_size= and units=",
            BioimagePyWarning,
            stacklevel=3,
        )
    return replace(fitted, voxel_size=sizes, units=units, origin=origin).fitting(ndim)


def _of_length(metadata: ImageMetadata, ndim: int) -> ImageMetadata:
    def keep(values: tuple[Any, ...] | None) -> Any:
        return values if values is not None and len(values) == ndim else None

    return replace(
        metadata,
        axes=keep(metadata.axes),
        voxel_size=keep(metadata.voxel_size),
        units=keep(metadata.units),
        origin=keep(metadata.origin),
        orientations=keep(metadata.orientations),
    )


def _sizes(
    sizes: tuple[float, ...] | None, axes: Sequence[str]
) -> tuple[tuple[float, ...] | None, dict[str, float]]:
    if sizes is None:
        return None, {}
    wrong = {
        axis: size for axis, size in zip(axes, sizes, strict=True) if not (math.isfinite(size) and size > 0)
    }
    if wrong and all(size == 1 for axis, size in zip(axes, sizes, strict=True) if axis not in wrong):
        return None, wrong
    return tuple(1.0 if axis in wrong else size for axis, size in zip(axes, sizes, strict=True)), wrong


def _units(
    units: tuple[str | None, ...] | None, axes: Sequence[str], without_size: dict[str, float]
) -> tuple[tuple[str | None, ...] | None, dict[str, str]]:
    if units is None:
        return None, {}
    known = [normalise_unit(unit) for unit in units]
    wrong = {axis: unit for axis, unit, name in zip(axes, units, known, strict=True) if unit and name is None}
    kept = tuple(None if axis in without_size else name for axis, name in zip(axes, known, strict=True))
    return (kept if any(kept) else None), wrong
