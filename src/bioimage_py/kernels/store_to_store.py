"""Boxes that TensorStore copies by itself from one array into another with the same chunks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import perf_counter

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.kernels.stage_timer import Meter
from bioimage_py.sources import Source
from bioimage_py.sources.stores import TensorStoreSource

_APART_EVERY = 32


class StoreToStore:
    """Copies boxes so that each chunk is encoded while its voxels are still in the processor's cache.

    Such a copy does not tell reading from writing: each thread does a part of one box of many in two steps, and divides its time alike.
    """

    def __init__(self, input: TensorStoreSource, output: TensorStoreSource) -> None:
        self._input, self._output = input, output
        self._own = _Own()

    @classmethod
    def of(cls, input: Source, output: Source) -> StoreToStore | None:
        """Return None unless chunks and dtype are the same; then voxels go through this process's memory."""
        if not isinstance(input, TensorStoreSource) or not isinstance(output, TensorStoreSource):
            return None
        same = input.chunks == output.chunks and input.dtype == output.dtype
        # Measured: other chunks gain nothing. What is said of 4 axes in `TensorStoreSource` is not known to be otherwise here.
        if not same or output.chunks is None or output.shards is not None or not 0 < output.ndim <= 3:
            return None
        return cls(input, output)

    def copy(self, box: Box, meter: Meter, apart: Callable[[Box], int]) -> int:
        """Copy a box of whole chunks; `apart` reads a box and writes it, through the same meter."""
        own = self._own
        if own.left:
            own.left -= 1
            return self._through(box, meter, apart)
        sample, rest = self._cut(box)
        mine = meter.mine
        reading, writing = mine.reading, mine.writing
        n_bytes = apart(sample)
        reading, writing = mine.reading - reading, mine.writing - writing
        own.reading = reading / (reading + writing) if reading + writing > 0 else 0.5
        own.left = _APART_EVERY - 1
        return n_bytes if rest is None else n_bytes + self._through(rest, meter, apart)

    def _through(self, box: Box, meter: Meter, apart: Callable[[Box], int]) -> int:
        began = perf_counter()
        try:
            self._output.write_from(box, self._input)
        except StorageError:
            return apart(box)  # says which of the two it was
        mine, seconds = meter.mine, perf_counter() - began
        mine.reading += self._own.reading * seconds
        mine.writing += (1 - self._own.reading) * seconds
        mine.bytes_in += box.size * self._input.dtype.itemsize
        return meter.wrote(self._output, box)

    def _cut(self, box: Box) -> tuple[Box, Box | None]:
        """Return a layer of chunks, and the rest of the box; None where it is one layer."""
        assert self._output.chunks is not None
        for axis, extent in enumerate(self._output.chunks):
            at = box.begin[axis] + extent
            if at < box.end[axis]:
                begin, end = list(box.begin), list(box.end)
                begin[axis] = end[axis] = at
                return Box(box.begin, tuple(end)), Box(tuple(begin), box.end)
        return box, None


class _Own(threading.local):
    """Of a thread: the share of time spent reading, and for how many boxes it holds."""

    reading = 0.5
    left = 0
