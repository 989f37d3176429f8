"""Settings of runs on Slurm, and the user's defaults for them: the table `[slurm]` of a TOML file."""

from __future__ import annotations

import datetime as dt
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from bioimage_py.errors import InvalidArgumentError, ReadOnlyError, StorageError
from bioimage_py.option import option
from bioimage_py.runner.config import RunnerConfig, check_count, check_seconds
from bioimage_py.runner.run import without_credentials, write_whole
from bioimage_py.runner.slurm.quantities import mebibytes, minutes
from bioimage_py.storage import is_url

_SHEBANG = re.compile(
    r"#! ?/\S*?(?:(?<=/)env (?:-\S+ )*(?:\S*/)?|(?<=/))(?:sh|bash|dash|ash|ksh|zsh)(?: [^\0\r\n]*)?"
)
_OURS = frozenset(
    [
        "--array",
        "--chdir",
        "--clusters",
        "--error",
        "--job-name",
        "--no-requeue",
        "--open-mode",
        "--output",
        "--parsable",
        "--requeue",
        "--signal",
        "--test-only",
        "--wait",
        "--wrap",
        "-a",
        "-D",
        "-M",
        "-e",
        "-J",
        "-o",
        "-W",
    ]
)
"""Options of `sbatch` that the runner sets, or that would keep it from finding its jobs and their logs."""
_OVERHEAD = 512
"""MiB of a task's memory that Python and the libraries take."""


@dataclass(frozen=True)
class SlurmConfig(RunnerConfig):
    """Settings of runs on Slurm; what is not given is left to the cluster's defaults.

    Parameters
    ----------
    poll_interval
        Seconds for each call of one of Slurm's commands, once a run has been going for a while; at least 30 where it has more than
        100 tasks. Finished tasks are seen in the run folder, sooner.
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
        First line of the batch script; some POSIX shell. Default: `"#!/bin/bash"`.
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
    shebang: str | None = None
    setup: Sequence[str] = ()
    extra: Sequence[str] = ()
    max_array_size: int | None = None
    signal_lead: float = 60.0
    latency_wait: float = 30.0
    controller_timeout: float | None = None

    def __post_init__(self) -> None:
        check_count("cpus_per_task", self.cpus_per_task)
        check_count("max_array_size", 1 if self.max_array_size is None else self.max_array_size)
        for name in ("signal_lead", "controller_timeout"):
            check_seconds(name, getattr(self, name), optional=name == "controller_timeout", zero=True)
        if self.threads_per_worker == 0:
            self._set("threads_per_worker", self.cpus_per_task)
        super().__post_init__()
        if self.tmp_root is not None and is_url(os.fspath(self.tmp_root)):
            raise InvalidArgumentError(
                "jobs of Slurm have their scripts and logs in the run folder, so tmp_root must be on a disk that the nodes share, "
                f"got {without_credentials(os.fspath(self.tmp_root))!r}"
            )
        for name in ("nodelist", "exclude"):
            if isinstance(getattr(self, name), (list, tuple)):
                self._set(name, ",".join(_texts(name, getattr(self, name))))
        for name in ("partition", "account", "qos", "constraint", "reservation", "nodelist", "exclude"):
            _check_text(name, getattr(self, name))
        if type(self.gpus) is not int:
            _check_text("gpus", self.gpus)
        elif self.gpus < 0:
            raise InvalidArgumentError(f"gpus must be a number or a text such as 'a100:1', got {self.gpus!r}")
        self._set("setup", _texts("setup", self.setup, lines=True))
        self._set("extra", _texts("extra", self.extra))
        for given in self.extra:
            _check_option(given)
        shebang = self.shebang
        if shebang is not None and not (isinstance(shebang, str) and _SHEBANG.fullmatch(shebang)):
            raise InvalidArgumentError(
                f"shebang must be one line that names a POSIX shell, such as '#!/bin/bash', got {shebang!r}"
            )
        self._check_time_and_memory()

    def _check_time_and_memory(self) -> None:
        if isinstance(self.time, dt.time):  # what an unquoted 01:30:00 is in TOML
            self._set("time", self.time.isoformat("seconds"))
        if isinstance(self.time, dt.timedelta):
            self._set("time", minutes(self.time))
        if self.time is not None:
            minutes(self.time)
        if self.mem is not None:
            mebibytes(self.mem)

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
        check_names(overrides, "SlurmConfig")
        return cls(**{**user_defaults(), **overrides})


def config_file_path() -> Path:
    """Return where the user's configuration file is, or would be.

    `BIOIMAGE_PY_CONFIG` names it; otherwise it is `bioimage-py/config.toml` under `XDG_CONFIG_HOME`, or under `~/.config`.
    """
    named = os.environ.get("BIOIMAGE_PY_CONFIG")
    if named:
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification says to ignore a relative path there.
    base = Path(home) if Path(home).is_absolute() else Path("~/.config").expanduser()
    return base / "bioimage-py" / "config.toml"


def is_ignored() -> bool:
    """Whether the user's configuration file is not to be read."""
    return os.environ.get("BIOIMAGE_PY_NO_CONFIG", "0") not in ("", "0")


def file_content() -> dict[str, Any]:
    """Return what is in the user's configuration file; empty where there is none, or it is ignored."""
    import tomllib

    if is_ignored():
        return {}
    path = config_file_path()
    where = f"the configuration file {str(path)!r}"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if os.environ.get("BIOIMAGE_PY_CONFIG"):
            raise InvalidArgumentError(
                f"BIOIMAGE_PY_CONFIG names {str(path)!r}, which does not exist"
            ) from None
        return {}
    except OSError as error:
        raise InvalidArgumentError(f"{where} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidArgumentError(f"{where} is not valid TOML: {error}") from error


def user_defaults() -> dict[str, Any]:
    """Return the user's defaults for Slurm from the configuration file, checked."""
    path = config_file_path()
    table = _checked_table(file_content().get("slurm", {}), path)
    check_names(table, f"[slurm] in {str(path)!r}")
    try:
        SlurmConfig(**table)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"[slurm] in {str(path)!r}: {error}") from error
    return table


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
    check_names(settings, "SlurmConfig")
    SlurmConfig(**{name: value for name, value in settings.items() if value is not None})
    return write_settings(settings, "slurm")


def write_settings(settings: Mapping[str, Any], table_name: str | None = None) -> Path:
    """Write settings into a table of the user's configuration file, or to its top; None removes one."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    path = config_file_path()
    where = f"the configuration file {str(path)!r}"
    try:
        text = path.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        text = ""
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"{where} cannot be read: {error}") from error
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise InvalidArgumentError(f"{where} is not valid TOML: {error}") from error
    table: Any = document
    if table_name is not None:
        table = _checked_table(document.setdefault(table_name, tomlkit.table()), path)
    for name, value in settings.items():
        if value is None:
            table.pop(name, None)
        elif isinstance(value, (list, tuple)):
            table[name] = [str(item) for item in value]
        else:
            table[name] = value if isinstance(value, (bool, int, float)) else str(value)
    try:
        target = path.resolve()
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
        write_whole(target, tomlkit.dumps(document).encode(), mode)
    except OSError as error:
        raise ReadOnlyError(f"{where} cannot be written: {error.strerror}") from error
    except StorageError as error:
        raise ReadOnlyError(f"the configuration file {error}") from error
    return path


def check_names(given: Iterable[str], where: str, also: Sequence[str] = ()) -> None:
    """Raise InvalidArgumentError for a name that is neither a field of `SlurmConfig` nor one of `also`; the message has the nearest one."""
    import difflib

    known = [*also, *(f.name for f in fields(SlurmConfig))]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise InvalidArgumentError(f"{where} has no setting {name!r}: {hint}")


def _checked_table(table: Any, path: Path) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise InvalidArgumentError(f"[slurm] in {str(path)!r} must be a table, got {table!r}")
    return table


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
    name = option.partition("=")[0]
    if not re.fullmatch(r"--[a-z]\S*|-[A-Za-z].*", name):
        raise InvalidArgumentError(
            f"extra must be options of sbatch such as '--mail-type=FAIL', got {option!r}"
        )
    # sbatch takes any unique beginning of an option's name for the option.
    long = len(name) > 4 and name.startswith("--")
    if option[:2] in _OURS or (long and any(ours.startswith(name) for ours in _OURS)):
        raise InvalidArgumentError(f"extra must not have {option!r}: the runner sets that itself")
