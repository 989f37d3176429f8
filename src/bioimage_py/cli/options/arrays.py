"""From the paths, keys and patterns of a command line to sources and output paths."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from bioimage_py.cli import values
from bioimage_py.cli.failure import UsageError

if TYPE_CHECKING:
    from bioimage_py.sources import Source

_OPENING: dict[str, dict[str, Any]] = {
    "series": {"metavar": "N|NAME", "help": "TIFF: the series, or image of an OME-TIFF"},
    "level": {"type": values.count, "metavar": "N", "help": "TIFF: the level of a pyramid, 0 at full size"},
    "reader": {"metavar": "NAME", "help": "vendors' files: the bioio plugin, such as bioio_czi"},
    "missing_planes": {
        "choices": ("error", "fill"),
        "help": "TIFF, slices: refuse what is missing (the default), or read it as 0",
    },
    "external_files": {
        "action": "store_true",
        "default": None,
        "help": "HDF5: follow links to files that are not beside it",
    },
    "missing_files": {
        "choices": ("error", "fill"),
        "help": "HDF5: refuse a virtual dataset whose files are gone (the default), or read them as fill value",
    },
}
OPENING = tuple(_OPENING)
"""Options of `open_source` that only some families take; the others refuse them."""


def open_input(args: argparse.Namespace) -> Source:
    """Open the input of `copy` and `plan`, read-only."""
    return open_given(args.input, args)


def open_given(path: str, args: argparse.Namespace, suffix: str = "", **said: Any) -> Source:
    """Open an image as the options of `add_opening` say, read-only."""
    from bioimage_py.sources import open_source

    pattern = getattr(args, f"pattern{suffix}")
    key = getattr(args, f"key{suffix}") if pattern is None else pattern
    return open_source(path, key, **said, **opening(args, suffix))


def opening(args: argparse.Namespace, suffix: str = "") -> dict[str, Any]:
    """Return those options of a family that were given."""
    given = {name: getattr(args, f"{name}{suffix}") for name in OPENING}
    return {name: value for name, value in given.items() if value is not None}


def prepared_output(args: argparse.Namespace, opened: ExitStack) -> Source | str:
    """Return the output as `copy` takes it: an existing array, or the path of a new one."""
    if args.into_existing:
        from bioimage_py.sources import open_source

        return opened.enter_context(open_source(args.output, args.output_key, mode="r+"))
    return output_path(args)


def output_path(args: argparse.Namespace) -> str:
    """Return the path of the output with its key."""
    return keyed_path(args.output, args.output_key)


def keyed_path(path: str, key: str | None) -> str:
    """Return a container's path and a key in it as one path.

    Raises
    ------
    UsageError
        If the path names no container.
    """
    from bioimage_py.sources import locate

    if key is None:
        return path
    place = locate(path, key)
    if place.family is None or not place.family.container:
        msg = f"--output-key {key!r} needs an output that can hold several arrays (.zarr, .n5, .h5), not {path!r}"
        raise UsageError(msg, "bioimage-py copy")
    separator = "/" if place.family.in_folders else ":"
    return f"{place.path}{separator}{place.key}"


def image_at(path: str, key: str | None) -> str | None:
    """Return the path of the OME-Zarr that a path and a key of an input lead to, whatever it is called; None for all else."""
    from bioimage_py.sources import locate
    from bioimage_py.sources.ome_zarr import ome_zarr_group

    if ome_zarr_group(path, key) is None:
        return None
    place = locate(path, key)
    return path if key is None else f"{place.path.rstrip('/')}/{place.key}"


def describe(source: Source) -> dict[str, Any]:
    """Return what identifies a source, as plain JSON."""
    return {
        "path": getattr(source, "path", source.name),
        "key": getattr(source, "key", None),
        "format": source.format,
        "shape": source.shape,
        "dtype": source.dtype.name,
        "chunks": source.chunks,
        "shards": source.shards,
    }


def add_opening(group: Any, suffix: str = "", of: str = "") -> None:
    """Add the options that say which array of an input is meant, and how it is opened.

    Where there are several inputs, `suffix` is added to their names, and `of` names the input in the help.
    """
    which = group.add_mutually_exclusive_group()
    add_key(which, f"--key{suffix}", f"key{suffix.replace('-', '_')}", f"the array in the container{of}")
    which.add_argument(
        f"--pattern{suffix}", metavar="GLOB", help=f"the files of the folder{of} that are the slices, such as '*.tif'"
    )  # fmt: skip
    missing = {"choices": ("error", "fill")}
    for name, help, how in (
        ("series", "TIFF: the series, or the image of an OME-TIFF", {"metavar": "N|NAME"}),
        ("level", "TIFF: the level of a pyramid, 0 at full size", {"metavar": "N", "type": values.count}),
        ("reader", "vendor formats: the bioio plugin, such as bioio_czi", {"metavar": "NAME"}),
        ("missing-planes", "TIFF, slices: refuse missing planes (the default), or read them as 0", missing),
        ("external-files", "HDF5: follow links to files in other folders", {"action": "store_true", "default": None}),
        ("missing-files", "HDF5: refuse a virtual dataset with missing files (the default), or read them as the fill value", missing),
    ):  # fmt: skip
        options: dict[str, Any] = how
        group.add_argument(f"--{name}{suffix}", help=help, **options)


def add_key(group: Any, option: str, dest: str, help: str) -> None:
    """Add an option that names an array in a container."""
    group.add_argument(option, dest=dest, metavar="KEY", help=help)
