"""The job arrays of a round, and what a run folder keeps of them so that no process that dies can lose one."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bioimage_py.geometry import IdSet
from bioimage_py.runner.run import RunFolder


@dataclass
class ArrayJob:
    """One job array: some tasks of a round.

    Attributes
    ----------
    name
        What it is called in Slurm, and nothing else is: a job is found by it when its number was never written.
    tasks
        The tasks in it.
    offset
        What to add to an index of the array to have the number of its task.
    throttle
        Tasks that may run at once.
    intended
        When it was about to be submitted, in seconds of the clock.
    number
        Slurm's number, None until it is known.
    """

    name: str
    tasks: IdSet
    offset: int
    throttle: int
    intended: float
    number: str | None = None

    @property
    def array(self) -> str:
        """What `sbatch --array` takes."""
        spans = [
            f"{b - self.offset}" if e - b == 1 else f"{b - self.offset}-{e - 1 - self.offset}"
            for b, e in self.tasks.runs
        ]
        return f"{','.join(spans)}%{self.throttle}"

    def log(self, folder: RunFolder, number: int, index: int | None = None) -> Path:
        """Where the log of a task is; without an index, Slurm's pattern for all of them stands for it."""
        part = "%5a" if index is None else f"{index:05d}"
        return folder.log(number, f"{self.offset:05d}+{part}" if self.offset else part)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {**vars(self), "tasks": self.tasks.to_json()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Make it again from what `to_json` returned."""
        return cls(**{**stored, "tasks": IdSet.from_json(stored["tasks"])})


def next_array(waiting: Sequence[int], most: int, limit: int) -> tuple[IdSet, int]:
    """Return the tasks of the next array and its offset.

    Parameters
    ----------
    waiting
        Numbers of the tasks that are not submitted, in ascending order; at least one.
    most
        Indices that an array may have: 0 to `most - 1`.
    limit
        Tasks that may be submitted at once.

    Examples
    --------
    >>> tasks, offset = next_array([3, 4, 9, 10, 11], most=10, limit=1000)
    >>> list(tasks), offset
    ([3, 4, 9], 0)
    """
    offset = waiting[0] // most * most
    inside = [task for task in waiting[: min(most, limit)] if task < offset + most]
    return IdSet.from_ids(inside), offset


@dataclass
class RoundJobs:
    """The arrays of one round, as the run folder keeps them.

    Attributes
    ----------
    folder, number
        The run folder, and which round.
    jobs
        The arrays, in the order of their submission.
    asked
        Minutes and MiB that each task was given, where known.
    ended
        Whether it is known how all tasks ended.
    cancelled
        Whether the user cancelled the round: nothing more is submitted.
    """

    folder: RunFolder
    number: int
    jobs: list[ArrayJob] = field(default_factory=list)
    asked: dict[str, int | None] = field(default_factory=dict)
    ended: bool = False
    cancelled: bool = False

    @classmethod
    def read(cls, folder: RunFolder, number: int) -> Self | None:
        """Return what is known of a round, None if nothing was ever submitted for it."""
        stored = folder.read_handle(number)
        if stored is None:
            return None
        known = stored["round"]
        jobs = [ArrayJob.from_json(job) for job in known["arrays"]]
        return cls(folder, number, jobs, known["asked"], known["ended"], known["cancelled"])

    def write(self) -> None:
        """Write it into the run folder; a cancellation that another process wrote there stays."""
        stored = self.folder.read_handle(self.number)
        self.cancelled |= stored is not None and stored["round"]["cancelled"]
        known = {
            "arrays": [job.to_json() for job in self.jobs],
            "asked": self.asked,
            "ended": self.ended,
            "cancelled": self.cancelled,
        }
        self.folder.write_handle(self.number, {"jobs": self.numbers(), "round": known})

    def intend(self, tasks: IdSet, offset: int, throttle: int) -> ArrayJob:
        """Write that an array is about to be submitted, and return it."""
        run = re.sub(r"[^A-Za-z0-9-]", "-", self.folder.path.name)[:60]
        name = f"{run}.{self.number}.{len(self.jobs)}.{secrets.token_hex(4)}"
        job = ArrayJob(name, tasks, offset, throttle, time.time())
        self.jobs.append(job)
        self.write()
        return job

    def withdraw(self, job: ArrayJob) -> None:
        """Write that an array was not submitted after all."""
        self.jobs.remove(job)
        self.write()

    def numbers(self, jobs: Iterable[ArrayJob] | None = None) -> list[str]:
        """Return Slurm's numbers of arrays, as far as they are known."""
        return [job.number for job in (self.jobs if jobs is None else jobs) if job.number is not None]
