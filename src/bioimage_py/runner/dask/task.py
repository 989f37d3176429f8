"""What a Dask worker evaluates: one task of a run folder, stopped when nobody wants it any more."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from bioimage_py.errors import BioimagePyError
from bioimage_py.runner import task as tasks
from bioimage_py.runner.dask.config import distributed_library
from bioimage_py.runner.run import RunFolder

_log = logging.getLogger(__name__)

_LOOK = 0.1
"""Seconds between two looks at whether the task is still wanted."""

_GRACE = 0.7
"""Seconds that the block in hand gets when the time of its task is up."""

_IDLE = 60.0
"""Seconds after which a worker without tasks of ours closes the sources that they used."""


def run_dask_task(path: str, number: int, task: int, timeout: float | None) -> tuple[str, str]:
    """Process one task of a round and return how it ended and what there is to say about it, as in a `TaskEnd`.

    Dask cannot end what runs in a thread. The blocks are therefore processed in a thread of their own, and this one
    watches it: when the scheduler does not want the task any more (cancelled, its client gone), when the worker is about to
    close, or when time is up, it ends after the block in hand. A block that outlasts its time by far is given up, so
    that others get the worker; it may still come to its end, and is then recorded like any other.
    """
    worker = distributed_library().get_worker()
    key = worker.get_current_task()
    attempt = _Attempt(path, number, task, several=worker.state.nthreads > 1)
    end = time.monotonic() + (timeout or float("inf"))
    timed_out = False
    while not attempt.ended(_LOOK):
        if time.monotonic() > end:
            timed_out = True
            attempt.stop.set()
            if time.monotonic() > end + _GRACE:
                text = f"it took longer than task_timeout on Dask worker {worker.address}, and its block in hand goes on there"
                return "timeout", text
        elif not _is_wanted(worker, key):
            attempt.stop.set()
    kind, text = attempt.answer
    if timed_out and kind == tasks.STOPPED:
        return "timeout", "it took longer than task_timeout"
    return kind, f"{text} (on Dask worker {worker.address})" if text else ""


def _is_wanted(worker: Any, key: Any) -> bool:
    state = worker.state.tasks.get(key)
    wanted = state is not None and state.state in ("executing", "long-running")
    return wanted and worker.status.name in ("running", "paused")


class _Attempt:
    """The thread that processes the blocks of a task."""

    def __init__(self, path: str, number: int, task: int, *, several: bool) -> None:
        self.stop = threading.Event()
        self.answer = ("lost", "it ended without an answer")
        self._thread = threading.Thread(
            target=self._work, args=(path, number, task, several), name=f"bioimage-task-{number}-{task}", daemon=True
        )  # fmt: skip
        self._thread.start()

    def ended(self, wait: float) -> bool:
        self._thread.join(wait)
        return not self._thread.is_alive()

    def _work(self, path: str, number: int, task: int, several: bool) -> None:
        try:
            before = _ended_before(RunFolder.open(path), number, task)
            if before is not None:
                self.answer = before
                return
            with _held.for_task(several=several):
                self.answer = (tasks.run_task(path, number, task, self.stop), "")
        except BaseException as error:  # noqa: BLE001 - told to the submitter, with its traceback in the worker's log
            if not isinstance(error, BioimagePyError):
                _log.exception("task %d of round %d of %s", task, number, path)
            self.answer = ("error", f"{type(error).__name__}: {error}")


def _ended_before(folder: RunFolder, number: int, task: int) -> tuple[str, str] | None:
    """Return how an earlier attempt at this very task ended, None if there was none.

    Dask gives the tasks of a worker that died to others. What such a task had done would be done again, and a block that kills
    its worker would kill others: the next round takes it up instead, without what is done.
    """
    for files in folder.attempts(round_number=number):
        if files.task == task:
            state = folder.read_state(files)
            if state["reason"] in (tasks.FINISHED, tasks.STOPPED):
                return state["reason"], ""
            return (
                "killed",
                f"its worker, process {state['pid']} on {state['host']}, died or was cut off, perhaps for lack of memory",
            )
    return None


class _Held:
    """What this process holds for tasks of ours, which may be those of several threads and of several runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limits: Any = None
        self._timer: threading.Timer | None = None

    @contextlib.contextmanager
    def for_task(self, *, several: bool) -> Iterator[None]:
        with self._lock:
            self._users += 1
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if several and self._limits is None:
                from threadpoolctl import threadpool_limits

                # Set once for all tasks: limits that overlap would be undone in the wrong order.
                self._limits = threadpool_limits(limits=1)
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    if self._limits is not None:
                        self._limits.restore_original_limits()
                        self._limits = None
                    self._timer = threading.Timer(_IDLE, self._close_sources)
                    self._timer.daemon = True
                    self._timer.start()

    def _close_sources(self) -> None:
        with self._lock:
            if not self._users:
                tasks.close_sources()


_held = _Held()
