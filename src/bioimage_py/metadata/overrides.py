"""What a user says about an image, over what its file says; and what a file says that makes no sense, left out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from bioimage_py.errors import BioimagePyWarning, Hint, InvalidArgumentError
from bioimage_py.metadata.model import ImageMetadata
from bioimage_py.metadata.units import SPACE_UNITS, TIME_UNITS, normalise_unit

_SPACE = ("z", "y", "x")


def overridden(
    metadata: ImageMetadata,
    ndim: int,
    *,
    axes: Sequence[str] | None = None,
    voxel_size: float | Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
) -> ImageMetadata:
    """Return metadata with what a user says in place of what was known.

    `voxel_size` and `units` are one value for all axes of space, one per axis of space, or one per axis, in any common spelling.
    """
    given = {"axes": axes, "voxel_size": voxel_size, "units": units}
    stated = tuple(name for name, value in given.items() if value is not None)
    known = replace(metadata.fitting(ndim), stated=(*metadata.stated, *stated))
    if axes is not None:
        known = replace(known, axes=_axis_names(axes, ndim))
    space = spatial_axes(known.axes, ndim)
    if voxel_size is not None:
        sizes = known.voxel_size or (1.0,) * ndim
        known = replace(known, voxel_size=_per_axis("voxel_size", voxel_size, sizes, space, _size))
    if units is not None:
        names = known.units or (None,) * ndim
        known = replace(known, units=_per_axis("units", units, names, space, _unit))
    return known


def spatial_axes(axes: Sequence[str] | None, ndim: int) -> tuple[int, ...]:
    """Return the axes called x, y and z, or the last three where names tell nothing."""
    found = tuple(n for n, name in enumerate(axes or ()) if name.lower() in _SPACE)
    return found or tuple(range(max(0, ndim - 3), ndim))


def _axis_names(axes: Any, ndim: int) -> tuple[str, ...]:
    names = _as_tuple(axes)
    if len(names) != ndim or not all(isinstance(name, str) and name for name in names):
        raise InvalidArgumentError(
            f"axes must name each of the {ndim} axes, such as {'tczyx'[-ndim:] if ndim < 6 else 'one letter each'!r}; got {axes!r}"
        )
    if len(set(names)) != ndim:
        raise InvalidArgumentError(f"axes {axes!r} names an axis twice")
    return names


def _as_tuple(values: Any) -> tuple[Any, ...]:
    return tuple(values) if isinstance(values, Iterable) else ()


def _per_axis(what: str, given: Any, old: tuple[Any, ...], space: tuple[int, ...], check: Any) -> Any:
    """Return one checked value per axis; axes that were not spoken of keep theirs."""
    if isinstance(given, (str, int, float)):
        given = (given,) * len(space)
    values = _as_tuple(given)
    if len(values) == len(old):
        return tuple(check(value) for value in values)
    if len(values) != len(space):
        per_space = f", or {len(space)}, one per axis of space" if len(space) != len(old) else ""
        raise InvalidArgumentError(
            f"{what} must have {len(old)} entries, one per axis{per_space}, or be one for all; got {given!r}"
        )
    found = list(old)
    for axis, value in zip(space, values, strict=True):
        found[axis] = check(value)
    return tuple(found)


def _size(value: Any) -> float:
    try:
        size = math.nan if isinstance(value, (bool, str)) else float(value)
    except (TypeError, ValueError):
        size = math.nan
    if not (math.isfinite(size) and size > 0):
        unit = [Hint.of("the unit is said by {}", units=...)] if isinstance(value, str) else []
        raise InvalidArgumentError(f"voxel_size must be positive numbers, got {value!r}", hints=unit)
    return size


def _unit(value: Any) -> str | None:
    if value is None:
        return None
    name = normalise_unit(value) if isinstance(value, str) else None
    if name is None:
        common = "angstrom, nanometer, micrometer, millimeter, second"
        raise InvalidArgumentError(
            f"unit {value!r} is not known; there are {common} and the other {len(SPACE_UNITS | TIME_UNITS) - 5} of OME-NGFF"
        )
    return name


def without_nonsense(metadata: ImageMetadata, ndim: int, name: str) -> ImageMetadata:
    """Return metadata with common names of units, without sizes and units that make no sense; one warning names them.

    An axis whose size is not positive and finite has none, and no unit. Fields that do not have `ndim` entries are dropped.
    """
    fitted = metadata.for_axes(ndim)
    axes = fitted.axes or tuple(f"axis {n}" for n in range(ndim))
    sizes, units, origin = fitted.voxel_size, fitted.units, fitted.origin
    without_size: set[str] = set()
    problems = []
    if sizes is not None:
        wrong = {a: s for a, s in zip(axes, sizes, strict=True) if not (math.isfinite(s) and s > 0)}
        problems += [f"voxel size {size:g} of {axis}" for axis, size in wrong.items()]
        without_size = set(wrong)
        sizes = tuple(1.0 if axis in wrong else size for axis, size in zip(axes, sizes, strict=True))
        if wrong and set(sizes) == {1}:
            sizes = None
    if units is not None:
        known = list(zip(axes, units, map(normalise_unit, units), strict=True))
        problems += [f"unit {unit!r} of {axis}" for axis, unit, said in known if unit and said is None]
        units = tuple(None if axis in without_size else said for axis, _, said in known)
    if origin is not None and not all(map(math.isfinite, origin)):
        problems.append(f"origin {origin}")
        origin = None
    if problems:
        warnings.warn(
            BioimagePyWarning(
                f"{name}: {', '.join(problems)} makes no sense and is ignored",
                hints=[Hint.of("give the right one with {}", voxel_size=..., units=...)],
            ),
            stacklevel=3,
        )
    units = units if any(units or ()) else None
    return replace(fitted, voxel_size=sizes, units=units, origin=origin).fitting(ndim)
