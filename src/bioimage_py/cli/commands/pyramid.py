"""`bioimage-py pyramid`, and `copy --pyramid`."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import Any

from bioimage_py.cli.commands.finish import telling_how_to_finish
from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import OK
from bioimage_py.cli.options import arguments, describe, keyed_path, open_input
from bioimage_py.cli.progress import ProgressLine
from bioimage_py.cli.text import duration, rate, shape_text
from bioimage_py.operations import PyramidOptions
from bioimage_py.planning import format_bytes
from bioimage_py.sources import Source


def run_pyramid(args: argparse.Namespace, console: Console) -> int:
    """Make all levels and say what was written; returns the exit code."""
    from bioimage_py.pyramid import pyramid

    if args.dry_run:
        return run_pyramid_plan(args, console)
    with ExitStack() as stack:
        source, output, options = _call(args, stack)
        started = time.perf_counter()
        # Without a run folder no command does the rest: levels are not made in part.
        with ProgressLine("making levels", console) as progress, telling_how_to_finish():
            made = pyramid(source, output, **options, progress=progress)
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
        source, output, options = _call(args, stack)
        options.pop("verify_encoded", None)
        found = pyramid_plan(source, output, **options)
    console.line(str(found))
    console.document({"command": "pyramid --dry-run", **found.to_json()})
    return OK


def _call(args: argparse.Namespace, stack: ExitStack) -> tuple[Source, str | None, dict[str, Any]]:
    source = stack.enter_context(open_input(args))
    output = None if args.output is None else keyed_path(args.output, getattr(args, "output_key", None))
    return source, output, arguments(args, PyramidOptions, source.ndim, stack)
