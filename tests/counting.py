"""A source that records what is read and written, and fails where it is told to."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from bioimage_py.geometry import Box
from bioimage_py.sources import Source, as_source


class CountingSource(Source):
    """Wraps an array or a source; grids may be pretended, so that a numpy array is written as a store would be."""

    format = "counting"

    def __init__(
        self,
        wrapped: Any,
        *,
        chunks: tuple[int, ...] | None = None,
        shards: tuple[int, ...] | None = None,
        fails: Callable[[Box], BaseException | None] = lambda _: None,
        delay: float = 0.0,
    ) -> None:
        self.wrapped = as_source(wrapped)
        self.shape, self.dtype = self.wrapped.shape, self.wrapped.dtype
        self.chunks = chunks or self.wrapped.chunks
        self.shards = shards or self.wrapped.shards
        self.writable = self.wrapped.writable
        self.concurrent_writes = self.wrapped.concurrent_writes
        self.fails = fails
        self.delay = delay
        self.reads: list[Box] = []
        self.writes: list[Box] = []
        self.threads: dict[Box, int] = {}
        self.flushes = 0
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return f"counting {self.shape}"

    @property
    def times_written(self) -> Counter[Box]:
        return Counter(self.writes)

    def written(self) -> np.ndarray:
        """How often each voxel was written."""
        times = np.zeros(self.shape, int)
        for box in self.writes:
            times[(*box.slices, ...)] += 1
        return times

    def _read(self, box: Box) -> np.ndarray:
        with self._lock:
            self.reads.append(box)
        time.sleep(self.delay)
        error = self.fails(box)
        if error is not None:
            raise error
        return self.wrapped.read(box)

    def _write(self, box: Box, values: np.ndarray) -> None:
        with self._lock:
            self.writes.append(box)
            self.threads[box] = threading.get_ident()
        error = self.fails(box)
        if error is not None:
            raise error
        self.wrapped.write(box, values)

    def flush(self) -> None:
        self.flushes += 1
        self.wrapped.flush()
