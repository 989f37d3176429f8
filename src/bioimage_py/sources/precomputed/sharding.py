"""Which chunks of a scale are in one shard: those that follow each other in compressed Morton order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from bioimage_py.errors import Hint, InvalidArgumentError

_INDEXED_TOGETHER = 9
"""Bits of the chunks whose places are read together: 512 entries, which take about 5 KiB."""


def sharding_of(
    size: Sequence[int], chunk: Sequence[int], shards: Sequence[int], encoding: str
) -> dict[str, Any]:
    """Return how a scale is stored in shards of an extent; all in x, y, z.

    Raises InvalidArgumentError for an extent that no shard has. In Morton order the bits of x, y and z take turns, as far as an axis
    has any left, so that shards of 2, 4, 8, … chunks have one shape each.
    """
    grid = [max(1, -(-n // c)) for n, c in zip(size, chunk, strict=True)]
    wanted = [min(-(-s // c), n) for s, c, n in zip(shards, chunk, grid, strict=True)]
    boxes = list(_boxes(grid))
    cut = [[min(b, n) for b, n in zip(box, grid, strict=True)] for box in boxes]
    if wanted not in cut:
        near = boxes[round(math.log2(math.prod(wanted)))]
        fitting = tuple(b * c for b, c in zip(near, chunk, strict=True))[::-1]
        raise InvalidArgumentError(
            f"shards {tuple(shards)[::-1]} are not possible in a precomputed volume of shape {tuple(size)[::-1]} with chunks "
            f"{tuple(chunk)[::-1]}: a shard holds 2, 4, 8, … chunks that follow each other in Morton order, x first",
            hints=[Hint.of("give some that are, for example {}", shards=fitting)],
        )
    inside = cut.index(wanted)
    together = min(inside, _INDEXED_TOGETHER)
    return {
        "@type": "neuroglancer_uint64_sharded_v1",
        "hash": "identity",
        "preshift_bits": together,
        "minishard_bits": inside - together,
        "shard_bits": len(boxes) - 1 - inside,
        "minishard_index_encoding": "gzip",
        "data_encoding": "raw" if encoding in ("jpeg", "png") else "gzip",
    }


def _boxes(grid: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the extents in chunks that a shard can have: the first n bits of the order, for each n."""
    box = [1] * len(grid)
    yield tuple(box)
    for bit in range(max(n - 1 for n in grid).bit_length()):
        for axis, n in enumerate(grid):
            if (n - 1) >> bit:
                box[axis] *= 2
                yield tuple(box)
