"""Which tasks a round of submissions has, and what is tried again after it."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bioimage_py.geometry import IdSet
from bioimage_py.runner.run import Recorded
from bioimage_py.runner.work import Work

_MOST_ALONE = 1000

FIRST_NEEDS = {"memory": 1.0, "time": 1.0}
"""How many times the memory and the time that the user asked for the tasks of a first round get."""


@dataclass(frozen=True)
class TaskEnd:
    """How a task of a round ended, as its backend saw it, with a text for people.

    The kind is `"finished"` (all blocks tried), `"stopped"`, `"error"` (it could not begin), `"killed"`, `"timeout"`,
    `"out of memory"`, `"node failure"`, `"cancelled"` or `"lost"`.
    """

    task: int
    kind: str
    text: str = ""


def killed_by(number: int) -> str:
    """Return a sentence about a worker that a signal killed."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"its worker was killed by {name}{', perhaps for lack of memory' if name == 'SIGKILL' else ''}"


def first_tasks(work: Work, todo: IdSet, n_tasks: int) -> list[IdSet]:
    """Return the groups of each task: neighbours together, nearly equal in number, none empty."""
    return work.narrowed(todo).group_ids().split(n_tasks)


def next_tasks(
    work: Work, todo: IdSet, recorded: Recorded, ends: Sequence[TaskEnd], tasks: Sequence[IdSet], n_tasks: int
) -> list[IdSet]:
    """Return the groups of each task of the next round.

    What was cancelled is left out: it is not wanted. Groups whose blocks raised, and the first open group of each task
    that was killed, which is the one that may have killed it, are tried alone, so that they take no others with them.
    """
    groups = work.narrowed(todo).group_ids()
    for end in ends:
        if end.kind == "cancelled":
            groups = groups - tasks[end.task]
    raised = recorded.raised
    suspects = work.narrowed(raised & todo).group_ids() if raised else IdSet()
    for end in ends:
        if end.kind not in ("finished", "stopped", "cancelled"):
            left = tasks[end.task] & groups
            suspects = suspects | IdSet.from_ids(itertools.islice(left, 1))
    suspects = suspects & groups
    alone = (
        [IdSet([(group, group + 1)]) for group in suspects]
        if len(suspects) <= _MOST_ALONE
        else suspects.split(_MOST_ALONE)
    )
    return alone + (groups - suspects).split(n_tasks)


def needs_after(needs: Mapping[str, float], ends: Sequence[TaskEnd]) -> dict[str, float]:
    """Return what the next round asks for: twice the memory, or time, where some task had too little of it."""
    kinds = {end.kind for end in ends}
    return {
        "memory": needs["memory"] * (2 if "out of memory" in kinds else 1),
        "time": needs["time"] * (2 if "timeout" in kinds else 1),
    }
