"""Everything decided before a copy moves a voxel: road, blocks, memory, and hints what would be better."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from bioimage_py.chunks import ChunkEncoding, EncodingMatch, UnknownEncoding, compare_encodings
from bioimage_py.errors import Hint, InvalidArgumentError
from bioimage_py.geometry import Blocking, IdSet, check_block_shape, tile_shape
from bioimage_py.planning.bill import MANY_FILES, Bill, proposed_shards, reading, writing
from bioimage_py.planning.block_shape import choose_block_shape, read_amplification, reads_of_blocks, widened
from bioimage_py.planning.byte_size import (
    Plan,
    Reported,
    counted,
    default_memory_limit,
    format_bytes,
    often,
    times,
)
from bioimage_py.planning.layout import ArrayLayout, n_cells, store_at
from bioimage_py.planning.memory import MemoryModel
from bioimage_py.sources import Codec

DEFAULT_BLOCK_BUDGET = 2**30
"""Memory of one block where no limit is given: a constant, so that every machine plans the same blocks."""


@dataclass(frozen=True)
class PlanOptions:
    """What a caller may decide about a copy."""

    block_shape: tuple[int, ...] | None = None  # None: they are planned
    memory_limit: int | None = None  # None: the default, which never changes the block shape
    num_workers: int = 1
    block_ids: IdSet | None = None  # None: all
    direct: bool = False  # whether the whole array may be copied at once
    match: EncodingMatch | None = None  # of the encoded chunks of both sides, if it was looked at
    compares: bool = False  # the second array is read too, and compared
    digest: bool = False  # a digest is kept of what is written
    partial: bool = False  # there are blocks that are not asked for, also where they are not in `block_ids`


@dataclass(frozen=True)
class CopyPlan(Plan):
    """What a copy would do; `str(plan)` explains it."""

    _told = (
        "road", "reason", "n_blocks", "direct", "in_flight", "threads", "cache_bytes", "memory_limit", "peak_memory", "bytes_in",
        "bytes_out", "n_files", "bill", "read_amplification", "block_shape", "group_shape", "block_ids", "hints", "input", "output", "mask", "update", "casts", "assumed",
    )  # fmt: skip

    input: ArrayLayout
    output: ArrayLayout
    mask: ArrayLayout | None
    road: str  # `"verbatim"`, `"repack"` or `"recode"`
    reason: str  # why this road, and not a faster one
    block_shape: tuple[int, ...]  # the processing blocks in voxels, whole chunks of the output
    group_shape: tuple[int, ...]  # blocks inside one such box go to one worker: it holds whole write units
    n_blocks: int  # blocks in the numbering of this call, from 0 in C order
    block_ids: IdSet  # those to be processed
    direct: bool  # whether the whole array is copied at once
    in_flight: int  # blocks, or groups of blocks, processed at the same time
    threads: int  # threads that decode and encode inside the libraries
    cache_bytes: int  # decoded input chunks kept between blocks, in bytes
    memory_limit: int  # in bytes; what the sources and the interpreter take up anyway is not counted
    peak_memory: int
    bytes_in: int  # voxels to be read and written, in bytes, decoded
    bytes_out: int
    n_files: int  # the most files that will be written, metadata not counted
    read_amplification: float  # how often an input chunk is decoded on average
    hints: tuple[Hint, ...] = ()  # what would make this copy better
    passes: TwoPasses | None = None  # None: voxels go in one
    update: str = ""  # what has changed since an earlier copy
    casts: str = ""
    assumed: tuple[Hint, ...] = ()
    digest: str = (
        ""  # `"while written"`, or why the output has to be read once more; nothing where none is kept
    )

    @property
    def blocking(self) -> Blocking:
        """The grid of blocks."""
        return Blocking(self.output.shape, self.block_shape)

    def to_json(self) -> dict[str, Any]:
        store = None if self.passes is None else self.passes.to_json()
        digest = {"digest": self.digest} if self.digest else {}
        return {**super().to_json(), **digest, "passes": 2 if store else 1, "temporary_store": store}

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("input", str(self.input)),
            ("output", str(self.output)),
            *([] if self.mask is None else [("mask", str(self.mask))]),
            ("road", f"{self.road}: {self.reason}"),
            *([("update", self.update)] if self.update else []),
            ("blocks", self._blocks_text()),
            *([] if self.passes is None else self.passes.texts()),
            *([("digest", digest_text(self.digest))] if self.digest else []),
            *self._amounts(self._repeats_text(), max(1, min(self.in_flight, len(self.block_ids)))),
        ]

    @cached_property
    def bill(self) -> Bill:
        written = writing(self.output, moved=self.road != "recode")
        found = self.passes
        if found is None:
            first, read = Bill(), reading(self.input, self.block_shape, moved=self.road == "verbatim")
        else:
            between = replace(
                self.output,
                store=store_at(found.place),
                chunks=found.chunks,
                shards=found.shards,
                one_file=False,
            )
            first = reading(self.input, found.block_shape) + writing(between, removed=True)
            first, read = first.part(len(found.block_ids), found.n_blocks), reading(between, self.block_shape)
        return first + (read + written).part(len(self.block_ids), self.n_blocks)

    def _repeats_text(self) -> str:
        if self.input.chunks is None:
            return ", each voxel once"
        times = f"{self.read_amplification:.3g}"
        return f", each chunk of the input decoded {'once' if times == '1' else f'{times} times on average'}"

    def _blocks_text(self) -> str:
        text = f"{self.n_blocks:,} of {times(self.block_shape)} voxels"
        if len(self.block_ids) != self.n_blocks:
            text += f", {len(self.block_ids):,} of them asked for"
        if self.direct:
            text += "; the whole array at once, because it fits"
        if self.group_shape != self.block_shape:
            text += f"; grouped to {times(self.group_shape)} so that each shard is written once"
        return text


def plan_copy(
    input_layout: ArrayLayout,
    output_layout: ArrayLayout,
    mask_layout: ArrayLayout | None,
    options: PlanOptions,
) -> CopyPlan:
    """Decide how to copy, from metadata alone; InvalidArgumentError if such a copy is not possible."""
    _check_shapes(input_layout, output_layout, mask_layout)
    threads, match = options.num_workers, options.match or EncodingMatch("different", "recode")
    memory = MemoryModel(input_layout, output_layout, mask_layout, threads, options.compares)
    limit = options.memory_limit
    if options.block_shape is None:
        budget = DEFAULT_BLOCK_BUDGET if limit is None else max(1, limit - memory.base())
        block = held = choose_block_shape(input_layout, output_layout, memory.block, budget)
        if options.digest:
            tiles = choose_block_shape(input_layout, _in_tiles(output_layout), memory.block, budget)
            block = held = tiles if memory.block(tiles) <= budget else held
        elif match.road != "recode" and mask_layout is None:
            block = widened(held, output_layout)
    else:
        block = held = checked_blocks(options.block_shape, output_layout)
    group = _group_shape(block, output_layout)
    blocking = Blocking(output_layout.shape, block)
    ids = _selected(options.block_ids, blocking.n_blocks)
    allowed = default_memory_limit() if limit is None else limit
    at_once = held if group == block else output_layout.write_unit
    per_block = max(1, memory.block(at_once))
    in_flight = max(1, min(threads, blocking.n_blocks, (allowed - memory.base()) // per_block))
    peak = memory.base() + in_flight * per_block
    check_memory(limit, peak, at_once, output_layout, new=not options.compares)
    whole = memory.base() + memory.block(output_layout.shape)
    digest = _digest_of(options, mask_layout, output_layout, block, group, ids) if options.digest else ""
    direct = options.direct and not digest and whole <= allowed and len(ids) == blocking.n_blocks
    amplification = read_amplification(input_layout.shape, block, input_layout.chunks)
    share = len(ids) / blocking.n_blocks if blocking.n_blocks else 0.0
    cache = max(0, min(allowed // 4, allowed - peak)) if not direct else 0
    if input_layout.decoded is not None and input_layout.chunks is not None:
        kept = input_layout.kept_bytes
        amplification, needed = reads_of_blocks(input_layout, block, in_flight, max(cache, kept))
        cache = needed if needed > kept else 0
    elif amplification <= 1.01:
        cache = 0
    return CopyPlan(
        input=input_layout.alone(),
        output=output_layout.alone(),
        mask=None if mask_layout is None else mask_layout.alone(),
        road=match.road,
        reason=_reason(input_layout, output_layout, mask_layout, match),
        block_shape=block,
        group_shape=group,
        n_blocks=blocking.n_blocks,
        block_ids=ids,
        direct=direct,
        in_flight=1 if direct else in_flight,
        threads=threads,
        cache_bytes=cache,
        memory_limit=allowed,
        peak_memory=whole if direct else min(peak + cache, allowed) if limit is None else peak + cache,
        bytes_in=int(share * input_layout.nbytes),
        bytes_out=int(share * output_layout.nbytes),
        n_files=math.ceil(share * output_layout.n_files),
        read_amplification=1.0 if direct else amplification,
        digest=digest,
        hints=copy_hints(output_layout, amplification, limit) + ((Hint(match.hint),) if match.hint else ()),
    )


def checked_blocks(
    block_shape: tuple[int, ...], output_layout: ArrayLayout, *, whole_shards: bool = False
) -> tuple[int, ...]:
    """Return a user's block shape; an error if it cuts the output's chunks, or shards: two writers would meet in one."""
    block = check_block_shape(block_shape, output_layout.shape)
    shards = output_layout.shards if whole_shards else None
    unit, what = shards or output_layout.chunks, "shards" if shards else "chunks"
    if unit and any(b % u and b < n for b, u, n in zip(block, unit, output_layout.shape, strict=True)):
        near = tuple(max(1, round(b / u)) * u for b, u in zip(block, unit, strict=True))
        raise InvalidArgumentError(
            f"block_shape {block} is not a multiple of the output's {what} {unit}: blocks would cut {what}",
            hints=[
                Hint.of(f"use whole {what}, for example {{}}", block_shape=near),
                Hint.of("or leave out {}", block_shape=...),
            ],
        )
    return block


def check_memory(
    limit: int | None, peak: int, block: tuple[int, ...], output_layout: ArrayLayout, *, new: bool = True
) -> None:
    """Raise InvalidArgumentError if one block does not fit the limit; the chunks of a new output could be smaller."""
    if limit is not None and peak > limit:
        unit = "shards" if output_layout.shards else "chunks"
        smaller = Hint.of("or give the output smaller {}", **{unit: ...})
        raise InvalidArgumentError(
            f"memory_limit {format_bytes(limit)} is too small: one block of {times(block)} voxels needs {format_bytes(peak)}",
            hints=[Hint.of("give a larger {}", memory_limit=...), *([smaller] if new else [])],
        )


WHILE_WRITTEN = "while written"
_CHANGES_VOXELS = re.compile("jpe?g|jxl|zfp|sz|offset|quantize|round|astype|nbit", re.IGNORECASE)
"""In the names of codecs that may not give back the voxels that they are given."""


def changes_voxels(codec: str) -> bool:
    """Whether a codec, by its name, may not give back the voxels that it is given."""
    return _CHANGES_VOXELS.search(codec) is not None


def digest_text(digest: str) -> str:
    if digest == WHILE_WRITTEN:
        return "of the voxels as they are written, in the same pass"
    return f"the output is read once more for it, because {digest}"


def _in_tiles(layout: ArrayLayout) -> ArrayLayout:
    """Return a layout whose write units are whole tiles too, or the whole axis."""
    sides = zip(layout.shape, layout.write_unit, tile_shape(len(layout.shape)), strict=True)
    units = tuple(min(math.lcm(u, t), -(-max(1, n) // u) * u) for n, u, t in sides)
    return replace(layout, chunks=units, shards=None)


def _digest_of(
    options: PlanOptions,
    mask: ArrayLayout | None,
    output: ArrayLayout,
    block: tuple[int, ...],
    group: tuple[int, ...],
    ids: IdSet,
) -> str:
    """Return when the digest of a copy is computed, or why not while its voxels are written."""
    if mask is not None:
        return "a mask leaves voxels as they are"
    n_blocks = n_cells(output.shape, block)
    if options.partial or len(ids) != n_blocks or not n_blocks:
        return "not all blocks are copied"
    if group != block:
        return "blocks share shards"
    sides = zip(block, output.shape, tile_shape(len(block)), strict=True)
    if any(b % t and b < n for b, n, t in sides):
        return f"blocks of {times(block)} are not whole tiles of 64 voxels"
    if changes_voxels(output.codec):
        return f"the codec {output.codec} may change voxels"
    return WHILE_WRITTEN


def _check_shapes(a: ArrayLayout, b: ArrayLayout, mask: ArrayLayout | None) -> None:
    if a.shape != b.shape:
        raise InvalidArgumentError(
            f"input and output must have one shape, got {a.shape} for {a.name} and {b.shape} for {b.name}",
            hints=[
                Hint(
                    "take a region with RoiSource, or give a path for the output, and it is made with the shape of the input"
                )
            ],
        )
    if mask is not None and mask.shape != a.shape:
        raise InvalidArgumentError(
            f"the mask must have the input's shape {a.shape}, got {mask.shape} for {mask.name}"
        )


def _group_shape(block: tuple[int, ...], output_layout: ArrayLayout) -> tuple[int, ...]:
    if output_layout.shards is None:
        return block
    return tuple(
        b if b >= n else math.lcm(b, s)
        for b, s, n in zip(block, output_layout.shards, output_layout.shape, strict=True)
    )


def _selected(block_ids: IdSet | None, n_blocks: int) -> IdSet:
    if block_ids is None:
        return IdSet.from_range(n_blocks)
    if block_ids and block_ids[-1] >= n_blocks:
        outside = block_ids - IdSet.from_range(n_blocks)
        raise InvalidArgumentError(
            f"block_ids out of range: {outside[0]} is not in 0 … {n_blocks - 1} (there are {n_blocks} blocks)"
        )
    return block_ids


def _reason(a: ArrayLayout, b: ArrayLayout, mask: ArrayLayout | None, match: EncodingMatch) -> str:
    if match.road != "recode":
        also = "" if mask is None else "; blocks that the mask cuts are decoded"
        return f"{match}{also}"
    why = []
    if a.chunks is None:
        why.append(f"the input ({a.format}) is not stored in chunks")
    elif a.chunks != b.chunks or a.shards != b.shards:
        why.append(f"the chunk grid changes from {a.grid_text} to {b.grid_text}")
    if a.dtype != b.dtype:
        why.append(f"dtype changes from {a.dtype} to {b.dtype}")
    if not why:
        why += match.why
    if mask is not None:
        why.append("a mask is applied")
    return "voxels are decoded and encoded again" + (", because " + " and ".join(why) if why else "")


def copy_hints(output_layout: ArrayLayout, amplification: float, limit: int | None) -> tuple[Hint, ...]:
    """Return what would make a copy better."""
    hints = list(hints_about_files([output_layout]))
    if amplification > 1.5:
        raise_it = "a larger memory limit or " if limit is not None else ""
        hints.append(
            Hint(f"each input chunk is decoded {amplification:.2g} times; {raise_it}larger blocks would help")
        )
    return tuple(hints)


def hints_about_files(outputs: Sequence[ArrayLayout]) -> tuple[Hint, ...]:
    """Return the shards to propose where outputs have very many files, for the one with most."""
    plain = [one for one in outputs if one.chunks is not None and one.shards is None and not one.one_file]
    n_files = sum(one.n_files for one in plain)
    if n_files <= MANY_FILES:
        return ()
    largest = max(plain, key=lambda one: one.n_files)
    shards = proposed_shards(largest)
    fewer = sum(n_cells(one.shape, shards) for one in plain if len(one.shape) == len(shards))
    many = f"{n_files:,} files are many for most file systems"
    if largest.can_shard:
        return (Hint.of(f"{many}; {{}} would make {fewer:,}", shards=shards),)
    return (Hint(f"{many}; Zarr v3 with shards of {times(shards)} would make {fewer:,}"),)


def choose_road(
    input: ChunkEncoding | UnknownEncoding,
    output: ChunkEncoding | UnknownEncoding,
    offset: tuple[int, ...] | None,
    *,
    codec: Codec | None,
    is_new: bool,
) -> EncodingMatch:
    """Return how the chunks of two arrays match; `"recode"` also where they would keep a setting that is not the one asked for.

    `codec` is what the user asked for. An output that is not new has the settings that its owner chose.
    """
    match = compare_encodings(input, output, offset)
    if match.road == "recode" or not match.settings:
        return match
    wanted = match.settings
    if is_new:
        # Settings that nobody named are those of the input: they are what moving it is about.
        named = set() if codec is None else {*codec.options, *(["level"] if codec.level is not None else [])}
        wanted = tuple(setting for setting in match.settings if setting.split()[1] in named)
    if not wanted:
        return match
    return replace(
        match, kind="different", road="recode", whole_files=False, why=tuple(f"codec {s}" for s in wanted)
    )


TEMPORARY_CODEC = {"name": "blosc", "cname": "lz4", "level": 1, "shuffle": "shuffle"}
"""Of the temporary store: faster than most disks on either way, and half of the bytes of most images."""


@dataclass(frozen=True)
class TwoPasses(Reported):
    """What goes through a temporary store, and how."""

    _told = ("place", "chunks", "shards", "dtype", "n_files", "block_shape")

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
            **super().to_json(),
            "bytes": self.n_bytes,
            "n_blocks": len(self.block_ids),
            "read_amplification": [self.first_reads, self.second_reads],
            "one_pass_read_amplification": self.one_pass_reads,
        }

    def texts(self) -> list[tuple[str, str]]:
        why = (
            f"2, because one would decode each chunk of the input {self.one_pass_reads:.3g} times on average: the first reads "
            f"{len(self.block_ids):,} blocks of {times(self.block_shape)} voxels into a temporary store, the second writes the "
            f"output, and reads each chunk of that store {often(self.second_reads)}"
        )
        shards = f" in shards of {times(self.shards)}" if self.shards else ""
        store = (
            f"{self.place}: at most {format_bytes(self.n_bytes)} before compression, in at most {counted(self.n_files, 'file')}, chunks "
            f"{times(self.chunks)}{shards}; removed at the end"
        )
        return [("passes", why), ("temp", store)]
