"""How tasks are submitted: the script, the options, what to ask for, and what a refusal means."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.slurm.commands import Limits
from bioimage_py.runner.slurm.config import SlurmConfig
from bioimage_py.runner.slurm.jobs import ArrayJob
from bioimage_py.runner.slurm.quantities import mebibytes, minutes

_FALLBACK = 4096
"""MiB that a task had, where that is not known."""

_SCRIPT = """\
{shebang}
# Written by bioimage-py. Everything that differs between runs comes as an argument, so that no shell ever reads it as code.
bp_python=$1 bp_folder=$2 bp_round=$3 bp_offset=$4 bp_directory=$5
export BIOIMAGE_PY_LATENCY_WAIT=$6
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
    return _SCRIPT.format(shebang=config.shebang or "#!/bin/bash", setup="\n".join(config.setup))


def script_arguments(config: SlurmConfig, folder: RunFolder, number: int, job: ArrayJob) -> list[str]:
    try:
        here = str(Path.cwd())
    except FileNotFoundError:  # it was removed from under this process
        here = str(folder.path)
    python = config.python_executable or sys.executable
    return [python, str(folder.path), str(number), str(job.offset), here, str(config.patience)]


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
            f"time={config.time!r} is more than the partition allows, which is {most} minutes"
        )
    wanted = int(wanted * factor)
    return wanted if most is None else min(wanted, most)


def is_full(said: str) -> bool:
    """Whether a refusal says that there are too many jobs now, or too many tasks in this one."""
    return _FULL.search(said) is not None and _NOT_FULL.search(said) is None


def is_too_long(said: str) -> bool:
    """Whether a refusal says that an array has more tasks than the cluster takes in one."""
    return "Invalid job array specification" in said


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
