"""`bioimage-py info`: what is in a file, a folder or a store."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping
from typing import Any

from bioimage_py.cli.commands.image import image_entry, image_json, image_lines, list_images
from bioimage_py.cli.console import Console, plain
from bioimage_py.cli.failure import OK, as_command
from bioimage_py.cli.options import describe, open_given
from bioimage_py.cli.text import shape_text, shortened, voxel_size_text
from bioimage_py.errors import AmbiguousSourceError, BioimagePyError, Call
from bioimage_py.planning import format_bytes
from bioimage_py.sources import Source, family_by_content, locate, open_source
from bioimage_py.sources.stores import unfinished_text
from bioimage_py.storage import is_url

_MOST_ATTRIBUTES = 12
_ATTRIBUTE_WIDTH = 100
_LABEL_WIDTH = 12


def run_info(args: argparse.Namespace, console: Console) -> int:
    if list_images(args, console):
        return OK
    try:
        source = open_given(args.path, args)
    except AmbiguousSourceError as error:
        if args.picture is not None:
            raise
        _list_container(args, console, error)
        return OK
    with source:
        picture = _picture(source, args)
        image = image_entry(args.path, args.key)
        for label, text in (*_lines(source), *image_lines(image)):
            console.line(f"{label + ':' if label else '':{_LABEL_WIDTH}}{text}")
        if console.json:
            console.document({"command": "info", **_as_json(source), **image_json(image), **picture})
        if picture:
            console.line(f"{'picture:':{_LABEL_WIDTH}}{picture['picture']}")
    return OK


def _picture(source: Source, args: argparse.Namespace) -> dict[str, Any]:
    if args.picture is None:
        return {}
    from bioimage_py.cli.commands.preview import described_picture
    from bioimage_py.report.preview import preview

    return described_picture(preview(source, args.picture, overwrite=args.overwrite))


def _lines(source: Source) -> Iterator[tuple[str, str]]:
    """Yield label and text; the size on disk comes last, as counting files can take a while."""
    metadata = source.metadata
    yield "image", source.name
    if missing := unfinished_text(source):
        yield "state", missing
    yield "format", source.format
    axes = f"  (axes {', '.join(metadata.axes)})" if metadata.axes else ""
    yield "shape", shape_text(source.shape) + axes
    yield "data type", source.dtype.name + (" (big-endian)" if source.dtype.byteorder == ">" else "")
    if metadata.voxel_size is not None:
        yield "voxel size", voxel_size_text(metadata.voxel_size, metadata.units)
    if metadata.origin is not None and any(metadata.origin):
        yield "origin", voxel_size_text(metadata.origin, metadata.units)
    if metadata.channel_names:
        yield "channels", shortened(", ".join(metadata.channel_names), _ATTRIBUTE_WIDTH)
    for label, unit in (("chunks", source.chunks), ("shards", source.shards)):
        if unit is not None:
            count = math.prod(-(-n // u) for n, u in zip(source.shape, unit, strict=True))
            size = format_bytes(math.prod(unit) * source.dtype.itemsize)
            yield label, f"{shape_text(unit)}  ({size} each before compression, {count:,} in all)"
    if source.codec:
        yield "codec", source.codec
    if source.fill_value is not None:
        yield "fill value", str(plain(source.fill_value))
    yield from _attributes(metadata.attributes)
    yield "size", f"{format_bytes(source.nbytes)} uncompressed"
    stored = source.stored_size()
    if stored is not None:
        files = "1 file" if stored.n_files == 1 else f"{stored.n_files:,} files"
        share = 100 * stored.n_bytes / source.nbytes if source.nbytes else 0
        of = f" ({share:.3g} % of the uncompressed size)" if source.nbytes else ""
        yield "stored", f"{format_bytes(stored.n_bytes)} in {files}{of}"


def _attributes(attributes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    label = "attributes"
    for name, value in list(attributes.items())[:_MOST_ATTRIBUTES]:
        yield label, shortened(f"{name} = {plain(value)}", _ATTRIBUTE_WIDTH)
        label = ""
    if len(attributes) > _MOST_ATTRIBUTES:
        yield label, f"… and {len(attributes) - _MOST_ATTRIBUTES} more; --json shows them all"


def _as_json(source: Source) -> dict[str, Any]:
    metadata, stored = source.metadata, source.stored_size()
    return {
        **describe(source),
        "unfinished": unfinished_text(source) or None,
        "byte_order": "big" if source.dtype.byteorder == ">" else "little",
        **{
            name: getattr(metadata, name)
            for name in ("axes", "voxel_size", "units", "origin", "channel_names")
        },
        **{name: getattr(source, name) for name in ("codec", "fill_value", "writable")},
        "n_bytes": source.nbytes,
        "stored_bytes": None if stored is None else stored.n_bytes,
        "stored_files": None if stored is None else stored.n_files,
        "attributes": metadata.attributes,
    }


def _list_container(args: argparse.Namespace, console: Console, error: AmbiguousSourceError) -> None:
    """Print the arrays below a key of a container; the error is raised again where they cannot be listed."""
    place = locate(args.path, args.key)
    found = place.family if is_url(place.path) else family_by_content(place.path) or place.family
    if found is None or not found.container:
        raise error
    prefix = f"{place.key.strip('/')}/" if place.key else ""
    keys = found.load().list_arrays(place.path)
    arrays = [_listed(place.path, key) for key in keys if key.strip("/").startswith(prefix)]
    if not arrays:
        raise error
    width = max(len(entry["key"]) for entry in arrays)
    console.line(f"{place.path} holds {len(arrays)} arrays ({found.title}):")
    for entry in arrays:
        console.line(f"  {entry['key']:{width}}  {_listed_text(entry)}")
    console.line(f"Choose one with --key, for example {as_command(Call(options={'key': arrays[0]['key']}))}")
    console.document({"command": "info", "path": place.path, "format": found.title, "arrays": arrays})


def _listed(path: str, key: str) -> dict[str, Any]:
    try:
        with open_source(path, key) as source:
            return {
                "key": key,
                "shape": list(source.shape),
                "dtype": source.dtype.name,
                "chunks": None if source.chunks is None else list(source.chunks),
                "shards": None if source.shards is None else list(source.shards),
                "unfinished": unfinished_text(source) or None,
            }
    except BioimagePyError as error:  # one array that cannot be opened does not hide the others
        return {"key": key, "error": str(error)}


def _listed_text(entry: Mapping[str, Any]) -> str:
    if "error" in entry:
        return f"cannot be opened: {shortened(entry['error'], _ATTRIBUTE_WIDTH)}"
    grids = [f"{name} {shape_text(entry[name])}" for name in ("chunks", "shards") if entry[name] is not None]
    return "  ".join(
        [shape_text(entry["shape"]), entry["dtype"], *grids, *filter(None, [entry["unfinished"]])]
    )
