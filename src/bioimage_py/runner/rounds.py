"""Which tasks a round of submissions has, and what is tried again after it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from bioimage_py.geometry import IdSet
from bioimage_py.runner.account import Account
from bioimage_py.runner.work import PortableWork

__all__ = ["TaskEnd", "first_tasks", "next_tasks"]

_MOST_ALONE = 1000


@dataclass(frozen=True)
class TaskEnd:
    """How a task of a round ended, as its backend saw it.

    Attributes
    ----------
    task
        Number of the task.
    kind
        `"finished"` (all blocks tried), `"stopped"`, `"error"` (it could not begin), `"killed"`, `"timeout"`, `"out of memory"`,
        `"node failure"`, `"cancelled"` or `"lost"`.
    text
        What there is to say about it, for people.
    """

    task: int
    kind: str
    text: str = ""


def first_tasks(work: PortableWork, todo: IdSet, n_tasks: int) -> list[IdSet]:
    """Return the groups of each task: neighbours together, nearly equal in number, none empty."""
    return work.narrowed(todo).group_ids().split(n_tasks)


def next_tasks(
    work: PortableWork,
    todo: IdSet,
    account: Account,
    ends: Sequence[TaskEnd],
    tasks: Sequence[IdSet],
    n_tasks: int,
) -> list[IdSet]:
    """Return the groups of each task of the next round.

    Groups whose blocks raised, and the first open group of each task that was killed, which is the one that may have
    killed it, are tried alone, so that they take no others with them.
    """
    groups = work.narrowed(todo).group_ids()
    raised = IdSet()
    for error in account.errors:
        raised = raised | error.block_ids
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
