"""Threads that work through groups of blocks, in whichever process: the local backend's, and those of its workers."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import CastingError
from bioimage_py.system import waits_by_itself

if TYPE_CHECKING:
    from bioimage_py.runner.journal import BlockJournal
    from bioimage_py.runner.work import Work

_WORTH_SHARING = 0.002
"""Seconds of work below which a thread takes more groups at a time."""

_LEAST_BUSY = 0.5
"""Part of the time of one processor below which threads wait for disks, and not for each other."""

_PAUSES = (0.1, 0.5, 2.0)
"""Seconds before blocks that failed with what network disks answer for a moment are tried again."""

_LOOKS_EVERY = 0.1
"""Seconds between two looks at how a run goes on."""

_MOMENT = 0.2
"""Seconds that threads get to notice that they are not to wait for servers any more."""

_LAST_MOMENT = 30.0
"""Seconds that such threads get at the end of the process, of which they hardly ever need the first."""

_GRACE = 0.6
"""Seconds that blocks in hand get to finish after Ctrl-C, so that the user has an answer within one."""


def _nothing() -> None: ...


def _ignore(_: int) -> None: ...


class WorkerThreads:
    """Threads that process groups of blocks, each given as its work and its number, and the groups that none has taken yet.

    None between two groups says that what follows is not to be taken together with what came before.

    When `stop` is set, no further group is begun. Without `ctrl_c`, a KeyboardInterrupt is an exception of the work like any other.
    `over` is set, here or by the caller, when no further group is begun because the run is to end. `tried` is called with the
    number of each group that was done or has failed.
    """

    def __init__(
        self,
        groups: Iterable[tuple[Work, int] | None],
        journal: BlockJournal,
        stop: threading.Event,
        tried: Callable[[int], None] = _ignore,
        *,
        ctrl_c: bool = False,
    ) -> None:
        self._journal = journal
        self._groups = iter(groups)
        self._tried = tried
        self._lock = threading.Lock()
        self._stop = stop
        self._has_ctrl_c = ctrl_c
        self.over = threading.Event()
        self._crash: BaseException | None = None

    def run(self, num_threads: int, tick: Callable[[], None] = _nothing, *, gradually: bool = False) -> int:
        """Process all groups on at most so many threads, or in this one, and return how many there were; `tick` is called in this one, again and again.

        `gradually` begins with one thread, and takes twice as many whenever they wait most of the time.
        """
        with _limit_nested_pools(num_threads):
            if num_threads == 1:
                self._drain(tick)
                return 1
            return self._drain_on_threads(num_threads, tick, gradually=gradually)

    def _drain(self, tick: Callable[[], None]) -> None:
        most = 1
        while groups := self._take(most):
            began = time.perf_counter()
            for work, group_id in groups:
                if self._stop.is_set() or self.over.is_set():
                    return
                group = work.blocks_in(group_id)
                try:
                    self._process(work, group)
                except BaseException as error:
                    if self._has_ctrl_c and is_ctrl_c(error):
                        raise
                    if isinstance(error, CastingError):
                        self.over.set()
                    self._journal.failed(group, error)
                if self._journal.hopeless():
                    self.over.set()
                self._tried(group_id)
                tick()
            # Threads that meet at the lock for every tiny block cost more than the block; large ones are taken singly.
            most = min(64, 2 * most) if time.perf_counter() - began < _WORTH_SHARING else max(1, most // 2)

    def _process(self, work: Work, group: tuple[int, ...]) -> None:
        for pause in _PAUSES:
            first = _FirstTry(self._journal)
            try:
                work.process(group, first)
                group = tuple(first.again)
            except Exception as error:
                if not _is_passing(error):
                    raise
                group = tuple(block_id for block_id in group if block_id not in first.told)
            if not group or self._stop.wait(pause):
                break
        if group:
            work.process(group, self._journal)

    def _drain_on_threads(self, num_threads: int, tick: Callable[[], None], *, gradually: bool) -> int:
        # Not `join`: after a Ctrl-C within it, Python 3.11 takes a running thread for one that has ended.
        ended: list[threading.Event] = []
        self._start(1 if gradually else num_threads, ended)
        seen = time.perf_counter(), time.process_time(), waits_by_itself()
        try:
            for event in ended:
                while not event.wait(_LOOKS_EVERY):
                    tick()
                    now = time.perf_counter(), time.process_time(), waits_by_itself()
                    passed, used, waits = (a - b for a, b in zip(now, seen, strict=True))
                    # On a busy machine it is a processor that they wait for.
                    if used < _LEAST_BUSY * passed and waits >= 0:
                        self._start(min(len(ended), num_threads - len(ended)), ended)
                    seen = now
                tick()
        except BaseException:
            self._stop.set()
            _await(ended, _GRACE)
            from bioimage_py.storage import give_up_waiting  # most workers never need it

            give_up_waiting()
            _await(ended, _MOMENT)
            # A thread that is inside a library's call when the interpreter goes away can take the process down with it.
            atexit.register(_await, ended, _LAST_MOMENT)
            raise
        if self._crash is not None:
            raise self._crash
        return len(ended)

    def _start(self, count: int, ended: list[threading.Event]) -> None:
        """Start more threads, each with an event in the list that it sets when it has ended."""
        for n in range(len(ended), len(ended) + count):
            ended.append(threading.Event())
            name = f"bioimage-worker-{n}"
            threading.Thread(target=self._thread, args=(ended[n],), name=name, daemon=True).start()

    def _take(self, most: int) -> list[tuple[Work, int]]:
        taken: list[tuple[Work, int]] = []
        with self._lock:
            for one in self._groups:
                if one is not None:
                    taken.append(one)
                if taken and (one is None or len(taken) == most):
                    break
        return taken

    def _thread(self, ended: threading.Event) -> None:
        try:
            self._drain(_nothing)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._crash = error
            self._stop.set()
        finally:
            ended.set()


class _FirstTry:
    """Records all but the failures of blocks that are to be tried again."""

    def __init__(self, journal: BlockJournal) -> None:
        self._journal = journal
        self.units, self.hopeless = journal.units, journal.hopeless
        self.again: list[int] = []
        self.told: set[int] = set()

    def done(self, block_ids: Iterable[int], n_bytes: int = 0) -> None:
        self.told.update(block_ids := list(block_ids))
        self._journal.done(block_ids, n_bytes)

    def done_with(self, block_id: int, result: Any, n_bytes: int = 0) -> None:
        self.told.add(block_id)
        self._journal.done_with(block_id, result, n_bytes)

    def failed(self, block_ids: Iterable[int], error: BaseException) -> None:
        block_ids = list(block_ids)
        if _is_passing(error):
            self.again.extend(block_ids)
        else:
            self.told.update(block_ids)
            self._journal.failed(block_ids, error)


def _is_passing(error: BaseException) -> bool:
    from bioimage_py.storage import is_passing  # most workers never need it

    return is_passing(error)


def is_ctrl_c(error: BaseException) -> bool:
    """Whether an exception can be the user's Ctrl-C, which Python raises in the main thread, and not one of the work itself."""
    return isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread()


def without_frames(error: BaseException) -> None:
    """Let go of the variables of the functions that an exception came through, which may be a block's voxels.

    Where it was raised can still be shown. What led to it, and what a group holds, is treated likewise.
    """
    left, seen = [error], {id(error)}
    while left:
        one = left.pop()
        kept = None
        at = one.__traceback__
        while at is not None:
            try:
                at.tb_frame.clear()
                kept = kept or at
            except RuntimeError:
                kept = None  # it still runs, and would keep what it holds from now on
            at = at.tb_next
        one.__traceback__ = kept
        inner = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        for other in (one.__cause__, one.__context__, *inner):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                left.append(other)


def _await(ended: list[threading.Event], seconds: float) -> None:
    """Wait for the threads, but not longer than so many seconds in all."""
    end = time.monotonic() + seconds
    for event in ended:
        event.wait(max(0.0, end - time.monotonic()))


def _limit_nested_pools(num_threads: int) -> AbstractContextManager[object]:
    """Keep numerical libraries from starting a pool in each of our threads."""
    if num_threads == 1:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)  # type: ignore[no-any-return]
