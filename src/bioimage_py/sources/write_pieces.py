"""In which pieces a large box is written, so that not all of it waits for the disk at once."""

from __future__ import annotations

import math

from bioimage_py.geometry import Box
from bioimage_py.sources.base import Source

__all__ = ["WRITTEN_BYTES", "piece_shape"]

WRITTEN_BYTES = 2**24
"""What is written at a time: enough for all threads of an engine, and not much to hold besides the voxels themselves."""


def piece_shape(output: Source, box: Box) -> tuple[int, ...]:
    """Return the extents, whole write units, of pieces of a box that hold about `WRITTEN_BYTES`."""
    unit = output.write_unit or (1,) * output.ndim
    piece = [-(-n // u) * u for n, u in zip(box.shape, unit, strict=True)]
    for axis, u in enumerate(unit):
        over = math.prod(piece) * output.dtype.itemsize / WRITTEN_BYTES
        if over > 1:
            piece[axis] = max(u, int(piece[axis] / over) // u * u)
    return tuple(piece)
