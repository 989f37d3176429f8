"""What is done, what failed and why, during a run."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bioimage_py.errors import CastingError
from bioimage_py.geometry import IdSet, IdSetBuilder
from bioimage_py.runner.run import Failures, Pace
from bioimage_py.runner.worker_threads import without_frames

if TYPE_CHECKING:
    from bioimage_py.kernels import BlockUnits
    from bioimage_py.runner.run import RunAccount


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
    account
        What the run did and what it spent its time with, in the last progress of a copy; None in all others, and in runs of
        functions of the user.
    """

    blocks_done: int
    blocks_total: int
    bytes_done: int
    bytes_total: int
    seconds: float
    failed: int
    account: RunAccount | None = None


Report = Callable[[Progress], None]
"""A function of the user that is called with the progress now and then."""


class BlockJournal(Protocol):
    """Where work records its blocks, whichever process it runs in."""

    def done(self, block_ids: Iterable[int], n_bytes: int = 0) -> None:
        """Record blocks whose output is in the store."""

    def done_with(self, block_id: int, result: Any, n_bytes: int = 0) -> None:
        """Record a block and what its function returned."""

    def failed(self, block_ids: Iterable[int], error: BaseException) -> None:
        """Record blocks that are not done, and why."""

    def units(self, block_id: int) -> BlockUnits:
        """Return what is known of the write units of a block: work that ends between them may leave the block neither done nor failed."""

    def hopeless(self) -> str:
        """Return why no further block is worth trying, empty if one is."""


_INTERVAL = 0.2
"""Seconds between two reports of the progress."""

_FOLD_AT = 256
"""Records that a thread leaves before it folds them into the set."""


class Journal:
    """The record of one run in memory, written by all its threads; at its end, with the account of it.

    A record is left in a queue, which takes no lock: threads that meet at a lock for every tiny block would hand it to
    each other at the price of two context switches a block. Whoever reads, or finds the queue long, folds it in.
    """

    def __init__(
        self, blocks_total: int, bytes_total: int = 0, *, folder: str | os.PathLike[str] | None = None
    ) -> None:
        self.folder = folder
        self.stop = threading.Event()  # set when no further block, or write unit, is to be begun
        self.blocks_total = blocks_total
        self.bytes_total = bytes_total
        self.results: dict[int, Any] = {}
        self.first_error: tuple[int, BaseException] | None = None
        self.account: RunAccount | None = None
        self.states: Sequence[
            Mapping[str, Any]
        ] = ()  # what each attempt of a run with a folder said of itself
        self.pace = Pace()  # of one without, while its progress is reported
        self.stopped = ""  # why blocks were not tried, where failures say too little
        self._failures = Failures()
        self._bytes = 0
        self._done = IdSetBuilder()
        self._arrived: deque[tuple[tuple[int, ...], int]] = deque()
        self._n_failed = 0
        self._lock = threading.Lock()
        self._began = time.perf_counter()
        self._next_report = self._began + _INTERVAL

    def done(self, block_ids: Iterable[int], n_bytes: int = 0) -> None:
        self._arrived.append((tuple(block_ids), n_bytes))
        if len(self._arrived) >= _FOLD_AT and self._lock.acquire(blocking=False):
            try:
                self._fold()
            finally:
                self._lock.release()

    def done_with(self, block_id: int, result: Any, n_bytes: int = 0) -> None:
        self.results[block_id] = result
        self.done((block_id,), n_bytes)

    def units(self, block_id: int) -> BlockUnits:
        """As in `BlockJournal`; units are not kept."""
        from bioimage_py.kernels import BlockUnits  # only where blocks are copied

        del block_id
        return BlockUnits(stopping=self.stop.is_set)

    def _fold(self) -> None:
        for _ in range(len(self._arrived)):
            block_ids, n_bytes = self._arrived.popleft()
            for block_id in block_ids:
                self._done.add(block_id)
            self._bytes += n_bytes

    def failed(self, block_ids: Iterable[int], error: BaseException) -> None:
        """As in `BlockJournal`; what ended the run is the first error, whichever came before."""
        ids = tuple(block_ids)
        without_frames(error)
        with self._lock:
            self._n_failed += len(ids)
            self._failures.add(error, len(ids))
            first = self.first_error
            ends = isinstance(error, CastingError) and not (first and isinstance(first[1], CastingError))
            if ids and (first is None or ends):
                self.first_error = (ids[0], error)

    def hopeless(self) -> str:
        return self._failures.hopeless(any_done=bool(self._arrived) or len(self._done) > 0)

    def lose(self, error: BaseException) -> None:
        """Record that all blocks of this run are not done, since what was kept of them could not be written."""
        self.failed(self.done_ids(), error)
        with self._lock:
            self._done = IdSetBuilder()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @property
    def has_failures(self) -> bool:
        return self._n_failed > 0

    def merge(self, done: IdSet, results: Mapping[int, Any]) -> None:
        """Take over what other processes did."""
        with self._lock:
            self._done.add_all(done)
            self.results.update(results)

    def done_ids(self) -> IdSet:
        with self._lock:
            self._fold()
            return self._done.build()

    def progress(self) -> Progress:
        with self._lock:
            self._fold()
            done, total = (len(self._done), self._bytes), (self.blocks_total, self.bytes_total)
            return Progress(done[0], total[0], done[1], total[1], self.seconds, self._n_failed, self.account)

    def tell(self, report: Report | None, *, last: bool = False) -> None:
        """Call the user's function with the progress, if it is time to; from one thread at a time."""
        if report is not None and (last or time.perf_counter() >= self._next_report):
            self._next_report = time.perf_counter() + _INTERVAL
            progress = self.progress()
            self.pace.add(progress.seconds, progress.bytes_done)
            report(progress)
