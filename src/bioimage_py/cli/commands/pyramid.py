"""`bioimage-py pyramid`, and `copy --pyramid`."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import Any

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import OK, PROGRAM, UnfinishedError
from bioimage_py.cli.options import describe, keyed_path, layout_options, open_input, run_options
from bioimage_py.cli.progress import ProgressLine
from bioimage_py.cli.text import duration, rate, shape_text
from bioimage_py.cli.values import for_axes
from bioimage_py.cli.wording import in_options
from bioimage_py.errors import RunInterrupted, RunnerError
from bioimage_py.geometry import IdSet
from bioimage_py.planning import format_bytes
from bioimage_py.sources import Source


def run_pyramid(args: argparse.Namespace, console: Console) -> int:
    """Make all levels and say what was written; returns the exit code."""
    if args.dry_run:
        return run_pyramid_plan(args, console)
    with ExitStack() as stack:
        source = stack.enter_context(open_input(args))
        options = {**_options(args, source), "overwrite": args.overwrite}
        if args.verify_encoded:
            options["verify_encoded"] = True
        started = time.perf_counter()
        with ProgressLine("making levels", console) as progress:
            made = _made(source, _output(args), options, progress)
        for level in made:
            stack.enter_context(level)
        seconds = time.perf_counter() - started
        n_bytes = sum(level.nbytes for level in made) if progress.last is None else progress.last.bytes_done
        console.remark(
            f"made {len(made)} level{'' if len(made) == 1 else 's'} of {shape_text(source.shape)} {made[0].dtype.name} from "
            f"{source.name} in {args.output or args.input} ({made[0].format}), the smallest of {shape_text(made[-1].shape)}: "
            f"{format_bytes(n_bytes)} in {duration(seconds)}, {rate(n_bytes, seconds)}"
        )
        console.document(
            {
                "command": "pyramid",
                "input": describe(source),
                "levels": [describe(level) for level in made],
                "blocks": None if progress.last is None else progress.last.blocks_done,
                "bytes": n_bytes,
                "seconds": seconds,
            }
        )
    return OK


def run_pyramid_plan(args: argparse.Namespace, console: Console) -> int:
    """Print what would be done; nothing is written."""
    from bioimage_py.pyramid import pyramid_plan

    with ExitStack() as stack:
        source = stack.enter_context(open_input(args))
        found = pyramid_plan(source, _output(args), **_options(args, source), overwrite=args.overwrite)
    console.line(in_options(str(found)))
    console.document({"command": "pyramid --dry-run", **found.to_json()})
    return OK


def _output(args: argparse.Namespace) -> str | None:
    if args.output is None:
        return None
    return keyed_path(args.output, getattr(args, "output_key", None))


def _options(args: argparse.Namespace, source: Source) -> dict[str, Any]:
    """Return what `pyramid` and `pyramid_plan` both take."""
    options: dict[str, Any] = {
        **run_options(args),
        **layout_options(args, source.ndim),
        "memory_limit": args.memory_limit,
    }
    if args.block_shape is not None:
        options["block_shape"] = for_axes(args.block_shape, source.ndim)
    for name in ("levels", "scale_factors", "method", "kind", "casting"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    return options


def _made(
    source: Source, output: str | None, options: dict[str, Any], progress: ProgressLine
) -> list[Source]:
    from bioimage_py.pyramid import pyramid

    try:
        return pyramid(source, output, **options, progress=progress)
    except RunnerError as error:
        left = IdSet.from_ids(error.failed_block_ids)
        raise UnfinishedError(error, None, left.runs, _finishing(error.tmp_folder)) from error
    except RunInterrupted as error:
        done, left = IdSet.from_ids(error.done_block_ids), IdSet.from_ids(error.failed_block_ids)
        raise UnfinishedError(error, done.runs, left.runs, _finishing(error.tmp_folder)) from error


def _finishing(run_folder: str | None) -> list[str] | None:
    """Return the command that does the rest; without a run folder there is none, as levels are not made in part."""
    return None if run_folder is None else [PROGRAM, "resume", run_folder]
