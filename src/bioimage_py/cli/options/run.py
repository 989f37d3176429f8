"""The options that say where a copy runs: threads, processes, Slurm or Dask, and how it can be finished later."""

from __future__ import annotations

import argparse
from typing import Any

from bioimage_py.cli import values
from bioimage_py.cli.failure import PROGRAM, UsageError
from bioimage_py.cli.options.derived import add_fields
from bioimage_py.operations import RunOptions
from bioimage_py.runner import all_backends

TASKS_AT_ONCE = 16
"""On other computers, where nothing is said: how many cores are there to be had is not known here."""

_PROCESSES = ("threads_per_worker", "tasks_per_worker", "retries", "task_timeout")
_KEEPING = ("durable", "keep_run_folder")
_SLURM = ("partition", "time", "mem", "cpus_per_task", "gpus", "account", "qos", "constraint")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of where and how a copy runs."""
    where = parser.add_argument_group("where it runs")
    where.add_argument(
        "--job-type", choices=tuple(all_backends()), default="local",
        help="'local': threads of this process (the default); 'subprocess': processes of this computer; 'slurm': jobs on a "
        "Slurm cluster; 'dask': tasks on a Dask cluster",
    )  # fmt: skip
    where.add_argument(
        "--workers", type=values.workers, metavar="N",
        help=f"threads, processes or tasks at once (default: all cores, here {values.available_cores()}; on a cluster "
        f"{TASKS_AT_ONCE})",
    )  # fmt: skip
    add_fields(where, RunOptions, "memory_limit")
    _add_folder_options(parser.add_argument_group("to finish it later, and in other processes"))
    slurm = parser.add_argument_group(
        "on Slurm", "as sbatch takes them; defaults come from 'bioimage-py config show'"
    )
    slurm.add_argument("--partition", metavar="NAME", help="where to run")
    slurm.add_argument("--time", metavar="TIME", help="limit for one task, such as 2:00:00")
    slurm.add_argument("--mem", metavar="SIZE", help="memory of one task, such as 4G")
    slurm.add_argument("--cpus-per-task", type=values.workers, metavar="N", help="cores of one task")
    slurm.add_argument("--gpus", metavar="N", help="GPUs of one task")
    slurm.add_argument("--account", metavar="NAME", help="who is charged")
    slurm.add_argument("--qos", metavar="NAME", help="quality of service")
    slurm.add_argument("--constraint", metavar="FEATURES", help="what the nodes must have")
    dask = parser.add_argument_group("on Dask")
    dask.add_argument(
        "--dask-address", metavar="URL", help="the scheduler, such as tcp://host:8786 (default: a cluster on this computer)"
    )  # fmt: skip


def _add_folder_options(group: Any) -> None:
    group.add_argument(
        "--resumable", action="store_true",
        help="keep a run folder, so that the copy can be finished even if this process is killed; other job types than "
        "'local' always do",
    )  # fmt: skip
    group.add_argument(
        "--run-folders", metavar="DIR",
        help="where run folders are made; all workers must see it (default: the working directory)",
    )  # fmt: skip
    group.add_argument("--keep-run-folder", action="store_true", help="keep it also when all is done")
    group.add_argument(
        "--durable", action="store_true",
        help="force finished blocks to the disk, so that they survive a crash of the computer too; slower",
    )  # fmt: skip
    group.add_argument(
        "--threads-per-worker", type=values.workers, metavar="N", help="threads of each process (default: 1)"
    )
    group.add_argument(
        "--tasks-per-worker", type=values.workers, metavar="N",
        help="tasks to cut the work into, per worker (default: 4): more balance better, fewer start sooner",
    )  # fmt: skip
    group.add_argument(
        "--retries", type=values.count, metavar="N",
        help="how often what is missing is tried again by itself (default: 2)",
    )  # fmt: skip
    group.add_argument(
        "--task-timeout", type=values.seconds, metavar="TIME",
        help="stop a task that takes longer, such as 90s, 15min or 2h (default: no limit)",
    )  # fmt: skip


def worker_count(args: argparse.Namespace) -> int:
    """Return how many threads, processes or tasks at once."""
    if args.workers is not None:
        return int(args.workers)
    elsewhere = args.job_type == "slurm" or (args.job_type == "dask" and args.dask_address is not None)
    return TASKS_AT_ONCE if elsewhere else values.available_cores()


def run_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return backend, its settings and the number of workers, as `copy` takes them.

    Raises
    ------
    UsageError
        For an option that does not go with the job type.
    """
    _refuse(args, _SLURM, args.job_type == "slurm", "--job-type slurm")
    _refuse(args, ("dask_address",), args.job_type == "dask", "--job-type dask")
    _refuse(args, _PROCESSES, args.job_type != "local", "--job-type subprocess, slurm or dask")
    keeps = args.job_type != "local" or args.resumable or args.run_folders is not None
    _refuse(args, _KEEPING[1:], keeps, "--resumable or --job-type subprocess, slurm or dask")
    fields = {name: getattr(args, name) for name in _given(args, (*_PROCESSES, *_KEEPING))}
    if args.run_folders is not None:
        fields["tmp_root"] = args.run_folders
    elif args.resumable and args.job_type == "local":
        from bioimage_py.storage import absolute_path

        fields["tmp_root"] = str(absolute_path("."))
    if args.resumable:
        fields["resumable"] = True
    return {
        "job_type": args.job_type,
        "job_config": _config(args, fields),
        "num_workers": worker_count(args),
    }


def _config(args: argparse.Namespace, fields: dict[str, Any]) -> Any:
    if args.job_type == "slurm":
        from bioimage_py.runner.slurm import SlurmConfig

        return SlurmConfig.load(**fields, **{name: getattr(args, name) for name in _given(args, _SLURM)})
    if args.job_type == "dask":
        from bioimage_py.runner.dask import DaskConfig

        return DaskConfig(address=args.dask_address, **fields)
    from bioimage_py.runner import RunnerConfig

    return RunnerConfig(**fields)


def _refuse(args: argparse.Namespace, names: tuple[str, ...], fits: bool, needed: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name in _given(args, names)]
    if given and not fits:
        msg = f"{' and '.join(given)} {'needs' if len(given) == 1 else 'need'} {needed}"
        raise UsageError(msg, f"{PROGRAM} {args.verb}")


def _given(args: argparse.Namespace, names: tuple[str, ...]) -> list[str]:
    """Return those of some options that were given; 0 is a value, not an option that was left out."""
    return [name for name in names if getattr(args, name) is not None and getattr(args, name) is not False]
