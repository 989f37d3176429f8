"""The command that copies what an earlier one left out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bioimage_py.cli.failure import PROGRAM
from bioimage_py.cli.options import OPENING
from bioimage_py.cli.values import ids_text

_KEPT = ("key", "pattern", *OPENING, "output_key", "mask", "casting", "memory_limit")
"""Options that say what is copied and how the blocks are numbered; those of a new output's layout are left out."""


def finish_command(
    args: argparse.Namespace,
    missing: Sequence[tuple[int, int]],
    run_folder: str | None = None,
    *,
    whole: bool = False,
) -> list[str]:
    """Return a command line that copies the missing blocks into the output that is there now.

    Parameters
    ----------
    args
        The arguments of the copy that did not finish.
    missing
        Half-open runs of blocks; empty for all blocks.
    run_folder
        Where the run is written down, if it is: then it is finished from there.
    whole
        Whether an OME-Zarr was copied with all that is in it.
    """
    if run_folder is not None:
        return [PROGRAM, "resume", run_folder]
    # An OME-Zarr that is copied whole has many arrays: the blocks are written into those that are there.
    words = [PROGRAM, "copy", *([] if whole else ["--into-existing"])]
    if missing:
        words += _option("block_ids", ids_text(missing))
    for name in _KEPT:
        if getattr(args, name) is not None:
            words += _option(name, getattr(args, name))
    if args.block_shape is not None:
        words += _option("block_shape", ",".join(map(str, args.block_shape)))
    if args.verify_encoded:
        words.append("--verify-encoded")
    if args.workers is not None:
        words += _option("workers", str(args.workers))
    places = [args.input, args.output]
    return [*words, *(["--"] if any(place.startswith("-") for place in places) else []), *places]


def _option(name: str, value: str | int) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if value is True:
        return [option]
    value = str(value)
    return [f"{option}={value}"] if value.startswith("-") else [option, value]
