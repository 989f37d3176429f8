"""One pass or two: two where one would read the input more than twice, and a temporary store has room."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bioimage_py.planning.block_shape import choose_block_shape, pieces
from bioimage_py.planning.byte_size import format_bytes
from bioimage_py.planning.copy_plan import DEFAULT_BLOCK_BUDGET, CopyPlan, PlanOptions, copy_hints
from bioimage_py.planning.memory import MemoryModel
from bioimage_py.planning.two_pass import PassOptions, TwoPasses, plan_two_passes

MOST_READS_OF_ONE_PASS = 2.0
"""A pass that decodes chunks more often on average is worth a second one, which writes everything once more and reads it again.

Measured for deflate, roughly: a second pass takes as long as decoding 1.7 times."""

_STORED = frozenset({
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
})  # fmt: skip
"""What a temporary store can hold, whichever library writes it."""


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
    reads = reads_through_cache(plan, plan.block_shape)
    if plan.input.dtype.name not in _STORED or plan.output.dtype.name not in _STORED:
        return plan
    if plan.direct or plan.road != "recode" or reads <= MOST_READS_OF_ONE_PASS or not plan.block_ids:
        return plan
    if options.block_shape is not None and _least_reads(plan, options) <= MOST_READS_OF_ONE_PASS:
        return plan
    found = _two_passes(plan, casting, reads)
    if found is None or found.one_pass_reads <= MOST_READS_OF_ONE_PASS:
        return plan
    why_not = room.without(found.n_bytes + plan.bytes_out)
    if room.place is None or why_not:
        hint = (
            f"two passes through a temporary store beside the output would decode each chunk of the input "
            f"{'once' if found.first_reads < 1.005 else f'{found.first_reads:.3g} times'}, but {why_not}"
        )
        return replace(plan, hints=(*plan.hints, hint))
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
    """Return the extent of the chunks that a block touches at most."""
    return ((block - 1 + chunk - 1) // chunk + 1) * chunk if block % chunk else block


def _least_reads(plan: CopyPlan, options: PlanOptions) -> float:
    """Return how often an input chunk would be decoded with the blocks that this package would have chosen."""
    memory = MemoryModel(plan.input, plan.output, plan.mask, plan.threads)
    limit = options.memory_limit
    budget = DEFAULT_BLOCK_BUDGET if limit is None else max(1, limit - memory.base())
    return reads_through_cache(plan, choose_block_shape(plan.input, plan.output, memory.block, budget))


def _two_passes(plan: CopyPlan, casting: str, reads: float) -> TwoPasses | None:
    smaller = plan.output.itemsize < plan.input.itemsize and casting != "check"
    options = PassOptions(
        block_shape=plan.block_shape,
        block_ids=plan.block_ids,
        dtype=(plan.output.dtype if smaller else plan.input.dtype).newbyteorder("="),
        memory_limit=plan.memory_limit,
        budget=DEFAULT_BLOCK_BUDGET,
        threads=plan.threads,
    )
    return plan_two_passes(plan.input, plan.output, plan.mask, options, reads)
