"""Integers only: boxes, blocks and blockings, numpy-index normalisation, run-length sets of block ids.

A name is imported when it is first used: a worker that has items, not blocks, needs the sets of ids alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bioimage_py.geometry.blocking import Block, Blocking, BlockWithHalo, check_block_shape, to_roi
    from bioimage_py.geometry.box import Box
    from bioimage_py.geometry.id_set import IdSet, IdSetBuilder
    from bioimage_py.geometry.index import BasicIndex, basic_index

__all__ = [
    "BasicIndex",
    "Block",
    "BlockWithHalo",
    "Blocking",
    "Box",
    "IdSet",
    "IdSetBuilder",
    "basic_index",
    "check_block_shape",
    "to_roi",
]

_HOMES = {
    "blocking": ("Block", "BlockWithHalo", "Blocking", "check_block_shape", "to_roi"),
    "box": ("Box",),
    "id_set": ("IdSet", "IdSetBuilder"),
    "index": ("BasicIndex", "basic_index"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
