"""What a Dask worker evaluates: one task of a run folder, stopped when nobody wants it any more."""

from __future__ import annotations

import logging
import threading
import time
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
"""Seconds after the end of a task of ours after which a worker closes the sources that it used; another opens them again."""

_ending = threading.Lock()
_closing: list[threading.Timer] = []


def run_dask_task(path: str, number: int, task: int, timeout: float | None) -> tuple[str, str]:
    """Process one task of a round and return how it ended and what there is to say about it, as in a `TaskEnd`.

    Dask cannot end what runs in a thread. The blocks are therefore processed in a thread of their own, and this one
    watches it: when the scheduler does not want the task any more (cancelled, its client gone), when the worker is about to
    close, or when time is up, it ends after the block in hand. A block that outlasts its time by far is given up, so
    that others get the worker; it may still come to its end, and is then recorded like any other.
    """
    worker = distributed_library().get_worker()
    key = worker.get_current_task()
    stop = threading.Event()
    answers: list[tuple[str, str]] = []
    thread = threading.Thread(
        target=lambda: answers.append(_answer(path, number, task, stop)), name=f"bioimage-task-{number}-{task}", daemon=True
    )  # fmt: skip
    thread.start()
    end = time.monotonic() + (timeout or float("inf"))
    timed_out = False
    while not answers:
        thread.join(_LOOK)
        if time.monotonic() > end and not answers:
            timed_out = True
            stop.set()
            if time.monotonic() > end + _GRACE:
                text = f"it took longer than task_timeout on Dask worker {worker.address}, and its block in hand goes on there"
                return "timeout", text
        elif not _is_wanted(worker, key):
            stop.set()
    kind, text = answers[0]
    if timed_out and kind == tasks.STOPPED:
        return "timeout", "it took longer than task_timeout"
    return kind, f"{text} (on Dask worker {worker.address})" if text else ""


def _is_wanted(worker: Any, key: Any) -> bool:
    state = worker.state.tasks.get(key)
    wanted = state is not None and state.state in ("executing", "long-running")
    return wanted and worker.status.name in ("running", "paused")


def _answer(path: str, number: int, task: int, stop: threading.Event) -> tuple[str, str]:
    try:
        before = _ended_before(RunFolder.open(path), number, task)
        return before or (tasks.run_task(path, number, task, stop), "")
    except BaseException as error:  # noqa: BLE001 - told to the submitter, with its traceback in the worker's log
        if not isinstance(error, BioimagePyError):
            _log.exception("task %d of round %d of %s", task, number, path)
        return "error", f"{type(error).__name__}: {error}"
    finally:
        timer = threading.Timer(_IDLE, tasks.close_sources)
        timer.daemon = True
        with _ending:
            while _closing:
                _closing.pop().cancel()
            _closing.append(timer)
            timer.start()


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
