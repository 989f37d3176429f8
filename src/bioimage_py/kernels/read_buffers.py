"""Memory that a thread reads block after block into."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from bioimage_py.geometry import Box
from bioimage_py.sources import AnyArray, Source

__all__ = ["ReadBuffers"]


_MOST_KEPT = 2**26
"""Memory of larger blocks is given back after each: threads would hold it while they do without."""


class ReadBuffers:
    """A buffer for each thread that asks, as large as its largest block so far.

    The system empties every page of new memory when it is first touched, which takes a part of the time that decoding takes.
    """

    def __init__(self) -> None:
        self._own = threading.local()

    def for_read(self, source: Source, box: Box) -> AnyArray | None:
        """Return memory to read a box of a source into, None where the source makes no use of it."""
        return self.of(box.shape, source.dtype) if source.fills_buffers else None

    def of(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> AnyArray:
        """Return memory of this shape and dtype, in C order, with whatever is in it; unless it is large, the thread's last one is the same."""
        n_bytes = math.prod(shape) * dtype.itemsize
        if n_bytes > _MOST_KEPT:
            return np.empty(shape, dtype)
        memory: AnyArray | None = getattr(self._own, "memory", None)
        if memory is None or memory.size < n_bytes:
            self._own.memory = memory = np.empty(n_bytes, np.uint8)
        return memory[:n_bytes].view(dtype).reshape(shape)
