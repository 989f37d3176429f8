"""Which stored array a source leads to, so that two names for one array are seen to be one."""

from __future__ import annotations

import functools
import os
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import BioimagePyError
from bioimage_py.sources.registry import families
from bioimage_py.storage import Identity, file_identity, meet

if TYPE_CHECKING:
    from bioimage_py.sources.base import Source


def is_file_of(path: str, source: Source) -> bool:
    """Whether a local path is, under any name, a file that a source reads from."""
    token = file_identity(path)[:3]
    if token[0] != "file" or not Path(path).is_file():
        return False
    files: list[str] = getattr(source, "files", list)() or []
    return any(t[:3] == token for t in (*source.identities(), *map(file_identity, files)))


def leaves(source: Source) -> Iterator[Source]:
    """Yield the sources that a source reads from in the end: itself, or those below its `inputs`."""
    inputs = getattr(source, "inputs", ())
    if not inputs:
        yield source
    for below in inputs:
        yield from leaves(below)


def same_voxels(a: Source, b: Source) -> bool:
    """Whether writing into one source could change what is read from the other.

    Stored arrays are compared by their identities. Arrays in memory, and memory maps of one file, are compared by the
    bytes that they cover, so two disjoint views of one array are not the same; where telling exactly would take long,
    overlapping extents count as the same.
    """
    others = list(leaves(b))
    return any(_overlap(one, other) for one in leaves(a) for other in others)


def _overlap(one: Source, other: Source) -> bool:
    """Ask the sources themselves, where one knows better than its identities tell."""
    for source, second in ((one, other), (other, one)):
        told: bool | None = getattr(source, "overlaps", _no_answer)(second)
        if told is not None:
            return told
    return meet(one.identities(), other.identities())


def _no_answer(_: Source) -> None:
    return None


_MOST_OBJECTS = 200_000
_DEPTH = 12
_LEAVES = (bool, int, float, complex, bytes, type, types.ModuleType, types.BuiltinFunctionType, type(None))


def identities_below(*objects: Any) -> frozenset[Identity]:
    """Return the identities of what these objects lead to: arrays, handles and paths of files.

    Adapters and their fields, the tasks of a dask graph, and the defaults, closures and global arrays of functions are
    looked through. What a function opens by a name that is in its code only cannot be seen.
    """
    found: set[Identity] = set()
    seen: set[int | str] = set()
    kept = []  # so that no number is used again
    todo = [(given, 0) for given in objects]
    while todo and len(seen) < _MOST_OBJECTS:
        held, depth = todo.pop()
        mark = held if isinstance(held, str) else id(held)
        if isinstance(held, _LEAVES) or mark in seen or depth > _DEPTH:
            continue
        seen.add(mark)
        kept.append(held)
        if isinstance(held, (str, os.PathLike)):
            found |= _of_path(os.fspath(held))
            continue
        known = _identities(held)
        if known is None:
            # What an output of no known kind is called by.
            found.add(("object", id(held)))
            todo += [(part, depth + 1) for part in _parts(held)]
        else:
            found |= known
    return frozenset(found)


def _of_path(text: str | bytes) -> set[Identity]:
    try:
        os.stat(text)  # noqa: PTH116 - any text
    except (OSError, ValueError):
        return set()
    return {file_identity(os.fsdecode(text))}


def _parts(held: Any) -> Iterator[Any]:
    graph = getattr(held, "__dask_graph__", None)
    if graph is not None and not isinstance(held, type):
        yield from _of_graph(graph())
    elif isinstance(held, Mapping):
        yield from held.values()
    elif isinstance(held, (tuple, list, set, frozenset)):
        yield from held
    elif isinstance(held, functools.partial):
        yield from (held.func, held.args, held.keywords)
    elif isinstance(held, types.MethodType):
        yield from (held.__self__, held.__func__)
    elif isinstance(held, types.FunctionType):
        yield from _of_function(held)
    else:
        yield from _fields(held)


def _of_graph(graph: Any) -> Iterator[Any]:
    for layer in getattr(graph, "layers", {"": graph}).values():
        if getattr(layer, "indices", None) is None:
            yield from layer.values()
        else:  # as it is before it is taken apart into tasks
            yield from (layer.indices, getattr(layer, "task", None), getattr(layer, "io_deps", None))


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    yield from (function.__defaults__, function.__kwdefaults__)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    named = (function.__globals__.get(name) for name in function.__code__.co_names)
    yield from (value for value in named if hasattr(value, "dtype") and hasattr(value, "shape"))


def _fields(held: Any) -> Iterator[Any]:
    yield from getattr(held, "__dict__", {}).values()
    for kind in type(held).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(held, name, None)


def _identities(held: Any) -> frozenset[Identity] | None:
    """Return the identities of an array that is known here, None for anything else."""
    package = type(held).__module__.partition(".")[0]
    for family in families():
        if package in family.handles:
            if not (hasattr(held, "dtype") and hasattr(held, "shape")):
                break
            try:
                source = family.load().from_handle(held)
            except BioimagePyError:
                break  # what cannot be read here can be no output either
            if source is not None:
                found: frozenset[Identity] = source.identities()
                return found
    return None
