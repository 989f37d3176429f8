"""A source with other extents, interpolated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box, checked_whole
from bioimage_py.metadata import ImageMetadata
from bioimage_py.wrapper.arguments import checked_flag, checked_order, rounded
from bioimage_py.wrapper.resampling.splines import AxisWeights, axis_weights, gaussian, nearest, prefilter
from bioimage_py.wrapper.spec import register_wrapper
from bioimage_py.wrapper.tiling import OVERLAP_BYTES, PartedSource

_SLAB_BYTES = 2**20


@register_wrapper("resized")
class ResizedSource(PartedSource):
    """The source resampled to another shape over the same field of view, as `skimage.transform.resize` does it.

    The outer faces of both arrays coincide: the centre of voxel `o` lies at `(o + 0.5) * old / new - 0.5` of the input,
    as in `scipy.ndimage.zoom(..., grid_mode=True, mode="mirror")`, and the array continues beyond its borders as its
    mirror image. Each region is read with the voxels around it that it needs, and every voxel comes out the same, bit by
    bit, whatever region it is read with.

    The dtype is the source's. Orders from 1 on, and anti-aliasing, are computed in float64: integers are rounded half to
    even and kept inside the dtype's range, booleans are true above one half, and integers beyond 2**53 lose digits.
    Order 0 without anti-aliasing is exact for every dtype; where a centre falls on the face between two voxels, the later
    one is taken. The spline's prefilter, which reaches over the whole axis, is cut after 11 voxels on each side for order
    2, 14 for 3, 24 for 4, and 28 for 5, where less than 1e-6 of the range of values is left. Values beyond the range of the input are
    not clipped to it.

    Voxel size and origin in the metadata follow.

    Parameters
    ----------
    source
        Source, array, handle or path.
    shape
        The new extent per axis.
    order
        Of the spline, 0 to 5. 0 takes the nearest voxel and never makes up a value, so it is for labels; 1 is linear; 3
        is cubic.
    anti_aliasing
        Whether axes that get shorter are smoothed first, by a Gaussian of `(old / new - 1) / 2` voxels standard deviation.

    Attributes
    ----------
    scale
        Voxels of the input for each voxel of the result, per axis.

    Raises
    ------
    InvalidArgumentError
        If `shape` has another length than the source has axes, an extent is 0 where the source's is not (or the other
        way round), or `order` is none of 0 to 5.

    Examples
    --------
    >>> line = np.array([0, 10, 20, 30], "uint8")
    >>> ResizedSource(line, (2,))[...].tolist(), ResizedSource(line, (2,), order=1)[...].tolist()
    ([10, 30], [5, 25])
    >>> ResizedSource(line, (8,), order=1)[2:5].tolist()
    [8, 12, 18]
    """

    def __init__(self, source: Any, shape: Any, order: int = 0, anti_aliasing: bool = False) -> None:
        degree = checked_order(order)
        smooth = checked_flag(anti_aliasing, "anti_aliasing")
        super().__init__(source)
        old = self.shape
        with self.closing_on_error():
            self.shape = _checked_shape(shape, old)
        self.order = degree
        self.anti_aliasing = smooth
        pairs = tuple(zip(old, self.shape, strict=True))
        self._extents = pairs
        self._sigma = tuple((a / b - 1) / 2 if self.anti_aliasing and a > b else 0.0 for a, b in pairs)
        self._changed = [axis for axis, (a, b) in enumerate(pairs) if a != b]
        # Where an axis shrinks most, the least is left to do for the others.
        self._changed.sort(key=lambda axis: pairs[axis][1] / max(1, pairs[axis][0]))
        self._exact = self.order == 0 and not any(self._sigma)
        self._overlap_bytes = 0 if self._exact else OVERLAP_BYTES
        if self.chunks is not None:
            # What a chunk of the input becomes; where that is less than a chunk, blocks of the result are larger.
            self._cell = tuple(
                max(1, round(c * b / max(1, a))) for c, (a, b) in zip(self.chunks, pairs, strict=True)
            )
            self.chunks = tuple(
                min(max(c, cell), max(1, n))
                for c, cell, n in zip(self.chunks, self._cell, self.shape, strict=True)
            )

    @property
    def scale(self) -> tuple[float, ...]:
        return tuple(a / b if b else 1.0 for a, b in self._extents)

    @property
    def metadata(self) -> ImageMetadata:
        return self._rescaled(self.scale, [(factor - 1) / 2 for factor in self.scale])

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        part = self._largest_part(shape)
        yield tuple(
            min(n, old) if old == new else min(old, -(-n * old // new) + 1 + self._reach(axis))
            for axis, (n, (old, new)) in enumerate(zip(part, self._extents, strict=True))
        )

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        (region,) = self.read_shapes(shape)
        held = math.prod(region) * self.dtype.itemsize + self.inputs[0].scratch_bytes(region)
        if not self._changed or 0 in self.shape:
            return held
        part = self._largest_part(shape)
        # Before and after each axis, in the order in which they are resampled, and the result three times while it is rounded.
        stages = [region]
        for axis in self._changed:
            stages.append((*stages[-1][:axis], part[axis], *stages[-1][axis + 1 :]))
        sizes = [math.prod(stage) for stage in stages[1:]]
        pairs = [a + b for a, b in itertools.pairwise([0, *sizes])]
        if self._exact:
            return held + self.dtype.itemsize * max(pairs)
        return held + max(8, self.dtype.itemsize) * max(*pairs, 3 * sizes[-1]) + 4 * _SLAB_BYTES

    def _largest_part(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return super()._largest_part(shape) if self._changed and 0 not in self.shape else shape

    def _reach(self, axis: int) -> int:
        """Return how many voxels around a region are read along an axis that changes, on both sides together."""
        if self._exact:
            return 0
        return self.order + len(prefilter(self.order)) + len(gaussian(self._sigma[axis]))

    def _read(self, box: Box) -> AnyArray:
        return super()._read(box) if self._changed else self.read_input(box)

    def _held(self, part: Box) -> int:
        """Return about what computing a part holds: its input, and floats before and after an axis."""
        spans = (
            (b * old // new, -(-e * old // new))
            for b, e, (old, new) in zip(part.begin, part.end, self._extents, strict=True)
        )
        region = math.prod(end - begin for begin, end in spans)
        shrunk = min(1.0, *(self._extents[axis][1] / self._extents[axis][0] for axis in self._changed))
        work = 0 if self._exact else 2 * max(8, self.dtype.itemsize) * max(region * shrunk, part.size)
        return int(region * self.inputs[0].dtype.itemsize + work)

    def _part(self, part: Box) -> AnyArray:
        picks: dict[int, AnyArray | AxisWeights] = {axis: self._weights(axis, part) for axis in self._changed}
        begin, end = list(part.begin), list(part.end)
        for axis, pick in picks.items():
            index = pick.taps if isinstance(pick, AxisWeights) else pick
            begin[axis], end[axis] = int(index.min()), int(index.max()) + 1
        block = self.read_input(Box(tuple(begin), tuple(end)))
        for axis, pick in picks.items():
            if isinstance(pick, AxisWeights):
                block = _weighted(block, AxisWeights(pick.taps - begin[axis], pick.weight), axis)
            else:
                block = _picked(block, pick - begin[axis], axis)
        return rounded(block, self.dtype)

    def _weights(self, axis: int, box: Box) -> AnyArray | AxisWeights:
        first, last, extents = box.begin[axis], box.end[axis], self._extents[axis]
        if self.order == 0 and not self._sigma[axis]:
            return nearest(first, last, extents)
        return axis_weights(first, last, extents, self.order, self._sigma[axis])


def _weighted(block: AnyArray, weights: AxisWeights, axis: int) -> AnyArray:
    """Return the weighted sums along an axis, each in one fixed order so that it does not depend on the block."""
    wide = np.dtype("complex128" if block.dtype.kind == "c" else "float64")
    column = weights.weight.T.reshape(-1, len(weights.taps), *(1,) * (block.ndim - 1 - axis))
    total = np.zeros((*block.shape[:axis], len(weights.taps), *block.shape[axis + 1 :]), wide)
    with np.errstate(all="ignore"):
        for slab in _slabs(total, axis):
            voxels, held = block[slab].astype(wide, copy=False), total[slab]
            share = np.empty_like(held)
            for tap, weight in zip(weights.taps.T, column, strict=True):
                np.multiply(_picked(voxels, tap, axis), weight, out=share)
                held += share
    return total


def _slabs(total: AnyArray, axis: int) -> Iterator[tuple[slice, ...]]:
    """Yield slabs across another axis, so small that a processor's cache holds them while all taps are added."""
    if total.ndim == 1:
        yield (slice(None),)
        return
    across = 0 if axis else 1
    extent = total.shape[across]
    thick = max(1, _SLAB_BYTES * extent // max(1, total.nbytes))
    for begin in range(0, extent, thick):
        yield (slice(None),) * across + (slice(begin, begin + thick),)


def _picked(block: AnyArray, index: AnyArray, axis: int) -> AnyArray:
    """Return the voxels at these positions of an axis, as a view where they are evenly spaced."""
    step = int(index[1] - index[0]) if index.size > 1 else 1
    if step > 0 and bool(np.all(np.diff(index) == step)):
        evenly = slice(int(index[0]), int(index[-1]) + 1, step)
        return block[(slice(None),) * axis + (evenly,)]
    return block.take(index, axis=axis)


def _checked_shape(shape: Any, old: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(shape, (list, tuple, np.ndarray)) or len(shape) != len(old):
        raise InvalidArgumentError(
            f"shape must have one extent per axis of the source's {old}, got {shape!r}"
        )
    new = tuple(checked_whole(extent, f"shape of axis {axis}") for axis, extent in enumerate(shape))
    for axis, (a, b) in enumerate(zip(old, new, strict=True)):
        if (a == 0) != (b == 0):
            raise InvalidArgumentError(f"axis {axis} of {a} voxels cannot be resized to {b}")
    return new
