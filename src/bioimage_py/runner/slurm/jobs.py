"""The job arrays of a round, and what a run folder keeps of them so that no process that dies can lose one."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bioimage_py.geometry import IdSet
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.slurm.commands import Slurm
from bioimage_py.runner.slurm.states import Place
from bioimage_py.text import ids_text

_PATIENCE = 5.0
"""Seconds after which a submission without an answer, whose name Slurm does not know, has not happened."""


@dataclass
class ArrayJob:
    name: str
    """What Slurm calls it, and nothing else: a job is found by it when its number was never written."""
    tasks: IdSet
    offset: int
    """What to add to an index of the array to have the number of its task."""
    throttle: int
    """Tasks that may run at once."""
    intended: float
    """When it was about to be submitted, in seconds of the clock."""
    number: str | None = None
    """Slurm's number, None until it is known."""

    @property
    def array(self) -> str:
        return f"{ids_text(self.indices(self.tasks).runs)}%{self.throttle}"

    def indices(self, tasks: IdSet) -> IdSet:
        """Return which indices of the array tasks of it have."""
        return IdSet((begin - self.offset, end - self.offset) for begin, end in tasks.runs)

    def place(self, task: int) -> Place:
        return self.number or "", task - self.offset, self.name

    def log(self, folder: RunFolder, number: int, index: int | None = None) -> Path:
        """Where the log of a task is; without an index, Slurm's pattern for all of them stands for it."""
        part = "%5a" if index is None else f"{index:05d}"
        return folder.log(number, f"{self.offset:05d}+{part}" if self.offset else part)

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "tasks": self.tasks.to_json()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        return cls(**{**stored, "tasks": IdSet.from_json(stored["tasks"])})


@dataclass
class RoundJobs:
    """The arrays of one round, in the order of their submission, as the run folder keeps them."""

    folder: RunFolder
    number: int
    jobs: list[ArrayJob] = field(default_factory=list)
    asked: dict[str, int | None] = field(default_factory=dict)
    """Minutes and MiB that each task was given, where known."""
    ended: bool = False
    """Whether it is known how all tasks ended."""
    cancelled: bool = False
    """Whether the user cancelled the round: nothing more is submitted."""

    @classmethod
    def read(cls, folder: RunFolder, number: int) -> Self | None:
        """Return what is known of a round, None if nothing was ever submitted for it."""
        stored = folder.read_handle(number)
        if stored is None:
            return None
        known = stored["round"]
        jobs = [ArrayJob.from_json(job) for job in known["arrays"]]
        return cls(folder, number, jobs, known["asked"], known["ended"], known["cancelled"])

    @classmethod
    def open(cls, folder: RunFolder) -> Self | None:
        """Return the last round if its jobs may still be there."""
        number = folder.n_rounds() - 1
        jobs = cls.read(folder, number) if number >= 0 else None
        return jobs if jobs is not None and jobs.jobs and not jobs.ended else None

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

    def numbers(self) -> list[str]:
        """Return Slurm's numbers of the arrays, as far as they are known."""
        return [job.number for job in self.jobs if job.number is not None]

    def find_numbers(self, slurm: Slurm) -> bool:
        """Find by their names the arrays whose submission got no answer, or was never made; return whether none is in doubt."""
        for job in [job for job in self.jobs if job.number is None]:
            rows = slurm.find(job.name)
            if rows:
                job.number = rows[0].job
                self.write()
            elif time.time() - job.intended > _PATIENCE:
                self.withdraw(job)
            else:
                return False
        return True
