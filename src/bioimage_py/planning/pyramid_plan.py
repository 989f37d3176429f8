"""Everything decided before a pyramid is made: which levels a block makes on its way, and how large it is.

A block of 256³ voxels in chunks of 64³ is 128³ voxels, whole chunks, of the next level, and 64³ of the one after: all three
can be written from one read. What is left to make then is made by another part, which reads the last of these levels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from bioimage_py.errors import Hint
from bioimage_py.geometry import Blocking
from bioimage_py.planning.bill import Bill, reading, writing
from bioimage_py.planning.block_shape import choose_block_shape, read_amplification
from bioimage_py.planning.byte_size import (
    Plan,
    Reported,
    counted,
    default_memory_limit,
    times,
)
from bioimage_py.planning.copy_plan import (
    DEFAULT_BLOCK_BUDGET,
    check_memory,
    checked_blocks,
    digest_text,
    hints_about_files,
)
from bioimage_py.planning.layout import ArrayLayout, n_cells
from bioimage_py.planning.memory import MemoryModel
from bioimage_py.planning.pyramid_levels import PyramidLevel
from bioimage_py.sources.stores import WRITTEN_BYTES


@dataclass(frozen=True)
class PyramidPlan(Plan):
    """What making a pyramid would do; `str(plan)` explains it."""

    _told = (
        "method", "n_blocks", "in_flight", "threads", "cache_bytes", "memory_limit", "peak_memory", "bytes_in", "bytes_out", "n_files",
        "bill", "levels", "parts", "casts", "hints", "assumed", "digest",
    )  # fmt: skip

    input: ArrayLayout  # layouts of the input and of the full-size level
    output: ArrayLayout
    method: str  # how voxels are reduced
    levels: tuple[PyramidLevel, ...]  # all levels, full size first
    # What is read once and turned into one or more levels, one part after the other
    parts: tuple[PyramidPart, ...]
    in_flight: int  # blocks processed at the same time
    threads: int  # threads that decode and encode inside the libraries
    cache_bytes: int  # decoded input chunks kept between blocks, in bytes
    memory_limit: int  # in bytes; what the sources and the interpreter take up anyway is not counted
    peak_memory: int
    casts: str = ""
    assumed: tuple[Hint, ...] = ()
    digest: str = ""  # why the levels have to be read once more for it; nothing where none is kept

    @property
    def n_blocks(self) -> int:
        """Blocks of all parts."""
        return sum(part.blocking.n_blocks for part in self.parts)

    @property
    def bytes_in(self) -> int:
        """Voxels to be read, in bytes, decoded: the input, and the levels that others are made from."""
        return sum(
            self.input.nbytes if part.reads is None else math.prod(part.shape) * self.output.itemsize
            for part in self.parts
        )

    @property
    def bytes_out(self) -> int:
        """Voxels to be written, in bytes."""
        return sum(math.prod(level.shape) for level in self._written) * self.output.itemsize

    @property
    def n_files(self) -> int:
        """The most files that will be written, metadata not counted."""
        return sum(layout.n_files for layout in self._layouts)

    @cached_property
    def bill(self) -> Bill:
        read = (
            reading(
                self.input if part.reads is None else replace(self.output, shape=part.shape), part.block_shape
            )
            for part in self.parts
        )
        return sum((*read, *map(writing, self._layouts)), Bill())

    @property
    def hints(self) -> tuple[Hint, ...]:
        """What would make this pyramid better."""
        return hints_about_files(self._layouts)

    @property
    def _layouts(self) -> list[ArrayLayout]:
        return [replace(self.output, shape=level.shape) for level in self._written]

    @property
    def _written(self) -> list[PyramidLevel]:
        return [level for part in self.parts for level in part.levels]

    def _rows(self) -> list[tuple[str, str]]:
        a, b = self.input, self.output
        grid = b.grid_text if b.chunks else times(b.shape)
        return [
            ("input", f"{a.name}: {times(a.shape)} {a.dtype}, {a.format}"),
            (
                "output",
                f"{b.name}: {counted(len(self.levels), 'level')}, {b.dtype}, {b.format}, chunks {grid}",
            ),
            *((f"level {level.number}", self._level_text(level)) for level in self.levels),
            *((f"part {n}", str(part)) for n, part in enumerate(self.parts, 1)),
            *([("digest", digest_text(self.digest))] if self.digest else []),
            *self._amounts(),
        ]

    def _level_text(self, level: PyramidLevel) -> str:
        text = f"{times(level.shape)} voxels"
        if level.number == 0:
            return text
        return f"{text}: {self.method} of {times(level.step)}, {times(level.factors)} of full size"


def plan_pyramid(
    input_layout: ArrayLayout,
    output_layout: ArrayLayout,
    levels: Sequence[PyramidLevel],
    method: str,
    *,
    num_workers: int = 1,
    memory_limit: int | None = None,
    block_shape: tuple[int, ...] | None = None,
    in_place: bool = False,
) -> PyramidPlan:
    """Decide how a pyramid is made; with `in_place`, the full-size level exists already. The same arguments give the same plan."""
    if block_shape is not None:
        block_shape = checked_blocks(block_shape, output_layout, whole_shards=True)
    allowed = default_memory_limit() if memory_limit is None else memory_limit
    parts: list[PyramidPart] = []
    left, reads = tuple(levels[1:] if in_place else levels), 0 if in_place else None
    source, base = input_layout, 0
    while left:
        layout = PartLayout(source, replace(output_layout, shape=source.shape), left, reads, num_workers)
        base = max(base, layout.base())
        budget = DEFAULT_BLOCK_BUDGET if memory_limit is None else max(1, memory_limit - layout.base())
        part = choose_part(layout, budget, block_shape if not parts else None)
        parts.append(part)
        left, reads = left[len(part.levels) :], part.levels[-1].number
        source = replace(output_layout, shape=part.levels[-1].shape)
    per_block = max((part.block_bytes for part in parts), default=0)
    most = max((part.blocking.n_blocks for part in parts), default=1)
    in_flight = max(1, min(num_workers, most, (allowed - base) // max(1, per_block)))
    peak = base + in_flight * per_block
    if parts:
        check_memory(memory_limit, peak, parts[0].block_shape, output_layout)
    repeats = bool(parts) and parts[0].read_amplification > 1.01
    cache = max(0, min(allowed // 4, allowed - peak)) if repeats else 0
    return PyramidPlan(
        input=input_layout,
        output=output_layout,
        method=method,
        levels=tuple(levels),
        parts=tuple(parts),
        in_flight=in_flight,
        threads=num_workers,
        cache_bytes=cache,
        memory_limit=allowed,
        peak_memory=peak + cache,
    )


_PREFERRED_BYTES = 2**26
"""Above this, blocks get too few to share; below, they are larger the more levels they make."""

_TILE_BYTES = 2**24
"""Voxels in memory at a time: pieces about as large as the blocks of a copy."""

_REDUCING_BYTES = 2**24
"""What reducing holds besides its input and its result, which is done in small pieces."""


@dataclass(frozen=True)
class PyramidPart(Reported):
    """Levels that are made from one read of the input, or of a level that is there."""

    _told = ("reads", "block_shape", "tile_shape", "n_blocks", "read_amplification")

    reads: int | None  # the level that is read, None for the input
    levels: tuple[PyramidLevel, ...]
    shape: tuple[int, ...]  # of what is read
    block_shape: tuple[int, ...]  # voxels of what is read that one worker turns into voxels of these levels
    tile_shape: tuple[int, ...]  # voxels of what is read that are in memory at a time
    block_bytes: int  # memory of one block in flight
    read_amplification: float  # how often a chunk of what is read is decoded on average

    @property
    def blocking(self) -> Blocking:
        return Blocking(self.shape, self.block_shape)

    @property
    def n_blocks(self) -> int:
        return self.blocking.n_blocks

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "levels": [level.number for level in self.levels]}

    @property
    def steps(self) -> tuple[tuple[int, ...], ...]:
        """For each level that is written, how many voxels of the one before, or of what is read, become one."""
        return tuple(level.step for level in self.levels)

    def __str__(self) -> str:
        read = "the input" if self.reads is None else f"level {self.reads}"
        first, last = self.levels[0].number, self.levels[-1].number
        written = f"level {first}" if first == last else f"levels {first} to {last}"
        text = f"reads {read}, writes {written}: {counted(self.blocking.n_blocks, 'block')} of {times(self.block_shape)} voxels"
        if self.tile_shape != self.block_shape:
            text += f", each in pieces of {times(self.tile_shape)}"
        if self.read_amplification > 1.01:
            text += f"; each chunk decoded {self.read_amplification:.3g} times on average"
        return text


@dataclass(frozen=True)
class PartLayout:
    """What a part reads, what is left to be made, and how it is stored."""

    source: ArrayLayout
    output: ArrayLayout  # how levels are stored; its shape is that of what is read
    levels: tuple[PyramidLevel, ...]  # the levels that are not made yet, largest first
    reads: int | None  # the level that is read, None for the input
    threads: int

    @property
    def copies(self) -> bool:
        """Whether the first level has the voxels that are read."""
        return all(f == 1 for f in self.levels[0].step)

    def base(self) -> int:
        return MemoryModel(self.source, self.output, None, self.threads).base()

    def scale(self, count: int) -> tuple[int, ...]:
        """Return by how much the last of so many levels is smaller than what is read."""
        return tuple(math.prod(fs) for fs in zip(*(level.step for level in self.levels[:count]), strict=True))

    def unit(self, count: int) -> tuple[int, ...]:
        """Return the voxels of what is read that are one write unit of the last of so many levels."""
        return tuple(u * f for u, f in zip(self.output.write_unit, self.scale(count), strict=True))

    def held(self, count: int, block: tuple[int, ...]) -> int:
        """Return the bytes of one block in flight that makes so many levels, tile by tile, level by level."""
        a, b, tile = self.source, self.output, self.tile(count, block)
        made = [self._voxels(block, self.scale(n)) * b.itemsize for n in range(1 + self.copies, count + 1)]
        tile_voxels = self._voxels(tile, (1,) * len(tile))
        read = (0 if a.in_memory else a.itemsize) + (b.itemsize if a.dtype != b.dtype else 0)
        held = tile_voxels * read + sum(made[:1])
        held += a.scratch(a.inside(tile))
        if self.copies:
            held += self._encoding(tile_voxels * b.itemsize)
        for n, n_bytes in enumerate(made):
            held = max(held, n_bytes + sum(made[n + 1 : n + 2]) + self._encoding(n_bytes))
        return held + (_REDUCING_BYTES if made else 0)

    def _encoding(self, n_bytes: int) -> int:
        """Return the bytes that wait for the disk while a level is written, a few write units at a time."""
        unit = math.prod(self.output.write_unit) * self.output.itemsize
        # From four axes on, TensorStore is given a copy to encode from (see `TensorStoreSource`).
        return min(n_bytes, max(unit, WRITTEN_BYTES)) * (1 if len(self.output.shape) < 4 else 2)

    def tile(self, count: int, block: tuple[int, ...]) -> tuple[int, ...]:
        """Return in which pieces a block is read: whole write units, whole windows, and no chunk more often than needed."""
        grid = self.unit(1) if self.copies else self.levels[0].step
        if self.copies and count > 1:
            grid = tuple(map(math.lcm, grid, self.levels[1].step))
        whole = read_amplification(self.source.shape, block, self.source.chunks)
        tile = block
        for axis in range(len(block)):
            for extent in _divisors(block[axis], grid[axis]):
                if self._voxels(tile, (1,) * len(tile)) * self.output.itemsize <= _TILE_BYTES:
                    return tile
                smaller = (*tile[:axis], extent, *tile[axis + 1 :])
                if read_amplification(self.source.shape, smaller, self.source.chunks) <= whole + 1e-9:
                    tile = smaller
        return tile

    def _voxels(self, box: tuple[int, ...], scale: tuple[int, ...]) -> int:
        return n_cells(self.source.inside(box), scale)


def _divisors(extent: int, grid: int) -> Iterator[int]:
    """Yield the multiples of the grid that divide an extent which is one, largest first, without the extent itself."""
    if extent % grid:
        return
    cells = extent // grid
    for n in range(2, cells + 1):
        if cells % n == 0:
            yield cells // n * grid


def choose_part(layout: PartLayout, budget: int, block_shape: tuple[int, ...] | None) -> PyramidPart:
    """Return the part that makes the next levels: as many as a block of a sensible size holds whole write units of.

    A single write unit may pass the budget: nothing smaller is safe.
    """
    if block_shape is not None:
        return _part(layout, block_shape)
    best, best_score = None, math.inf
    for count in range(1, len(layout.levels) + 1):
        grid = replace(layout.output, chunks=layout.unit(count), shards=None)
        part = _part(layout, choose_block_shape(layout.source, grid, partial(layout.held, count), budget))
        if best is not None and part.block_bytes > budget:
            continue
        score = _score(layout, part)
        if score < best_score:
            best, best_score = part, score
    assert best is not None
    return best


def _part(layout: PartLayout, block: tuple[int, ...]) -> PyramidPart:
    """Return the part with as many of the next levels as a block holds whole write units of, at least one."""
    shape = layout.source.shape
    count = len(layout.levels)
    while count > 1 and any(
        b % u and b < n for b, u, n in zip(block, layout.unit(count), shape, strict=True)
    ):
        count -= 1
    return PyramidPart(
        reads=layout.reads,
        levels=layout.levels[:count],
        shape=shape,
        block_shape=block,
        tile_shape=layout.tile(count, block),
        block_bytes=layout.held(count, block),
        read_amplification=read_amplification(shape, block, layout.source.chunks),
    )


def _score(layout: PartLayout, part: PyramidPart) -> float:
    """Return how often voxels are decoded, what is read again for the rest included; large blocks count against."""
    score = part.read_amplification
    if len(part.levels) < len(layout.levels):
        score += 1 / math.prod(layout.scale(len(part.levels)))
    n_bytes = math.prod(layout.source.inside(part.block_shape)) * layout.output.itemsize
    return score + 0.05 * max(0.0, math.log2(n_bytes / _PREFERRED_BYTES))
