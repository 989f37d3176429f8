"""From the paths, keys and patterns of a command line to sources and output paths."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from bioimage_py.cli import values
from bioimage_py.cli.failure import UsageError

if TYPE_CHECKING:
    from bioimage_py.sources import Source

_REFUSED_OR_READ = ("error", "fill")
_OPENING: dict[str, dict[str, Any]] = {
    "series": {"metavar": "N|NAME", "help": "TIFF: the series, or the image of an OME-TIFF"},
    "level": {"metavar": "N", "type": values.count, "help": "TIFF: the level of a pyramid, 0 at full size"},
    "reader": {"metavar": "NAME", "help": "vendor formats: the bioio plugin, such as bioio_czi"},
    "missing_planes": {
        "choices": _REFUSED_OR_READ,
        "help": "TIFF, slices: refuse missing planes (the default), or read them as 0",
    },
    "external_files": {
        "action": "store_true",
        "default": None,
        "help": "HDF5: follow links to files in other folders",
    },
    "missing_files": {
        "choices": _REFUSED_OR_READ,
        "help": "HDF5: refuse a virtual dataset with missing files (the default), or read them as the fill value",
    },
}
OPENING = tuple(_OPENING)
"""Options of `open_source` that only some families take; the others refuse them."""


def add_opening(group: Any, suffix: str = "", of: str = "") -> None:
    """Add the options that say which array of an input is meant, and how it is opened.

    Where there are several inputs, `suffix` is added to their names, and `of` names the input in the help.
    """
    which = group.add_mutually_exclusive_group()
    which.add_argument(f"--key{suffix}", metavar="KEY", help=f"the array in the container{of}")
    which.add_argument(
        f"--pattern{suffix}", metavar="GLOB", help=f"the files of the folder{of} that are the slices, such as '*.tif' or 'c{{c}}/img_{{z}}.tif'"
    )  # fmt: skip
    for name, about in _OPENING.items():
        group.add_argument(f"--{name.replace('_', '-')}{suffix}", **about)


def opening(args: argparse.Namespace, suffix: str = "") -> dict[str, Any]:
    """Return those options of a family that were given."""
    given = {name: getattr(args, f"{name}{suffix}") for name in OPENING}
    return {name: value for name, value in given.items() if value is not None}


def open_given(path: str, args: argparse.Namespace, suffix: str = "", **said: Any) -> Source:
    """Open an image as the options of `add_opening` say, read-only."""
    from bioimage_py.sources import open_source

    pattern = getattr(args, f"pattern{suffix}")
    key = getattr(args, f"key{suffix}") if pattern is None else pattern
    return open_source(path, key, **said, **opening(args, suffix))


def prepared_output(args: argparse.Namespace, opened: ExitStack) -> Source | str:
    """Return the output as `copy` takes it: an existing array, or the path of a new one."""
    if args.into_existing:
        from bioimage_py.sources import open_source

        return opened.enter_context(open_source(args.output, args.output_key, mode="r+"))
    return keyed_path(args.output, args.output_key)


def keyed_path(path: str, key: str | None) -> str:
    """Return a container's path and a key in it as one path; raise UsageError if the path does not name a container."""
    from bioimage_py.sources import locate

    if key is None:
        return path
    place = locate(path, key)
    if place.family is None or not place.family.container:
        raise UsageError(
            f"--output-key {key!r} needs an output that can hold several arrays (.zarr, .n5, .h5), not {path!r}"
        )
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
        **{name: getattr(source, name) for name in ("format", "shape")},
        "dtype": source.dtype.name,
        **{name: getattr(source, name) for name in ("chunks", "shards")},
    }
