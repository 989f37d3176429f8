"""Finding the one array that a path and a key mean, in containers of groups and arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bioimage_py.errors import AmbiguousSourceError, Hint, SourceNotFoundError
from bioimage_py.sources.stores.multiscales import level_paths
from bioimage_py.storage import StoreFolder, natural_key

_MOST_LISTED = 20
_MOST_FOLDERS = 20_000


@dataclass(frozen=True)
class Node:
    """A group or an array as its metadata files describe it."""

    folder: StoreFolder
    array: Mapping[str, Any] | None  # its metadata as stored; None for a group
    attributes: Mapping[str, Any] = field(default_factory=dict)  # the user's
    shape: tuple[int, ...] = ()  # of an array, slowest axis first, as the dtype for messages
    dtype: str = ""
    listing: tuple[str, ...] | None = None  # arrays below a group, where consolidated metadata list them
    first: str | None = None  # the array that a group means when none is named, such as its full-size level
    images: tuple[str, ...] = ()  # groups that a group lists: images, wells of a plate, fields, labels
    consolidated: bool = (
        False  # whether a group repeats what is below it; of a local Zarr v2 only where `names` is known
    )
    names: frozenset[str] | None = None  # of what lies in its local folder, where that was listed


ReadNode = Callable[[StoreFolder], Node | None]


def find_array(
    root: StoreFolder, key: str | None, read_node: ReadNode, title: str
) -> tuple[str | None, Node]:
    """Return the key and the node of the array that a path and a key mean."""
    node = read_node(root.child(key))
    if node is None:
        raise SourceNotFoundError(_missing(root, key, read_node, title))
    if node.array is not None:
        return key, node
    if node.first is not None:
        first = _join(key, node.first)
        found = read_node(root.child(first))
        if found is not None and found.array is not None:
            return first, found
        raise SourceNotFoundError(
            f"the metadata of {_name(root, key)} name {node.first!r} as the full-size array of the image, but there is no array "
            f"of that name{_instead(root, node, read_node)}"
        )
    images = list(itertools.islice(images_below(node, read_node), _MOST_LISTED + 1))
    if len(images) == 1:
        return find_array(root, _join(key, images[0]), read_node, title)
    if images:
        keys = [_join(key, name) or "" for name in images]
        full = [(name, _full_size(root.child(name), read_node)) for name in keys]
        raise several_arrays(root.path, full, "images", cut=True)
    arrays = [(_join(key, name) or "", found) for name, found in arrays_below(node, read_node)]
    if not arrays:
        raise SourceNotFoundError(f"there is no {title} array in {_name(root, key)}")
    if len(arrays) > 1 and not _are_levels([name for name, _ in arrays]):
        raise several_arrays(root.path, arrays)
    return min(arrays, key=lambda item: natural_key(item[0]))


def arrays_below(node: Node, read_node: ReadNode) -> Iterator[tuple[str, Node]]:
    """Yield key and node of every array below a group, in natural order; `""` is the node itself, if it is an array."""
    if node.array is not None:
        yield "", node
        return
    listing = node.listing
    if listing is None and node.folder.archive is not None:
        listing = tuple(sorted(node.folder.zarr_in_zip(), key=natural_key))
    if listing is not None:
        for key in listing:
            found = read_node(node.folder.child(key))
            if found is not None and found.array is not None:
                yield key, found
        return
    seen = 0
    waiting = [""]
    while waiting and seen < _MOST_FOLDERS:
        key = waiting.pop()
        below = []
        for entry in sorted(node.folder.child(key).folders(), key=lambda e: natural_key(e.name)):
            if entry.name.startswith("."):
                continue
            seen += 1
            inner = f"{key}/{entry.name}" if key else entry.name
            found = read_node(node.folder.child(inner))
            if found is None:
                continue
            if found.array is not None:
                yield inner, found
            else:
                below.append(inner)
        waiting.extend(reversed(below))


def images_below(node: Node, read_node: ReadNode) -> Iterator[str]:
    """Yield the keys of the image groups that a group lists, whatever is between: the fields of all wells of a plate."""
    for name in node.images:
        found = read_node(node.folder.child(name))
        if found is None:
            continue
        if found.array is not None or found.first is not None:
            yield name
        for inner in () if found.array is not None else images_below(found, read_node):
            yield f"{name}/{inner}"


def several_arrays(
    path: str, found: Sequence[tuple[str, Node | None]], what: str = "arrays", *, cut: bool = False
) -> AmbiguousSourceError:
    """Return the error that lists what is there; `cut` if there may be more than was found."""
    found = sorted(found, key=lambda item: natural_key(item[0]))
    lines = [
        f"  {key}" if node is None else f"  {key}  shape {node.shape}, {node.dtype}"
        for key, node in found[:_MOST_LISTED]
    ]
    count, more = str(len(found)), len(found) - _MOST_LISTED
    if more > 0:
        lines.append("  …" if cut else f"  … and {more} more")
        count = f"more than {_MOST_LISTED}" if cut else count
    listed = "\n".join(lines)
    return AmbiguousSourceError(
        f"{path} holds {count} {what}:\n{listed}",
        hints=[Hint.of("name one, for example with {}", "open_source", path, found[0][0])],
    )


def _full_size(image: StoreFolder, read_node: ReadNode) -> Node | None:
    found = read_node(image)
    return None if found is None or found.first is None else read_node(image.child(found.first))


def _missing(root: StoreFolder, key: str | None, read_node: ReadNode, title: str) -> str:
    top = read_node(root)
    if key is None:
        return f"there is no {title} array or group at {root.path}"
    if top is None:
        return f"there is no {title} container at {root.path}, in which to look for {key!r}"
    if top.array is not None:
        return f"there is no {key!r} in {root.path}: it is an array itself, so leave out the key"
    promised, parts = "", key.split("/")
    for n in range(len(parts)):
        around, below = "/".join(parts[:n]), "/".join(parts[n:])
        node = read_node(root.child(around))
        if node is not None and node.array is not None:
            return f"there is no {key!r} in {root.path}: {around!r} is an array itself, so leave out the rest of the key"
        if node is not None and below in level_paths(node.attributes):
            promised = ", although the metadata of its image name it as a level"
    return f"there is no {key!r} in {root.path}{promised}{_instead(root, top, read_node)}"


def _instead(root: StoreFolder, top: Node, read_node: ReadNode) -> str:
    there = list(itertools.islice(images_below(top, read_node), _MOST_LISTED + 1))
    if not there:
        if top.listing is None and not root.is_local and root.archive is None:
            return ""
        there = list(itertools.islice((key for key, _ in arrays_below(top, read_node)), _MOST_LISTED + 1))
    if not there:
        return ", and no array at all"
    more = ", …" if len(there) > _MOST_LISTED else ""
    return f": there is {', '.join(there[:_MOST_LISTED])}{more}"


def _are_levels(keys: Sequence[str]) -> bool:
    """Whether keys are the levels s0, s1, … of one image in one group."""
    group = keys[0].rpartition("/")[0]
    return set(keys) == {_join(group, f"s{n}") for n in range(len(keys))}


def _join(key: str | None, name: str) -> str | None:
    return "/".join(part for part in (key or "", name) if part) or None


def _name(root: StoreFolder, key: str | None) -> str:
    return f"{root.path}:{key}" if key else root.path
