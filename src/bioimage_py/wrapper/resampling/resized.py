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
from bioimage_py.wrapper.resampling.splines import FILTER_BYTES, AxisFilter, filtered, nearest
from bioimage_py.wrapper.spec import register_wrapper
from bioimage_py.wrapper.tiling import OVERLAP_BYTES, READ_BYTES, PartedSource, largest_part, parts_of

_FLOAT_BYTES = 2**24
"""Floats that are held while a part of what was read is computed, where a tile needs no more."""


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
        sigma = tuple((a / b - 1) / 2 if self.anti_aliasing and a > b else 0.0 for a, b in pairs)
        self._changed = [axis for axis, (a, b) in enumerate(pairs) if a != b]
        # Where an axis shrinks most, the least is left to do for the others.
        self._changed.sort(key=lambda axis: pairs[axis][1] / max(1, pairs[axis][0]))
        self._along = {axis: AxisFilter.of(pairs[axis], degree, sigma[axis]) for axis in self._changed}
        self._exact = all(along.picks for along in self._along.values())
        self._overlap_bytes = 0 if self._exact else OVERLAP_BYTES
        self._tiles = tuple(self._along[axis].tile if axis in self._along else 1 for axis in range(self.ndim))
        self._cell = self._tiles
        if self.chunks is not None:
            # What a chunk of the input becomes; where that is less than a chunk, blocks of the result are larger.
            became = [max(1, round(c * b / max(1, a))) for c, (a, b) in zip(self.chunks, pairs, strict=True)]
            self._cell = self._cells(became)
            self.chunks = tuple(
                min(max(c, n_new), max(1, n))
                for c, n_new, n in zip(self.chunks, became, self.shape, strict=True)
            )

    def _cells(self, became: list[int]) -> tuple[int, ...]:
        """Return extents that cut no chunk and few tiles; more tiles where many large chunks would be read at once."""
        cell = [-(-tile // n) * n for n, tile in zip(became, self._tiles, strict=True)]
        for axis, least in enumerate(became):
            while cell[axis] > least and self._held(Box.whole(tuple(cell))) > 2 * READ_BYTES:
                cell[axis] = max(least, cell[axis] // 2)
        return tuple(cell)

    @property
    def scale(self) -> tuple[float, ...]:
        return tuple(a / b if b else 1.0 for a, b in self._extents)

    @property
    def metadata(self) -> ImageMetadata:
        return self._rescaled(self.scale, [(factor - 1) / 2 for factor in self.scale])

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        yield self._most_read(self._largest_part(shape))

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        (region,) = self.read_shapes(shape)
        held = math.prod(region) * self.dtype.itemsize + self.inputs[0].scratch_bytes(region)
        if not self._changed or 0 in self.shape:
            return held
        part = self._largest_part(shape)
        if not self._exact:
            part = largest_part(part, self._tiles, self._floats, _FLOAT_BYTES)
        return held + self._floats(Box.whole(part)) + math.prod(part) * self.dtype.itemsize

    def _largest_part(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return super()._largest_part(shape) if self._changed and 0 not in self.shape else shape

    def _most_read(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        found = list(shape)
        for axis, along in self._along.items():
            old, new = along.extents
            found[axis] = (
                -(-shape[axis] * old // new) + 1 + (not along.picks) * (along.degree + len(along.fir) + 1)
            )
        return tuple(map(min, zip(found, self.inputs[0].shape, strict=True)))

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        yield 0, self._region(box)

    def _read(self, box: Box) -> AnyArray:
        return super()._read(box) if self._changed else self.read_input(box)

    def _held(self, part: Box) -> int:
        """Return the bytes of the input that a part is made of."""
        return math.prod(self._most_read(part.shape)) * self.inputs[0].dtype.itemsize

    def _floats(self, part: Box) -> int:
        """Return the bytes of what is between the axes, and of the result while it is rounded."""
        stages = [self._most_read(part.shape)]
        for axis in self._changed:
            stages.append((*stages[-1][:axis], part.shape[axis], *stages[-1][axis + 1 :]))
        sizes = [0, *map(math.prod, stages[1:])]
        pairs = [a + b for a, b in itertools.pairwise(sizes)]
        if self._exact:
            return self.dtype.itemsize * max(pairs)
        return max(8, self.dtype.itemsize) * max(*pairs, 3 * sizes[-1]) + FILTER_BYTES

    def _part(self, part: Box) -> AnyArray:
        region = self._region(part)
        block = self.read_input(region)
        if self._exact:
            return self._made(part, block, region)
        out = np.empty(part.shape, self.dtype)
        for box in parts_of(part, self._tiles, self._floats, _FLOAT_BYTES):
            out[box.relative_to(part.begin).slices] = self._made(box, block, region)
        return out

    def _region(self, box: Box) -> Box:
        """Return what a region of the result is made of."""
        for axis, along in self._along.items():
            box = box.with_axis(axis, *along.span(box.begin[axis], box.end[axis]))
        return box

    def _made(self, box: Box, block: AnyArray, held: Box) -> AnyArray:
        """Return a region of the result, made of what is in a box of the input, an axis after the other."""
        region, whole = self._region(box), self.inputs[0].shape
        block = block[region.relative_to(held.begin).slices]
        for axis, along in self._along.items():
            rows = box.begin[axis], box.end[axis]
            if along.picks:
                block = _picked(block, nearest(np.arange(*rows), along.extents) - region.begin[axis], axis)
            else:
                block = filtered(block, region, whole, axis, along, rows)
            region = region.with_axis(axis, *rows)
            whole = (*whole[:axis], self.shape[axis], *whole[axis + 1 :])
        return rounded(block, self.dtype)


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
