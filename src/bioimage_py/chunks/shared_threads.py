"""Threads that several callers share, so that the last one at work gets the help of those that have nothing left to do."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

_T = TypeVar("_T")


class _AtWork(threading.local):
    """How many threads of this process are at work, readers and writers alike, and whether the calling one is counted."""

    lock = threading.Lock()
    threads = 0

    def __init__(self) -> None:
        self.counted = False

    @classmethod
    def add(cls, threads: int) -> None:
        with cls.lock:
            cls.threads += threads


_AT_WORK = _AtWork()


class SharedThreads:
    """Lets callers do many like things, each in its own thread, with the help of others while fewer than `threads` are at work.

    The limit is that of the process. More callers than that work all the same, each by itself.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def run(self, function: Callable[[_T], object], things: Iterable[_T]) -> None:
        """Call a function with each thing, in any order and in several threads; the first error is raised when all calls have ended."""
        waiting = deque(things)
        if len(waiting) == 1:
            function(waiting.pop())
            return
        helpers: list[Future[None]] = []
        inside = _AT_WORK.counted
        if not inside:
            _AT_WORK.counted = True
            _AtWork.add(1)
        try:
            while waiting:
                if len(waiting) > 1 and _AtWork.threads < self._threads:
                    self._call_help(function, waiting, helpers)
                try:
                    thing = waiting.popleft()
                except IndexError:  # a helper took the last one
                    break
                function(thing)
        except BaseException:
            waiting.clear()
            raise
        finally:
            if not inside:
                _AT_WORK.counted = False
                _AtWork.add(-1)
            wait(helpers)
        for helper in helpers:
            helper.result()

    def _call_help(
        self, function: Callable[[_T], object], waiting: deque[_T], helpers: list[Future[None]]
    ) -> None:
        _AtWork.add(1)
        try:
            with self._lock:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="bioimage-codec")
                helpers.append(self._pool.submit(self._help, function, waiting))
        except BaseException:
            _AtWork.add(-1)
            raise

    def _help(self, function: Callable[[_T], object], waiting: deque[_T]) -> None:
        _AT_WORK.counted = True
        try:
            # A caller that came since has the first claim on a thread.
            while waiting and _AtWork.threads <= self._threads:
                try:
                    thing = waiting.popleft()
                except IndexError:
                    return
                function(thing)
        except BaseException:
            waiting.clear()
            raise
        finally:
            _AtWork.add(-1)

    def close(self) -> None:
        """Let the threads end; `run` starts new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)
