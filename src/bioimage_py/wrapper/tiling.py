"""Cutting a region into parts that need little memory each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bioimage_py.geometry import Box

READ_BYTES = 2**25
"""Bytes that a wrapper which reads more than it returns holds at once, where the chunks of its input allow."""

OVERLAP_BYTES = 2**25
"""Decoded chunks that are kept during a run for a wrapper whose neighbouring parts read some chunks both."""


def parts_of(
    box: Box, grid: tuple[int, ...] | None, n_bytes: Callable[[Box], int], limit: int = READ_BYTES
) -> Iterator[Box]:
    """Yield parts that tile a box, in C order, each of at most `limit` bytes or within one cell of the grid.

    Parameters
    ----------
    box
        The region, not empty.
    grid
        Cells that are not cut, because that would decode chunks twice; None where any cut is as good.
    n_bytes
        What a part costs.
    limit
        In bytes.

    Examples
    --------
    >>> [part.shape for part in parts_of(Box((0, 0), (10, 4)), (4, 4), lambda part: part.size, limit=16)]
    [(4, 4), (4, 4), (2, 4)]
    """
    cells = grid or (1,) * box.ndim
    waiting = [box]
    while waiting:
        part = waiting.pop()
        cut = _cut(part, cells) if n_bytes(part) > limit else None
        if cut is None:
            yield part
        else:
            waiting.extend(reversed(cut))


def largest_part(
    shape: tuple[int, ...],
    grid: tuple[int, ...] | None,
    n_bytes: Callable[[Box], int],
    limit: int = READ_BYTES,
) -> tuple[int, ...]:
    """Return the shape of the largest part that `parts_of` yields of a box of a shape which begins on the grid.

    Examples
    --------
    >>> largest_part((10, 4), (4, 4), lambda part: part.size, limit=16)
    (4, 4)
    """
    cells, part = grid or (1,) * len(shape), Box.whole(shape)
    while n_bytes(part) > limit and (cut := _cut(part, cells)) is not None:
        part = Box.whole(max(cut, key=n_bytes).shape)
    return part.shape


def _cut(box: Box, cells: tuple[int, ...]) -> tuple[Box, Box] | None:
    """Return two halves, cut at a grid line of the first axis that has one inside: slabs are contiguous in most stores."""
    for axis, cell in enumerate(cells):
        first, last = box.begin[axis] // cell, (box.end[axis] - 1) // cell
        if last > first:
            at = (first + last + 1) // 2 * cell
            end, begin = list(box.end), list(box.begin)
            end[axis] = begin[axis] = at
            return Box(box.begin, tuple(end)), Box(tuple(begin), box.end)
    return None
