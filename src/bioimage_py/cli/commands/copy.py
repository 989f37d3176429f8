"""`bioimage-py copy` and `bioimage-py plan`."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import Any

from bioimage_py.cli.commands.finish import finish_command
from bioimage_py.cli.commands.image import copied_whole, image_path
from bioimage_py.cli.commands.pyramid import run_pyramid, run_pyramid_plan
from bioimage_py.cli.commands.verify import compare
from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import DIFFERENT, OK, PROGRAM, UnfinishedError, UsageError
from bioimage_py.cli.options import (
    check_level_options,
    check_output_options,
    describe,
    layout_options,
    open_input,
    output_path,
    plan_output_of,
    prepared_output,
    run_options,
)
from bioimage_py.cli.progress import ProgressLine
from bioimage_py.cli.text import duration, rate, shape_text
from bioimage_py.cli.values import for_axes
from bioimage_py.cli.wording import in_options
from bioimage_py.errors import RunInterrupted, RunnerError
from bioimage_py.geometry import IdSet
from bioimage_py.planning import format_bytes
from bioimage_py.sources import Source, open_source, with_metadata
from bioimage_py.sources.ome_zarr import read_tree


def run_copy(args: argparse.Namespace, console: Console) -> int:
    """Copy, say what was written, and compare if asked; returns the exit code."""
    check_level_options(args)
    if args.pyramid:
        return run_pyramid(args, console)
    if args.dry_run:
        return run_plan(args, console)
    check_output_options(args)
    if args.verify and (args.mask is not None or args.block_ids is not None):
        msg = "--verify compares whole images: it does not go together with --mask or --block-ids"
        raise UsageError(msg, f"{PROGRAM} copy")
    whole = image_path(args)
    if whole is not None:
        options = whole_options(args, whole)
        return copied_whole(
            whole,
            args,
            console,
            lambda path, progress: _copied(path, output_path(args), options, args, progress),
        )
    with ExitStack() as stack:
        source = stack.enter_context(open_input(args))
        options = _options(args, source.ndim, stack)
        output, layout = prepared_output(args, source, stack)
        started = time.perf_counter()
        with ProgressLine("copying", console) as progress:
            written = stack.enter_context(_copied(source, output, {**options, **layout}, args, progress))
        seconds = time.perf_counter() - started
        n_bytes = written.nbytes if progress.bytes_out is None else progress.bytes_out
        console.remark(
            f"copied {shape_text(source.shape)} {_types(source, written)} from {source.name} to {written.name} ({written.format}): "
            f"{format_bytes(n_bytes)} in {duration(seconds)}, {rate(n_bytes, seconds)}"
        )
        account = progress.tell_account()
        document: dict[str, Any] = {
            "command": "copy",
            "input": describe(source),
            "output": describe(written),
            "blocks": None if progress.last is None else progress.last.blocks_done,
            "bytes": n_bytes,
            "seconds": seconds,
            "mb_per_second": n_bytes / seconds / 1e6 if seconds > 0 else None,
            "account": account,
        }
        code = OK
        if args.verify:
            said = {"axes": layout["axes"]} if "axes" in layout else {}
            result = compare(with_metadata(source, **said), written, args, console)
            (console.remark if result.equal else console.line)(f"verified: {result}")
            document["verify"] = result.to_json()
            code = OK if result.equal else DIFFERENT
        console.document(document)
    return code


def _types(source: Source, written: Source) -> str:
    same = source.dtype.name == written.dtype.name
    return source.dtype.name if same else f"{source.dtype.name} as {written.dtype.name}"


def run_plan(args: argparse.Namespace, console: Console) -> int:
    """Print what a copy would do; nothing is written."""
    check_level_options(args)
    if args.pyramid:
        return run_pyramid_plan(args, console)
    check_output_options(args)
    whole = image_path(args)
    with ExitStack() as stack:
        if whole is not None:
            from bioimage_py.copy import plan

            found = plan(whole, output_path(args), **whole_options(args, whole))
        else:
            source = stack.enter_context(open_input(args))
            found = plan_output_of(args, source, _options(args, source.ndim, stack), stack)
    console.line(in_options(str(found)))
    console.document({"command": "plan", **found.to_json()})
    return OK


def whole_options(args: argparse.Namespace, path: str) -> dict[str, Any]:
    """Return the options of `copy` and `plan` of a whole OME-Zarr; extents are for the axes of its first image."""
    image = read_tree(path).images[0]
    ndim = len(image.shapes[0])
    layout = layout_options(args, ndim)
    with ExitStack() as stack:
        return {**_options(args, ndim, stack), **layout, "overwrite": args.overwrite}


def _options(args: argparse.Namespace, ndim: int, stack: ExitStack) -> dict[str, Any]:
    """Return the options of `copy` and `plan` that do not concern the layout of a new output."""
    options: dict[str, Any] = {**run_options(args), "memory_limit": args.memory_limit}
    if args.block_shape is not None:
        options["block_shape"] = for_axes(args.block_shape, ndim)
    if args.block_ids is not None:
        options["block_ids"] = IdSet(args.block_ids)
    if args.mask is not None:
        options["mask"] = stack.enter_context(open_source(args.mask))
    if args.casting is not None:
        options["casting"] = args.casting
    if args.verify_encoded:
        options["verify_encoded"] = True
    return options


def _copied(
    source: Source | str,
    output: Source | str,
    options: dict[str, Any],
    args: argparse.Namespace,
    progress: ProgressLine,
) -> Source:
    from bioimage_py.copy import copy

    try:
        written: Source = copy(source, output, **options, progress=progress)
    except RunnerError as error:
        failed = IdSet.from_ids(error.failed_block_ids)
        command = (
            finish_command(args, failed.runs, error.tmp_folder, whole=isinstance(source, str))
            if failed
            else None
        )
        raise UnfinishedError(error, None, failed.runs, command) from error
    except RunInterrupted as error:
        done, left = IdSet.from_ids(error.done_block_ids), IdSet.from_ids(error.failed_block_ids)
        command = finish_command(args, left.runs, error.tmp_folder, whole=isinstance(source, str))
        raise UnfinishedError(error, done.runs, left.runs, command) from error
    return written
