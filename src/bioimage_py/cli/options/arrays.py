"""From the paths, keys and patterns of a command line to sources and output paths."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from bioimage_py.cli import values
from bioimage_py.cli.failure import UsageError
from bioimage_py.cli.options.derived import add_fields
from bioimage_py.cli.options.selection import Selection

if TYPE_CHECKING:
    from bioimage_py.cli.console import Console
    from bioimage_py.sources import Source

_REFUSED_OR_READ = ("error", "fill")
_OPENING: dict[str, dict[str, Any]] = {
    "series": {"metavar": "N|NAME", "help": "TIFF: the series, or the image of an OME-TIFF"},
    "level": {"metavar": "N", "type": values.count, "help": "the level of a pyramid, 0 at full size"},
    "reader": {"metavar": "NAME", "help": "vendor formats: the bioio plugin, such as bioio_czi"},
    "missing_planes": {
        "choices": _REFUSED_OR_READ,
        "help": "TIFF, slices: refuse missing planes (the default), or read them as 0",
    },
    "grid": {
        "metavar": "GRID",
        "help": "tiles of a mosaic: rows, columns and overlap, such as 4x6,10%% or 10%%,snake, or 'stage' for the places that the files state",
    },
    "overlap": {
        "choices": ("first", "last", "max", "mean", "linear"),
        "help": "mosaic: what is read where tiles overlap",
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
_PART = tuple(field.name for field in fields(Selection))
OPENING = (*_OPENING, *_PART)
"""Options of `open_source` that only some families take, the others refuse them; and of the part that is meant."""


def add_opening(group: Any, suffix: str = "", of: str = "", without: Iterable[str] = ()) -> None:
    """Add the options that say which array of an input is meant, how it is opened, and which part of it is taken.

    Where there are several inputs, `suffix` is added to their names, and `of` names the input in the help.
    """
    which = group.add_mutually_exclusive_group()
    which.add_argument(
        f"--key{suffix}", f"--scene{suffix}", metavar="KEY", help=f"the array in the container{of}, or the image in a file of several"
    )  # fmt: skip
    which.add_argument(
        f"--pattern{suffix}", metavar="GLOB", help=f"the files of the folder{of} that are the slices, such as '*.tif' or 'c{{c}}/img_{{z}}.tif'"
    )  # fmt: skip
    for name, about in _OPENING.items():
        group.add_argument(f"--{name.replace('_', '-')}{suffix}", **about)
    add_fields(group, Selection, without=without, suffix=suffix.replace("-", "_"))


def opening(args: argparse.Namespace, suffix: str = "") -> dict[str, Any]:
    """Return those options of a family, and of the part that is meant, that were given."""
    given = {name: getattr(args, f"{name}{suffix}", None) for name in OPENING}
    return {name: value for name, value in given.items() if value is not None}


def open_given(
    path: str, args: argparse.Namespace, console: Console, suffix: str = "", **said: Any
) -> Source:
    """Open an image, or the part of it that is meant, as the options of `add_opening` say, read-only."""
    from bioimage_py.sources import open_source, override_metadata

    pattern = getattr(args, f"pattern{suffix}")
    key = getattr(args, f"key{suffix}") if pattern is None else pattern
    given = opening(args, suffix)
    part = Selection(**{name: given.pop(name) for name in _PART if name in given})
    level = given.pop("level", None)
    source = open_source(path, key, **given)
    if level:
        source = _at_level(source, level)
    found = part.applied(override_metadata(source, owned=True, **said))
    if any(isinstance(one, str) for one in part.in_range or ()):
        low, high = found.in_range  # type: ignore[attr-defined]
        console.remark(f"range of {source.name}: {low:g} to {high:g}")
    return found


def _at_level(source: Source, level: int) -> Source:
    from bioimage_py.sources import coarser_levels

    coarser = coarser_levels(source)
    for n, one in enumerate((source, *coarser)):
        if n != level:
            one.close()
    if level > len(coarser):
        levels = f"levels 0 to {len(coarser)}" if coarser else "one level, 0"
        raise UsageError(f"{source.name} has no level {level}: it has {levels}")
    return coarser[level - 1]


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
        **({"range": source.in_range} if hasattr(source, "in_range") else {}),
    }
