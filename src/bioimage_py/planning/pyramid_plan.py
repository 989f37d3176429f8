"""Everything decided before a pyramid is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import check_block_shape
from bioimage_py.planning.byte_size import default_memory_limit, format_bytes
from bioimage_py.planning.copy_plan import DEFAULT_BLOCK_BUDGET
from bioimage_py.planning.layout import ArrayLayout
from bioimage_py.planning.plan_words import counted, times
from bioimage_py.planning.pyramid_blocks import PartLayout, PyramidPart, choose_part
from bioimage_py.planning.pyramid_levels import PyramidLevel


@dataclass(frozen=True)
class PyramidPlan:
    """What making a pyramid would do; `str(plan)` explains it.

    Attributes
    ----------
    input, output
        Layouts of the input and of the full-size level.
    method
        How voxels are reduced.
    levels
        All levels, full size first.
    parts
        What is read once and turned into one or more levels, one part after the other.
    in_flight
        Blocks processed at the same time.
    threads
        Threads that decode and encode inside the libraries.
    cache_bytes
        Decoded input chunks kept between blocks, in bytes.
    memory_limit, peak_memory
        In bytes; what the sources and the interpreter take up anyway is not counted.
    """

    input: ArrayLayout
    output: ArrayLayout
    method: str
    levels: tuple[PyramidLevel, ...]
    parts: tuple[PyramidPart, ...]
    in_flight: int
    threads: int
    cache_bytes: int
    memory_limit: int
    peak_memory: int

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
        return sum(replace(self.output, shape=level.shape).n_files for level in self._written)

    @property
    def _written(self) -> list[PyramidLevel]:
        return [level for part in self.parts for level in part.levels]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        plain: dict[str, Any] = {
            name: getattr(self, name)
            for name in (
                "method", "n_blocks", "in_flight", "threads", "cache_bytes", "memory_limit", "peak_memory", "bytes_in",
                "bytes_out", "n_files",
            )
        }  # fmt: skip
        plain["levels"] = [
            {"shape": list(level.shape), "step": list(level.step), "factors": list(level.factors)}
            for level in self.levels
        ]
        plain["parts"] = [
            {
                "reads": part.reads,
                "levels": [level.number for level in part.levels],
                "block_shape": list(part.block_shape),
                "tile_shape": list(part.tile_shape),
                "n_blocks": part.blocking.n_blocks,
                "read_amplification": part.read_amplification,
            }
            for part in self.parts
        ]
        return plain

    def __str__(self) -> str:
        dtype = self.output.dtype
        lines = [
            ("input", f"{self.input.name}: {times(self.input.shape)} {self.input.dtype}, {self.input.format}"),
            ("output", f"{self.output.name}: {counted(len(self.levels), 'level')}, {dtype}, {self.output.format}, {_grid(self.output)}"),
            *((f"level {level.number}", self._level_text(level)) for level in self.levels),
            *((f"part {n}", _part_text(part)) for n, part in enumerate(self.parts, 1)),
            ("reads", format_bytes(self.bytes_in)),
            ("writes", f"{format_bytes(self.bytes_out)} before compression, in at most {self.n_files:,} files"),
            ("memory", f"{format_bytes(self.peak_memory)} at most, of {format_bytes(self.memory_limit)} allowed"),
            ("workers", f"{counted(self.in_flight, 'block')} at a time; {counted(self.threads, 'thread')} for decoding and encoding"),
        ]  # fmt: skip
        return "\n".join(f"{label + ':':9}{text}" for label, text in lines)

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
        block_shape = _checked_blocks(block_shape, output_layout)
    allowed = default_memory_limit() if memory_limit is None else memory_limit
    parts: list[PyramidPart] = []
    left, reads = tuple(levels[1:] if in_place else levels), 0 if in_place else None
    source, base = input_layout, 0
    while left:
        layout = PartLayout(source, replace(output_layout, shape=source.shape), left, num_workers)
        base = max(base, layout.base())
        budget = DEFAULT_BLOCK_BUDGET if memory_limit is None else max(1, memory_limit - layout.base())
        part = choose_part(layout, reads, budget, block_shape if not parts else None)
        parts.append(part)
        left, reads = left[len(part.levels) :], part.levels[-1].number
        source = replace(output_layout, shape=part.levels[-1].shape)
    per_block = max((part.block_bytes for part in parts), default=0)
    most = max((part.blocking.n_blocks for part in parts), default=1)
    in_flight = max(1, min(num_workers, most, (allowed - base) // max(1, per_block)))
    peak = base + in_flight * per_block
    if memory_limit is not None and peak > memory_limit:
        raise InvalidArgumentError(
            f"memory_limit {format_bytes(memory_limit)} is too small: one block of {times(parts[0].block_shape)} voxels needs "
            f"{format_bytes(peak)}. Give a larger limit, or smaller {'shards' if output_layout.shards else 'chunks'}"
        )
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


def _checked_blocks(block_shape: tuple[int, ...], output_layout: ArrayLayout) -> tuple[int, ...]:
    block = check_block_shape(block_shape, output_layout.shape)
    unit, what = output_layout.write_unit, "shards" if output_layout.shards else "chunks"
    if any(b % u and b < n for b, u, n in zip(block, unit, output_layout.shape, strict=True)):
        near = tuple(max(1, round(b / u)) * u for b, u in zip(block, unit, strict=True))
        raise InvalidArgumentError(
            f"block_shape {block} is not a multiple of the output's {what} {unit}: blocks would cut {what}. Use whole {what}, for "
            f"example {near}, or leave block_shape out"
        )
    return block


def _part_text(part: PyramidPart) -> str:
    read = "the input" if part.reads is None else f"level {part.reads}"
    first, last = part.levels[0].number, part.levels[-1].number
    written = f"level {first}" if first == last else f"levels {first} to {last}"
    text = f"reads {read}, writes {written}: {counted(part.blocking.n_blocks, 'block')} of {times(part.block_shape)} voxels"
    if part.tile_shape != part.block_shape:
        text += f", each in pieces of {times(part.tile_shape)}"
    if part.read_amplification > 1.01:
        text += f"; each chunk decoded {part.read_amplification:.3g} times on average"
    return text


def _grid(layout: ArrayLayout) -> str:
    shards = f" in shards of {times(layout.shards)}" if layout.shards else ""
    return f"chunks {times(layout.chunks or layout.shape)}{shards}"
