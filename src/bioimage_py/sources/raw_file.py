"""Voxels that lie one after another in a file, uncompressed: what .npy, MRC and NIfTI have in common."""

from __future__ import annotations

import itertools
import math
import os
import weakref
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.sources.base import AnyArray
from bioimage_py.sources.single_file import SingleFileSource, storage_error

__all__ = ["RawFileSource", "RawLayout", "RawVoxels", "write_exactly"]

_CALL_COST = 16 * 1024
"""What one read call costs, in bytes that could be read from the page cache instead (measured, with Python's share)."""
_MAX_SPAN = 4 * 2**20
"""The largest stretch that is read to pick pieces out of it; it bounds the memory that a read takes on top."""


class RawLayout(NamedTuple):
    """Where voxels lie in a file, and in which order."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"] = "C"

    @property
    def nbytes(self) -> int:
        """Bytes that all voxels take up."""
        return math.prod(self.shape) * self.dtype.itemsize


class RawVoxels:
    """Reads and writes regions of voxels that lie contiguously in a file.

    It uses positioned reads and writes, not a memory map: pages of a map count as memory of the process, a map of a file
    that shrinks kills the process, and a full disk under a map does so too.

    Parameters
    ----------
    name
        What the file is called in messages.
    descriptor
        An open file descriptor, which now belongs to this object: it is closed with it.
    layout
        Where the voxels lie.

    Raises
    ------
    StorageError
        If the file is shorter than the layout needs. The descriptor is closed then.
    """

    def __init__(self, name: str, descriptor: int, layout: RawLayout) -> None:
        self.name = name
        self.layout = layout
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)
        try:
            self._check_length()
        except BaseException:
            self.close()
            raise
        # The arithmetic is that of C order; a file in Fortran order is one in C order with the axes reversed.
        stored = layout.shape if layout.order == "C" else layout.shape[::-1]
        strides, step = [], layout.dtype.itemsize
        for extent in reversed(stored):
            strides.append(step)
            step *= extent
        self._strides = tuple(reversed(strides))

    def _check_length(self) -> None:
        found = os.fstat(self._descriptor).st_size
        expected = self.layout.offset + self.layout.nbytes
        if found < expected:
            raise StorageError(
                f"{self.name} is truncated: voxels of shape {self.layout.shape} and dtype {self.layout.dtype} need "
                f"{expected} bytes with the header, the file has {found}; copy or download it again"
            )

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return not self._close.alive

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._close()

    def read(self, box: Box) -> AnyArray:
        """Return the voxels of a box that lies in the array, in the stored dtype."""
        self._check_open()
        if self.layout.order == "F":
            return self._read(Box(box.begin[::-1], box.end[::-1])).T
        return self._read(box)

    def write(self, box: Box, values: AnyArray) -> None:
        """Write `values`, of the shape of the box, cast to the stored dtype.

        Voxels between the rows of the box are never read and written back, so threads may write disjoint boxes.
        """
        self._check_open()
        if self.layout.order == "F":
            box, values = Box(box.begin[::-1], box.end[::-1]), values.T
        stored = values.astype(self.layout.dtype, order="C", casting="unsafe", copy=False)
        level = self._contiguous_from(box)
        view = _bytes_of(np.ascontiguousarray(stored))
        run = math.prod(box.shape[level:]) * self.layout.dtype.itemsize
        for number, offset in enumerate(self._offsets(box, level)):
            try:
                write_exactly(self._descriptor, view[number * run : (number + 1) * run], offset)
            except OSError as error:
                raise storage_error(error, f"writing {self.name}") from error

    def _read(self, box: Box) -> AnyArray:
        out = np.empty(box.shape, self.layout.dtype)
        contiguous = self._contiguous_from(box)
        level = self._cheapest_level(box, contiguous)
        if level == contiguous:
            view, run = _bytes_of(out), math.prod(box.shape[level:]) * out.itemsize
            for number, offset in enumerate(self._offsets(box, level)):
                self._read_exactly(view[number * run : (number + 1) * run], offset)
            return out
        span = np.empty(self._span(box, level), np.uint8)
        pieces: AnyArray = np.ndarray(box.shape[level:], out.dtype, span.data, strides=self._strides[level:])
        parts = out.reshape((-1, *box.shape[level:]))
        for number, offset in enumerate(self._offsets(box, level)):
            self._read_exactly(span.data, offset)
            parts[number] = pieces
        return out

    def _contiguous_from(self, box: Box) -> int:
        """Return the first axis from which on the voxels of the box are one stretch of the file."""
        stored = self.layout.shape if self.layout.order == "C" else self.layout.shape[::-1]
        level = len(stored)
        while level > 0:
            level -= 1
            if box.shape[level] != stored[level]:
                break
        while level > 0 and box.shape[level - 1] == 1 and level < len(stored):
            level -= 1
        return level

    def _cheapest_level(self, box: Box, contiguous: int) -> int:
        """Choose from which axis on a stretch is read in one call, with the gaps in it."""
        best, cost = (
            contiguous,
            math.prod(box.shape[:contiguous]) * (_CALL_COST + self._span(box, contiguous)),
        )
        for level in range(contiguous - 1, -1, -1):
            span = self._span(box, level)
            if span > _MAX_SPAN:
                break
            price = math.prod(box.shape[:level]) * (_CALL_COST + span)
            if price < cost:
                best, cost = level, price
        return best

    def _span(self, box: Box, level: int) -> int:
        inner = zip(box.shape[level:], self._strides[level:], strict=True)
        return self.layout.dtype.itemsize + sum((n - 1) * s for n, s in inner)

    def _offsets(self, box: Box, level: int) -> Iterator[int]:
        """Yield where each stretch of the box begins in the file, in C order."""
        first = self.layout.offset + sum(
            b * s for b, s in zip(box.begin[level:], self._strides[level:], strict=True)
        )
        outer = zip(box.begin[:level], box.end[:level], self._strides[:level], strict=True)
        for parts in itertools.product(*(range(b * s, e * s, s) for b, e, s in outer)):
            yield first + sum(parts)

    def _read_exactly(self, target: memoryview, offset: int) -> None:
        done = 0
        while done < len(target):
            try:
                got = os.preadv(self._descriptor, [target[done:]], offset + done)
            except OSError as error:
                raise storage_error(error, f"reading {self.name}") from error
            if got == 0:
                raise StorageError(
                    f"{self.name} was cut while it was open: expected {len(target)} bytes at byte {offset}, found {done}"
                )
            done += got

    def _check_open(self) -> None:
        if self.closed:
            raise StorageError(f"{self.name} was closed; open it again to go on")


class RawFileSource(SingleFileSource):
    """A file that holds one array of uncompressed voxels in one piece.

    Attributes
    ----------
    storage_order
        `"C"` where the last axis varies fastest in the file, `"F"` where the first one does.
    """

    def __init__(self, path: str, mode: str, voxels: RawVoxels) -> None:
        self.path = path
        self.mode = mode
        self.shape = voxels.layout.shape
        self.dtype = voxels.layout.dtype
        self.storage_order: Literal["C", "F"] = voxels.layout.order
        self._voxels = voxels

    def _read(self, box: Box) -> AnyArray:
        return self._voxels.read(box)

    def close(self) -> None:
        """Close the file."""
        self._voxels.close()


def write_exactly(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at a place in a file, in as many calls as the system wants."""
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


def _bytes_of(array: AnyArray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
