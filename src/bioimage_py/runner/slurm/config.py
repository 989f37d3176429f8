"""Settings of runs on Slurm."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.option import option
from bioimage_py.runner.config import RunnerConfig, check_count, check_seconds
from bioimage_py.runner.slurm.quantities import mebibytes, minutes
from bioimage_py.runner.slurm.settings import check_names, read_table, write_table

_SHELLS = ("sh", "bash", "dash", "ash", "ksh", "zsh")
_OURS = {
    "--array": "the runner numbers its tasks with it",
    "--chdir": "logs are found from there",
    "--clusters": "jobs are looked for on the cluster that Slurm's commands speak to by default",
    "--error": "logs are in the run folder",
    "--job-name": "a job is found by its name after a crash",
    "--no-requeue": "it is set",
    "--open-mode": "it is set",
    "--output": "logs are in the run folder",
    "--parsable": "it is set",
    "--requeue": "the runner submits lost tasks again itself",
    "--signal": "give signal_lead",
    "--test-only": "nothing would run",
    "--wait": "the runner waits",
    "--wrap": "the runner has a script of its own",
}
_OUR_LETTERS = {"-a": "--array", "-D": "--chdir", "-M": "--clusters", "-e": "--error", "-J": "--job-name"} | {
    "-o": "--output",
    "-W": "--wait",
}
_OVERHEAD = 512
"""MiB of a task's memory that Python and the libraries take."""


@dataclass(frozen=True)
class SlurmConfig(RunnerConfig):
    """Settings of runs on Slurm; what is not given is left to the cluster's defaults.

    Parameters
    ----------
    poll_interval
        Seconds between questions to Slurm, once a run has been going for a while. Finished tasks are seen in the run folder,
        sooner.
    tmp_root
        Folder for run folders; on a disk that the nodes share.
    python_executable
        Interpreter for workers, as the nodes see it; default: the one that is running.
    tasks_per_worker
        Tasks to cut a run into, per task that runs at once. Each starts an interpreter.
    threads_per_worker
        Threads of a task; 0, the default, takes `cpus_per_task`.
    partition, account, qos, constraint, reservation
        As for `sbatch`.
    time
        Limit of a task: minutes, or a text such as `"1:30:00"`. After a task that ran into it the next round gets twice as much.
    mem
        Memory of a task: MiB, or a text such as `"4G"`. After a task that ran out of it the next round gets twice as much.
    cpus_per_task, gpus
        Of each task; `gpus` may name a type, as in `"a100:1"`.
    nodelist, exclude
        Nodes to use, or to leave out: a text in Slurm's form, or a list of names.
    shebang
        First line of the batch script; some POSIX shell.
    setup
        Shell lines to run before Python, such as `"module load gcc"`.
    extra
        More options of `sbatch`, such as `"--mail-type=FAIL"`, one text each.
    max_array_size
        Most tasks in one job array. Default: what the cluster allows.
    signal_lead
        Seconds before the time limit at which a task is told to finish the block in hand; less for short limits.
    latency_wait
        Seconds to wait for what a task wrote to become visible here, before the task counts as lost.
    controller_timeout
        Seconds to wait for a Slurm controller that does not answer. Default: 60 before the first job, then without limit.

    Raises
    ------
    InvalidArgumentError
        For a value of the wrong type or out of range.

    Examples
    --------
    >>> SlurmConfig(partition="short", time="10", mem="4G", cpus_per_task=2).threads_per_worker
    2
    """

    poll_interval: float = 5.0
    tasks_per_worker: int = 2
    threads_per_worker: int = 0
    partition: str | None = option("partition to run in", metavar="NAME")
    time: str | int | dt.timedelta | None = option("limit for one task, such as 2:00:00", metavar="TIME")
    mem: str | int | None = option("memory of one task, such as 4G", metavar="SIZE")
    cpus_per_task: int = option("cores of one task", default=1, metavar="N", read="workers")
    gpus: str | int | None = option("GPUs of one task", metavar="N")
    account: str | None = option("account to charge", metavar="NAME")
    qos: str | None = option("quality of service", metavar="NAME")
    constraint: str | None = option("features that nodes must have", metavar="FEATURES")
    reservation: str | None = None
    nodelist: str | Sequence[str] | None = None
    exclude: str | Sequence[str] | None = None
    shebang: str = "#!/bin/bash"
    setup: Sequence[str] = ()
    extra: Sequence[str] = ()
    max_array_size: int | None = None
    signal_lead: float = 60.0
    latency_wait: float = 30.0
    controller_timeout: float | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        if self.threads_per_worker == 0:
            self._set("threads_per_worker", self.cpus_per_task)
        super().__post_init__()
        for name in ("partition", "account", "qos", "constraint", "reservation"):
            _check_text(name, getattr(self, name))
        for name in ("nodelist", "exclude"):
            value = getattr(self, name)
            if isinstance(value, (list, tuple)):
                value = ",".join(_texts(name, value))
                self._set(name, value)
            _check_text(name, value)
        self._set("setup", _texts("setup", self.setup, lines=True))
        self._set("extra", _texts("extra", self.extra))
        for given in self.extra:
            _check_option(given)
        _check_shebang(self.shebang)
        if isinstance(self.time, dt.time):  # what an unquoted 01:30:00 is in TOML
            self._set("time", self.time.isoformat("seconds"))
        if isinstance(self.time, dt.timedelta):
            self._set("time", minutes(self.time))
        if self.time is not None:
            minutes(self.time)
        if self.mem is not None:
            mebibytes(self.mem)

    def _check_numbers(self) -> None:
        check_count("cpus_per_task", self.cpus_per_task)
        if self.max_array_size is not None:
            check_count("max_array_size", self.max_array_size)
        for name in ("signal_lead", "latency_wait", "controller_timeout"):
            check_seconds(name, getattr(self, name), optional=name == "controller_timeout", zero=True)
        if isinstance(self.gpus, str):
            _check_text("gpus", self.gpus)
        elif self.gpus is not None and (type(self.gpus) is not int or self.gpus < 0):
            raise InvalidArgumentError(f"gpus must be a number or a text such as 'a100:1', got {self.gpus!r}")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen for everyone else

    @property
    def memory_limit_bytes(self) -> int | None:
        """The memory limit as a number of bytes; where only `mem` is given, and is little, what it leaves for voxels."""
        if self.memory_limit is not None or not self.mem:
            return super().memory_limit_bytes
        memory = mebibytes(self.mem)
        left = max(memory - _OVERHEAD, memory // 2)
        return None if not memory or left >= 2048 else left * 2**20

    @property
    def on_other_machines(self) -> bool:
        return True

    def given(self) -> dict[str, Any]:
        given = super().given()
        if self.threads_per_worker == self.cpus_per_task:
            del given["threads_per_worker"]
        return given

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Return the user's defaults from the configuration file, with other values for the fields named.

        Parameters
        ----------
        **overrides
            Fields of `SlurmConfig`.

        Raises
        ------
        InvalidArgumentError
            If the file cannot be read, or a setting in it does not exist or has a wrong value; the message says where.
        """
        check_names(overrides, cls, "SlurmConfig")
        return cls(**{**read_table(cls), **overrides})


def write_slurm_config(**settings: Any) -> Path:
    """Write defaults into the user's configuration file, keep the rest of it, and return where it is.

    Parameters
    ----------
    **settings
        Fields of `SlurmConfig`; None removes one from the file.

    Raises
    ------
    InvalidArgumentError
        If there is no such field, a value is wrong, or the file is not valid TOML; it stays as it is then.
    ReadOnlyError
        If it cannot be written.
    """
    check_names(settings, SlurmConfig, "SlurmConfig")
    SlurmConfig(**{name: value for name, value in settings.items() if value is not None})
    return write_table(settings)


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str) or not value.strip():
        raise InvalidArgumentError(f"{name} must be a text, got {value!r}")
    if re.search(r"[\0\r\n]", value):
        raise InvalidArgumentError(f"{name} must be one line, got {value!r}")


def _texts(name: str, value: object, *, lines: bool = False) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        raise InvalidArgumentError(f"{name} must be a list of texts, got {value!r}")
    for text in value:
        if not isinstance(text, str) or "\0" in text or (not lines and re.search(r"[\r\n]", text)):
            raise InvalidArgumentError(f"{name} must be a list of texts, one line each, got {text!r}")
    return tuple(value)


def _check_option(option: str) -> None:
    if not re.match(r"--[a-z]|-[A-Za-z]", option):
        raise InvalidArgumentError(
            f"extra must be options of sbatch such as '--mail-type=FAIL', got {option!r}"
        )
    name = option.partition("=")[0]
    if option.startswith("--"):
        if re.search(r"\s", name):
            raise InvalidArgumentError(
                f"extra has {option!r}: write the value behind '=', as in '--mail-type=FAIL'"
            )
        # sbatch takes any unique beginning of an option's name for the option.
        taken = next((ours for ours in _OURS if len(name) > 4 and ours.startswith(name)), None)
    else:
        taken = _OUR_LETTERS.get(option[:2])
    if taken:
        raise InvalidArgumentError(f"extra must not have {option!r}: {_OURS[taken]}")


def _check_shebang(shebang: object) -> None:
    if not isinstance(shebang, str) or not re.fullmatch(r"#! ?/[^\0\r\n]*", shebang):
        raise InvalidArgumentError(f"shebang must be one line such as '#!/bin/bash', got {shebang!r}")
    words = [word for word in shebang[2:].split() if not word.startswith("-")]
    program = words[1] if words[0].endswith("/env") and len(words) > 1 else words[0]
    if program.rpartition("/")[2] not in _SHELLS:
        raise InvalidArgumentError(f"shebang must name a POSIX shell ({', '.join(_SHELLS)}), got {shebang!r}")
