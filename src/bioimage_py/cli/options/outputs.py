"""The output of `copy` and `plan`: an array that is there, or a new one and how it shall look."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from bioimage_py.cli.failure import PROGRAM, UsageError
from bioimage_py.cli.options.arrays import open_existing_output, output_path
from bioimage_py.cli.values import for_axes
from bioimage_py.planning import CopyPlan, ImagePlan
from bioimage_py.sources import Source

_LAYOUT = ("chunks", "shards", "codec", "zarr_format", "fill_value", "dtype", "axes", "voxel_size", "units")


def check_output_options(args: argparse.Namespace) -> None:
    """Raise UsageError for options of a new output where the output is there already."""
    given = [f"--{name.replace('_', '-')}" for name in _LAYOUT if getattr(args, name) is not None]
    if args.into_existing and given:
        msg = f"--into-existing keeps the layout of the array that is there: leave out {' and '.join(given)}"
        raise UsageError(msg, f"{PROGRAM} {args.verb}")


def prepared_output(
    args: argparse.Namespace, source: Source, stack: ExitStack
) -> tuple[Source | str, dict[str, Any]]:
    """Return the output as `copy` takes it, and the layout options left for `copy` to apply."""
    if args.into_existing:
        return stack.enter_context(open_existing_output(args)), {}
    return output_path(args), {**layout_options(args, source.ndim), "overwrite": args.overwrite}


def plan_output_of(
    args: argparse.Namespace, source: Source, options: dict[str, Any], stack: ExitStack
) -> CopyPlan | ImagePlan:
    """Return the plan of a copy; nothing is made."""
    from bioimage_py.copy import plan

    if args.into_existing:
        return plan(source, stack.enter_context(open_existing_output(args)), **options)
    layout = layout_options(args, source.ndim)
    return plan(source, output_path(args), **options, **layout, overwrite=args.overwrite)


def layout_options(args: argparse.Namespace, ndim: int) -> dict[str, Any]:
    """Return what was said about the layout of a new output, as `copy` takes it."""
    options: dict[str, Any] = {}
    for name in ("chunks", "shards"):
        if getattr(args, name) is not None:
            options[name] = for_axes(getattr(args, name), ndim)
    for name in ("codec", "zarr_format", "fill_value", "dtype", "axes", "voxel_size", "units"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    return options
