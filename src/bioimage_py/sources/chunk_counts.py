"""How many chunks were read or written, and how many bytes they have encoded."""

from __future__ import annotations

import threading

__all__ = ["ChunkCounts"]


class ChunkCounts:
    """Chunks and their encoded bytes, counted by each thread for itself."""

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: list[list[int]] = []

    def add(self, n_bytes: int) -> None:
        """Count one chunk; one that is not stored has no bytes."""
        sums = getattr(self._own, "sums", None)
        if sums is None:
            self._own.sums = sums = [0, 0]
            self._all.append(sums)
        sums[0] += 1
        sums[1] += n_bytes

    def bytes_of(self, n_chunks: int) -> int | None:
        """Return the bytes if there were just so many chunks, else None."""
        return sum(b for _, b in self._all) if sum(n for n, _ in self._all) == n_chunks else None
