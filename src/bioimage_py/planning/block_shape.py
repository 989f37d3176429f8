"""Which block shape reads the input least often, among those that are safe to write.

A block is whole write units of the output, on the output's grid. How often the input's chunks are decoded follows
from integers alone: on one axis of n voxels, blocks of b and chunks of c cut each other into
`blocks + chunks - 1 - (boundaries they share)` pieces, and a chunk is decoded once per piece.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import TypeVar

from bioimage_py.geometry import Blocking, Box
from bioimage_py.planning.layout import ArrayLayout, n_cells

PREFERRED_BYTES = 2**24
"""Voxels of a block where nothing else decides: large enough that Python's part is small, small enough to share."""

_MOST_CANDIDATES = 20_000
_T = TypeVar("_T")

MOST_BYTES = 2**32
"""Voxels of a block, unless one write unit has more: what workers share, and what a crash can cost."""

_MANY_BLOCKS = 1024
_SHARED_BLOCKS = 32
_SHARED_BYTES = 2**16
_MOST_READ = 64
"""Blocks along an axis that are looked at to tell how often chunks are decoded."""
_MOST_UNITS = 4096


def pieces(extent: int, block: int, chunk: int) -> int:
    """Return into how many pieces blocks and chunks cut an axis of `extent` voxels."""
    if extent <= 0:
        return 0
    blocks, chunks = -(-extent // block), -(-extent // chunk)
    return blocks + chunks - 1 - (extent - 1) // math.lcm(block, chunk)


def read_amplification(
    shape: tuple[int, ...], block_shape: tuple[int, ...], chunks: tuple[int, ...] | None
) -> float:
    """Return how often the input's chunks are decoded on average when each block is read once; 1.0 is the least."""
    if chunks is None:
        return 1.0
    ratio = 1.0
    for n, b, c in zip(shape, block_shape, chunks, strict=True):
        if n > 0:
            ratio *= pieces(n, b, c) / -(-n // c)
    return ratio


def reads_of_blocks(
    layout: ArrayLayout, block: tuple[int, ...], at_once: int, budget: int
) -> tuple[float, int]:
    """Return how often the chunks that a wrapper reads are decoded on average, and the bytes of a cache that makes it so.

    Blocks go in C order. Chunks that the next block, row or plane of blocks reads again are there if the cache, of at most `budget` bytes,
    holds what such blocks read, and what those read that are under way.
    """
    assert layout.decoded is not None
    counts = [-(-n // b) for n, b in zip(layout.shape, block, strict=True)]
    grid = Blocking(layout.shape, block)
    row = grid[grid.n_blocks // 2] if grid.n_blocks else Box.whole(layout.shape)
    reads, cache = 1.0, 0
    for axis in reversed(range(len(counts))):
        n, b = layout.shape[axis], block[axis]
        some = range(0, counts[axis], -(-counts[axis] // _MOST_READ) or 1)
        read = sum(layout.decoded(row.with_axis(axis, i * b, min(n, (i + 1) * b))) for i in some)
        needed, row = layout.decoded(row) * (1 + at_once), row.with_axis(axis, 0, n)
        again = read * counts[axis] / max(1, len(some) * layout.decoded(row))
        if again > 1.01 and needed <= budget:
            cache = max(cache, needed)
        else:
            reads *= max(1.0, again)
    return reads, cache


def choose_block_shape(
    input_layout: ArrayLayout,
    output_layout: ArrayLayout,
    block_bytes: Callable[[tuple[int, ...]], int],
    budget: int,
) -> tuple[int, ...]:
    """Return whole write units of the output, chosen by the input's chunks, that fit the budget.

    A single write unit may pass the budget, and the most that a block may hold: nothing smaller is safe.
    """
    shape = output_layout.shape
    options = _options(shape, output_layout.write_unit, input_layout.chunks)
    smallest = tuple(found[0] for found in options)
    best, best_score = smallest, math.inf
    for block in combinations(options):
        held = block_bytes(block)
        if block != smallest and (
            held > budget or _voxel_bytes(block, input_layout, output_layout) > MOST_BYTES
        ):
            continue
        # Two blocks in flight overlap reading and writing; one alone is taken only where it saves much reading.
        score = _score(block, input_layout, output_layout) + (0.1 if 2 * held > budget else 0.0)
        if input_layout.decoded is not None:
            # Computing takes most of the time, and many workers share it.
            shared = min(_SHARED_BLOCKS, input_layout.nbytes // _SHARED_BYTES)
            score += 0.1 * max(0.0, math.log2(max(1, shared) / max(1, n_cells(shape, block))))
        if score < best_score:
            best, best_score = block, score
    return best


def widened(block: tuple[int, ...], output_layout: ArrayLayout) -> tuple[int, ...]:
    """Return a multiple of a block shape for copies that hold no block in memory, so that there are not too many blocks.

    The last axes grow first: they name the files of one folder, and one listing tells about all of them.
    """
    shape, unit = output_layout.shape, output_layout.write_unit
    found = block
    for axis in reversed(range(len(shape))):
        whole = -(-shape[axis] // unit[axis]) * unit[axis]
        while found[axis] < whole:
            larger = (*found[:axis], min(2 * found[axis], whole), *found[axis + 1 :])
            if (
                n_cells(shape, larger) < _MANY_BLOCKS
                or n_cells(larger, unit) > _MOST_UNITS
                or _voxel_bytes(larger, output_layout) > MOST_BYTES
            ):
                return found
            found = larger
    return found


def combinations(options: list[list[_T]]) -> Iterator[tuple[_T, ...]]:
    """Yield the combinations of an option per axis, of few of the options where there are too many."""
    while math.prod(map(len, options)) > _MOST_CANDIDATES:
        widest = max(options, key=len)
        del widest[-2:0:-2]
    return itertools.product(*options)


def _score(block: tuple[int, ...], input_layout: ArrayLayout, output_layout: ArrayLayout) -> float:
    shape = output_layout.shape
    inside = output_layout.inside(block)
    n_bytes = _voxel_bytes(block, input_layout, output_layout)
    score = read_amplification(shape, block, input_layout.chunks)
    score += 0.02 * abs(math.log2(n_bytes / PREFERRED_BYTES))
    # What is not chunked is a file or memory in one order: long runs along its contiguous axes are read, or written, in one go.
    weight = 0.02 if input_layout.chunks is None else 0.002
    score -= weight * _run(inside, input_layout)
    return score - 0.02 * _run(inside, output_layout) * (
        output_layout.chunks is None and output_layout.is_stored
    )


def _run(inside: tuple[int, ...], layout: ArrayLayout) -> float:
    """Return the logarithm of the bytes of a block that lie one after the other in a store; more than a mebibyte is not better."""
    run, axes = 1, range(len(layout.shape))
    for axis in axes if layout.storage_order == "F" else reversed(axes):
        run *= inside[axis]
        if inside[axis] < layout.shape[axis]:
            break
    return math.log2(min(run * layout.itemsize, 2**20))


def _voxel_bytes(block: tuple[int, ...], *layouts: ArrayLayout) -> int:
    """Return the bytes of a block's voxels in the larger of the dtypes of some layouts of one shape."""
    return math.prod(layouts[0].inside(block)) * max(layout.itemsize for layout in layouts)


def _options(
    shape: tuple[int, ...], unit: tuple[int, ...], chunks: tuple[int, ...] | None
) -> list[list[int]]:
    """Return the extents to try on each axis: the write unit, doublings of it, what fits the input's chunks, all."""
    options: list[list[int]] = []
    for axis, (n, u) in enumerate(zip(shape, unit, strict=True)):
        whole = max(1, -(-n // u)) * u
        found = {u, whole}
        step = 2 * u
        while step < whole:
            found.add(step)
            step *= 2
        if chunks is not None:
            fit = math.lcm(u, chunks[axis])
            while fit < whole:
                found.add(fit)
                fit *= 2
        options.append(sorted(found))
    return options
