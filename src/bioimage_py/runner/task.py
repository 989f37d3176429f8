"""Running one task of a run folder in this process: what every distributed backend's worker does.

A worker imports what its task needs and no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from bioimage_py.geometry import IdSet
from bioimage_py.runner.environment import check_environment, extend_import_path
from bioimage_py.runner.run import AttemptJournal, RunFolder, read_block_logs, read_units
from bioimage_py.runner.work import load_work
from bioimage_py.runner.worker_threads import WorkerThreads

if TYPE_CHECKING:
    from bioimage_py.runner.work import Work

FINISHED, STOPPED = "finished", "stopped"

_opening = threading.Lock()
_LOOK = 0.2
"""Seconds between two looks at whether another task has ended the run."""


def run_task(path: str, round_number: int, task: int, stop: threading.Event | None = None) -> str:
    """Process the groups of one task, record each block, and return why it ended: all tried, or told to stop by `stop`.

    Raises BioimagePyError if the run folder cannot be trusted, a source cannot be opened, or this Python does not fit.
    """
    folder = RunFolder.open(path)
    with _opening:
        run, work = _open_work(str(folder.path), round_number)
    content = folder.read_round(round_number)
    todo = IdSet.from_json(content["todo"])
    groups = IdSet.from_json(content["tasks"][task])
    # Its sources are shared by all tasks of this process; what is counted is not.
    mine = work.narrowed(todo - _done_before(folder, round_number, task)).with_new_counts()
    groups = groups & mine.group_ids()
    stopping = stop or threading.Event()
    with AttemptJournal(
        folder,
        round_number,
        task,
        settle=work.settling() if run["durable"] else None,
        tally=mine.tally,
        threads=run["threads"],
        known=read_units(folder, mine.block_ids),
        stop=stopping,
    ) as journal:
        threads = WorkerThreads(mine, groups, journal, stopping)
        follow = _following(folder, round_number, threads.over)
        threads.run(run["threads"], follow)
        follow()
        reason = STOPPED if stopping.is_set() else FINISHED
        journal.end(reason)
    return reason


def _following(folder: RunFolder, round_number: int, over: threading.Event) -> Callable[[], None]:
    """Return what a task calls between its blocks: what ends the run here ends it in its other tasks, and the reverse."""
    told = folder.round_is_over(round_number)
    looked = time.monotonic()
    if told:
        over.set()

    def look() -> None:
        nonlocal told, looked
        if told or (not over.is_set() and time.monotonic() < looked + _LOOK):
            return
        looked = time.monotonic()
        if over.is_set():
            folder.end_round(round_number)
        elif folder.round_is_over(round_number):
            over.set()
        told = over.is_set()

    return look


def _done_before(folder: RunFolder, round_number: int, task: int) -> IdSet:
    """Return the blocks that an earlier attempt at this task, which was cut off, has done."""
    before = [a for a in folder.attempts(round_number=round_number) if a.task == task and a.blocks.exists()]
    return read_block_logs([attempt.blocks for attempt in before])


def close_sources() -> None:
    """Let go of the sources that tasks of this process have opened."""
    _open_work.cache_clear()


@lru_cache(maxsize=2)
def _open_work(path: str, round_number: int) -> tuple[dict[str, Any], Work]:
    """Open the sources of a run once per process and round; its tasks share them.

    A worker may outlive a run that failed. What it opened for an earlier round may have been replaced since.
    """
    del round_number
    folder = RunFolder(RunFolder.open(path).path)
    run = folder.read_run()
    check_environment(run["environment"])
    extend_import_path(run.get("import_path", ()))
    work = load_work(run["work"], folder, run["threads"], run["cache_bytes"])
    return run, work
