"""The options of `copy` and `plan` that say what is copied, and what the output looks like."""

from __future__ import annotations

import argparse
from typing import Any

from bioimage_py.cli import values


def add_copy_options(parser: argparse.ArgumentParser) -> None:
    """Add input, output, and all options but those of where it runs."""
    parser.add_argument("input", metavar="INPUT", help="the image to read")
    parser.add_argument("output", metavar="OUTPUT", help="where to write")
    places = parser.add_argument_group("which array")
    add_opening(places)
    add_key(places, "--output-key", "output_key", "name of the array inside the output container")
    _add_output_options(parser)
    work = parser.add_argument_group("what is copied, and how")
    work.add_argument(
        "--mask",
        metavar="PATH",
        help="copy only the voxels where this image, of the input's shape, is not zero",
    )
    work.add_argument(
        "--block-shape",
        type=values.shape,
        metavar="SIZE",
        help="work in blocks of this size (default: planned)",
    )
    work.add_argument(
        "--block-ids",
        type=values.block_ids,
        metavar="IDS",
        help="copy only these blocks, such as 0-99,120, or @FILE to read the numbers from a file; "
        "they are counted as 'plan' with the same options does",
    )
    work.add_argument(
        "--casting",
        choices=("unsafe", "same_kind", "safe", "check"),
        help="when the output has another data type: 'unsafe' casts and warns (the default), 'check' stops at the "
        "first voxel that would change, 'same_kind' and 'safe' refuse as numpy defines them",
    )
    work.add_argument(
        "--verify-encoded",
        action="store_true",
        help="decode each chunk that is moved without decoding once, and fail on one that is corrupt",
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    there = parser.add_argument_group("if the output is there already").add_mutually_exclusive_group()
    there.add_argument("--overwrite", action="store_true", help="delete it and write it anew")
    there.add_argument(
        "--into-existing", action="store_true", help="write into the array that is there; it keeps its layout"
    )
    add_layout_options(parser)


def add_layout_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a new output's layout and metadata."""
    new = parser.add_argument_group("layout of a new output")
    add_grid(new)
    new.add_argument(
        "--zarr-format",
        type=int,
        choices=(2, 3),
        help="version of the Zarr format (default: that of the group around it, else 3; for a whole OME-Zarr, that of the input)",
    )
    new.add_argument(
        "--dtype", metavar="TYPE", help="data type, such as uint8 or float32 (default: the input's)"
    )
    new.add_argument(
        "--fill-value",
        type=values.number,
        metavar="NUMBER",
        help="what voxels are that are never written, because --mask or --block-ids leaves them out (default: 0)",
    )
    add_said(parser)


def add_said(parser: argparse.ArgumentParser) -> None:
    """Add the options for metadata that an input does not have."""
    said = parser.add_argument_group("what the input does not say, or says wrongly")
    said.add_argument("--axes", metavar="NAMES", help="names of its axes, slowest first, such as zyx or czyx")
    said.add_argument(
        "--voxel-size", type=values.sizes, metavar="SIZE", help="size of a voxel, such as 2,0.5,0.5 or one number"
    )  # fmt: skip
    said.add_argument("--units", metavar="UNIT", help="unit of the voxel size, such as um or nm")


def add_grid(group: Any) -> None:
    """Add chunks, shards and codec of a new array to a group of options."""
    group.add_argument(
        "--chunks", type=values.shape, metavar="SIZE", help="size of a chunk (default: chosen to suit)"
    )
    group.add_argument("--shards", type=values.shape, metavar="SIZE",
                     help="size of a shard, a file that holds many chunks (zarr 3 only; default: none)")  # fmt: skip
    group.add_argument("--codec", type=values.codec, metavar="NAME[:LEVEL][+crc32c]",
                     help="compression, such as zstd:3, gzip:6, blosc:5+crc32c or none; or JSON with its options")  # fmt: skip


def add_memory(group: Any) -> None:
    """Add the memory limit to a group of options."""
    group.add_argument(
        "--memory-limit", metavar="SIZE", help="stay below this, such as 512MiB or 2GiB (default: 2 GiB or half of the "
        "free memory, whichever is less)"
    )  # fmt: skip


def add_opening(group: Any, suffix: str = "", of: str = "of the input") -> None:
    """Add the options that say which array of an input is meant, and how it is opened.

    Parameters
    ----------
    group
        Of options.
    suffix
        Added to their names, where there are several inputs.
    of
        Words that say which input.
    """
    which = group.add_mutually_exclusive_group()
    add_key(which, f"--key{suffix}", f"key{suffix.replace('-', '_')}", f"the array inside the container {of}")
    which.add_argument(
        f"--pattern{suffix}",
        metavar="GLOB",
        help=f"which files {of}, a folder, are the slices, such as '*.tif'",
    )
    group.add_argument(
        f"--series{suffix}", metavar="N|NAME", help="TIFF: the series, or image of an OME-TIFF"
    )
    group.add_argument(
        f"--level{suffix}",
        type=values.count,
        metavar="N",
        help="TIFF: the level of a pyramid, 0 at full size",
    )
    group.add_argument(
        f"--reader{suffix}", metavar="NAME", help="vendors' files: the bioio plugin, such as bioio_czi"
    )
    group.add_argument(
        f"--missing-planes{suffix}", choices=("error", "fill"),
        help="TIFF, slices: refuse what is missing (the default), or read it as 0",
    )  # fmt: skip
    group.add_argument(
        f"--external-files{suffix}", action="store_true", default=None,
        help="HDF5: follow links to files that are not beside it",
    )  # fmt: skip
    group.add_argument(
        f"--missing-files{suffix}", choices=("error", "fill"),
        help="HDF5: refuse a virtual dataset whose files are gone (the default), or read them as fill value",
    )  # fmt: skip


def add_key(group: Any, option: str, dest: str, help: str) -> None:
    """Add an option that names an array in a container."""
    group.add_argument(option, dest=dest, metavar="KEY", help=help)
