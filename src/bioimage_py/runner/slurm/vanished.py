"""Tasks that Slurm's controller does not list any more, which does not mean that they failed."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from bioimage_py.runner.slurm.commands import Slurm
from bioimage_py.runner.slurm.jobs import ArrayJob
from bioimage_py.runner.slurm.states import LOST, Place, Row, has_ended

_SOON = 1.0
_ACCOUNTING_LAG = 8.0
"""Seconds that the accounting may lag behind the controller; up to 5 were seen."""
_ACCOUNTING_INTERVAL = 2.0


class Vanished:
    """Remembers when each task was seen, and finds out what became of one that is not listed."""

    def __init__(self, slurm: Slurm, latency_wait: float) -> None:
        self.seen: dict[int, Row] = {}  # what the controller last said of each task that was not over then
        self._slurm = slurm
        self._latency_wait = latency_wait
        self._missing: dict[int, float] = {}
        self._siblings: dict[int, bool] = {}
        self._over: dict[int, float] = {}
        self._history: dict[Place, Row] = {}
        self._next_history = 0.0

    def saw(self, task: int, row: Row) -> None:
        """Record that a task waits or runs; one that is COMPLETING has ended, and only its node is cleaned up."""
        if row.state != "COMPLETING":
            self.seen[task] = row
        self._missing.pop(task, None)

    def missed(self, task: int, *, siblings: bool) -> None:
        """Record that a task is not listed, and whether others of its array are."""
        self._missing.setdefault(task, time.monotonic())
        self._siblings[task] = siblings

    def forget(self, tasks: Collection[int]) -> None:
        """Record that tasks were submitted again."""
        for task in tasks:
            for record in (self.seen, self._missing, self._siblings, self._over):
                record.pop(task, None)

    def patience_over(self, task: int) -> bool:
        """Whether a task that is over has been waited for long enough; the first question starts the clock."""
        now = time.monotonic()
        return now - self._over.setdefault(task, now) >= self._latency_wait

    def found(self, tasks: Mapping[int, ArrayJob], began: Collection[int]) -> dict[int, Row]:
        """Return how missing tasks ended, where that is certain. Tasks in `began` have run."""
        missing = {task: job for task, job in tasks.items() if task in self._missing}
        now = time.monotonic()
        if missing and now >= self._next_history:
            self._next_history = now + _ACCOUNTING_INTERVAL
            numbers = dict.fromkeys(job.number for job in missing.values() if job.number is not None)
            self._history |= {row.place: row for row in self._slurm.history(jobs=numbers)}
        ends = {task: self._end_of(task, job.place(task), began) for task, job in missing.items()}
        return {task: row for task, row in ends.items() if row is not None}

    def _end_of(self, task: int, place: Place, began: Collection[int]) -> Row | None:
        recorded = self._history.get(place)
        if recorded is not None and has_ended(recorded):
            return recorded
        age = time.monotonic() - self._missing[task]
        before = self.seen.get(task)
        # A task of an array that is cancelled while it waits leaves no trace, but its siblings do.
        cancelled = self._siblings[task] and task not in began
        if cancelled and before is not None and before.state == "PENDING" and age > _SOON:
            return Row(place.job, place.index, "CANCELLED", place.name)
        if age < max(_ACCOUNTING_LAG, self._latency_wait):
            return None
        return Row(place.job, place.index, "CANCELLED" if cancelled and before is None else LOST, place.name)
