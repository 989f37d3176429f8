"""Cutting a region into parts that need little memory each, and the base of wrappers that do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import Source
from bioimage_py.wrapper.base import WrapperSource

READ_BYTES = 2**25
"""Bytes that a wrapper which reads more than it returns holds at once, where the chunks of its input allow."""

OVERLAP_BYTES = 2**25
"""Decoded chunks that are kept during a run for a wrapper whose neighbouring parts read some chunks both."""


def parts_of(
    box: Box, grid: tuple[int, ...] | None, n_bytes: Callable[[Box], int], limit: int = READ_BYTES
) -> Iterator[Box]:
    """Yield parts that tile a box, in C order, each of at most `limit` bytes or within one cell of the grid.

    Cells are not cut, because that would decode chunks twice; without a grid any cut is as good.
    """
    cells = grid or (1,) * box.ndim
    waiting = [box]
    while waiting:
        part = waiting.pop()
        cut = _cut(part, cells) if n_bytes(part) > limit else None
        if cut is None:
            yield part
        else:
            waiting.extend(reversed(cut))


def largest_part(
    shape: tuple[int, ...],
    grid: tuple[int, ...] | None,
    n_bytes: Callable[[Box], int],
    limit: int = READ_BYTES,
) -> tuple[int, ...]:
    """Return the shape of the largest part that `parts_of` yields of a box of a shape which begins on the grid."""
    cells, part = grid or (1,) * len(shape), Box.whole(shape)
    while n_bytes(part) > limit and (cut := _cut(part, cells)) is not None:
        part = Box.whole(max(cut, key=n_bytes).shape)
    return part.shape


def _cut(box: Box, cells: tuple[int, ...]) -> tuple[Box, Box] | None:
    """Return two halves, cut at a grid line of the first axis that has one inside: slabs are contiguous in most stores."""
    for axis, cell in enumerate(cells):
        first, last = box.begin[axis] // cell, (box.end[axis] - 1) // cell
        if last > first:
            at = (first + last + 1) // 2 * cell
            return box.with_axis(axis, box.begin[axis], at), box.with_axis(axis, at, box.end[axis])
    return None


class PartedSource(WrapperSource):
    """Base of wrappers of one input that read more than they return: regions are computed part by part."""

    _cell: tuple[int, ...] | None = None
    """Extents inside which a part is not cut."""
    _overlap_bytes = 0
    """Decoded chunks of the input that are kept during a run."""

    @abstractmethod
    def _held(self, part: Box) -> int:
        """Return the bytes that computing a part holds, its input included."""

    @abstractmethod
    def _part(self, part: Box) -> AnyArray:
        """Return the voxels of one part."""

    def _largest_part(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return largest_part(shape, self._cell, self._held)

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        return super().for_run(threads, max(cache_bytes, self._overlap_bytes))

    def kept_bytes(self) -> int:
        return super().kept_bytes() + self._overlap_bytes

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        (region,) = self.read_shapes(shape)
        return self._held(Box.whole(self._largest_part(shape))) + self.inputs[0].scratch_bytes(region)

    def _read(self, box: Box) -> AnyArray:
        parts = list(parts_of(box, self._cell, self._held))
        if len(parts) == 1:
            return self._part(box)
        out = np.empty(box.shape, self.dtype)
        for part in parts:
            out[part.relative_to(box.begin).view] = self._part(part)
        return out

    def _rescaled(self, factors: Sequence[float], offset: Sequence[float]) -> ImageMetadata:
        """Return the input's metadata for voxels that are `factors` times as large, of which the first begins at `offset`.

        This is the distance between the centres of the first voxels, in voxels of the input.
        """
        metadata = self.inputs[0].metadata.fitting(self.ndim)
        axes = metadata.axes or ()
        if "c" in axes and factors[axes.index("c")] != 1:
            metadata = metadata.with_channels_selected(None)
        size, origin = metadata.voxel_size, metadata.origin
        if size is None:
            return metadata
        if origin is not None or any(offset):
            start = origin or (0.0,) * len(size)
            origin = tuple(o + n * s for o, n, s in zip(start, offset, size, strict=True))
        sizes = tuple(s * f for s, f in zip(size, factors, strict=True))
        return replace(metadata, voxel_size=sizes, origin=origin)
