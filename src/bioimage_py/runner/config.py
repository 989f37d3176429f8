"""Settings of a run."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.option import option
from bioimage_py.planning import parse_bytes
from bioimage_py.system import available_cores

LATENCY = 30.0
"""Seconds within which a machine sees what another one wrote on a disk that they share, where nothing is said."""
TASKS_AT_ONCE = 16
"""On other computers, where nothing is said: how many cores are there to be had is not known here."""


@dataclass(frozen=True)
class RunnerConfig:
    """Settings that every backend shares.

    Parameters
    ----------
    poll_interval
        Seconds between looks at the state of a run.
    tmp_root
        Folder for run folders, which all workers must see, or a place such as `"s3://bucket/runs"`, so that they need no shared disk (not on
        Slurm). Who can write there can make workers run code, as with a folder. Default: the working directory; local runs keep a run folder
        only if this or `resumable` is given.
    python_executable
        Interpreter for workers; default: the one that is running.
    tasks_per_worker
        How fine a run is cut: the first portion that a worker claims is half of a worker's share divided by this, later ones are smaller. Also how
        many tasks, one after the other, may be started for each worker where some end early.
    task_timeout
        Seconds that one task may take, or None.
    memory_limit
        Bytes that a run may hold in each process, or a text such as `"512MiB"`. Default: 2 GiB or half of the free
        memory, whichever is less.
    retries
        How often blocks that are missing after a round of tasks are tried again, where that can help; rounds that got a
        tenth of what was missing done are not counted. 0: never.
    keep_run_folder
        Whether the run folder stays after success.
    durable
        Whether a block is recorded as done only after its voxels were forced to the disk, so that it survives a crash
        of the machine as well. Without it, what is recorded survives the crash of any process.
    threads_per_worker
        Threads of each worker process; local runs have `num_workers` threads.
    latency_wait
        Seconds that machines get to see on the shared disk what others wrote there, before it counts as missing. Default: 30 where tasks
        run on other machines, else 0.
    resumable
        Whether a local run must keep a run folder, in `tmp_root` or the working directory: one that cannot is refused, such as a copy
        of an array in memory, or into a file that takes one writer. With `tmp_root` alone it goes on without one, with a warning.

    Raises
    ------
    InvalidArgumentError
        For a value out of range.
    """

    poll_interval: float = 1.0
    tmp_root: str | Path | None = option(
        "where run folders are made, a folder, s3://bucket/folder or az://container/folder; all workers need access (default: the working directory)",
        metavar="DIR",
        spelled="--run-folders",
    )
    python_executable: str | None = None
    tasks_per_worker: int = option(
        "how fine the work is cut for each worker (default: 4): finer balances better",
        default=4,
        metavar="N",
        read="workers",
    )
    task_timeout: float | None = option(
        "stop a task that takes longer, such as 90s, 15min or 2h (default: no limit)",
        metavar="TIME",
        read="seconds",
    )
    memory_limit: int | str | None = None
    retries: int = option(
        "how often missing blocks are retried (default: 2)", default=2, metavar="N", read="count"
    )
    keep_run_folder: bool = option("keep the run folder even when all blocks are done", default=False)
    durable: bool = option(
        "sync finished blocks to disk, so that they survive a crash of the computer; slower",
        default=False,
    )
    threads_per_worker: int = option(
        "threads of each process (default: 1)", default=1, metavar="N", read="workers"
    )
    latency_wait: float | None = None
    resumable: bool = option(
        "keep a run folder, so that the copy can be finished even if this process is killed; always on with job "
        "types other than 'local'",
        default=False,
    )

    def __post_init__(self) -> None:
        check_seconds("poll_interval", self.poll_interval)
        check_seconds("task_timeout", self.task_timeout, optional=True)
        check_seconds("latency_wait", self.latency_wait, optional=True, zero=True)
        for name, least in (("tasks_per_worker", 1), ("threads_per_worker", 1), ("retries", 0)):
            check_count(name, getattr(self, name), least)
        for name, kind in (("tmp_root", (str, os.PathLike)), ("python_executable", str)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, kind) or not os.fspath(value)):
                raise InvalidArgumentError(f"{name} must be a path, got {value!r}")
        for name in ("keep_run_folder", "durable", "resumable"):
            # numpy's are such too, and are not imported for this: the command line reads the fields of this class for its help.
            if type(getattr(self, name)).__name__ not in ("bool", "bool_"):
                raise InvalidArgumentError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.memory_limit is not None:
            parse_bytes(self.memory_limit)

    @property
    def memory_limit_bytes(self) -> int | None:
        """The memory limit as a number of bytes, None where none is given."""
        return None if self.memory_limit is None else parse_bytes(self.memory_limit)

    @property
    def asks_for_folder(self) -> bool:
        """Whether a local run keeps a run folder, if it can."""
        return self.resumable or self.tmp_root is not None

    @property
    def on_other_machines(self) -> bool:
        """Whether tasks run where the number of cores is not known here."""
        return False

    @property
    def patience(self) -> float:
        """`latency_wait` in seconds."""
        if self.latency_wait is not None:
            return self.latency_wait
        return LATENCY if self.on_other_machines else 0.0

    @property
    def usual_workers(self) -> int:
        """How many workers `num_workers=None` is: all cores that this process may use, or so many tasks at once elsewhere."""
        return TASKS_AT_ONCE if self.on_other_machines else available_cores()

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Return the user's defaults, where the backend has any, with other values for the fields named."""
        return cls(**overrides)

    def given(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


def check_seconds(name: str, value: object, *, optional: bool = False, zero: bool = False) -> None:
    """Raise InvalidArgumentError unless it is a positive number of seconds, or None or 0 where they are allowed."""
    if optional and value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf or (value == 0 and not zero):  # type: ignore[operator]
        raise InvalidArgumentError(
            f"{name} must be a {'' if zero else 'positive '}number of seconds, got {value!r}"
        )


def check_count(name: str, value: object, least: int = 1) -> None:
    """Raise InvalidArgumentError unless it is an integer that is not too small."""
    if type(value) is not int or value < least:
        raise InvalidArgumentError(f"{name} must be an integer of at least {least}, got {value!r}")


@dataclass(frozen=True)
class Resources:
    """What one worker process may use: threads, and bytes of decoded input chunks to keep between blocks."""

    threads: int = 1
    cache_bytes: int = 0
