"""Blocks that tile a domain exactly once, numbered in C order from 0, and never held in a list."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry.box import Box


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
        strides, step = [], 1
        for extent in reversed(self.grid_shape):
            strides.append(step)
            step *= extent
        self._strides = tuple(reversed(strides))

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
        first = tuple(a // b - f for a, b, f in zip(inside.begin, self.block_shape, self._first, strict=True))
        last = tuple(
            (e - 1) // b - f for e, b, f in zip(inside.end, self.block_shape, self._first, strict=True)
        )
        yield from _ids(first, last, self._strides)


def _ids(first: tuple[int, ...], last: tuple[int, ...], strides: tuple[int, ...]) -> Iterator[int]:
    if not first:
        yield 0
        return
    for position in range(first[0], last[0] + 1):
        for rest in _ids(first[1:], last[1:], strides[1:]):
            yield position * strides[0] + rest


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
