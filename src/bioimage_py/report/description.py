"""What is known of a source, in words: for `info` and for notebooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from bioimage_py.errors import Call
from bioimage_py.metadata import assumptions, short_unit
from bioimage_py.planning import format_bytes
from bioimage_py.sources import Source

_CROSS = " × "


def source_rows(source: Source, written: Callable[[Call], str] = str) -> Iterator[tuple[str, str]]:
    """Yield label and text of what a source says of itself; calls in hints are told as a function writes them."""
    metadata = source.metadata.fitting(source.ndim)
    yield "image", source.name
    yield "format", source.format
    axes = f"  (axes {', '.join(metadata.axes)})" if metadata.axes else ""
    yield "shape", shape_text(source.shape) + axes
    yield "data type", source.dtype.name + (" (big-endian)" if source.dtype.byteorder == ">" else "")
    if metadata.voxel_size is not None:
        yield "voxel size", voxel_size_text(metadata.voxel_size, metadata.units)
    if metadata.origin is not None and any(metadata.origin):
        yield "origin", voxel_size_text(metadata.origin, metadata.units)
    if metadata.channel_names:
        yield "channels", ", ".join(metadata.channel_names)
    for n, hint in enumerate(assumptions(source.metadata, source.shape)):
        yield "" if n else "assumed", hint.told(written)
    for label, unit in (("chunks", source.chunks), ("shards", source.shards)):
        if unit is not None:
            count = math.prod(-(-n // u) for n, u in zip(source.shape, unit, strict=True))
            size = format_bytes(math.prod(unit) * source.dtype.itemsize)
            yield label, f"{shape_text(unit)}  ({size} each before compression, {count:,} in all)"
    if source.codec:
        yield "codec", source.codec


def shape_text(shape: Sequence[int]) -> str:
    return _CROSS.join(str(n) for n in shape) if shape else "a single value (no axes)"


def voxel_size_text(size: Sequence[float], units: Sequence[str | None] | None) -> str:
    """Return the voxel size with its units, or with the one that all axes share."""
    numbers = [f"{extent:.6g}" for extent in size]
    symbols = [short_unit(unit or "") for unit in units or ("",) * len(numbers)]
    if not any(symbols):
        return f"{_CROSS.join(numbers)} (unit not known)"
    if len(set(symbols)) == 1:
        return f"{_CROSS.join(numbers)} {symbols[0]}"
    return _CROSS.join(f"{n} {s}".rstrip() for n, s in zip(numbers, symbols, strict=True))
