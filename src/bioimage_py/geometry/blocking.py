"""Blocks that tile a domain exactly once, numbered in C order from 0, and never held in a list."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry.box import Box
from bioimage_py.geometry.id_set import IdSet

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.int64]

_AT_ONCE = 2**18
"""Runs of blocks that are held at once while blocks of one grid are found in another."""


class Block(Box):
    """One block of a blocking: `begin`, `end` and `shape` in voxels."""

    __slots__ = ()


class BlockWithHalo(NamedTuple):
    """A block with voxels around it that are read but not written.

    Attributes
    ----------
    outer_block
        The region to read, in coordinates of the array.
    inner_block
        The region to write, in coordinates of the array.
    inner_block_local
        The region to write, in coordinates of the outer block.
    """

    outer_block: Block
    inner_block: Block
    inner_block_local: Block

    @property
    def begin(self) -> tuple[int, ...]:
        """Begin of the outer block."""
        return self.outer_block.begin

    @property
    def end(self) -> tuple[int, ...]:
        """End of the outer block."""
        return self.outer_block.end

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the outer block."""
        return self.outer_block.shape


def to_roi(block: Box | BlockWithHalo) -> tuple[slice, ...]:
    """Return the slices that select a block; for a block with a halo, those of its outer block.

    Examples
    --------
    >>> to_roi(Block((0, 2), (4, 6)))
    (slice(0, 4, None), slice(2, 6, None))
    """
    return block.outer_block.slices if isinstance(block, BlockWithHalo) else block.slices


class Blocking:
    """A grid of blocks over an array, or over a region of it; blocks at the far faces are cut.

    Parameters
    ----------
    shape
        Shape of the array in voxels.
    block_shape
        Shape of a block in voxels, one positive integer per axis.
    roi
        The region to tile, in coordinates of the array. The grid stays that of the array, so that blocks which are
        whole write units stay so; blocks are cut at the faces of the roi. Default: the whole array.

    Raises
    ------
    InvalidArgumentError
        If `block_shape` has another length than `shape` or an extent below 1, or `roi` leaves the array.

    Examples
    --------
    >>> blocking = Blocking((5, 4), (2, 4))
    >>> len(blocking), blocking[2]
    (3, Block(begin=(4, 0), end=(5, 4)))
    """

    def __init__(
        self, shape: tuple[int, ...], block_shape: tuple[int, ...], *, roi: Box | None = None
    ) -> None:
        self.shape = tuple(int(n) for n in shape)
        self.block_shape = check_block_shape(block_shape, self.shape)
        self.roi = Box.whole(self.shape) if roi is None else roi
        if not Box.whole(self.shape).contains(self.roi):
            raise InvalidArgumentError(f"roi {self.roi} leaves the array of shape {self.shape}")
        self._first = tuple(a // b for a, b in zip(self.roi.begin, self.block_shape, strict=True))
        self.grid_shape = tuple(
            -(-e // b) - f if e > a else 0
            for a, e, b, f in zip(*self.roi, self.block_shape, self._first, strict=True)
        )
        self.n_blocks = math.prod(self.grid_shape)
        self._strides = tuple(math.prod(self.grid_shape[axis + 1 :]) for axis in range(len(self.shape)))

    def __len__(self) -> int:
        return self.n_blocks

    def __iter__(self) -> Iterator[Block]:
        return (self.block(block_id) for block_id in range(self.n_blocks))

    def __getitem__(self, block_id: int) -> Block:
        return self.block(block_id)

    def __repr__(self) -> str:
        return f"Blocking(shape={self.shape}, block_shape={self.block_shape}, n_blocks={self.n_blocks})"

    def position(self, block_id: int) -> tuple[int, ...]:
        """Return the grid position of a block."""
        if not 0 <= block_id < self.n_blocks:
            raise InvalidArgumentError(f"block id {block_id} is not in 0 … {self.n_blocks - 1}")
        return tuple(block_id // s % n for s, n in zip(self._strides, self.grid_shape, strict=True))

    def block_id(self, position: tuple[int, ...]) -> int:
        """Return the number of the block at a grid position."""
        return sum(p * s for p, s in zip(position, self._strides, strict=True))

    def block_at(self, position: tuple[int, ...]) -> Block:
        """Return the block at a grid position."""
        cell = tuple((f + p) * b for f, p, b in zip(self._first, position, self.block_shape, strict=True))
        return Block(
            tuple(map(max, cell, self.roi.begin)),
            tuple(min(a + b, e) for a, b, e in zip(cell, self.block_shape, self.roi.end, strict=True)),
        )

    def block(self, block_id: int) -> Block:
        """Return a block by its number; raises InvalidArgumentError if there is none."""
        return self.block_at(self.position(block_id))

    def block_with_halo(self, block_id: int, halo: tuple[int, ...]) -> BlockWithHalo:
        """Return a block with `halo` voxels on each side, cut at the array (not at the roi)."""
        inner = self.block(block_id)
        outer = inner.grow(halo, self.shape)
        return BlockWithHalo(Block(*outer), inner, Block(*inner.relative_to(outer.begin)))

    def ids_in(self, box: Box) -> Iterator[int]:
        """Yield, in ascending order, the numbers of the blocks that share a voxel with `box`."""
        inside = box.intersect(self.roi)
        if inside.is_empty():
            return
        axes = zip(*inside, self.block_shape, self._first, self._strides, strict=True)
        spans = (range((low // b - f) * s, ((high - 1) // b - f + 1) * s, s) for low, high, b, f, s in axes)
        yield from map(sum, itertools.product(*spans))

    def ids_over(self, other: Blocking, ids: IdSet) -> IdSet:
        """Return the blocks that share a voxel with those blocks of another blocking of the same region, at a cost that goes with the runs.

        A run is few boxes of grid positions, of which each is a box of positions of the other grid.
        """
        if other.roi != self.roi:
            raise InvalidArgumentError(f"the blockings are of {self.roi} and {other.roi}")
        if len(ids) == other.n_blocks:
            return IdSet.from_range(self.n_blocks)
        most = (
            -(-theirs // own) + 1 for theirs, own in zip(other.block_shape, self.block_shape, strict=True)
        )
        per_run = math.prod(map(min, list(most)[:-1], self.grid_shape))
        n_runs = max(1, _AT_ONCE // max(1, per_run))
        begins, ends = ids.to_arrays()
        return IdSet.union(
            IdSet.from_arrays(*self._runs_over(other, axis, *box))
            for at in range(0, ids.n_runs, n_runs)
            for axis, *box in _boxes(begins[at : at + n_runs], ends[at : at + n_runs], other.grid_shape)
        )

    def _runs_over(
        self, other: Blocking, axis: int, row: Numbers, low: Numbers, high: Numbers
    ) -> tuple[Numbers, Numbers]:
        """Return begins and ends of the runs of blocks that share a voxel with boxes of another grid, which are as from `_boxes`."""
        import numpy as np

        first, last = self._positions_over(other, axis, low, high)
        step = math.prod(self.grid_shape[axis + 1 :])
        begins, ends = first * step, last * step
        for before in reversed(range(axis)):
            step *= self.grid_shape[before + 1]
            row, position = np.divmod(row, other.grid_shape[before])
            first, last = self._positions_over(other, before, position, position + 1)
            counts = last - first
            if (counts > 1).any():
                which = np.repeat(np.arange(len(counts)), counts)
                row, begins, ends = row[which], begins[which], ends[which]
                first = (first - (np.cumsum(counts) - counts))[which] + np.arange(len(which))
            begins, ends = begins + first * step, ends + first * step
        return begins, ends

    def _positions_over(
        self, other: Blocking, axis: int, low: Numbers, high: Numbers
    ) -> tuple[Numbers, Numbers]:
        """Return the positions on an axis that share voxels with those from `low` to `high` of another grid."""
        import numpy as np

        extent, begin, end = self.block_shape[axis], self.roi.begin[axis], self.roi.end[axis]
        theirs, at = other.block_shape[axis], other._first[axis]
        first = np.maximum((low + at) * theirs, begin) // extent
        last = (np.minimum((high + at) * theirs, end) - 1) // extent + 1
        return first - self._first[axis], last - self._first[axis]


def _boxes(
    begins: Numbers, ends: Numbers, grid_shape: tuple[int, ...]
) -> Iterator[tuple[int, Numbers, Numbers, Numbers]]:
    """Yield the boxes of positions that runs of blocks consist of: an axis, and what many of them have there.

    That is the number of the row, which tells the position on the axes before, and the positions on this axis, from `low` to
    `high`. On the axes after it each box is whole.
    """
    import numpy as np

    for axis in reversed(range(1, len(grid_shape))):
        row, low = np.divmod(begins, grid_shape[axis])
        last, high = np.divmod(ends, grid_shape[axis])
        cut = low > 0
        yield axis, row[cut], low[cut], np.where(last > row, grid_shape[axis], high)[cut]
        rest = (high > 0) & ((last > row) | ~cut)
        yield axis, last[rest], np.zeros_like(last[rest]), high[rest]
        begins, ends = row + cut, last
        whole = ends > begins
        begins, ends = begins[whole], ends[whole]
    yield 0, np.zeros_like(begins), begins, ends


def check_block_shape(block_shape: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return checked_extents("block_shape", block_shape, least=1, ndim=len(shape))


def checked_extents(what: str, given: Any, *, least: int, ndim: int | None = None) -> tuple[int, ...]:
    """Return what was given as ints, one per axis and none below `least`, or raise InvalidArgumentError."""
    try:
        extents = tuple(given)
        fine = all(not isinstance(n, bool) and int(n) == n and least <= n < 2**63 for n in extents)
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise InvalidArgumentError(f"{what} must be one integer of at least {least} per axis, got {given!r}")
    if ndim is not None and len(extents) != ndim:
        raise InvalidArgumentError(f"{what} {extents} has {len(extents)} axes, but the array has {ndim}")
    return tuple(int(n) for n in extents)
