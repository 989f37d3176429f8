"""The output of `copy` and `plan`: an array that is there, or a new one and how it shall look."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from bioimage_py.cli.arrays import open_existing_output, output_path
from bioimage_py.cli.failure import PROGRAM, UsageError
from bioimage_py.cli.values import for_axes
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.planning import ArrayLayout, CopyPlan
from bioimage_py.sources import AnyArray, Source, create_output
from bioimage_py.sources.creating import PlannedOutput, plan_output

__all__ = ["FutureOutput", "check_output_options", "plan_output_of", "prepared_output"]

_LAYOUT = ("chunks", "shards", "codec", "zarr_format", "dtype")


def check_output_options(args: argparse.Namespace) -> None:
    """Raise UsageError for options of a new output where the output is there already."""
    given = [f"--{name.replace('_', '-')}" for name in _LAYOUT if getattr(args, name) is not None]
    if args.into_existing and given:
        msg = f"--into-existing keeps the layout of the array that is there: leave out {' and '.join(given)}"
        raise UsageError(msg, f"{PROGRAM} {args.verb}")


def prepared_output(
    args: argparse.Namespace, source: Source, options: dict[str, Any], stack: ExitStack
) -> tuple[Source | str, dict[str, Any]]:
    """Return the output as `copy` takes it, and the layout options left for `copy` to apply."""
    if args.into_existing:
        return stack.enter_context(open_existing_output(args)), {}
    path, layout = output_path(args), _layout_options(args, source)
    if args.dtype is None:
        return path, {**layout, "overwrite": args.overwrite}
    _plan_with_dtype(args, source, options)
    created = create_output(path, like=source, dtype=args.dtype, overwrite=args.overwrite, **layout)
    return stack.enter_context(created), {}


def plan_output_of(
    args: argparse.Namespace, source: Source, options: dict[str, Any], stack: ExitStack
) -> CopyPlan:
    """Return the plan of a copy; nothing is made."""
    from bioimage_py.copy import plan

    if args.into_existing:
        return plan(source, stack.enter_context(open_existing_output(args)), **options)
    if args.dtype is None:
        return plan(source, output_path(args), **options, **_layout_options(args, source))
    return _plan_with_dtype(args, source, options)


def _layout_options(args: argparse.Namespace, source: Source) -> dict[str, Any]:
    """Return what was said about the layout of a new output, as `copy` and `create_output` take it."""
    options: dict[str, Any] = {}
    for name in ("chunks", "shards"):
        if getattr(args, name) is not None:
            options[name] = for_axes(getattr(args, name), source.ndim)
    for name in ("codec", "zarr_format"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    return options


def _plan_with_dtype(args: argparse.Namespace, source: Source, options: dict[str, Any]) -> CopyPlan:
    """Return the plan of a copy into a new output of another data type; nothing is made.

    What cannot be carried out fails here, also an output that would replace its own input: once the output is made
    it is too late.
    """
    from bioimage_py.copy import plan

    path, layout = output_path(args), _layout_options(args, source)
    plan(source, path)
    planned = plan_output(path, like=source, dtype=args.dtype, **layout)
    return plan(source, FutureOutput(planned), **options)


class FutureOutput(Source):
    """An output that is not made yet, for `plan`: it has a layout and no voxels.

    Parameters
    ----------
    planned
        What will be made.
    """

    writable = True

    def __init__(self, planned: PlannedOutput) -> None:
        layout = ArrayLayout.of_spec(planned.name, planned.kind, planned.spec)
        self.shape, self.dtype = layout.shape, layout.dtype
        self.chunks, self.shards = layout.chunks, layout.shards
        self.format, self.codec = layout.format, layout.codec
        self._name = layout.name

    @property
    def name(self) -> str:
        """Path, and key where there is one."""
        return self._name

    def _read(self, box: Box) -> AnyArray:
        raise InvalidArgumentError(f"{self.name} is planned and not made yet: box {box} cannot be read")
