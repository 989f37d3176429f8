"""Which cells of a grid matter in a block, and the few boxes that they make up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.geometry import Box

Flags = npt.NDArray[np.bool_]


def cells_of(box: Box, grid: tuple[int, ...]) -> Box:
    return Box(
        tuple(b // g for b, g in zip(box.begin, grid, strict=True)),
        tuple(-(-e // g) for e, g in zip(box.end, grid, strict=True)),
    )


def cells_any(voxels: Flags, box: Box, grid: tuple[int, ...]) -> Flags:
    """Return which cells that the box touches have a voxel set in it."""
    return _reduced(np.logical_or, voxels, box, grid)


def cells_all(voxels: Flags, box: Box, grid: tuple[int, ...]) -> Flags:
    """Return which cells that the box touches have all their voxels in it set."""
    return _reduced(np.logical_and, voxels, box, grid)


def cells_under(parts: Iterable[Box], box: Box, grid: tuple[int, ...]) -> Flags:
    """Return which cells that the box touches are touched in it by one of these boxes."""
    cells = cells_of(box, grid)
    found = np.zeros(cells.shape, bool)
    for part in parts:
        inside = part.intersect(box)
        if not inside.is_empty():
            found[cells_of(inside, grid).relative_to(cells.begin).slices] = True
    return found


def boxes_of(flags: Flags, box: Box, grid: tuple[int, ...]) -> Iterator[Box]:
    """Yield boxes of voxels, cut at the box, that together are the cells that are set, each in one of them."""
    first = cells_of(box, grid).begin
    for solid in _solid(flags, Box.whole(flags.shape)):
        begin = tuple((f + b) * g for f, b, g in zip(first, solid.begin, grid, strict=True))
        end = tuple((f + e) * g for f, e, g in zip(first, solid.end, grid, strict=True))
        yield Box(begin, end).intersect(box)


def _reduced(operation: Any, voxels: Flags, box: Box, grid: tuple[int, ...]) -> Flags:
    found = voxels
    for axis, (begin, end, extent) in enumerate(zip(box.begin, box.end, grid, strict=True)):
        if extent > 1:
            starts = [max(0, at - begin) for at in range(begin // extent * extent, end, extent)]
            found = operation.reduceat(found, starts, axis=axis)
    return found


def _solid(flags: Flags, within: Box) -> Iterator[Box]:
    """Yield boxes that are full of set cells, by cutting in two what is not."""
    part = flags[within.slices]
    if part.all():
        if part.size:
            yield within
        return
    if not part.any():
        return
    begin, end = list(within.begin), list(within.end)
    for axis in range(part.ndim):
        hits = np.flatnonzero(part.any(axis=tuple(a for a in range(part.ndim) if a != axis)))
        begin[axis], end[axis] = within.begin[axis] + int(hits[0]), within.begin[axis] + int(hits[-1]) + 1
    hull = Box(tuple(begin), tuple(end))
    axis = int(np.argmax(hull.shape))
    middle = (begin[axis] + end[axis]) // 2
    if hull != within and flags[hull.slices].all():
        yield hull
        return
    yield from _solid(flags, Box(hull.begin, (*end[:axis], middle, *end[axis + 1 :])))
    yield from _solid(flags, Box((*begin[:axis], middle, *begin[axis + 1 :]), hull.end))
