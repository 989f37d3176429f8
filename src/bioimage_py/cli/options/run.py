"""The options of where a copy runs, and of how it can be finished later: those of all backends, and of each."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from typing import Any

from bioimage_py.cli import values
from bioimage_py.cli.failure import PROGRAM, UsageError
from bioimage_py.cli.options.derived import add_fields, given_options, given_values
from bioimage_py.errors import MissingDependencyError
from bioimage_py.operations import RunOptions
from bioimage_py.runner import RunnerConfig, all_backends, find_backend

TASKS_AT_ONCE = 16
"""On other computers, where nothing is said: how many cores are there to be had is not known here."""

_OF_PROCESSES = ("threads_per_worker", "tasks_per_worker", "retries", "task_timeout")


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of where and how a copy runs."""
    where = parser.add_argument_group("where it runs")
    kinds = "; ".join(f"{name!r}: {backend.about}" for name, backend in all_backends().items())
    where.add_argument(
        "--job-type", choices=tuple(all_backends()), default="local", help=f"{kinds} (default: 'local')"
    )
    where.add_argument(
        "--workers", type=values.workers, metavar="N",
        help=f"threads, processes or tasks at once (default: all cores, here {values.available_cores()}; on a cluster "
        f"{TASKS_AT_ONCE})",
    )  # fmt: skip
    add_fields(where, RunOptions, "memory_limit")
    add_fields(parser.add_argument_group("run folders and worker processes"), RunnerConfig)
    for backend in all_backends().values():
        title = f"with --job-type {backend.name}"
        try:
            if backend.config_class is not RunnerConfig:
                group = parser.add_argument_group(title, backend.options or None)
                add_fields(group, backend.config_class, prefix=backend.prefix)
        except MissingDependencyError as error:
            parser.add_argument_group(title, str(error))


def run_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return backend, its settings and the number of workers, as `copy` takes them.

    Raises
    ------
    UsageError
        For an option that does not go with the job type.
    """
    chosen = find_backend(args.job_type)
    for backend in all_backends().values():
        with contextlib.suppress(MissingDependencyError):  # which has no options, then
            if backend is not chosen and backend.config_class is not RunnerConfig:
                _refuse(
                    args, given_options(args, backend.config_class, prefix=backend.prefix), (backend.name,)
                )
    if chosen.runner_class.in_process:
        others = tuple(name for name in all_backends() if name != chosen.name)
        _refuse(args, given_options(args, RunnerConfig, *_OF_PROCESSES), others)
        if not given_options(args, RunnerConfig, "resumable", "tmp_root"):
            _refuse(args, given_options(args, RunnerConfig, "keep_run_folder"), others, "--resumable or ")
    kind = chosen.config_class
    config = kind.load(**given_values(args, RunnerConfig) | given_values(args, kind, prefix=chosen.prefix))
    usual = TASKS_AT_ONCE if config.on_other_machines else values.available_cores()
    return {"job_type": args.job_type, "job_config": config, "num_workers": args.workers or usual}


def _refuse(
    args: argparse.Namespace, given: Sequence[str], job_types: Sequence[str], instead: str = ""
) -> None:
    if given:
        *most, last = job_types
        types = f"{', '.join(most)} or {last}" if most else last
        msg = f"{' and '.join(given)} {'needs' if len(given) == 1 else 'need'} {instead}--job-type {types}"
        raise UsageError(msg, f"{PROGRAM} {args.verb}")
