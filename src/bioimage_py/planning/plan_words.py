"""How plans say things: extents, numbers, and what an array is."""

from __future__ import annotations

from collections.abc import Sequence

from bioimage_py.planning.byte_size import format_bytes
from bioimage_py.planning.layout import ArrayLayout


def times(extents: Sequence[int]) -> str:
    """Return extents as people write them."""
    return "×".join(map(str, extents)) or "1"


def counted(n: int, thing: str) -> str:
    """Return a number of things."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def at_most_files(n: int) -> str:
    """Return a number of files that is the most there can be."""
    return counted(n, "file") if n < 2 else f"at most {n:,} files"


def grid_words(layout: ArrayLayout) -> str:
    if layout.chunks is None:
        return "none"
    return times(layout.chunks) + (f" in shards of {times(layout.shards)}" if layout.shards else "")


def array_words(layout: ArrayLayout) -> str:
    text = (
        f"{layout.name}: {times(layout.shape)} {layout.dtype}, {format_bytes(layout.nbytes)}, {layout.format}"
    )
    if layout.chunks is not None:
        text += f", chunks {grid_words(layout)}"
    if layout.codec:
        text += f", {layout.codec}"
    return text + (f" (through {layout.engine})" if layout.engine else "")
