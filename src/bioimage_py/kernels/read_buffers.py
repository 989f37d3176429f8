"""Memory that a thread reads block after block into."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray, Scratch
from bioimage_py.geometry import Box
from bioimage_py.sources import Source

_MOST_KEPT = 2**26
"""Memory of larger blocks is given back after each: threads would hold it while they do without."""


class ReadBuffers:
    """A buffer for each thread that asks, as large as its largest block so far."""

    def __init__(self) -> None:
        self._own = Scratch()

    def for_read(self, source: Source, box: Box) -> AnyArray | None:
        """Return memory to read a box of a source into; None where the source does not use it."""
        return self.of(box.shape, source.dtype) if source.fills_buffers else None

    def of(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> AnyArray:
        """Return uninitialised memory in C order; unless it is large, it is the thread's last one again."""
        if math.prod(shape) * dtype.itemsize > _MOST_KEPT:
            return np.empty(shape, dtype)
        return self._own.array("block", shape, dtype)
