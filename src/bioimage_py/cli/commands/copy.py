"""`bioimage-py copy` and `bioimage-py plan`."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import Any

from bioimage_py.cli.commands.finish import copy_command, telling_how_to_finish
from bioimage_py.cli.commands.image import image_path, verified_arrays
from bioimage_py.cli.commands.pyramid import run_pyramid, run_pyramid_plan
from bioimage_py.cli.commands.verify import compare
from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import DIFFERENT, OK, PROGRAM, UsageError
from bioimage_py.cli.options import (
    arguments,
    check_copy_options,
    describe,
    open_input,
    output_path,
    prepared_output,
)
from bioimage_py.cli.progress import ProgressLine
from bioimage_py.cli.text import duration, rate, shape_text
from bioimage_py.operations import CopyOptions, what_is_copied
from bioimage_py.planning import format_bytes
from bioimage_py.sources import Source, with_metadata
from bioimage_py.sources.ome_zarr import read_tree


def run_copy(args: argparse.Namespace, console: Console) -> int:
    """Copy, say what was written, and compare if asked; returns the exit code."""
    from bioimage_py.copy import copy

    check_copy_options(args)
    if args.pyramid:
        return run_pyramid(args, console)
    if args.dry_run:
        return run_plan(args, console)
    if args.verify and (args.mask is not None or args.block_ids is not None):
        msg = "--verify compares whole images: it cannot be combined with --mask or --block-ids"
        raise UsageError(msg, f"{PROGRAM} copy")
    with ExitStack() as stack:
        source, output, options = _call(args, stack)
        started = time.perf_counter()
        with ProgressLine("copying", console) as progress:
            with telling_how_to_finish(lambda left: copy_command(args, left, whole=isinstance(source, str))):
                written = stack.enter_context(copy(source, output, **options, progress=progress))
            seconds = time.perf_counter() - started
        last = progress.last
        if isinstance(source, str):
            tree = read_tree(source)
            what, name, out = what_is_copied(tree), tree.name, output_path(args)
            n_bytes = 0 if last is None else last.bytes_done
            arrays = sum(len(image.levels) for image in tree.with_labels())
            images = {"path": tree.root.path, "key": tree.key or None, "images": len(tree.images)}
            read = {"input": images, "arrays": arrays}
        else:
            what, name, out = _what(source, written), source.name, written.name
            n_bytes = written.nbytes if progress.bytes_out is None else progress.bytes_out
            read = {"input": describe(source)}
        console.remark(
            f"copied {what} from {name} to {out} ({written.format}): {format_bytes(n_bytes)} in {duration(seconds)}, "
            f"{rate(n_bytes, seconds)}"
        )
        document: dict[str, Any] = {
            "command": "copy",
            **read,
            "output": describe(written),
            "blocks": None if last is None else last.blocks_done,
            "bytes": n_bytes,
            "seconds": seconds,
            "mb_per_second": n_bytes / seconds / 1e6 if seconds > 0 else None,
            "account": progress.tell_account(),
        }
        if args.verify and isinstance(source, str):
            document["verify"] = list(verified_arrays(tree, out, args, console))
            equal = all(result["equal"] for result in document["verify"])
            if equal:
                console.remark(f"verified: all {arrays:,} arrays are equal")
        elif args.verify:
            result = compare(with_metadata(source, axes=options.get("axes")), written, args, console)
            (console.remark if result.equal else console.line)(f"verified: {result}")
            document["verify"], equal = result.to_json(), result.equal
        console.document(document)
    return OK if not args.verify or equal else DIFFERENT


def run_plan(args: argparse.Namespace, console: Console) -> int:
    """Print what a copy would do; nothing is written."""
    from bioimage_py.copy import plan

    check_copy_options(args)
    if args.pyramid:
        return run_pyramid_plan(args, console)
    with ExitStack() as stack:
        source, output, options = _call(args, stack)
        found = plan(source, output, **options)
    console.line(str(found))
    console.document({"command": "plan", **found.to_json()})
    return OK


def _call(args: argparse.Namespace, stack: ExitStack) -> tuple[Source | str, Source | str, dict[str, Any]]:
    """Return the arguments of `copy` and `plan`; extents for a whole OME-Zarr are for the axes of its first image."""
    whole = image_path(args)
    if whole is not None:
        options = arguments(args, CopyOptions, len(read_tree(whole).images[0].shapes[0]), stack)
        return whole, output_path(args), options
    source = stack.enter_context(open_input(args))
    options = arguments(args, CopyOptions, source.ndim, stack)
    return source, prepared_output(args, stack), options


def _what(source: Source, written: Source) -> str:
    cast = "" if source.dtype.name == written.dtype.name else f" as {written.dtype.name}"
    return f"{shape_text(source.shape)} {source.dtype.name}{cast}"
