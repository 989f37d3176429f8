"""Chunks and shards of a new array: what is given, what the input has where that is sensible, or good defaults."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bioimage_py.errors import Hint, InvalidArgumentError
from bioimage_py.geometry import default_chunks, sensible_chunks
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.base import Source
from bioimage_py.sources.family import Family


def new_grids(
    family: Family,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: Sequence[int] | None,
    shards: Sequence[int] | None,
    like: Source | None,
    metadata: ImageMetadata,
    zarr_format: int,
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Return chunks and shards of a new array of a family, None where there are none; `like` is a source of this shape to follow.

    Raises InvalidArgumentError if what is given does not fit the shape, each other, or the family.
    """
    if not family.chunked:
        if chunks is not None or shards is not None:
            raise InvalidArgumentError(
                f"{family.entry.kind} files have no chunks or shards",
                hints=[Hint.of("leave out {}", chunks=..., shards=...)],
            )
        return None, None
    grid = None if chunks is None else checked_extents("chunks", chunks, least=1, ndim=len(shape))
    shard_grid = None if shards is None else checked_extents("shards", shards, least=1, ndim=len(shape))
    old_shards = like.shards if like is not None and family.has_shards(zarr_format) else None
    if grid is None:
        old = None if like is None else like.chunks
        # Small chunks are no burden where shards hold them, so they are kept together.
        keep = old_shards is not None or (
            old is not None and sensible_chunks(old, shape, dtype.itemsize, metadata.axes)
        )
        grid = old if keep and old is not None else default_chunks(shape, dtype.itemsize, metadata.axes)
        if shard_grid is not None and not _divides(grid, shard_grid):
            grid = tuple(_nearest_divisor(s, c) for c, s in zip(grid, shard_grid, strict=True))
    if shard_grid is None and chunks is None and like is not None and grid == like.chunks:
        shard_grid = old_shards
    if shard_grid is not None and not _divides(grid, shard_grid):
        raise InvalidArgumentError(
            f"shards {shard_grid} must be a multiple of the chunks {grid} on every axis"
        )
    return grid, shard_grid


def _nearest_divisor(shard: int, chunk: int) -> int:
    """Return the extent of a chunk that divides a shard's and is, as a ratio, nearest to the one wished for."""
    small = [n for n in range(1, math.isqrt(shard) + 1) if shard % n == 0]
    divisors = {*small, *(shard // n for n in small)}
    return min(divisors, key=lambda n: (max(n / chunk, chunk / n), n))


def _divides(chunks: tuple[int, ...], shards: tuple[int, ...]) -> bool:
    return all(s % c == 0 for c, s in zip(chunks, shards, strict=True))
