"""In which pieces a large box is read and written, so that not all of it waits for the disk, encoded, at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bioimage_py.geometry import Blocking, Box
from bioimage_py.sources.base import Source

WRITTEN_BYTES = 2**24
"""What is written at a time where much else is held: enough for all threads of an engine."""

IN_HAND_BYTES = 2**26
"""What an engine is given at a time: enough for the threads of a large machine, and little beside the blocks that are worth it."""


def piece_shape(
    unit: tuple[int, ...], itemsize: int, box: Box, n_bytes: int = WRITTEN_BYTES
) -> tuple[int, ...]:
    """Return the extents, whole units, of pieces of a box that hold about so many bytes; one unit may be more."""
    piece = [-(-n // u) * u for n, u in zip(box.shape, unit, strict=True)]
    for axis, u in enumerate(unit):
        over = math.prod(piece) * itemsize / n_bytes
        if over > 1:
            piece[axis] = max(u, int(piece[axis] / over) // u * u)
    return tuple(piece)


def pieces_of(source: Source, unit: tuple[int, ...], box: Box) -> Iterator[Box]:
    """Yield the pieces, on the grid of the units, in which a box of a source is in an engine's hands."""
    if math.prod(box.shape) * source.dtype.itemsize <= IN_HAND_BYTES:
        yield box
        return
    piece = piece_shape(unit, source.dtype.itemsize, box, IN_HAND_BYTES)
    yield from Blocking(source.shape, piece, roi=box)
