"""What is done, what failed and why, as a run goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bioimage_py.geometry import IdSet, IdSetBuilder

__all__ = ["BlockJournal", "Journal", "Progress", "ProgressTicker"]


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    blocks_done, blocks_total
        Blocks finished, and to be finished.
    bytes_done, bytes_total
        Bytes written so far, decoded, and expected at most.
    seconds
        Since the run began.
    failed
        Blocks that failed.
    """

    blocks_done: int
    blocks_total: int
    bytes_done: int
    bytes_total: int
    seconds: float
    failed: int


class BlockJournal(Protocol):
    """Where work records its blocks, whichever process it runs in."""

    def done(self, block_ids: Iterable[int], n_bytes: int = 0) -> None:
        """Record blocks whose output is in the store."""

    def done_with(self, block_id: int, result: Any) -> None:
        """Record a block and what its function returned."""

    def failed(self, block_ids: Iterable[int], error: BaseException) -> None:
        """Record blocks that are not done, and why."""


class Journal:
    """The record of one run in memory, written by all its threads."""

    def __init__(self, blocks_total: int, bytes_total: int = 0, *, folder: Path | None = None) -> None:
        self.folder = folder
        self.blocks_total = blocks_total
        self.bytes_total = bytes_total
        self.results: dict[int, Any] = {}
        self.first_error: tuple[int, BaseException] | None = None
        self._bytes = 0
        self._done = IdSetBuilder()
        self._failed: dict[int, BaseException] = {}
        self._lock = threading.Lock()
        self._began = time.perf_counter()

    def done(self, block_ids: Iterable[int], n_bytes: int = 0) -> None:
        """Record blocks whose output is in the store."""
        with self._lock:
            for block_id in block_ids:
                self._done.add(block_id)
            self._bytes += n_bytes

    def done_with(self, block_id: int, result: Any) -> None:
        """Record a block and what its function returned."""
        with self._lock:
            self._done.add(block_id)
            self.results[block_id] = result

    def failed(self, block_ids: Iterable[int], error: BaseException) -> None:
        """Record blocks that are not done, and why."""
        with self._lock:
            for block_id in block_ids:
                self._failed[block_id] = error
                if self.first_error is None:
                    self.first_error = (block_id, error)

    @property
    def has_failures(self) -> bool:
        """Whether a block failed."""
        return bool(self._failed)

    def merge(self, done: IdSet, results: Mapping[int, Any]) -> None:
        """Take over what other processes did."""
        with self._lock:
            for begin, end in done.runs:
                self._done.add_run(begin, end)
            self.results.update(results)

    def done_ids(self) -> IdSet:
        """Return the blocks that are done."""
        with self._lock:
            return self._done.build()

    def progress(self) -> Progress:
        """Return how far the run is."""
        with self._lock:
            return Progress(
                len(self._done),
                self.blocks_total,
                self._bytes,
                self.bytes_total,
                time.perf_counter() - self._began,
                len(self._failed),
            )


class ProgressTicker:
    """Calls a user's function with the progress, at most every `interval` seconds, from one thread at a time."""

    def __init__(
        self, journal: Journal, report: Callable[[Progress], None] | None, interval: float = 0.2
    ) -> None:
        self._journal = journal
        self._report = report
        self._interval = interval
        self._next = time.perf_counter() + interval

    def tick(self, *, last: bool = False) -> None:
        """Report if it is time, or at the end."""
        if self._report is None:
            return
        now = time.perf_counter()
        if last or now >= self._next:
            self._next = now + self._interval
            self._report(self._journal.progress())
