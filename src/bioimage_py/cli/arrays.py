"""From the paths, keys and patterns of a command line to sources and output paths."""

from __future__ import annotations

import argparse
from typing import Any

from bioimage_py.cli.failure import UsageError
from bioimage_py.sources import Source, open_source

__all__ = ["describe", "keyed_path", "open_existing_output", "open_input", "output_path"]


def open_input(args: argparse.Namespace) -> Source:
    """Open the input of `copy` and `plan`, read-only."""
    return open_source(args.input, args.key if args.pattern is None else args.pattern)


def open_existing_output(args: argparse.Namespace) -> Source:
    """Open the array that is written into."""
    return open_source(args.output, args.output_key, mode="r+")


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
    from bioimage_py.sources.location import locate

    if key is None:
        return path
    place = locate(path, key)
    if place.family is None or not place.family.container:
        msg = f"--output-key {key!r} needs an output that can hold several arrays (.zarr, .n5, .h5), not {path!r}"
        raise UsageError(msg, "bioimage-py copy")
    separator = ":" if place.family.kind == "hdf5" else "/"
    return f"{place.path}{separator}{place.key}"


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
