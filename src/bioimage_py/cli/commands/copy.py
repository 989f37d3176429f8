"""`bioimage-py copy`, `plan` and `pyramid`: of one array, or of a whole OME-Zarr."""

from __future__ import annotations

import argparse
import time
import warnings
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from bioimage_py.cli.commands.finish import copy_command, telling_how_to_finish
from bioimage_py.cli.commands.many import run_many
from bioimage_py.cli.commands.verify import compare
from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import DIFFERENT, OK, UsageError, as_command
from bioimage_py.cli.options import (
    Selection,
    arguments,
    check_copy_options,
    describe,
    given_options,
    given_values,
    image_at,
    keyed_path,
    open_given,
    opening,
    prepared_output,
)
from bioimage_py.cli.progress import ProgressLine
from bioimage_py.errors import AmbiguousSourceError, BioimagePyWarning
from bioimage_py.operations import (
    CopyOptions,
    ImageCopy,
    InputMetadata,
    PyramidOptions,
    Reduction,
    SeriesCopy,
    WholeCopy,
    carry_out,
    images_to_copy,
    is_image_copy,
)
from bioimage_py.planning import CopyPlan, ImagePlan, format_bytes
from bioimage_py.report import shape_text
from bioimage_py.sources import Source, locate, open_source, with_metadata
from bioimage_py.sources.ome_zarr import read_tree
from bioimage_py.text import counted, duration, rate


def run_copy(args: argparse.Namespace, console: Console) -> int:
    """Copy, say what was written, and compare if asked; returns the exit code."""
    from bioimage_py.copy import copy

    check_copy_options(args)
    if args.to is not None:
        return run_many(args, console, run_copy)
    if args.pyramid:
        return run_pyramid(args, console)
    if args.dry_run:
        return run_plan(args, console)
    if args.verify and (args.mask is not None or args.block_ids is not None):
        raise UsageError("--verify compares whole images: it cannot be combined with --mask or --block-ids")
    with ExitStack() as stack:
        source, output, options = _copy_call(args, stack, console)
        whole = isinstance(source, WholeCopy)
        started = time.perf_counter()
        with (
            ProgressLine("copying", console) as progress,
            telling_how_to_finish(lambda left: copy_command(args, left, whole=whole)),
        ):
            if isinstance(source, WholeCopy):
                source.options = replace(source.options, progress=progress)
                made = carry_out(source)
            else:
                made = copy(_with_levels(args, output) or source, output, **options, progress=progress)
            written = stack.enter_context(made)
        seconds = time.perf_counter() - started
        if isinstance(source, WholeCopy):
            what, name, out = source.plan.what, source.plan.input, source.plan.output
            n_bytes = 0 if progress.last is None else progress.last.bytes_done
            read = {"input": source.told(), "arrays": len(source.plan.arrays)}
        else:
            cast = "" if source.dtype.name == written.dtype.name else f" as {written.dtype.name}"
            what = f"{shape_text(source.shape)} {source.dtype.name}{cast}"
            name, out, read = source.name, written.name, {"input": describe(source)}
            n_bytes = written.nbytes if progress.bytes_out is None else progress.bytes_out
        if options.get("update"):
            n_blocks = 0 if progress.last is None else progress.last.blocks_done
            what = f"{counted(n_blocks, 'block')} of {what}"
        console.remark(f"copied {what} from {name} to {out} ({written.format}): {_pace(n_bytes, seconds)}")
        document: dict[str, Any] = {
            "command": "copy",
            **read,
            "output": describe(written),
            **_account(progress, n_bytes, seconds),
            "mb_per_second": n_bytes / seconds / 1e6 if seconds > 0 else None,
            "account": progress.tell_account(),
        }
        equal = True
        if args.verify and isinstance(source, WholeCopy):
            document["verify"] = _verified_arrays(source, args, console)
            equal = all(result["equal"] for result in document["verify"])
            if equal:
                console.remark(f"verified: all {len(document['verify']):,} arrays are equal")
        elif args.verify:
            result = compare(with_metadata(source, axes=options.get("axes")), written, args, console)
            (console.remark if result.equal else console.line)(f"verified: {result}")
            document["verify"], equal = result.to_json(), result.equal
        console.document(document)
    return OK if equal else DIFFERENT


def run_plan(args: argparse.Namespace, console: Console) -> int:
    """Print what a copy would do; nothing is written."""
    from bioimage_py.copy import plan

    check_copy_options(args)
    if args.to is not None:
        return run_many(args, console, run_plan)
    if args.pyramid:
        return _plan_pyramid(args, console)
    with ExitStack() as stack:
        source, output, options = _copy_call(args, stack, console)
        if isinstance(source, WholeCopy):
            source.check_free()
            found: CopyPlan | ImagePlan = source.plan
        else:
            found = plan(_with_levels(args, output) or source, output, **options)
    console.line(found.told(as_command))
    console.document({"command": "plan", **found.to_json()})
    return OK


def _is_whole(args: argparse.Namespace) -> bool:
    return args.pattern is None and not args.into_existing and not opening(args)


def _with_levels(args: argparse.Namespace, output: Source | str) -> str | None:
    """Return the path of an input that is copied with its levels, if it has some; None where the output cannot hold them."""
    family = locate(output).family if isinstance(output, str) and _is_whole(args) else None
    holds = family is not None and family.writes and family.load().level_axes
    return keyed_path(args.input, args.key) if holds else None


def _copy_call(
    args: argparse.Namespace, stack: ExitStack, console: Console
) -> tuple[Source | WholeCopy, Source | str, dict[str, Any]]:
    """Return the arguments of `copy` and `plan`, or the planned copy of several arrays; extents are for the axes of the first image."""
    whole = _is_whole(args)
    output = keyed_path(args.output, args.output_key)
    given = CopyOptions(**given_values(args, CopyOptions)) if whole else CopyOptions()
    # A BioimagePyWarning says what is left out where an option can be applied to one array only.
    if (
        whole
        and _with_levels(args, output) is None
        and (image := image_at(args.input, args.key)) is not None
        and is_image_copy(image, output, given)
    ):
        tree = read_tree(image)
        options = arguments(args, CopyOptions, len(tree.images[0].shapes[0]), stack)
        return ImageCopy(tree, output, CopyOptions(**options)), output, options
    part = given_options(args, Selection)
    if part and image_at(args.input, args.key) is not None:
        text = f"{' and '.join(part)} can be applied to one array only: levels and labels are left out; --pyramid makes levels again"
        warnings.warn(text, BioimagePyWarning, stacklevel=2)
    images = images_to_copy(args.input, output, given, args.key, with_levels=True) if whole else []
    try:
        source = None if images else stack.enter_context(_opened(args, console))
    except AmbiguousSourceError:
        source, images = None, []
        if whole:
            images = images_to_copy(args.input, output, given, args.key)
        if not images:
            raise
    if source is not None:
        return source, prepared_output(args, stack), arguments(args, CopyOptions, source.ndim, stack)
    with open_source(locate(args.input).path, images[0][0] or None) as first:
        options = arguments(args, CopyOptions, first.ndim, stack)
    return SeriesCopy(args.input, images, output, CopyOptions(**options)), output, options


def _verified_arrays(job: WholeCopy, args: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Return for each array of a copy its key and how it compares; print those that differ."""
    found = []
    for key, source, written in job.pairs():
        result = compare(source, written, args, console)
        if not result.equal:
            console.line(f"{key}: {result}")
        found.append({"key": key, **result.to_json()})
    return found


def run_downsample(args: argparse.Namespace, console: Console) -> int:
    """Write fewer voxels, and say what was written; returns the exit code."""
    from bioimage_py.downsample import downsample

    how = given_values(args, Reduction)
    if "scale_factor" not in how:
        raise UsageError("--scale-factor is needed, such as --scale-factor 2 or --scale-factor 1,2,2")
    factors = how.pop("scale_factor")
    how |= {name: getattr(args, name) for name in ("method", "kind") if getattr(args, name) is not None}
    if not {"order", "anti_aliasing"} & set(how):
        how.setdefault("method", "auto")
    with ExitStack() as stack:
        source = stack.enter_context(_opened(args, console))
        output, options = prepared_output(args, stack), arguments(args, CopyOptions, source.ndim, stack)
        started = time.perf_counter()
        with ProgressLine("downsampling", console) as progress, telling_how_to_finish():
            made = downsample(
                source,
                factors[0] if len(factors) == 1 else factors,
                output,
                **how,
                **options,
                progress=progress,
            )
        written, seconds = stack.enter_context(made), time.perf_counter() - started
        console.remark(
            f"made {shape_text(written.shape)} {written.dtype.name} of {shape_text(source.shape)} from {source.name} to "
            f"{written.name} ({written.format}): {_pace(written.nbytes, seconds)}"
        )
        document = {"command": "downsample", "input": describe(source), "output": describe(written)}
        console.document({**document, **_account(progress, written.nbytes, seconds)})
    return OK


def run_pyramid(args: argparse.Namespace, console: Console) -> int:
    """Make all levels and say what was written; returns the exit code."""
    from bioimage_py.pyramid import pyramid

    if args.dry_run:
        return _plan_pyramid(args, console)
    with ExitStack() as stack:
        source, output, options = _pyramid_call(args, stack, console)
        started = time.perf_counter()
        # Without a run folder no command does the rest: levels are not made in part.
        with ProgressLine("making levels", console) as progress, telling_how_to_finish():
            made = pyramid(source, output, **options, progress=progress)
        for level in made:
            stack.enter_context(level)
        seconds = time.perf_counter() - started
        n_bytes = sum(level.nbytes for level in made) if progress.last is None else progress.last.bytes_done
        console.remark(
            f"made {counted(len(made), 'level')} of {shape_text(source.shape)} {made[0].dtype.name} from "
            f"{source.name} in {args.output or args.input} ({made[0].format}), the smallest of {shape_text(made[-1].shape)}: "
            f"{_pace(n_bytes, seconds)}"
        )
        levels = [describe(level) for level in made]
        document = {"command": "pyramid", "input": describe(source), "levels": levels}
        console.document({**document, **_account(progress, n_bytes, seconds)})
    return OK


def _plan_pyramid(args: argparse.Namespace, console: Console) -> int:
    from bioimage_py.pyramid import pyramid_plan

    with ExitStack() as stack:
        source, output, options = _pyramid_call(args, stack, console)
        options.pop("verify_encoded", None)
        found = pyramid_plan(source, output, **options)
    console.line(found.told(as_command))
    console.document({"command": "pyramid --dry-run", **found.to_json()})
    return OK


def _opened(args: argparse.Namespace, console: Console) -> Source:
    """Open the input; where a part of it is meant, what is said of the axes holds before that is taken."""
    said = given_values(args, InputMetadata) if given_values(args, Selection) else {}
    return open_given(args.input, args, console, **said)


def _pyramid_call(
    args: argparse.Namespace, stack: ExitStack, console: Console
) -> tuple[Source, str | None, dict[str, Any]]:
    if args.output is None and (given := given_options(args, Selection)):
        raise UsageError(f"{' and '.join(given)} needs an OUTPUT: levels are added to a whole image")
    source = stack.enter_context(_opened(args, console))
    output = None if args.output is None else keyed_path(args.output, getattr(args, "output_key", None))
    return source, output, arguments(args, PyramidOptions, source.ndim, stack)


def _pace(n_bytes: int, seconds: float) -> str:
    return f"{format_bytes(n_bytes)} in {duration(seconds)}, {rate(n_bytes, seconds)}"


def _account(progress: ProgressLine, n_bytes: int, seconds: float) -> dict[str, Any]:
    blocks = None if progress.last is None else progress.last.blocks_done
    return {"blocks": blocks, "bytes": n_bytes, "seconds": seconds}
