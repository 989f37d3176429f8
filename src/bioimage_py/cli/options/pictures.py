"""The options of `preview` and `view`."""

from __future__ import annotations

import argparse

from bioimage_py.cli import values
from bioimage_py.cli.options.arrays import add_opening
from bioimage_py.cli.options.copy import add_metadata_options


def add_preview_options(parser: argparse.ArgumentParser) -> None:
    """Add the source, the output, and how the picture is to look."""
    parser.add_argument("path", metavar="SOURCE", help="the image")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the picture; its extension chooses the format: .png, .jpg, .pdf ..."
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an existing picture")
    add_opening(parser.add_argument_group("which array"))
    shown = parser.add_argument_group("what is shown")
    where = shown.add_mutually_exclusive_group()
    where.add_argument(
        "--position", type=values.position, metavar="INDICES",
        help="where the slices are, in voxels, such as 64,256,256 or z=64 (default: the middle)",
    )  # fmt: skip
    where.add_argument("--projection", choices=("max", "mean"), help="a projection instead of slices")
    shown.add_argument("--time", type=values.count, metavar="INDEX", help="time point (default: the first)")
    shown.add_argument(
        "--channels", type=values.indices, metavar="INDICES", help="which channels, such as 0,2"
    )
    look = parser.add_argument_group("how it looks")
    look.add_argument(
        "--kind",
        choices=("image", "labels"),
        help="what the image shows (default: by its data type and name)",
    )
    look.add_argument(
        "--contrast", type=values.pair, metavar="LOW,HIGH", help="values that become black and white"
    )
    look.add_argument(
        "--percentiles", type=values.pair, default=(0.1, 99.8), metavar="LOW,HIGH",
        help="percentiles that become black and white if no contrast is known (default: 0.1,99.8)",
    )  # fmt: skip
    look.add_argument(
        "--size", type=values.count, default=512, metavar="PIXELS", help="longest edge of a panel (default: %(default)s)"
    )  # fmt: skip
    look.add_argument(
        "--read-limit", default="8GiB", metavar="SIZE", help="read at most this many bytes, decoded (default: %(default)s)"
    )  # fmt: skip
    add_metadata_options(parser)


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """Add the sources, and how they are served."""
    parser.add_argument("paths", nargs="+", metavar="SOURCE", help="the images, bottom layer first")
    add_opening(parser.add_argument_group("which array (for a single SOURCE)"))
    parser.add_argument(
        "--labels", action="append", default=[], metavar="SOURCE", help="a label image; can be repeated"
    )  # fmt: skip
    served = parser.add_argument_group("how it is served")
    served.add_argument(
        "--port", type=values.count, default=0, metavar="N", help="port on this computer (default: a free one)"
    )  # fmt: skip
    served.add_argument("--no-browser", action="store_true", help="print the address only")
    add_metadata_options(parser)
