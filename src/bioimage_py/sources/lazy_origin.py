"""Which stored arrays a lazy array of dask or xarray reads in the end, so that none of them is written meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bioimage_py.errors import BioimagePyError
from bioimage_py.sources.identity import Identity
from bioimage_py.sources.registry import FAMILIES, family_module

__all__ = ["identities_below"]

_INNER = ("array", "_array")
"""Where the adapters that xarray puts around a stored array, and its like, keep it."""


def identities_below(*objects: Any) -> frozenset[Identity]:
    """Return the identities of the arrays that these objects are, or hold in adapters or tasks of a dask graph.

    What a function of the user reads when it is called cannot be seen.
    """
    found: set[Identity] = set()
    for given in objects:
        graph = getattr(given, "__dask_graph__", None)
        for held in (given,) if graph is None else _held_by(graph()):
            found |= _identities(held)
    return frozenset(found)


def _held_by(graph: Any) -> Iterator[Any]:
    """Yield the array-like objects in the tasks of a dask graph."""
    for layer in getattr(graph, "layers", {"": graph}).values():
        indices = getattr(layer, "indices", None)
        for entry in layer.values() if indices is None else (item for item, _ in indices):
            for part in (entry, getattr(entry, "value", None), *(getattr(entry, "args", None) or ())):
                if hasattr(part, "dtype") and hasattr(part, "shape"):
                    yield part


def _identities(held: Any) -> frozenset[Identity]:
    """Follow the adapters around an array until one is known."""
    for _ in range(10):
        package = type(held).__module__.partition(".")[0]
        for family in FAMILIES:
            if package in family.handles and package not in ("dask", "xarray"):
                try:
                    source = family_module(family.kind, "from_handle").from_handle(held)
                except BioimagePyError:
                    return frozenset()  # what cannot be read here can be no output either
                if source is not None:
                    found: frozenset[Identity] = source.identities()
                    return found
        inner = next((getattr(held, name) for name in _INNER if hasattr(held, name)), None)
        if inner is None:
            break
        held = inner
    return frozenset()
