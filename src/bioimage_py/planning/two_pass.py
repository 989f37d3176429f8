"""Two passes over a temporary store, for grids that lie so across each other that one pass would read the input again and again.

The first pass reads whole chunks of the input and writes the temporary store; the second reads that and writes whole
write units of the output. Both read once what they read where the chunks of the temporary store divide the blocks of both: per
axis the greatest common divisor of the two, or the smaller one where the other spans the axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.planning.block_shape import pieces, read_amplification
from bioimage_py.planning.byte_size import counted, format_bytes, times
from bioimage_py.planning.layout import ArrayLayout, n_cells
from bioimage_py.planning.memory import MemoryModel

TEMPORARY_CODEC = {"name": "blosc", "cname": "lz4", "level": 1, "shuffle": "shuffle"}
"""Of the temporary store: faster than most disks on either way, and half of the bytes of most images."""

MOST_READS = 2.0
"""How often a chunk may be decoded on average in each of the passes."""

_CHUNK_BYTES = 2**23
"""Chunks of the temporary store are no larger: threads hold some of them besides their blocks."""

_MOST_FILES = 20_000
"""Beyond so many chunks each block of the first pass becomes one file, a shard: it has one writer anyway."""

_MOST_CANDIDATES = 20_000


@dataclass(frozen=True)
class PassOptions:
    """What the two passes have to keep to."""

    block_shape: tuple[int, ...]  # the blocks of the second pass: those of the copy
    block_ids: IdSet  # which of them are to be written
    dtype: np.dtype[Any]  # of the voxels in the temporary store
    memory_limit: int
    budget: int  # memory that one block may take where the limit leaves more
    threads: int  # blocks at a time at most


@dataclass(frozen=True)
class TwoPasses:
    """What goes through a temporary store, and how."""

    shape: tuple[int, ...]  # of the temporary store
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    dtype: np.dtype[Any]
    block_shape: tuple[int, ...]  # of the first pass
    n_blocks: int
    block_ids: IdSet
    in_flight: int  # blocks at a time, in either pass
    peak_memory: int  # of the pass that holds more
    held: tuple[tuple[int, int], ...]  # bytes per pass: whatever its blocks, and per block in flight
    n_bytes: int  # the most that the temporary store takes up, decoded
    n_files: int
    # How often a chunk is decoded on average: of the input, of the temporary store, of the input in one pass.
    first_reads: float
    second_reads: float
    one_pass_reads: float
    place: str = ""  # path or URL of the temporary store, with a place-holder for what makes it unique
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "place": self.place,
            "chunks": list(self.chunks),
            "shards": None if self.shards is None else list(self.shards),
            "dtype": self.dtype.str,
            "bytes": self.n_bytes,
            "n_files": self.n_files,
            "block_shape": list(self.block_shape),
            "n_blocks": len(self.block_ids),
            "read_amplification": [self.first_reads, self.second_reads],
            "one_pass_read_amplification": self.one_pass_reads,
        }

    def texts(self) -> list[tuple[str, str]]:
        why = (
            f"2, because one would decode each chunk of the input {self.one_pass_reads:.3g} times on average: the first reads "
            f"{len(self.block_ids):,} blocks of {times(self.block_shape)} voxels into a temporary store, the second writes the "
            f"output, and reads each chunk of that store {_often(self.second_reads)}"
        )
        shards = f" in shards of {times(self.shards)}" if self.shards else ""
        store = (
            f"{self.place}: at most {format_bytes(self.n_bytes)} before compression, in at most {counted(self.n_files, 'file')}, chunks "
            f"{times(self.chunks)}{shards}; removed at the end"
        )
        return [("passes", why), ("temp", store)]


def plan_two_passes(
    input_layout: ArrayLayout,
    output_layout: ArrayLayout,
    mask_layout: ArrayLayout | None,
    options: PassOptions,
    one_pass_reads: float,
) -> TwoPasses | None:
    """Return the two passes that read least under the memory limit; None if none reads little enough."""
    search = _Search(input_layout, output_layout, mask_layout, options)
    judged = (search.judged(blocks, chunks) for blocks, chunks in search.candidates())
    best = min((found for found in judged if found is not None), key=search.score, default=None)
    if best is None:
        return None
    best = search.numbered(best)
    # A part of the volume is read more seldom in one pass than the whole, and is all that the first pass has to fetch.
    share = len(best.block_ids) / max(1, best.n_blocks)
    wanted = len(options.block_ids) / max(1, search.n_blocks)
    return replace(best, one_pass_reads=one_pass_reads * wanted / share if share else one_pass_reads)


@dataclass(frozen=True)
class _Search:
    """Candidates for the first pass, and what they cost."""

    input: ArrayLayout
    output: ArrayLayout
    mask: ArrayLayout | None
    options: PassOptions

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.output.shape

    @property
    def n_blocks(self) -> int:
        return n_cells(self._shape, self.options.block_shape)

    def candidates(self) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Yield blocks of the first pass with chunks of the temporary store, before these are cut to a good size."""
        assert self.input.chunks is not None
        axes = [
            _axis_candidates(n, c, b)
            for n, c, b in zip(self._shape, self.input.chunks, self.options.block_shape, strict=True)
        ]
        while math.prod(map(len, axes)) > _MOST_CANDIDATES:
            widest = max(axes, key=len)
            del widest[-2:0:-2]
        for found in itertools.product(*axes):
            yield tuple(b for b, _ in found), tuple(c for _, c in found)

    def judged(self, blocks: tuple[int, ...], chunks: tuple[int, ...]) -> TwoPasses | None:
        """Return what such passes would be, None if they read too much or do not fit."""
        o = self.options
        first = read_amplification(self._shape, blocks, self.input.chunks)
        second = read_amplification(self._shape, o.block_shape, chunks)
        if max(first, second) > MOST_READS:
            return None
        chunks = _cut(chunks, o.dtype.itemsize)
        n_chunks = n_cells(self._shape, chunks)
        shards = None
        if n_chunks > _MOST_FILES:
            shards = tuple(-(-b // c) * c for b, c in zip(blocks, chunks, strict=True))
        between = ArrayLayout("temporary store", "zarr v3", self._shape, o.dtype, chunks, shards)
        n_blocks = n_cells(self._shape, blocks)
        costs = [
            (MemoryModel(self.input, between, self.mask, o.threads), blocks, n_blocks),
            (MemoryModel(between, self.output, self.mask, o.threads), o.block_shape, self.n_blocks),
        ]
        held = tuple((model.base(), model.block(block)) for model, block, _ in costs)
        in_flight = min(
            o.threads,
            *(max(1, count) for _, _, count in costs),
            *((o.memory_limit - base) // max(1, block) for base, block in held),
        )
        if in_flight < 1 or held[0][1] > o.budget:
            return None
        n_files = n_chunks if shards is None else n_blocks
        return TwoPasses(
            shape=self._shape,
            chunks=chunks,
            shards=shards,
            dtype=o.dtype,
            block_shape=blocks,
            n_blocks=n_blocks,
            block_ids=IdSet(),
            in_flight=in_flight,
            peak_memory=max(base + in_flight * block for base, block in held),
            held=held,
            n_bytes=math.prod(self._shape) * o.dtype.itemsize,
            n_files=n_files,
            first_reads=first,
            second_reads=second,
            one_pass_reads=0.0,
        )

    def score(self, found: TwoPasses) -> float:
        """Return what passes cost: reads, then chunks far from a good size, and blocks that leave threads without work."""
        n_bytes = math.prod(found.chunks) * found.dtype.itemsize
        inside = math.prod(self.output.inside(found.block_shape))
        score = found.first_reads + found.second_reads + 0.02 * abs(math.log2(n_bytes / _CHUNK_BYTES))
        score += 0.005 * abs(math.log2(inside * found.dtype.itemsize / (8 * _CHUNK_BYTES)))
        return score + 0.1 * (1 - found.in_flight / self.options.threads)

    def numbered(self, found: TwoPasses) -> TwoPasses:
        """Return the passes with the blocks of the first that the second needs."""
        ids = self.options.block_ids
        if len(ids) == self.n_blocks:
            return replace(found, block_ids=IdSet.from_range(found.n_blocks))
        first, second = (Blocking(self._shape, b) for b in (found.block_shape, self.options.block_shape))
        needed = IdSet.from_ids(
            number
            for number in range(first.n_blocks)
            if any(block_id in ids for block_id in second.ids_in(first[number]))
        )
        share = len(needed) / max(1, found.n_blocks)
        return replace(
            found,
            block_ids=needed,
            n_bytes=math.ceil(share * found.n_bytes),
            n_files=math.ceil(share * found.n_files),
        )


def _axis_candidates(n: int, chunk: int, second: int) -> list[tuple[int, int]]:
    """Return extents to try on an axis of n voxels: of blocks of the first pass, and of chunks of the temporary store.

    The chunks divide these blocks, so that no two of them meet in one.
    """
    whole = -(-n // chunk) * chunk
    extents = {whole}
    for unit in (chunk, math.lcm(chunk, second), second):
        extents |= {unit << power for power in range(n.bit_length()) if unit << power < n}
    found = set()
    for first in sorted(extents):
        if first >= n:
            fitting = {min(n, second)}
        else:
            fitting = {first} if second >= n else {first, math.gcd(first, second)}
        for c in fitting:
            reads = pieces(n, first, chunk) / -(-n // chunk), pieces(n, second, c) / -(-n // c)
            if n > 0 and max(reads) <= MOST_READS:
                found.add((first, c))
    return sorted(found)


def _cut(chunks: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return chunks of a good size that divide these, cut along the slowest axes first: runs of voxels stay long."""
    cut = list(chunks)
    while math.prod(cut) * itemsize > _CHUNK_BYTES:
        axis = next(a for a, c in enumerate(cut) if c > 1)
        cut[axis] //= next((p for p in range(2, math.isqrt(cut[axis]) + 1) if cut[axis] % p == 0), cut[axis])
    return tuple(cut)


def _often(times: float) -> str:
    return "once" if times < 1.005 else f"{times:.3g} times"
