"""The local backend: threads of this process, with no more blocks in hand than threads."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
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
        self, work: Work, num_workers: int, *, n_bytes: int = 0, progress: Callable[[Progress], None] | None = None
    ) -> Journal:
        """Process all groups of the work; failures are in the journal, not raised.

        Raises
        ------
        RunInterrupted
            On Ctrl-C, within a second; it lists what is done.
        """
        journal = Journal(len(work.block_ids), n_bytes)
        ticker = ProgressTicker(journal, progress)
        stop = threading.Event()
        queue = _Queue(work.groups())
        try:
            with _limit_nested_pools(num_workers):
                if num_workers == 1:
                    _drain(queue, work, journal, stop, ticker.tick)
                else:
                    _run_threads(num_workers, queue, work, journal, stop, ticker)
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


class _Queue:
    """The groups that nobody has taken yet."""

    def __init__(self, groups: Iterator[tuple[int, ...]]) -> None:
        self._groups = groups
        self._lock = threading.Lock()

    def take(self, most: int) -> list[tuple[int, ...]]:
        with self._lock:
            return list(itertools.islice(self._groups, most))


def _drain(
    queue: _Queue, work: Work, journal: Journal, stop: threading.Event, tick: Callable[[], None]
) -> None:
    most = 1
    while groups := queue.take(most):
        began = time.perf_counter()
        for group in groups:
            if stop.is_set():
                return
            try:
                work.process(group, journal)
            except Exception as error:  # noqa: BLE001 - recorded: the run ends with it in a RunnerError
                journal.failed(group, error)
            tick()
        # Threads that meet at the queue for every tiny block cost more than the block; large ones are taken singly.
        most = min(64, 2 * most) if time.perf_counter() - began < _WORTH_SHARING else 1


def _run_threads(
    num_workers: int, queue: _Queue, work: Work, journal: Journal, stop: threading.Event, ticker: ProgressTicker
) -> None:
    crashed: list[BaseException] = []

    def body() -> None:
        try:
            _drain(queue, work, journal, stop, lambda: None)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            crashed.append(error)
            stop.set()

    threads = [
        threading.Thread(target=body, name=f"bioimage-worker-{n}", daemon=True) for n in range(num_workers)
    ]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            while thread.is_alive():
                thread.join(0.1)
                ticker.tick()
    except BaseException:
        stop.set()
        for thread in threads:
            thread.join(_GRACE / len(threads))
        raise
    if crashed:
        raise crashed[0]


def _limit_nested_pools(num_workers: int) -> AbstractContextManager[Any]:
    """Keep numerical libraries from starting a pool in each of our threads."""
    if num_workers == 1:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)
