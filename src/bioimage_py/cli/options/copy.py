"""The options of `copy`, `plan` and `pyramid`, and the arguments of the functions that they become."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import Any

from bioimage_py.cli.failure import PROGRAM, UsageError
from bioimage_py.cli.options.arrays import add_key, add_opening
from bioimage_py.cli.options.derived import add_fields, given_options, given_values
from bioimage_py.cli.options.run import run_options
from bioimage_py.cli.values import for_axes
from bioimage_py.operations import CopyOptions, InputMetadata, NewArray, PyramidOptions, RunOptions

_EXTENTS = ("block_shape", "chunks", "shards")


def add_copy_options(parser: argparse.ArgumentParser) -> None:
    """Add input, output, and all options but those of where it runs."""
    parser.add_argument("input", metavar="INPUT", help="the image to read")
    parser.add_argument("output", metavar="OUTPUT", help="where to write")
    places = parser.add_argument_group("which array")
    add_opening(places)
    add_key(places, "--output-key", "output_key", "name of the array in the output container")
    there = parser.add_argument_group("if the output exists").add_mutually_exclusive_group()
    add_fields(there, NewArray, "overwrite")
    there.add_argument(
        "--into-existing", action="store_true", help="write into the existing array, which keeps its layout"
    )
    _add_layout_options(parser)
    work = parser.add_argument_group("what is copied, and how")
    add_fields(work, CopyOptions)
    add_fields(work, RunOptions, without=("memory_limit",))
    levels = parser.add_argument_group("downsampled levels")
    levels.add_argument(
        "--pyramid", action="store_true", help="make an OME-Zarr with all levels, as 'bioimage-py pyramid' does"
    )  # fmt: skip
    add_fields(levels, PyramidOptions)


def add_pyramid_options(parser: argparse.ArgumentParser) -> None:
    """Add input, output, and all options but those of where it runs."""
    parser.add_argument("input", metavar="INPUT", help="the image to read")
    parser.add_argument(
        "output",
        nargs="?",
        metavar="OUTPUT",
        help="where to write, such as image.ome.zarr (default: add levels to INPUT, an OME-Zarr)",
    )
    add_opening(parser.add_argument_group("which array"))
    add_fields(parser.add_argument_group("the levels"), PyramidOptions)
    add_fields(parser.add_argument_group("if the output exists"), NewArray, "overwrite")
    _add_layout_options(parser)
    add_fields(parser.add_argument_group("how it is made"), RunOptions, without=("memory_limit",))


def _add_layout_options(parser: argparse.ArgumentParser) -> None:
    add_fields(parser.add_argument_group("layout of a new output"), NewArray, without=("overwrite",))
    add_metadata_options(parser)


def add_metadata_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for metadata that an input does not have."""
    add_fields(parser.add_argument_group("metadata that the input lacks or has wrong"), InputMetadata)


def add_memory(group: Any) -> None:
    """Add the memory limit to a group of options."""
    add_fields(group, RunOptions, "memory_limit")


def check_copy_options(args: argparse.Namespace) -> None:
    """Raise UsageError for options of `copy` or `plan` that do not go together."""
    program = f"{PROGRAM} {args.verb}"
    if args.pyramid:
        refused = {
            "--mask": args.mask is not None,
            "--block-ids": args.block_ids is not None,
            "--into-existing": args.into_existing,
            "--verify": getattr(args, "verify", False),
        }
        given = [option for option, is_given in refused.items() if is_given]
        if given:
            raise UsageError(
                f"--pyramid makes all levels of the whole image: leave out {' and '.join(given)}", program
            )
        return
    given = given_options(args, PyramidOptions)
    if given:
        raise UsageError(f"{' and '.join(given)} {'needs' if len(given) == 1 else 'need'} --pyramid", program)
    given = given_options(args, NewArray) + given_options(args, InputMetadata)
    if args.into_existing and given:
        raise UsageError(
            f"--into-existing keeps the layout of the existing array: leave out {' and '.join(given)}",
            program,
        )


def arguments(args: argparse.Namespace, owner: type, ndim: int, opened: ExitStack) -> dict[str, Any]:
    """Return the keyword arguments that the options of `copy`, `plan` or `pyramid` stand for.

    Parameters
    ----------
    args
        The options.
    owner
        `CopyOptions` or `PyramidOptions`.
    ndim
        Axes of the input: one extent stands for all of them.
    opened
        Closes the mask.
    """
    found = {**run_options(args), **given_values(args, owner)}
    for name in _EXTENTS:
        if name in found:
            found[name] = for_axes(found[name], ndim)
    if "block_ids" in found:
        from bioimage_py.geometry import IdSet

        found["block_ids"] = IdSet(found["block_ids"])
    if "mask" in found:
        from bioimage_py.sources import open_source

        found["mask"] = opened.enter_context(open_source(found["mask"]))
    return found
