"""The options of `view`."""

from __future__ import annotations

import argparse

from bioimage_py.cli import values
from bioimage_py.cli.options.copy import add_opening, add_said


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """Add the sources, and how they are served."""
    parser.add_argument("paths", nargs="+", metavar="SOURCE", help="the images, the lowest layer first")
    add_opening(parser.add_argument_group("which array, with one SOURCE only"))
    parser.add_argument(
        "--labels", action="append", default=[], metavar="SOURCE", help="an image of labels; can be given again"
    )  # fmt: skip
    served = parser.add_argument_group("how it is served")
    served.add_argument(
        "--port", type=values.count, default=0, metavar="N", help="port on this computer (default: one that is free)"
    )  # fmt: skip
    served.add_argument("--no-browser", action="store_true", help="only print the address")
    add_said(parser)
