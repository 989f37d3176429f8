"""How tasks are submitted: the script, the options, what to ask for, what a refusal means, and how many at once."""

from __future__ import annotations

import bisect
import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.slurm.commands import Limits, Slurm, SlurmRefusalError
from bioimage_py.runner.slurm.config import SlurmConfig
from bioimage_py.runner.slurm.jobs import ArrayJob, RoundJobs, next_array
from bioimage_py.runner.slurm.quantities import mebibytes, minutes, minutes_text

_log = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds after which a submission without an answer, whose name Slurm does not know, has not happened."""
_FULL_INTERVAL = 5.0
_FALLBACK = 4096
"""MiB that a task had, where that is not known."""

_SCRIPT = """\
{shebang}
# Written by bioimage-py. Everything that differs between runs comes as an argument, so that no shell ever reads it as code.
bp_python=$1 bp_folder=$2 bp_round=$3 bp_offset=$4 bp_directory=$5
set --
{setup}
if ! cd -- "$bp_directory"; then
    echo "bioimage-py: this node has no such working directory; going on in the run folder" >&2
    cd -- "$bp_folder" || exit 70
fi
exec "$bp_python" -P -m bioimage_py.runner.worker -- "$bp_folder" "$bp_round" "$((SLURM_ARRAY_TASK_ID + bp_offset))"
"""
_FULL = re.compile(
    r"MaxSubmit|GrpSubmit|Invalid job array specification|accounting/QOS policy \(job submit limit"
)
_NOT_FULL = re.compile(
    r"(?:MaxWall|MaxCpu|MaxMem|MaxNode|MaxTRES|GrpWall|GrpCpu|GrpMem|GrpNode|GrpTRES)\w*", re.IGNORECASE
)
_ADVICE = (
    (r"partition name|invalid partition", "partition=", "'sinfo -s' lists the partitions"),
    (r"account", "account=", "'sacctmgr show associations user=$USER' lists your accounts and partitions"),
    (r"qos", "qos=", "'sacctmgr show associations user=$USER' lists yours"),
    (r"feature", "constraint=", "'sinfo -o \"%N %f\"' lists what nodes have"),
    (r"generic resource|gres", "gpus=", "'sinfo -o \"%N %G\"' lists what nodes have"),
    (
        r"memory|node configuration|cpu count",
        "mem=, cpus_per_task=, gpus=",
        "no node of the partition has that much: 'sinfo -o \"%N %m %c %G\"' lists what nodes have",
    ),
    (r"reservation", "reservation=", "'scontrol show reservation' lists them"),
    (r"node name", "nodelist=, exclude=", "'sinfo -N' lists the nodes"),
    (r"time limit|time specification", "time=", "'sinfo -o \"%P %l\"' lists the limits of partitions"),
    (r"unrecognized option|invalid option|invalid --", "extra=", "'sbatch --help' lists what it takes"),
    (r"configuration (?:file|source)|ClusterName", "", "this machine's Slurm is not set up: see SLURM_CONF"),
)


def script(config: SlurmConfig) -> str:
    """Return the batch script of a run."""
    return _SCRIPT.format(shebang=config.shebang, setup="\n".join(config.setup))


def script_arguments(config: SlurmConfig, folder: RunFolder, number: int, job: ArrayJob) -> list[str]:
    """Return what the script is called with."""
    try:
        here = str(Path.cwd())
    except FileNotFoundError:  # it was removed from under this process
        here = str(folder.path)
    python = config.python_executable or sys.executable
    return [python, str(folder.path), str(number), str(job.offset), here]


def options(
    config: SlurmConfig, folder: RunFolder, number: int, job: ArrayJob, asked: Mapping[str, int | None]
) -> list[str]:
    """Return the options of `sbatch`, each one word that no shell sees."""
    names = ("partition", "account", "qos", "constraint", "reservation", "nodelist", "exclude", "gpus")
    given = {
        **{name: getattr(config, name) for name in names},
        "mem": None if asked["mebibytes"] is None else f"{asked['mebibytes']}M",
        "time": asked["time"],
        "cpus-per-task": config.cpus_per_task,
        "nodes": 1,
        "ntasks": 1,
        "job-name": job.name,
        "array": job.array,
        "chdir": folder.path,
        "output": _pattern(job.log(folder, number)),
        "signal": None if not asked["lead"] else f"B:USR1@{asked['lead']}",
        "open-mode": "append",
        "export": "ALL",
    }
    return [
        *(f"--{name}={value}" for name, value in given.items() if value is not None),
        "--no-requeue",
        *config.extra,
    ]


def _pattern(path: Path) -> str:
    """Return a log's path as Slurm reads it: `%` has a meaning there, and a backslash takes all meanings away."""
    folder, name = str(path.parent), path.name
    if "\\" in folder:
        # One log for all tasks, then: Slurm puts no index into such a path.
        return f"{folder}/{name.replace('%5a', 'all')}".replace("\\", "\\\\")
    return f"{folder.replace('%', '%%')}/{name}"


def asked_of(
    config: SlurmConfig, needs: Mapping[str, float], limits: Limits, known_mebibytes: int | None
) -> dict[str, int | None]:
    """Return minutes (`time`), MiB (`mebibytes`) and seconds of warning (`lead`) to ask for; None leaves it to Slurm.

    The round gets so many times as `needs` says of what the user asked for, or of `known_mebibytes`, what tasks had so far.
    """
    memory = None if config.mem is None else mebibytes(config.mem)
    if memory is None and needs["memory"] > 1:
        memory = known_mebibytes or _FALLBACK
    if memory is not None:
        memory = int(memory * needs["memory"])
    limit = _minutes(config, needs["time"], limits)
    expected = limit or limits.default_minutes or limits.max_minutes
    lead = 0 if expected is None else min(int(config.signal_lead), expected * 60 // 6)
    return {"time": limit, "mebibytes": memory, "lead": lead}


def _minutes(config: SlurmConfig, factor: float, limits: Limits) -> int | None:
    if config.time is not None:
        wanted = minutes(config.time)
    elif config.task_timeout is not None:
        wanted = max(1, int(config.task_timeout // 60))
    else:
        wanted = limits.default_minutes if factor > 1 else None
    most = limits.max_minutes
    if wanted is None:
        return None
    if most is not None and wanted > most:
        raise InvalidArgumentError(
            f"time={config.time!r} ({minutes_text(wanted)}) is more than the partition allows ({minutes_text(most)})"
        )
    wanted = int(wanted * factor)
    return wanted if most is None else min(wanted, most)


def is_full(said: str) -> bool:
    """Whether a refusal says that there are too many jobs now, or too many tasks in this one."""
    return _FULL.search(said) is not None and _NOT_FULL.search(said) is None


def advice(said: str, config: SlurmConfig, asked: Mapping[str, int | None]) -> str:
    """Return what Slurm said, the settings that it is about, and what to do."""
    memory = asked.get("mebibytes")
    if memory is not None and (config.mem is None or memory > mebibytes(config.mem)):
        said = f"{said} (asking for {memory} MiB, as less was not enough)"
    for pattern, names, hint in _ADVICE:
        if re.search(pattern, said, re.IGNORECASE):
            values = [f"{name}{_value(config, name)!r}" for name in names.split(", ") if name]
            shown = f" ({', '.join(values)})" if values else ""
            return f"Slurm refuses the run: {said}{shown}. {hint[0].upper()}{hint[1:]}"
    return f"Slurm refuses the run: {said}"


def _value(config: SlurmConfig, name: str) -> object:
    value = getattr(config, name.rstrip("="))
    default = os.environ.get(f"SBATCH_{name.rstrip('=').upper()}")
    return default if value is None and default else value


class Submitter:
    """Submits waiting tasks so that no more than `num_workers` run at once, whatever number of arrays they are in."""

    def __init__(self, slurm: Slurm, jobs: RoundJobs, num_workers: int, config: SlurmConfig) -> None:
        self.waiting: list[int] = []  # tasks to submit, in ascending order
        self.refusal = ""  # why Slurm refuses the tasks for good
        self._slurm, self._jobs, self._num_workers, self._config = slurm, jobs, num_workers, config
        self._most: int | None = None
        self._limit = 10**9
        self._full_until = 0.0
        self._said_full = False

    def put_back(self, task: int) -> None:
        bisect.insort(self.waiting, task)

    def submit(self, current: Mapping[int, ArrayJob], taken: Callable[[ArrayJob], None]) -> None:
        """Submit what there is room for beside the tasks of `current`, and call `taken` with each array as soon as Slurm has it."""

        def note(job: ArrayJob) -> None:
            self.waiting = [task for task in self.waiting if task not in job.tasks]
            taken(job)

        if not number_unnumbered(self._slurm, self._jobs, note):
            return
        room = self._num_workers - sum(_used(current).values())
        while self.waiting and room > 0 and not (self.refusal or self._jobs.cancelled):
            if time.monotonic() < self._full_until:
                return
            job = self._submit_one(room, bool(current))
            if job is not None:
                room -= min(job.throttle, len(job.tasks))
                note(job)

    def _submit_one(self, room: int, others: bool) -> ArrayJob | None:
        tasks, offset = next_array(self.waiting, self._array_size(), self._limit)
        folder, number, config = self._jobs.folder, self._jobs.number, self._config
        job = self._jobs.intend(tasks, offset, min(room, len(tasks)))
        if self._jobs.cancelled:  # by another process, meanwhile
            self._jobs.withdraw(job)
            return None
        chosen = options(config, folder, number, job, self._jobs.asked)
        try:
            job.number = self._slurm.submit(
                chosen, str(folder.script(number)), script_arguments(config, folder, number, job)
            )
        except SlurmRefusalError as refusal:
            self._jobs.withdraw(job)
            self._take_refusal(str(refusal), len(tasks), others)
            return None
        self._jobs.write()
        self._limit = min(10**9, 2 * self._limit)
        _log.info("submitted job %s with %d tasks", job.number, len(tasks))
        return job

    def _array_size(self) -> int:
        if self._most is None:
            allowed = self._slurm.max_array_size()
            wanted = self._config.max_array_size
            self._most = allowed if wanted is None else min(wanted, allowed)
        return self._most

    def _take_refusal(self, said: str, n_tasks: int, others: bool) -> None:
        if not is_full(said):
            self.refusal = advice(said, self._config, self._jobs.asked)
            return
        if n_tasks > 1:
            self._limit = n_tasks // 2
            if "array specification" in said:
                self._most = max(1, self._array_size() // 2)
            return
        self._limit = 1
        if others or self._slurm.any_of_mine():
            self._full_until = time.monotonic() + min(_FULL_INTERVAL, self._config.poll_interval)
            if not self._said_full:
                self._said_full = True
                _log.warning("Slurm takes no more jobs now (%s); the rest waits until some have ended", said)
            return
        self.refusal = advice(said, self._config, self._jobs.asked)

    def widen(self, current: Mapping[int, ArrayJob]) -> None:
        """Let the last array run more tasks at once where earlier ones have ended."""
        used = _used(current)
        if not used or self.waiting:
            return
        last = self._jobs.jobs[-1]
        room = self._num_workers - sum(n for name, n in used.items() if name != last.name)
        left = sum(job is last for job in current.values())
        if last.number is None or left <= last.throttle or room <= last.throttle:
            return
        if self._slurm.set_throttle(last.number, room):
            last.throttle = room
            self._jobs.write()


def _used(current: Mapping[int, ArrayJob]) -> dict[str, int]:
    """Return how many tasks of each array may run at once."""
    left = Counter(job.name for job in current.values())
    throttles = {job.name: job.throttle for job in current.values()}
    return {name: min(throttles[name], n) for name, n in left.items()}


def number_unnumbered(
    slurm: Slurm, jobs: RoundJobs, found: Callable[[ArrayJob], None] = lambda _: None
) -> bool:
    """Find by their names the arrays whose submission got no answer, or was never made; return whether none is in doubt any more."""
    for job in [job for job in jobs.jobs if job.number is None]:
        rows = slurm.queue(name=job.name) or slurm.history(name=job.name)
        if rows:
            job.number = rows[0].job
            jobs.write()
            found(job)
        elif time.time() - job.intended > _PATIENCE:
            jobs.withdraw(job)
        else:
            return False
    return True
