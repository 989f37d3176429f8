"""Running one task of a run folder in this process: what every distributed backend's worker does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from bioimage_py.geometry import IdSet
from bioimage_py.runner.attempt import AttemptJournal
from bioimage_py.runner.crew import Crew
from bioimage_py.runner.environment import check_environment
from bioimage_py.runner.portable import load_work
from bioimage_py.runner.run_folder import RunFolder
from bioimage_py.runner.work import PortableWork
from bioimage_py.sources.identity import leaves

__all__ = ["FINISHED", "STOPPED", "run_task", "settling"]

FINISHED, STOPPED = "finished", "stopped"


def run_task(path: str, round_number: int, task: int, stop: threading.Event | None = None) -> str:
    """Process the groups of one task, record each block, and return why it ended: all tried, or told to stop.

    Parameters
    ----------
    path
        The run folder.
    round_number, task
        Which task.
    stop
        When set, no further group is begun.

    Raises
    ------
    BioimagePyError
        If the run folder cannot be trusted, a source cannot be opened, or this Python does not fit.
    """
    folder = RunFolder.open(path)
    run, work = _opened(str(folder.path))
    content = folder.read_round(round_number)
    todo = IdSet.from_json(content["todo"])
    groups = IdSet.from_json(content["tasks"][task])
    mine = work.narrowed(todo)
    stopping = stop or threading.Event()
    with AttemptJournal(
        folder, round_number, task, settle=settling(work) if run["durable"] else None
    ) as journal:
        Crew(mine, groups, journal, stopping).run(run["threads"])
        reason = STOPPED if stopping.is_set() else FINISHED
        journal.end(reason)
    return reason


def settling(work: PortableWork) -> Callable[[], None]:
    """Return what forces the outputs of the work to the disk."""
    outputs = [leaf for source in work.outputs for leaf in leaves(source)]

    def settle() -> None:
        for output in outputs:
            output.force_to_disk()

    return settle


@lru_cache(maxsize=2)
def _opened(path: str) -> tuple[dict[str, Any], PortableWork]:
    """Open the sources of a run once per process; its tasks share them."""
    folder = RunFolder(RunFolder.open(path).path)
    run = folder.read_run()
    check_environment(run["environment"])
    work = load_work(run["work"], folder, run["threads"], run["cache_bytes"])
    return run, work
