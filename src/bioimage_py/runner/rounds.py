"""Which portions a round of submissions has, and what is tried again after it."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bioimage_py.geometry import IdSet
from bioimage_py.runner.config import RunnerConfig
from bioimage_py.runner.run import Portion, RunFolder, read_units, units_of_blocks
from bioimage_py.runner.work import Work

_MOST_ALONE = 1000
_SMALLEST = 8
"""How many times smaller than the first portion the last ones are: a worker that is slow holds little at the end."""
_OPERATIONS = 25
"""Signs of life per second of all tasks; each is about four operations of the disk that holds the run folder."""
_IN_BUCKET = 10
"""How many times fewer signs of life attempts give in a bucket, where each is a request."""
_SEEN = 3
"""How many signs of life at most while what others write may not be seen: a file that is written all the time is seen late then."""
_SILENT = 10
"""Signs of life that an attempt may leave out before another one takes over what it has."""

FIRST_NEEDS = {"memory": 1.0, "time": 1.0}
"""How many times the memory and the time that the user asked for the tasks of a first round get."""


@dataclass(frozen=True)
class TaskEnd:
    """How a task of a round ended, as its backend saw it, with a text for people.

    The kind is `"finished"` (nothing was left for it), `"stopped"`, `"error"` (it could not begin), `"killed"`, `"timeout"`,
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


def begin_round(
    folder: RunFolder,
    work: Work,
    todo: IdSet,
    suspects: IdSet,
    config: RunnerConfig,
    num_workers: int,
    needs: Mapping[str, float],
) -> int:
    """Write a new round that does the missing blocks, and return its number.

    Groups of `suspects` are portions of their own, so that they take no others with them if they kill their worker.
    """
    missing = work.narrowed(todo)
    groups = missing.group_ids()
    alone = suspects & groups
    single = alone.cut([1] * len(alone)) if len(alone) <= _MOST_ALONE else alone.split(_MOST_ALONE)
    rest = groups - alone
    cut = single + rest.cut(portion_sizes(len(rest), num_workers, config.tasks_per_worker))
    # Which of their blocks are wanted goes without saying where that is all.
    plain = work.groups_are_blocks or len(todo) == work.n_blocks
    units = read_units(folder.attempts())

    def portion(part: IdSet) -> Portion:
        blocks = missing.blocks_of(part) if units or not plain else None
        begun = units_of_blocks(units, blocks) if blocks else units
        return Portion(part, None if plain else blocks, begun)

    portions = [portion(part) for part in cut]
    at_once = max(1, min(num_workers, len(portions)))
    spare = (config.tasks_per_worker - 1) * at_once + len(single)
    beat = min(1.0, config.poll_interval) * (_IN_BUCKET if folder.in_bucket else 1)
    beat = max(beat, config.patience / _SEEN, at_once / _OPERATIONS)
    number = folder.n_rounds()
    content: dict[str, Any] = {
        "needs": dict(needs),
        "at_once": at_once,
        "tasks": at_once + spare,  # others take the place of those that end early
        "kept": at_once,
        "alone": len(single),
        "beat": beat,
        "latency": config.patience,
        "lease": max(_SILENT * beat, 3 * _SILENT * config.poll_interval),
    }
    folder.write_round(number, portions, content)
    return number


def portion_sizes(n_groups: int, num_workers: int, tasks_per_worker: int) -> list[int]:
    """Return how many groups each portion of a round has: they shrink toward the end, so that all workers end at nearly the same time.

    The rule is guided self-scheduling (Polychronopoulos and Kuck 1987): a part of what is left for each worker.
    """
    parts = 2 * tasks_per_worker * num_workers
    least, left, sizes = max(1, n_groups // parts // _SMALLEST), n_groups, []
    while left:
        sizes.append(min(left, max(least, left // parts)))
        left -= sizes[-1]
    return sizes


def suspects_of(folder: RunFolder, number: int, missing: Work) -> IdSet:
    """Return the groups of a round that may have killed their workers: the first open one of each portion whose last attempt died."""
    found: list[int] = []
    groups = missing.group_ids()
    with folder.orders(number) as orders:
        for portion, holder in folder.open_portions(number):
            if folder.read_state(holder)["reason"] is None:
                found += itertools.islice(orders[portion].groups & groups, 1)
    return IdSet.from_ids(found)


def needs_after(needs: Mapping[str, float], ends: Iterable[TaskEnd]) -> dict[str, float]:
    """Return what the next round asks for: twice the memory, or time, where some task had too little of it."""
    kinds = {end.kind for end in ends}
    return {
        "memory": needs["memory"] * (2 if "out of memory" in kinds else 1),
        "time": needs["time"] * (2 if "timeout" in kinds else 1),
    }


def not_wanted(ends: Sequence[TaskEnd]) -> bool:
    """Whether the ends of a round say that no other one is to be begun: none could begin, or the user cancelled some."""
    return all(end.kind == "error" for end in ends) or any(end.kind == "cancelled" for end in ends)
