"""Which levels a pyramid has: factors and shapes, from integers and voxel sizes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bioimage_py.errors import Hint, InvalidArgumentError
from bioimage_py.geometry import checked_whole
from bioimage_py.metadata import axis_type
from bioimage_py.planning.byte_size import Reported
from bioimage_py.wrapper.resampling import checked_factors

_ISOTROPIC = math.sqrt(2)
"""Voxels whose sides differ by no more than this count as cubes: halving one side would not make them rounder."""


@dataclass(frozen=True)
class PyramidLevel(Reported):
    """One level of a pyramid."""

    _told = ("shape", "step", "factors")

    number: int  # 0 for full size
    shape: tuple[int, ...]
    step: tuple[int, ...]  # how many voxels of the level before become one of its own, per axis
    factors: tuple[int, ...]  # the same from full size on

    @classmethod
    def full_size(cls, shape: Sequence[int]) -> PyramidLevel:
        ones = (1,) * len(shape)
        return cls(0, tuple(shape), ones, ones)

    def reduced(self, step: Sequence[int]) -> PyramidLevel:
        """Return the level below; windows that the end of an axis cuts give a voxel too."""
        return PyramidLevel(
            self.number + 1,
            tuple(-(-n // f) for n, f in zip(self.shape, step, strict=True)),
            tuple(step),
            tuple(a * f for a, f in zip(self.factors, step, strict=True)),
        )


def choose_levels(
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    axes: Sequence[str],
    voxel_size: Sequence[float] | None,
    *,
    levels: Any = None,
    scale_factors: Any = None,
    reduced: str = "",
) -> tuple[PyramidLevel, ...]:
    """Return the levels of a pyramid, full size first; channels and time are never reduced.

    Without `levels`, until the volume fits one chunk. `scale_factors` has an entry for each level below the first: an integer
    for all axes of space, or one per axis. Without it, axes are halved whose voxels are at most sqrt(2) times the shortest. `reduced`
    names the axes of space that a format can reduce, where these are not all.
    """
    count = None if levels is None else checked_whole(levels, "levels", 1)
    space = [axis_type(axis) == "space" and (not reduced or axis in reduced) for axis in axes]
    found = [PyramidLevel.full_size(shape)]
    if scale_factors is not None:
        for given in _listed(scale_factors, count):
            found.append(found[-1].reduced(_given_step(given, found[-1], axes, space)))
        return tuple(found)
    size = tuple(voxel_size or (1.0,) * len(shape))

    def fits(level: PyramidLevel) -> bool:
        return all(n <= c for n, c, spatial in zip(level.shape, chunks, space, strict=True) if spatial)

    while len(found) < count if count is not None else not fits(found[-1]):
        step = _step_towards_cubes(found[-1], size, space)
        if step is None:
            raise InvalidArgumentError(
                f"levels={count} is too many for the shape {shape}: after {len(found)} there is nothing left to halve",
                hints=[Hint.of("give {} at most", levels=len(found)), Hint("or leave it out")],
            )
        found.append(found[-1].reduced(step))
    return tuple(found)


def _step_towards_cubes(
    level: PyramidLevel, voxel_size: tuple[float, ...], space: list[bool]
) -> tuple[int, ...] | None:
    """Return which axes to halve, None if each of them has one voxel left."""
    sizes = [
        size * factor if spatial and n > 1 else math.inf
        for size, factor, spatial, n in zip(voxel_size, level.factors, space, level.shape, strict=True)
    ]
    least = min(sizes)
    if least == math.inf:
        return None
    return tuple(2 if size <= least * _ISOTROPIC else 1 for size in sizes)


def _listed(scale_factors: Any, count: int | None) -> list[Any]:
    if not isinstance(scale_factors, (list, tuple)):
        raise InvalidArgumentError(
            f"scale_factors must be a list with one entry per level below the full-size one, such as [2, 2] or "
            f"[(1, 2, 2), (2, 2, 2)], got {scale_factors!r}"
        )
    if count is not None and count != len(scale_factors) + 1:
        raise InvalidArgumentError(
            f"{len(scale_factors)} scale_factors make {len(scale_factors) + 1} levels, the full-size one included, but "
            f"levels={count}",
            hints=[Hint.of("leave out {}", levels=...), Hint.of("or leave out {}", scale_factors=...)],
        )
    return list(scale_factors)


def _given_step(given: Any, above: PyramidLevel, axes: Sequence[str], space: list[bool]) -> tuple[int, ...]:
    if not isinstance(given, (list, tuple)):
        given = tuple(given if spatial else 1 for spatial in space)
    try:
        step = checked_factors(given, above.shape)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"level {above.number + 1} of the pyramid: {error}") from error
    for axis, factor, spatial in zip(axes, step, space, strict=True):
        if factor > 1 and not spatial:
            raise InvalidArgumentError(
                f"level {above.number + 1} of the pyramid: the axis {axis} cannot be reduced (factor {factor}), only axes of "
                f"space{' that the format reduces' if axis_type(axis) == 'space' else ''}: give 1 for it"
            )
    if all(factor == 1 for factor in step):
        raise InvalidArgumentError(
            f"level {above.number + 1} of the pyramid would be as large as the one before: {given!r} reduces no axis"
        )
    return step
