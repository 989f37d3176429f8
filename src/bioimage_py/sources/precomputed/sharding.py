"""Shards of a scale: which chunks are in one, namely those that follow each other in compressed Morton order, and how they get there."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorstore as ts

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import Hint, InvalidArgumentError
from bioimage_py.storage import awaited

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


@dataclass(frozen=True)
class ShardWriter:
    """Writes whole chunks into shards.

    TensorStore (0.1.86) by itself stores no chunks of zeros in shards, whatever it is told, and does not replace a shard in which all
    becomes zero: its old voxels stay. So chunks are encoded in a volume in memory, and put into their shards by number.
    """

    volume: str  # its path or URL
    spec: Mapping[str, Any]  # of the scale, as TensorStore tells it
    base: Mapping[str, Any]  # the folder of the scale, as TensorStore takes it
    context: ts.Context
    skips_zeros: bool

    def write(self, begin: Sequence[int], voxels: AnyArray) -> None:
        """Write voxels of x, y, z and channel that begin with a chunk and end with one, or the volume."""
        scale = self.spec["scale_metadata"]
        chunk, grid = (
            scale["chunk_size"],
            [-(-n // c) for n, c in zip(scale["size"], scale["chunk_size"], strict=True)],
        )
        memory = ts.Context({"memory_key_value_store": {}}, parent=self.context)
        alone = {name: value for name, value in scale.items() if name != "sharding"}
        size = list(voxels.shape[:3])
        how = {
            **{name: self.spec[name] for name in ("driver", "dtype", "multiscale_metadata")},
            "kvstore": {"driver": "memory"},
            "scale_metadata": {**alone, "key": "s0", "size": size, "voxel_offset": [0, 0, 0]},
            "store_data_equal_to_fill_value": not self.skips_zeros,
        }
        ts.open(how, create=True, context=memory).result().write(voxels).result()
        encoded = ts.KvStore.open({"driver": "memory", "path": "s0/"}, context=memory).result()
        reads = {}
        for position in itertools.product(*(range(0, n, c) for n, c in zip(size, chunk, strict=True))):
            sides = zip(position, chunk, size, strict=True)
            name = "_".join(f"{p}-{min(p + c, n)}" for p, c, n in sides)
            number = _number([(b + p) // c for b, p, c in zip(begin, position, chunk, strict=True)], grid)
            reads[number.to_bytes(8, "big")] = encoded.read(name)
        transaction = ts.Transaction()
        target = {
            "driver": "neuroglancer_uint64_sharded",
            "metadata": scale["sharding"],
            "base": dict(self.base),
        }
        store = ts.KvStore.open(target, context=self.context).result().with_transaction(transaction)
        while reads:  # each is let go of when the transaction has it
            key, read = reads.popitem()
            found = read.result()
            store.write(key, found.value if found.state == "value" else None).result()
        del encoded, memory
        awaited(transaction.commit_async, self.volume)


def _number(position: Sequence[int], grid: Sequence[int]) -> int:
    """Return the number of a chunk in Morton order."""
    number = place = 0
    for bit in range(max(n - 1 for n in grid).bit_length()):
        for at, n in zip(position, grid, strict=True):
            if (n - 1) >> bit:
                number |= (at >> bit & 1) << place
                place += 1
    return number
