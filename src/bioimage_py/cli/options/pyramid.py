"""The options of `pyramid`, and those with which `copy` and `plan` make one too."""

from __future__ import annotations

import argparse
import re
from typing import Any

from bioimage_py.cli import values
from bioimage_py.cli.failure import PROGRAM, UsageError
from bioimage_py.cli.options.copy import add_layout_options, add_opening

_METHODS = ("auto", "mean", "median", "mode", "min", "max", "stride")
_LEVELS = ("levels", "scale_factors", "method", "kind")


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
    add_level_options(parser.add_argument_group("the levels"))
    parser.add_argument("--overwrite", action="store_true", help="delete an image that is there already")
    add_layout_options(parser)
    work = parser.add_argument_group("how it is made")
    work.add_argument(
        "--block-shape",
        type=values.shape,
        metavar="SIZE",
        help="work in blocks of this size of the input (default: planned)",
    )
    work.add_argument(
        "--casting",
        choices=("unsafe", "same_kind", "safe", "check"),
        help="when the output has another data type, as for 'copy'",
    )
    work.add_argument(
        "--verify-encoded",
        action="store_true",
        help="decode each chunk that is moved without decoding once, and fail on one that is corrupt",
    )


def add_level_options(group: Any) -> None:
    """Add the options that say which levels there are, and how they are made."""
    group.add_argument(
        "--levels", type=values.workers, metavar="N",
        help="how many levels, the full-size one included (default: until the volume fits one chunk)",
    )  # fmt: skip
    group.add_argument(
        "--scale-factors", type=scale_factors, metavar="FACTORS",
        help="of each level below the first, relative to the one before: 2,2 for all axes of space, or per axis "
        "1x2x2,2x2x2 (default: 2, and 1 on axes whose voxels are long already)",
    )  # fmt: skip
    group.add_argument(
        "--method", choices=_METHODS, help="how voxels become one (default: mode for labels, mean for images)"
    )
    group.add_argument("--kind", choices=("labels", "image"), help="what it is, where that is not seen")


def scale_factors(text: str) -> list[int | tuple[int, ...]]:
    """Read one factor per level: `2,2,4`, or `1x2x2,2x2x2` where axes differ.

    Raises
    ------
    argparse.ArgumentTypeError
        For anything else.

    Examples
    --------
    >>> scale_factors("1x2x2,2")
    [(1, 2, 2), 2]
    """
    found: list[int | tuple[int, ...]] = []
    for part in text.split(","):
        numbers = re.split(r"[xX×]", part.strip())
        if not all(number.strip().isdecimal() for number in numbers):
            raise argparse.ArgumentTypeError(
                f"give one factor per level, such as 2,2,2 or 1x2x2,2x2x2, not {text!r}"
            )
        factors = tuple(map(int, numbers))
        found.append(factors if len(factors) > 1 else factors[0])
    return found


def check_level_options(args: argparse.Namespace) -> None:
    """Raise UsageError for options of levels where none are made, and for options that a pyramid cannot have.

    Parameters
    ----------
    args
        Of `copy` or `plan`.
    """
    program = f"{PROGRAM} {args.verb}"
    if not args.pyramid:
        given = [f"--{name.replace('_', '-')}" for name in _LEVELS if getattr(args, name) is not None]
        if given:
            raise UsageError(
                f"{' and '.join(given)} {'needs' if len(given) == 1 else 'need'} --pyramid", program
            )
        return
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
