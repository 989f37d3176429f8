"""One pass or two: two where one would read the input more than twice, and a temporary store has room."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bioimage_py.chunks import NUMBERS
from bioimage_py.errors import Hint
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.planning.block_shape import choose_block_shape, combinations, pieces, read_amplification
from bioimage_py.planning.byte_size import format_bytes, often
from bioimage_py.planning.copy_plan import DEFAULT_BLOCK_BUDGET, CopyPlan, PlanOptions, TwoPasses, copy_hints
from bioimage_py.planning.layout import ArrayLayout, n_cells
from bioimage_py.planning.memory import MemoryModel

MOST_READS_OF_ONE_PASS = 2.0
"""A pass that decodes chunks more often on average is worth a second one, which writes everything once more and reads it again.

Measured for deflate, roughly: a second pass takes as long as decoding 1.7 times."""

_CHUNK_BYTES = 2**23
"""Chunks of the temporary store are no larger: threads hold some of them besides their blocks."""

_MOST_FILES = 20_000
"""Beyond so many chunks each block of the first pass becomes one file, a shard: it has one writer anyway."""


@dataclass(frozen=True)
class RoomBeside:
    """Where a temporary store can be."""

    place: str | None  # path or URL, as far as it is known beforehand; None: there is none
    free_bytes: int | None = 0  # None: no limit, as behind a URL
    why_not: str = ""  # why there is no place
    options: Mapping[str, Any] = field(default_factory=dict)
    promised_bytes: int = 0  # what others of the same run could take of the free bytes

    def without(self, needed: int) -> str:
        """Return why a temporary store and an output of so many bytes have no room; nothing where they have."""
        needed += self.promised_bytes
        if self.place is None:
            return self.why_not
        if self.free_bytes is None or needed <= self.free_bytes:
            return ""
        return (
            f"the file system of the output has {format_bytes(self.free_bytes)} left, and the temporary store and the output could "
            f"take {format_bytes(needed)}"
        )


def in_one_or_two_passes(plan: CopyPlan, options: PlanOptions, casting: str, room: RoomBeside) -> CopyPlan:
    """Return the plan as it is, or in two passes over a temporary store; blocks and their numbers stay the same."""
    reads = min(plan.read_amplification, reads_through_cache(plan, plan.block_shape))
    if not {plan.input.dtype.name, plan.output.dtype.name} <= NUMBERS:
        return plan  # a temporary store cannot hold the others, whichever library writes it
    if plan.direct or plan.road != "recode" or reads <= MOST_READS_OF_ONE_PASS or not plan.block_ids:
        return plan
    if options.block_shape is not None and _least_reads(plan, options) <= MOST_READS_OF_ONE_PASS:
        return plan
    smaller = plan.output.itemsize < plan.input.itemsize and casting != "check"
    dtype = (plan.output.dtype if smaller else plan.input.dtype).newbyteorder("=")
    found = _two_passes(plan, dtype, reads)
    if found is None or found.one_pass_reads <= MOST_READS_OF_ONE_PASS:
        return plan
    why_not = room.without(found.n_bytes + plan.bytes_out)
    if room.place is None or why_not:
        hint = (
            f"two passes through a temporary store beside the output would decode each chunk of the input "
            f"{often(found.first_reads)}, but {why_not}"
        )
        return replace(plan, hints=(*plan.hints, Hint(hint)))
    limit = plan.memory_limit
    cache = 0
    if max(found.first_reads, found.second_reads) > 1.01:
        # Workers keep one for the input and one for the temporary store.
        cache = max(0, min(limit // 4, limit - found.peak_memory) // 2)
    return replace(
        plan,
        passes=replace(found, place=room.place, options=room.options),
        in_flight=found.in_flight,
        cache_bytes=cache,
        peak_memory=found.peak_memory + 2 * cache,
        read_amplification=found.first_reads,
        hints=copy_hints(plan.output, found.first_reads, options.memory_limit),
    )


def reads_through_cache(plan: CopyPlan, block_shape: tuple[int, ...]) -> float:
    """Return how often an input chunk is decoded on average, if the cache keeps what the next blocks read again.

    Blocks go in C order. Where they cut chunks, a chunk is needed again by the next row of blocks; it is still there if the
    cache holds what one row reads.
    """
    chunks, shape = plan.input.chunks, plan.input.shape
    if chunks is None:
        return 1.0
    axes = [(n, b, c, -(-n // c) * c) for n, b, c in zip(shape, block_shape, chunks, strict=True)]
    parts = [min(whole, _touched(b, c)) for _, b, c, whole in axes]
    reads, held = 1.0, plan.input.itemsize * math.prod(parts)
    for (n, b, c, whole), part in zip(reversed(axes), reversed(parts), strict=True):
        # The threads of a run are in as many blocks at once, of this row or of the next.
        if n > 0 and held * (1 + plan.in_flight) > plan.cache_bytes:
            reads *= pieces(n, b, c) / -(-n // c)
        held = held // max(1, part) * whole
    return reads


def _touched(block: int, chunk: int) -> int:
    return ((block - 1 + chunk - 1) // chunk + 1) * chunk if block % chunk else block


def _least_reads(plan: CopyPlan, options: PlanOptions) -> float:
    """Return how often an input chunk would be decoded with the blocks that this package would have chosen."""
    memory = MemoryModel(plan.input, plan.output, plan.mask, plan.threads)
    limit = options.memory_limit
    budget = DEFAULT_BLOCK_BUDGET if limit is None else max(1, limit - memory.base())
    return reads_through_cache(plan, choose_block_shape(plan.input, plan.output, memory.block, budget))


def _two_passes(plan: CopyPlan, dtype: np.dtype[Any], one_pass_reads: float) -> TwoPasses | None:
    """Return the two passes that read least under the memory limit; None if none reads little enough."""
    assert plan.input.chunks is not None
    sides = zip(plan.output.shape, plan.input.chunks, plan.block_shape, strict=True)
    best, best_score = None, math.inf
    for axes in combinations([_axis_candidates(*axis) for axis in sides]):
        found = _judged(plan, dtype, tuple(b for b, _ in axes), tuple(c for _, c in axes))
        if found is not None and (score := _score(plan, found)) < best_score:
            best, best_score = found, score
    if best is None:
        return None
    best = _numbered(plan, best)
    # A part of the volume is read more seldom in one pass than the whole, and is all that the first pass has to fetch.
    share = len(best.block_ids) / max(1, best.n_blocks)
    wanted = len(plan.block_ids) / max(1, plan.n_blocks)
    return replace(best, one_pass_reads=one_pass_reads * wanted / share if share else one_pass_reads)


def _judged(
    plan: CopyPlan, dtype: np.dtype[Any], blocks: tuple[int, ...], chunks: tuple[int, ...]
) -> TwoPasses | None:
    """Return what passes with these blocks and chunks, cut to a good size, would be; None if they read too much or do not fit."""
    shape, threads = plan.output.shape, plan.threads
    first = read_amplification(shape, blocks, plan.input.chunks)
    second = read_amplification(shape, plan.block_shape, chunks)
    if max(first, second) > MOST_READS_OF_ONE_PASS:
        return None
    chunks = _cut(chunks, dtype.itemsize)
    n_files, n_blocks = n_cells(shape, chunks), n_cells(shape, blocks)
    shards = None
    if n_files > _MOST_FILES:
        shards = tuple(-(-b // c) * c for b, c in zip(blocks, chunks, strict=True))
        n_files = n_blocks
    between = ArrayLayout("temporary store", "zarr v3", shape, dtype, chunks, shards)
    into = MemoryModel(plan.input, between, plan.mask, threads)
    out_of = MemoryModel(between, plan.output, plan.mask, threads)
    held = ((into.base(), into.block(blocks)), (out_of.base(), out_of.block(plan.block_shape)))
    allowed = ((plan.memory_limit - base) // max(1, block) for base, block in held)
    in_flight = min(threads, max(1, n_blocks), max(1, plan.n_blocks), *allowed)
    if in_flight < 1 or held[0][1] > DEFAULT_BLOCK_BUDGET:
        return None
    return TwoPasses(
        shape=shape,
        chunks=chunks,
        shards=shards,
        dtype=dtype,
        block_shape=blocks,
        n_blocks=n_blocks,
        block_ids=IdSet(),
        in_flight=in_flight,
        peak_memory=max(base + in_flight * block for base, block in held),
        held=held,
        n_bytes=math.prod(shape) * dtype.itemsize,
        n_files=n_files,
        first_reads=first,
        second_reads=second,
        one_pass_reads=0.0,
    )


def _score(plan: CopyPlan, found: TwoPasses) -> float:
    """Return what passes cost: reads, then chunks far from a good size, and blocks that leave threads without work."""
    itemsize = found.dtype.itemsize
    inside = math.prod(plan.output.inside(found.block_shape))
    score = found.first_reads + found.second_reads
    score += 0.02 * abs(math.log2(math.prod(found.chunks) * itemsize / _CHUNK_BYTES))
    score += 0.005 * abs(math.log2(inside * itemsize / (8 * _CHUNK_BYTES)))
    return score + 0.1 * (1 - found.in_flight / plan.threads)


def _numbered(plan: CopyPlan, found: TwoPasses) -> TwoPasses:
    """Return the passes with the blocks of the first that the second needs."""
    ids = plan.block_ids
    if len(ids) == plan.n_blocks:
        return replace(found, block_ids=IdSet.from_range(found.n_blocks))
    needed = Blocking(found.shape, found.block_shape).ids_over(plan.blocking, ids)
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
            if n > 0 and max(reads) <= MOST_READS_OF_ONE_PASS:
                found.add((first, c))
    return sorted(found)


def _cut(chunks: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return chunks of a good size that divide these, cut along the slowest axes first: runs of voxels stay long."""
    cut = list(chunks)
    while math.prod(cut) * itemsize > _CHUNK_BYTES:
        axis = next(a for a, c in enumerate(cut) if c > 1)
        cut[axis] //= next((p for p in range(2, math.isqrt(cut[axis]) + 1) if cut[axis] % p == 0), cut[axis])
    return tuple(cut)
