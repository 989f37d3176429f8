"""What the options of `copy`, `plan` and `pyramid` become: the arguments of the functions."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from typing import Any

from bioimage_py.cli import values
from bioimage_py.cli.failure import UsageError
from bioimage_py.cli.options.derived import given_options, given_values
from bioimage_py.cli.options.selection import Selection
from bioimage_py.errors import MissingDependencyError
from bioimage_py.operations import InputMetadata, NewArray, PyramidOptions, StoreAccess
from bioimage_py.planning import changes_voxels
from bioimage_py.runner import Backend, RunnerConfig, all_backends, find_backend
from bioimage_py.sources import Codec

_OF_PROCESSES = ("threads_per_worker", "tasks_per_worker", "retries", "task_timeout")


def check_copy_options(args: argparse.Namespace) -> None:
    """Raise UsageError for options of `copy` or `plan` that do not go together."""
    if args.pyramid:
        refused = {
            "--mask": args.mask is not None,
            "--block-ids": args.block_ids is not None,
            "--into-existing": args.into_existing,
            "--update": args.update is not None,
            "--record": args.record is not None,
            "--verify": getattr(args, "verify", False),
        }
        if given := [option for option, is_given in refused.items() if is_given]:
            raise UsageError(
                f"--pyramid makes all levels of the whole image: leave out {' and '.join(given)}"
            )
        return
    if (
        getattr(args, "verify", False)
        and args.codec is not None
        and changes_voxels(Codec.parse(args.codec).name)
    ):
        raise UsageError("--verify compares voxels, and this codec changes them: leave out one of both")
    _refuse(given_options(args, PyramidOptions), "--pyramid")
    given = given_options(args, NewArray)
    if not given_options(args, Selection):  # whose axes they name
        given += given_options(args, InputMetadata)
    if args.into_existing and given:
        raise UsageError(
            f"--into-existing keeps the layout of the existing array: leave out {' and '.join(given)}"
        )


def arguments(
    args: argparse.Namespace, owner: type, ndim: int, opened: contextlib.ExitStack
) -> dict[str, Any]:
    """Return the keyword arguments that the options of `copy`, `plan` or `pyramid` stand for.

    `owner` is `CopyOptions` or `PyramidOptions`, `ndim` the axes for which one extent stands; `opened` closes the mask.
    """
    # How stores are reached is in force for the whole command already, and what is said of axes before a part is taken.
    used = given_values(args, StoreAccess, *([InputMetadata] if given_values(args, Selection) else []))
    given = {name: value for name, value in given_values(args, owner).items() if name not in used}
    found = {**run_options(args), **given}
    for name in ("block_shape", "chunks", "shards"):
        if name in found:
            found[name] = values.for_axes(found[name], ndim)
    if "block_ids" in found:
        from bioimage_py.geometry import IdSet

        found["block_ids"] = IdSet(found["block_ids"])
    if "mask" in found:
        from bioimage_py.sources import open_source

        found["mask"] = opened.enter_context(open_source(found["mask"]))
    return found


def run_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return backend, its settings and the number of workers; raise UsageError for an option of another job type."""
    chosen = find_backend(args.job_type)
    for backend in args.backends:
        with contextlib.suppress(MissingDependencyError):  # which has no options, then
            if backend is not chosen and backend.config_class is not RunnerConfig:
                given = given_options(args, backend.config_class, prefix=backend.prefix)
                _refuse(given, f"--job-type {backend.name}")
    if chosen.runner_class.in_process:
        _refuse(given_options(args, RunnerConfig, *_OF_PROCESSES), chosen)
        if not given_options(args, RunnerConfig, "resumable", "tmp_root"):
            _refuse(given_options(args, RunnerConfig, "keep_run_folder"), chosen, "--resumable or ")
    kind = chosen.config_class
    config = kind.load(**given_values(args, RunnerConfig) | given_values(args, kind, prefix=chosen.prefix))
    return {
        "job_type": args.job_type,
        "job_config": config,
        "num_workers": args.workers or config.usual_workers,
    }


def _refuse(given: Sequence[str], without: str | Backend, also: str = "") -> None:
    """Raise UsageError for options that need what is not given, or another backend than this one."""
    if not given:
        return
    if isinstance(without, Backend):
        *most, last = (name for name in all_backends() if name != without.name)
        without = f"{also}--job-type {', '.join(most)} or {last}"
    raise UsageError(f"{' and '.join(given)} {'needs' if len(given) == 1 else 'need'} {without}")
