"""The local backend: threads of this process, with no more blocks in hand than threads."""

from __future__ import annotations

import atexit
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from bioimage_py.errors import RunInterrupted
from bioimage_py.runner.base import Runner
from bioimage_py.runner.journal import Journal, Progress, ProgressTicker
from bioimage_py.runner.work import Work

__all__ = ["LocalRunner"]

_WORTH_SHARING = 0.002
"""Seconds of work below which a thread takes more groups at a time."""

_GRACE = 0.7
"""Seconds that blocks in hand get to finish after Ctrl-C, so that the user has an answer within one."""


class LocalRunner(Runner):
    """Runs blocks on threads of this process.

    A thread takes the next block when it has finished one, so the number of blocks in flight, and with it the memory,
    is bounded by the number of threads. A block that fails does not stop the others.

    Parameters
    ----------
    config
        Settings; only `memory_limit` matters here.

    Examples
    --------
    >>> import numpy as np
    >>> from bioimage_py import get_runner, to_roi
    >>> image, result = np.arange(20.0).reshape(4, 5), np.zeros((4, 5))
    >>> def double(block, inputs, outputs, mask):
    ...     outputs[0][to_roi(block)] = 2 * inputs[0][to_roi(block)]
    >>> get_runner("local").run(double, [image], [result], block_shape=(2, 5), num_workers=2)
    >>> bool((result == 2 * image).all())
    True
    """

    job_type = "local"

    def execute(
        self,
        work: Work,
        num_workers: int,
        *,
        n_bytes: int = 0,
        progress: Callable[[Progress], None] | None = None,
    ) -> Journal:
        """Process all groups of the work; failures are in the journal, not raised.

        Raises
        ------
        RunInterrupted
            On Ctrl-C, within a second; it lists what is done.
        """
        journal = Journal(len(work.block_ids), n_bytes)
        ticker = ProgressTicker(journal, progress)
        crew = _Crew(work, journal, ticker)
        try:
            with _limit_nested_pools(num_workers):
                if num_workers == 1:
                    crew.drain(ticker.tick)
                else:
                    crew.drain_on_threads(num_workers)
        except KeyboardInterrupt as error:
            done = journal.done_ids()
            left = work.block_ids - done
            raise RunInterrupted(
                f"interrupted: {len(done)} of {len(work.block_ids)} blocks are done and stay written. "
                "Call again with block_ids=error.failed_block_ids and the same block shape and output to finish",
                done,
                left,
            ) from error
        ticker.tick(last=True)
        return journal


class _Crew:
    """The threads of one run, and the groups that none of them has taken yet."""

    def __init__(self, work: Work, journal: Journal, ticker: ProgressTicker) -> None:
        self._work = work
        self._journal = journal
        self._ticker = ticker
        self._groups = (work.blocks_in(group_id) for group_id in work.group_ids())
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._crash: BaseException | None = None

    def drain(self, tick: Callable[[], None]) -> None:
        """Process groups until none is left or the run is stopped."""
        most = 1
        while groups := self._take(most):
            began = time.perf_counter()
            for group in groups:
                if self._stop.is_set():
                    return
                try:
                    self._work.process(group, self._journal)
                except Exception as error:  # noqa: BLE001 - recorded: the run ends with it in a RunnerError
                    self._journal.failed(group, error)
                tick()
            # Threads that meet at the lock for every tiny block cost more than the block; large ones are taken singly.
            most = min(64, 2 * most) if time.perf_counter() - began < _WORTH_SHARING else 1

    def drain_on_threads(self, num_workers: int) -> None:
        """Process all groups on so many threads; this one waits and reports progress."""
        threads = [
            threading.Thread(target=self._thread, name=f"bioimage-worker-{n}", daemon=True)
            for n in range(num_workers)
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)
                    self._ticker.tick()
        except BaseException:
            self._stop.set()
            _join(threads, _GRACE)
            # A thread that is inside a library's call when the interpreter goes away can take the process down with it.
            atexit.register(_join, threads, _GRACE)
            raise
        if self._crash is not None:
            raise self._crash

    def _take(self, most: int) -> list[tuple[int, ...]]:
        with self._lock:
            return list(itertools.islice(self._groups, most))

    def _thread(self) -> None:
        try:
            self.drain(lambda: None)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._crash = error
            self._stop.set()


def _join(threads: list[threading.Thread], seconds: float) -> None:
    """Wait for the threads, but not longer than so many seconds in all."""
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def _limit_nested_pools(num_workers: int) -> AbstractContextManager[Any]:
    """Keep numerical libraries from starting a pool in each of our threads."""
    if num_workers == 1:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limited: AbstractContextManager[Any] = threadpool_limits(limits=1)
    return limited
