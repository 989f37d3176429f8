"""`bioimage-py copy` and `bioimage-py info` of a whole OME-Zarr: all images, with their levels and labels."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from bioimage_py.cli.commands.verify import compare
from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import as_command
from bioimage_py.cli.options import given_values, image_at, keyed_path, opening, output_path
from bioimage_py.cli.text import shape_text
from bioimage_py.errors import BioimagePyError, Call
from bioimage_py.operations import CopyOptions, is_image_copy
from bioimage_py.sources import locate, open_source
from bioimage_py.sources.ome_zarr import OmeZarrImage, OmeZarrTree, image_keys, ome_zarr_group, read_image
from bioimage_py.sources.stores import Node
from bioimage_py.storage import StoreFolder

_MOST_LISTED = 50


def image_path(args: argparse.Namespace) -> str | None:
    """Return the path of the OME-Zarr that is to be copied whole, None where one array is meant.

    A BioimagePyWarning says what is left out where an option can be applied to one array only.
    """
    if args.pattern is not None or args.into_existing or opening(args):
        return None
    path = image_at(args.input, args.key)
    options = CopyOptions(**given_values(args, CopyOptions))
    return path if path is not None and is_image_copy(path, output_path(args), options) else None


def verified_arrays(
    tree: OmeZarrTree, out: str, args: argparse.Namespace, console: Console
) -> Iterator[dict[str, Any]]:
    """Yield for each array of an OME-Zarr its key and how its copy compares; print those that differ."""
    for image in tree.with_labels():
        for level in image.levels:
            key = level.removeprefix(tree.key).strip("/")
            with open_source(image.path, level) as source, open_source(keyed_path(out, key)) as written:
                result = compare(source, written, args, console)
            if not result.equal:
                console.line(f"{key}: {result}")
            yield {"key": key, **result.to_json()}


def _counted(n: int, thing: str) -> str:
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def image_entry(path: str, key: str | None) -> dict[str, Any] | None:
    """Return what there is of an image besides its full-size array; None for any other array or group."""
    node = ome_zarr_group(path, key)
    return None if node is None or node.first is None else next(_entries(path, key, node))


def image_lines(entry: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield label and text of the levels and labels of an image."""
    if entry is None:
        return
    if "error" in entry:
        yield "levels", f"cannot be copied whole: {entry['error']}"
        return
    for n, level in enumerate(entry["levels"]):
        yield "" if n else "levels", f"{level['key']}  {shape_text(level['shape'])}"
    for n, label in enumerate(entry["labels"]):
        count = _counted(len(label["levels"]), "level")
        yield "" if n else "labels", f"{label['key']}  {shape_text(label['shape'])}  {count}"


def image_json(entry: dict[str, Any] | None) -> dict[str, Any]:
    """Return the levels and labels of an image as plain JSON."""
    return {} if entry is None or "error" in entry else {name: entry[name] for name in ("levels", "labels")}


def list_images(args: argparse.Namespace, console: Console) -> bool:
    """Print the images of a container or plate with their levels and labels; False if there are none."""
    node = ome_zarr_group(args.path, args.key)
    if node is None or node.first is not None:
        return False
    entries = list(_entries(args.path, args.key, node))
    if not entries:
        return False
    wells = f" in {_counted(len(node.images), 'well')}" if "plate" in _kind(node) else ""
    console.line(f"{node.folder.path} holds {_counted(len(entries), 'image')}{wells} (OME-Zarr):")
    width = max(len(entry["key"]) for entry in entries)
    for entry in entries[:_MOST_LISTED]:
        console.line(f"  {entry['key']:{width}}  {_entry_text(entry)}")
    if len(entries) > _MOST_LISTED:
        console.line(f"  … and {len(entries) - _MOST_LISTED:,} more; --json lists them all")
    console.line(f"Choose one with --key, for example {as_command(Call(options={'key': entries[0]['key']}))}")
    console.document({"command": "info", "path": node.folder.path, "format": "OME-Zarr", "images": entries})
    return True


def _kind(node: Node) -> Any:
    from bioimage_py.metadata import ome_of

    return ome_of(node.attributes)


def _entries(path: str, key: str | None, node: Node) -> Iterator[dict[str, Any]]:
    location = locate(path, key)
    root = StoreFolder.at(location.path)
    for name in image_keys(node, location.key):
        try:
            yield _entry(read_image(root, name))
        except BioimagePyError as error:  # one image that is broken does not hide the others
            yield {"key": name, "error": str(error)}


def _entry(image: OmeZarrImage) -> dict[str, Any]:
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
        "labels": [{**_entry(label), "key": label.key.removeprefix(below)} for label in image.labels],
    }


def _entry_text(entry: dict[str, Any]) -> str:
    if "error" in entry:
        return f"cannot be copied whole: {entry['error']}"
    text = f"{shape_text(entry['shape'])}  {entry['dtype']}  {_counted(len(entry['levels']), 'level')}"
    labels = ", ".join(label["key"] for label in entry["labels"])
    return text + (f"  {labels}" if labels else "")
