"""`bioimage-py info`: what is in a file, a folder or a store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bioimage_py.cli.console import Console, plain
from bioimage_py.cli.failure import OK, as_command
from bioimage_py.cli.options import describe, open_given
from bioimage_py.errors import AmbiguousSourceError, BioimagePyError, Call
from bioimage_py.kernels import TileDigest
from bioimage_py.metadata import assumptions, ome_of
from bioimage_py.operations import record_text
from bioimage_py.planning import format_bytes
from bioimage_py.report import shape_text, source_rows
from bioimage_py.sources import Source, coarser_levels, family_by_content, locate, may_be_zarr, open_source
from bioimage_py.sources.stores import unfinished_text
from bioimage_py.storage import StoreFolder, is_url
from bioimage_py.text import counted, shortened

if TYPE_CHECKING:
    from bioimage_py.sources.ome_zarr import OmeZarrImage
    from bioimage_py.sources.stores import Node

_MOST_ATTRIBUTES = 12
_MOST_IMAGES = 50
_LONGEST = 100
_Entry = dict[str, Any]
"""What there is of an array or an image of a container, as plain JSON."""


def run_info(args: argparse.Namespace, console: Console) -> int:
    node = None
    if may_be_zarr(args.path):
        from bioimage_py.sources.ome_zarr import ome_zarr_group  # here and below: not for other formats

        node = ome_zarr_group(args.path, args.key)
    images = [] if node is None else list(_images(args.path, args.key, node))
    if node is not None and node.first is None and images:
        wells = f" in {counted(len(node.images), 'well')}" if "plate" in ome_of(node.attributes) else ""
        title = f"{node.folder.path} holds {counted(len(images), 'image')}{wells} (OME-Zarr):"
        _print_list(console, title, images, _image_text, _MOST_IMAGES)
        found = {"path": node.folder.path, "format": "OME-Zarr", "images": images}
        console.document({"command": "info", **found})
        return OK
    try:
        source = open_given(args.path, args, console)
    except AmbiguousSourceError as error:
        if args.picture is not None:
            raise
        _list_container(args, console, error)
        return OK
    with source:
        picture = _picture(source, args)
        # An array of an OME-Zarr that is named by its key is one level.
        image: _Entry = images[0] if images else {} if may_be_zarr(args.path) else _levels(source)
        labelled = [("picture", picture["picture"])] if picture else []
        for label, text in (*_lines(source), *_image_lines(image), *labelled):
            console.line(f"{label + ':' if label else '':12}{text}")
        if console.json:
            levels: _Entry = {name: image[name] for name in ("version", "levels", "labels") if name in image}
            console.document({"command": "info", **_as_json(source), **levels, **picture})
    return OK


def _picture(source: Source, args: argparse.Namespace) -> dict[str, Any]:
    if args.picture is None:
        return {}
    from bioimage_py.cli.commands.pictures import described_picture
    from bioimage_py.report.preview import preview

    return described_picture(preview(source, args.picture, overwrite=args.overwrite))


def _lines(source: Source) -> Iterator[tuple[str, str]]:
    """Yield label and text; the size on disk comes last, as counting files can take a while."""
    name, *rows = source_rows(source, as_command)
    yield name
    if missing := unfinished_text(source):
        yield "state", missing
    if text := record_text(source):
        yield "record", text
    if digest := TileDigest.kept_root(source):
        yield "digest", f"{digest}, when it was written"
    for label, text in rows:
        yield label, shortened(text, _LONGEST) if label == "channels" else text
    if source.fill_value is not None:
        yield "fill value", str(plain(source.fill_value))
    attributes = [f"{name} = {plain(value)}" for name, value in source.metadata.attributes.items()]
    for n, text in enumerate(attributes[:_MOST_ATTRIBUTES]):
        yield "" if n else "attributes", shortened(text, _LONGEST)
    if len(attributes) > _MOST_ATTRIBUTES:
        yield "", f"… and {len(attributes) - _MOST_ATTRIBUTES} more; --json shows them all"
    yield "size", f"{format_bytes(source.nbytes)} uncompressed"
    stored = source.stored_size()
    if stored is not None:
        share = 100 * stored.n_bytes / source.nbytes if source.nbytes else 0
        of = f" ({share:.3g} % of the uncompressed size)" if source.nbytes else ""
        yield "stored", f"{format_bytes(stored.n_bytes)} in {counted(stored.n_files, 'file')}{of}"


def _image_lines(image: _Entry) -> Iterator[tuple[str, str]]:
    """Yield label and text of the version, the levels and the labels of an image."""
    if "error" in image:
        yield "levels", _image_text(image)
    if image.get("version"):
        yield "OME-Zarr", f"version {image['version']}"
    for n, level in enumerate(image.get("levels", ())):
        yield "" if n else "levels", f"{level['key']}  {shape_text(level['shape'])}"
    for n, label in enumerate(image.get("labels", ())):
        levels = counted(len(label["levels"]), "level")
        yield "" if n else "labels", f"{label['key']}  {shape_text(label['shape'])}  {levels}"


def _as_json(source: Source) -> dict[str, Any]:
    metadata, stored = source.metadata, source.stored_size()
    return {
        **describe(source),
        "unfinished": unfinished_text(source) or None,
        "record": record_text(source) or None,
        "digest": TileDigest.kept_root(source),
        "byte_order": "big" if source.dtype.byteorder == ">" else "little",
        **{
            name: getattr(metadata, name)
            for name in ("axes", "voxel_size", "units", "origin", "channel_names")
        },
        "assumed": [hint.told(as_command) for hint in assumptions(metadata, source.shape)],
        **{name: getattr(source, name) for name in ("codec", "fill_value", "writable")},
        "n_bytes": source.nbytes,
        "stored_bytes": None if stored is None else stored.n_bytes,
        "stored_files": None if stored is None else stored.n_files,
        "attributes": metadata.attributes,
    }


def _print_list(
    console: Console,
    title: str,
    entries: Sequence[_Entry],
    text: Callable[[_Entry], str],
    most: int = sys.maxsize,
) -> None:
    console.line(title)
    width = max(len(entry["key"]) for entry in entries)
    for entry in entries[:most]:
        console.line(f"  {entry['key']:{width}}  {text(entry)}")
    if len(entries) > most:
        console.line(f"  … and {len(entries) - most:,} more; --json lists them all")
    console.line(f"Choose one with --key, for example {as_command(Call(options={'key': entries[0]['key']}))}")


def _list_container(args: argparse.Namespace, console: Console, error: AmbiguousSourceError) -> None:
    """Print the arrays below a key of a container; the error is raised again where they cannot be listed."""
    place = locate(args.path, args.key)
    found = place.family if is_url(place.path) else family_by_content(place.path) or place.family
    if found is None or not found.container:
        raise error
    prefix = f"{place.key.strip('/')}/" if place.key else ""
    keys = found.load().list_arrays(place.path)
    arrays = [_array(place.path, key) for key in keys if key.strip("/").startswith(prefix)]
    if not arrays:
        raise error
    _print_list(console, f"{place.path} holds {len(arrays)} arrays ({found.title}):", arrays, _array_text)
    console.document({"command": "info", "path": place.path, "format": found.title, "arrays": arrays})


def _array(path: str, key: str) -> _Entry:
    try:
        with open_source(path, key) as source:
            about = {name: describe(source)[name] for name in ("shape", "dtype", "chunks", "shards")}
            return {"key": key, **about, "unfinished": unfinished_text(source) or None}
    except BioimagePyError as error:  # one array that cannot be opened does not hide the others
        return {"key": key, "error": str(error)}


def _array_text(entry: Mapping[str, Any]) -> str:
    if "error" in entry:
        return f"cannot be opened: {shortened(entry['error'], _LONGEST)}"
    grids = [f"{name} {shape_text(entry[name])}" for name in ("chunks", "shards") if entry[name] is not None]
    unfinished = [entry["unfinished"]] if entry["unfinished"] else []
    return "  ".join([shape_text(entry["shape"]), entry["dtype"], *grids, *unfinished])


def _images(path: str, key: str | None, node: Node) -> Iterator[_Entry]:
    """Yield what there is of each image of an OME-Zarr, or of the one that a group is."""
    from bioimage_py.sources.ome_zarr import Nodes, listed_images, read_image

    location, nodes = locate(path, key), Nodes()
    root = StoreFolder.at(location.path)
    keys, damaged = listed_images(node, location.key, nodes)
    for name in keys:
        try:
            yield _image(read_image(root, name, nodes))
        except BioimagePyError as error:  # one image that is broken does not hide the others
            yield {"key": name, "error": str(error)}
    yield from ({"key": name, "error": str(error)} for name, error in damaged.items())


def _levels(source: Source) -> _Entry:
    """Return the smaller levels that are stored with an array, by their numbers."""
    coarser = coarser_levels(source)
    for level in coarser:
        level.close()
    listed = [{"key": str(n), "shape": list(one.shape)} for n, one in enumerate((source, *coarser))]
    return {"levels": listed} if coarser else {}


def _image(image: OmeZarrImage) -> _Entry:
    below = f"{image.key}/" if image.key else ""
    return {
        "key": image.key,
        "shape": list(image.shapes[0]),
        "dtype": image.dtype,
        "version": image.version,
        "levels": [
            {"key": level.removeprefix(below), "shape": list(shape)}
            for level, shape in zip(image.levels, image.shapes, strict=True)
        ],
        "labels": [{**_image(label), "key": label.key.removeprefix(below)} for label in image.labels],
    }


def _image_text(entry: Mapping[str, Any]) -> str:
    if "error" in entry:
        return f"cannot be copied whole: {entry['error']}"
    text = f"{shape_text(entry['shape'])}  {entry['dtype']}  {counted(len(entry['levels']), 'level')}"
    labels = ", ".join(label["key"] for label in entry["labels"])
    return text + (f"  {labels}" if labels else "")
