"""Telling the system which files will be read next, so that a slow disk or server works while a thread decodes."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterable

_FILES_AHEAD = 4
_SLOW_READS = 3
_WAIT_SECONDS, _BYTES_PER_SECOND = 5e-4, 1e9


class SlowReads:
    """Finds out whether files come from a disk or server slower than memory; once `found`, it stays so."""

    def __init__(self) -> None:
        self.found = False
        # Elsewhere there is nobody to tell.
        self._n_slow = 0 if hasattr(os, "posix_fadvise") else -(2**63)

    def took(self, seconds: float, n_bytes: int) -> None:
        if not self.found and seconds > _WAIT_SECONDS + n_bytes / _BYTES_PER_SECOND:
            # One may have waited for a thread.
            self._n_slow += 1
            self.found = self._n_slow >= _SLOW_READS


class ReadAhead:
    """Tells the system which files will be read next, in this order, where reads are slow; threads call `step` before each."""

    def __init__(self, paths: Iterable[str], slow: SlowReads) -> None:
        self._waiting = deque(paths) if slow.found else deque[str]()
        for _ in range(_FILES_AHEAD):
            self.step()

    def step(self) -> None:
        try:
            path = self._waiting.popleft()
        except IndexError:
            return
        # Whoever reads it says what is wrong with it.
        with contextlib.suppress(OSError):
            number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.posix_fadvise(number, 0, 0, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(number)
