"""A source seen through an affine transformation of coordinates."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import Hint, InvalidArgumentError, MissingDependencyError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.wrapper.arguments import (
    checked_extents,
    checked_flag,
    checked_number,
    checked_order,
    holds,
    rounded,
)
from bioimage_py.wrapper.resampling.splines import FILTER_BYTES, AxisFilter, filtered
from bioimage_py.wrapper.spec import register_wrapper
from bioimage_py.wrapper.tiling import OVERLAP_BYTES, PartedSource, parts_of

_CELL_VOXELS = 2**18
"""Input voxels around which a part is not cut any more."""
_AT_ONCE = 2**15
"""Voxels whose positions are held at once, in the processor's cache."""
_HELD_BYTES = FILTER_BYTES + 160 * _AT_ONCE


@register_wrapper("affine")
class AffineSource(PartedSource):
    """The source resampled so that voxel `o` shows what is at `matrix @ (o, 1)` of the input.

    It is what `scipy.ndimage.affine_transform(whole, matrix, output_shape=shape, order=order, cval=fill_value)` gives, but
    each region reads only the part of the input that it shows, and every voxel comes out the same, bit by bit, whatever
    region it is read with. The transformation is given as a matrix or by its parts, exactly one way; the parts make the
    matrix `translation · rotation · shear · scale`, with two axes as in scikit-image's `AffineTransform`.

    The dtype is the source's; orders from 1 on are computed in float64 and rounded as in `ResizedSource`, and so is the
    prefilter of orders 2 to 5 cut. Metadata keep voxel size and origin where the axes are only scaled and moved; where they
    mix, the voxel size is that along the new axes if all have one unit, and the origin is dropped.

    Parameters
    ----------
    source
        Source, array, handle or path.
    shape
        Shape of the result, n extents. Default: that of the source.
    affine_matrix
        From voxels of the result to voxels of the input (the inverse of where things move), in homogeneous coordinates:
        (n + 1) × (n + 1) for n axes, slowest axis first; the last row may be left out, and so may the translation.
    scale
        Voxels of the input for one voxel of the result, one factor per axis.
    rotation
        Angles in degrees: one for two axes, from the first to the second; for three axes one about each of them, the first
        axis first.
    shear
        Angles in degrees: one for two axes; for three axes those of the axes (0, 1), (0, 2) and (1, 2). The later axis is
        tilted towards the earlier one.
    translation
        Where in the input the first voxel of the result lies, in voxels per axis.
    order
        Of the spline, 0 to 5. 0 takes the nearest voxel, never makes up a value and is exact for every dtype, so it is
        for labels; 1 is linear.
    fill_value
        What voxels become whose coordinate is beyond the centre of an outermost voxel of the input, by however little.
    anti_aliasing
        Whether axes of the input that get shorter, by a factor `f`, are smoothed first, by a Gaussian of `(f - 1) / 2` voxels
        standard deviation, as in `ResizedSource`. The factor is the length of the axis' row in the matrix.

    Raises
    ------
    InvalidArgumentError
        If both a matrix and parts are given, or neither, the matrix has another shape or is not finite, its last row is not
        0, …, 0, 1, a part has not as many numbers as it should, `shape` does not have n extents, `order` is none of 0 to 5, or
        the dtype cannot hold `fill_value`.
    MissingDependencyError
        When a region is read with an order from 1 on or with anti-aliasing, and SciPy is not installed.

    Examples
    --------
    >>> image = np.arange(12, dtype="uint8").reshape(3, 4)
    >>> AffineSource(image, translation=(1, -1), fill_value=99)[...].tolist()
    [[99, 4, 5, 6], [99, 8, 9, 10], [99, 99, 99, 99]]
    >>> AffineSource(image, (4, 3), affine_matrix=[[0, 1, 0], [1, 0, 0], [0, 0, 1]])[1].tolist()
    [1, 5, 9]
    """

    _overlap_bytes = OVERLAP_BYTES

    def __init__(
        self,
        source: Any,
        shape: Any = None,
        *,
        affine_matrix: Any = None,
        scale: Any = None,
        rotation: Any = None,
        shear: Any = None,
        translation: Any = None,
        order: int = 0,
        fill_value: Any = 0,
        anti_aliasing: bool = False,
    ) -> None:
        degree = checked_order(order)
        fill = checked_number(fill_value, "fill_value")
        anti_aliasing = checked_flag(anti_aliasing, "anti_aliasing")
        parts = {"scale": scale, "rotation": rotation, "shear": shear, "translation": translation}
        given = {name: value for name, value in parts.items() if value is not None}
        if (affine_matrix is None) == (not given):
            both = "neither" if affine_matrix is None else f"affine_matrix and {', '.join(given)}"
            raise InvalidArgumentError(
                f"give affine_matrix or its parts (scale, rotation, shear, translation), exactly one way: got {both}"
            )
        super().__init__(source)
        with self.closing_on_error():
            matrix = _matrix_of_parts(self.ndim, **given) if given else affine_matrix
            self.matrix = _checked_matrix(matrix, self.ndim)
            extents = self.shape if shape is None else tuple(shape)
            if len(extents) != self.ndim:
                raise InvalidArgumentError(
                    f"shape must have {self.ndim} extents, as the source has axes, got {shape!r}"
                )
            self.shape = checked_extents(extents, self.ndim, "shape")
            if not holds(self.dtype, fill):
                raise InvalidArgumentError(
                    f"fill_value {fill!r} does not fit the dtype {self.dtype} of the source"
                )
        self.order = degree
        self.fill_value = fill
        self.anti_aliasing = anti_aliasing
        factors = np.sqrt((self.matrix[:, :-1] ** 2).sum(axis=1)).tolist()
        # What is applied to the voxels before; where they are computed between them follows.
        self._filters = [
            AxisFilter.of((max(1, n),) * 2, degree, max(0.0, (f - 1) / 2) if anti_aliasing else 0.0)._replace(
                degree=0
            )
            for n, f in zip(self.inputs[0].shape, factors, strict=True)
        ]
        self._filtered = not all(along.picks for along in self._filters)
        if self.chunks is not None:
            self.chunks = tuple(min(c, max(1, n)) for c, n in zip(self.chunks, self.shape, strict=True))
        steps = np.abs(self.matrix[:, :-1]).max(axis=0, initial=1.0)
        edge = _CELL_VOXELS ** (1 / max(1, self.ndim))
        self._cell = tuple(max(1, int(edge / step)) for step in steps)

    def parameters(self) -> dict[str, Any]:
        return {**super().parameters(), "affine_matrix": self.matrix.tolist()}

    @property
    def metadata(self) -> ImageMetadata:
        linear, moved = self.matrix[:, :-1], self.matrix[:, -1]
        scales = np.diagonal(linear)
        if np.array_equal(linear, np.diag(scales)) and bool((scales > 0).all()):
            return self._rescaled(scales.tolist(), moved.tolist())
        metadata = self.inputs[0].metadata.fitting(self.ndim)
        sizes: tuple[float, ...] | None = None
        if metadata.voxel_size is not None and len(set(metadata.units or ())) <= 1:
            along = np.sqrt(((linear * np.array(metadata.voxel_size)[:, None]) ** 2).sum(axis=0)).tolist()
            sizes = tuple(along) if all(size > 0 for size in along) else None
        units = None if sizes is None else metadata.units
        turned = metadata.with_channels_selected(None)
        return replace(turned, voxel_size=sizes, units=units, origin=None, orientations=None)

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        yield self._widest(self._largest_part(shape))

    def _widest(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the widest region that any region of this shape needs of the input."""
        steps = np.abs(self.matrix[:, :-1]) @ np.maximum(0, np.array(shape, np.float64) - 1)
        return tuple(
            min(extent, int(step) + 2 * self._reach(axis) + 3)
            for axis, (step, extent) in enumerate(zip(steps, self.inputs[0].shape, strict=True))
        )

    def _held(self, part: Box) -> int:
        """Return what computing a part holds: its input as it is and as floats, before and after an axis, and the result."""
        read = math.prod(self._widest(part.shape))
        wide = 2 * max(8, self.dtype.itemsize) if self._filtered else 0
        return (read + part.size) * self.dtype.itemsize + read * wide + _HELD_BYTES

    def _reach(self, axis: int) -> int:
        return len(self._filters[axis].fir) // 2 + self.order // 2

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        if (region := self._region(box)) is not None:
            yield 0, region

    def _part(self, part: Box) -> AnyArray:
        out = np.full(part.shape, self.fill_value, self.dtype)
        if (region := self._region(part)) is not None:
            block, region = self._coefficients(self.read_input(region), region)
            compute = self._nearest if self.order == 0 else self._interpolated
            for box in parts_of(part, None, lambda box: box.size, _AT_ONCE if self.order else 8 * _AT_ONCE):
                if self._region(box) is not None:
                    compute(box, block, region, out[box.relative_to(part.begin).view])
        return out

    def _region(self, box: Box) -> Box | None:
        """Return what a region of the result needs of the input, or None if it lies outside altogether."""
        begin, end = [], []
        for axis, extent in enumerate(self.inputs[0].shape):
            reach, (low, high) = self._reach(axis), self._reached(box, axis)
            if high < 0 or low > extent - 1:
                return None
            begin.append(max(0, math.floor(max(low, 0)) - reach))
            end.append(min(extent, math.floor(min(high, extent - 1)) + reach + 2))
        return Box(tuple(begin), tuple(end))

    def _reached(self, box: Box, axis: int) -> tuple[float, float]:
        """Return the least and the greatest coordinate; rounding is monotone, so none passes those of two corners, to the last bit."""
        row, ends = self.matrix[axis], list(zip(self.matrix[axis], box.begin, box.end, strict=False))
        low = _position(row[-1], [(m, b if m >= 0 else e - 1) for m, b, e in ends])
        return low, _position(row[-1], [(m, e - 1 if m >= 0 else b) for m, b, e in ends])

    def _coordinates(self, box: Box) -> list[npt.NDArray[np.float64]]:
        """Return the position in the input per axis, in arrays that broadcast to the region's shape."""
        ends = zip(box.begin, box.end, strict=True)
        places = [np.arange(b, e).reshape(-1, *(1,) * (box.ndim - 1 - n)) for n, (b, e) in enumerate(ends)]
        return [
            np.asarray(_position(row[-1], list(zip(row[:-1], places, strict=True))), dtype=np.float64)
            for row in self.matrix
        ]

    def _nearest(self, box: Box, block: AnyArray, held: Box, out: AnyArray) -> None:
        flat: Any = 0
        inside: Any = True
        for axis, (x, begin, n) in enumerate(
            zip(self._coordinates(box), held.begin, held.shape, strict=True)
        ):
            low, high = self._reached(box, axis)
            place, last = np.floor(x + 0.5) - begin, self.inputs[0].shape[axis] - 1
            if low < 0 or high > last:
                here = (x >= 0) & (x <= last)
                inside, place = inside & here, np.where(here, place, 0)
            flat = flat * n + place.astype(np.int64)
        np.copyto(out, rounded(block.reshape(-1).take(flat), self.dtype), where=inside)

    def _interpolated(self, box: Box, block: AnyArray, held: Box, out: AnyArray) -> None:
        at = np.empty((box.ndim, *box.shape))
        for n, (x, begin) in enumerate(zip(self._coordinates(box), held.begin, strict=True)):
            # Whole voxels are taken off without rounding, so the position does not depend on the region.
            np.subtract(x, begin, out=at[n])
        values = _ndimage().map_coordinates(
            block, at, _wide(self.dtype), self.order, mode="constant", cval=self.fill_value, prefilter=False
        )
        if self.order == 1 and not self._filtered and self.dtype.kind in "iu" and self.dtype.itemsize < 8:
            np.rint(values, out=values)  # means of the dtype's values need no more
            out[...] = values
        else:
            out[...] = rounded(values, self.dtype)

    def _coefficients(self, block: AnyArray, region: Box) -> tuple[AnyArray, Box]:
        """Return what is interpolated of a region that was read, and the box of it: smoothed, as coefficients of the spline."""
        for axis, along in enumerate(self._filters):
            if not along.picks:
                extent, reach = along.extents[0], len(along.fir) // 2
                begin, end = region.begin[axis], region.end[axis]
                rows = (begin + reach if begin else 0, end - reach if end < extent else extent)
                block = filtered(block, region, self.inputs[0].shape, axis, along, rows)
                region = region.with_axis(axis, *rows)
        if self.order and block.dtype.char not in "bBhHiIlLqQfd":  # what SciPy reads as it is
            block = block.astype(_wide(self.dtype))
        return block, region


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype("complex128" if dtype.kind == "c" else "float64")


def _position(shift: Any, terms: list[tuple[Any, Any]]) -> Any:
    """Return the coordinate along one axis, summed in one order for single voxels and whole regions alike."""
    total = shift
    for factor, place in terms:
        if factor != 0:
            total = total + factor * place
    return total


def _ndimage() -> Any:
    try:
        return importlib.import_module("scipy.ndimage")
    except ImportError as error:
        raise MissingDependencyError.of(
            "AffineSource needs SciPy for order 1 and above and for anti-aliasing",
            "scipy",
            hints=[Hint("or use order=0, which does not")],
        ) from error


def _matrix_of_parts(
    ndim: int, *, scale: Any = None, rotation: Any = None, shear: Any = None, translation: Any = None
) -> npt.NDArray[np.float64]:
    """Return `translation · rotation · shear · scale` as n × (n + 1)."""
    n_angles = {2: 1, 3: 3}.get(ndim, 0)
    angles = {"rotation": rotation, "shear": shear}
    for name, value in angles.items():
        if value is not None and not n_angles:
            raise InvalidArgumentError(f"{name} is for 2 or 3 axes, not {ndim}: give affine_matrix")
    turns = np.deg2rad(_numbers(rotation, "rotation", n_angles, 0.0))
    tilts = np.deg2rad(_numbers(shear, "shear", n_angles, 0.0))
    planes = [(0, 1)] if ndim == 2 else [(1, 2), (2, 0), (0, 1)]
    linear = np.diag(_numbers(scale, "scale", ndim, 1.0))
    for (row, column), angle in reversed(list(zip([(0, 1), (0, 2), (1, 2)], tilts, strict=False))):
        tilted = np.eye(ndim)
        tilted[row, column], tilted[column, column] = -np.sin(angle), np.cos(angle)
        linear = tilted @ linear
    for (row, column), angle in zip(planes, turns, strict=False):
        turned = np.eye(ndim)
        turned[row, row] = turned[column, column] = np.cos(angle)
        turned[row, column], turned[column, row] = -np.sin(angle), np.sin(angle)
        linear = turned @ linear
    return np.column_stack([linear, _numbers(translation, "translation", ndim, 0.0)])


def _numbers(value: Any, name: str, count: int, default: float) -> npt.NDArray[np.float64]:
    if value is None:
        return np.full(count, default)
    try:
        found = np.array(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{name} must be {count} numbers, got {value!r}") from error
    if len(found) != count or not np.isfinite(found).all():
        raise InvalidArgumentError(f"{name} must be {count} finite numbers for this source, got {value!r}")
    return found


def _checked_matrix(matrix: Any, ndim: int) -> npt.NDArray[np.float64]:
    try:
        found = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"affine_matrix must be rows of numbers, got {matrix!r}") from error
    if found.shape == (ndim, ndim):
        found = np.hstack([found, np.zeros((ndim, 1))])
    if found.shape not in ((ndim, ndim + 1), (ndim + 1, ndim + 1)):
        raise InvalidArgumentError(
            f"affine_matrix must be {ndim} × {ndim + 1} or {ndim + 1} × {ndim + 1} for a source of {ndim} axes, got shape {found.shape}"
        )
    if not np.isfinite(found).all():
        raise InvalidArgumentError(f"affine_matrix must be finite, got {found.tolist()}")
    if len(found) > ndim and found[-1].tolist() != [0.0] * ndim + [1.0]:
        raise InvalidArgumentError(
            f"the last row of a homogeneous matrix must be 0, …, 0, 1, got {found[-1].tolist()}"
        )
    return found[:ndim]
