"""The kernel of a copy: read a block, cast it, write it; with a mask only where it is set."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray, Scratch
from bioimage_py.errors import StorageError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels.casting import cast
from bioimage_py.kernels.cells import boxes_of, cells_any, cells_of, cells_under
from bioimage_py.kernels.stage_timer import Meter, Tally
from bioimage_py.kernels.stored_parts import StoredParts
from bioimage_py.kernels.tile_hashes import BoxHashes, areas_in_cache
from bioimage_py.sources import Source, cast_values

_MOST_KEPT = 2**26
"""Memory of larger blocks is given back after each: threads would hold it while they do without."""


class ReadBuffers:
    """A buffer for each thread that asks, as large as its largest block so far."""

    def __init__(self) -> None:
        self._own = Scratch()

    def for_read(self, source: Source, box: Box) -> AnyArray | None:
        """Return memory to read a box of a source into; None where the source does not use it."""
        return self.of(box.shape, source.dtype) if source.fills_buffers else None

    def of(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> AnyArray:
        """Return uninitialised memory in C order; unless it is large, it is the thread's last one again."""
        if math.prod(shape) * dtype.itemsize > _MOST_KEPT:
            return np.empty(shape, dtype)
        return self._own.array("block", shape, dtype)


@dataclass(frozen=True)
class CopyKernel:
    """Copies blocks from one source into another of the same shape.

    Of the input, only chunks are read that are stored and that the mask touches; of the mask, only chunks that are
    stored.
    """

    input: Source  # voxels are copied where the mask is non-zero, everywhere without one
    output: Source
    mask: Source | None = None
    casting: str = "unsafe"
    meter: Meter = field(default_factory=Meter, compare=False, repr=False)
    output_is_new: bool = False  # nothing is stored where it writes: what equals the fill value need not be
    _buffers: ReadBuffers = field(default_factory=ReadBuffers, compare=False, repr=False)

    def counted_by(self, meter: Meter) -> CopyKernel:
        return replace(self, meter=meter)

    def tally(self) -> Tally:
        return self.meter.total()

    def copy_box(self, box: Box) -> int:
        """Copy one box of whole write units; return the bytes written."""
        if self.leaves_out(box):
            return 0
        selected = self.selected(box)
        return 0 if selected is not None and not selected.any() else self.copy_selected(box, selected)

    def copy_parts(self, unit: Box, parts: Sequence[Box]) -> int:
        """Copy boxes that lie in one write unit, and write it once; only they are read, and only where the mask is set."""
        with self.meter.mine.rest("computing"):
            return self._copy_parts(unit, parts)

    def copy_selected(self, box: Box, selected: AnyArray | None) -> int:
        """Copy the selected voxels, all if None, of a box of whole write units; return the bytes written."""
        with self.meter.mine.rest("computing"):
            return self._copy_selected(box, selected)

    def copy_hashed(self, box: Box) -> tuple[int, bytes]:
        """Copy one box of whole write units and tiles everywhere; return the bytes written, and the hashes of its tiles as they are written."""
        with self.meter.mine.rest("computing"):
            hashes, stored, written = BoxHashes(box), self._stored_in(box), 0
            if stored is not None:
                written = self._copy_area(box, None, stored, hashes)
            else:
                areas = (box,) if self._chunked_input is None else areas_in_cache(box, self._chunked_input)
                for area in areas:
                    values = self._cast_input(area, self._buffers)
                    hashes.add(area, values)
                    written += self._write(area, values)
            return written, hashes.joined()

    def leaves_out(self, box: Box) -> bool:
        """Whether the mask stores no chunk in a box, and so is set nowhere in it; no voxel is read."""
        stored = self._stored_mask
        if stored is None or stored.fill_value != 0:
            return False
        with self.meter.mine.rest("reading"):
            return stored.within(box) == []

    def selected(self, box: Box) -> AnyArray | None:
        if self.mask is None:
            return None
        with self.meter.mine.rest("computing"):
            known = self._stored_mask if self._stored_mask and self._stored_mask.fill_value == 0 else None
            stored = None if known is None else known.within(box)
            if stored is None:
                return np.not_equal(self.meter.read(self.mask, box), 0)
            found = np.zeros(box.shape, bool)
            for part in stored:
                found[part.relative_to(box.begin).slices] = np.not_equal(self.meter.read(self.mask, part), 0)
            return found

    def _copy_selected(self, box: Box, selected: AnyArray | None) -> int:
        stored = self._stored_in(box)
        if selected is None and stored is None:
            return self._copy_whole(box)
        unit, chunks = self._grids(box)
        # In cells of whole chunks of both, no chunk of the input is decoded twice.
        both = tuple(map(math.lcm, unit, chunks))
        needed = stored if self._leaves_missing else None
        cells = _touched(box, both, selected, needed)
        written = 0
        for area in boxes_of(cells, box, both):
            part = None if selected is None else selected[area.relative_to(box.begin).slices]
            written += self._copy_area(area, part, stored)
        return written

    def _copy_whole(self, box: Box) -> int:
        if self._chunked_input is not None:
            return self._copy_chunks(box, self._chunked_input)
        through = self._store_to_store
        return self._copy_apart(box) if through is None else through.copy(box, self.meter, self._copy_apart)

    def _copy_chunks(self, box: Box, source: Source) -> int:
        ahead, written = source.ahead(box), 0
        for chunk in Blocking(source.shape, source.chunks or box.shape, roi=box):
            ahead.step()
            written += self._copy_apart(chunk)
        return written

    def _copy_apart(self, box: Box) -> int:
        return self._write(box, self._cast_input(box, self._buffers))

    def _copy_area(
        self,
        area: Box,
        selected: AnyArray | None,
        stored: list[Box] | None,
        hashes: BoxHashes | None = None,
    ) -> int:
        unit, _ = self._grids(area)
        cells = _touched(area, unit, selected, stored if self._leaves_missing else None)
        if not cells.any():
            if hashes is not None:
                hashes.add(area, np.broadcast_to(self._missing(stored, area), area.shape))
            return 0
        values = self._values(area, selected, stored)
        if hashes is not None:
            hashes.add(area, values)
        written = 0
        for box in boxes_of(cells, area, unit):
            at = box.relative_to(area.begin).slices
            part = True if selected is None else selected[at]
            if np.all(part):
                written += self._write(box, values[at])
            else:
                written += self._write(box, np.where(part, values[at], self.meter.read(self.output, box)))
        return written

    def _copy_parts(self, unit: Box, parts: Sequence[Box]) -> int:
        chosen: list[tuple[Box, AnyArray | None]] = []
        for part in parts:
            if self.leaves_out(part):
                continue
            selected = self.selected(part)
            if selected is None or selected.any():
                chosen.append((part, None if selected is None or selected.all() else selected))
        if not chosen:
            return 0
        covered = sum(part.size for part, selected in chosen if selected is None)
        if covered == unit.size:
            buffer = np.empty(unit.shape, self.output.dtype)
        else:
            buffer = np.array(self.meter.read(self.output, unit))
        for part, selected in chosen:
            values = self._values(part, selected, self._stored_in(part))
            where = True if selected is None else selected
            np.copyto(buffer[part.relative_to(unit.begin).view], values, where=where)
        return self._write(unit, buffer)

    def _values(self, box: Box, selected: AnyArray | None, stored: list[Box] | None) -> AnyArray:
        """Return the voxels of a box in the output's dtype, right at least where they are selected."""
        if selected is None and stored is None:
            return self._cast_input(box)
        _, chunks = self._grids(box)
        cells = _touched(box, chunks, selected, stored)
        if cells.all():
            return self._cast_input(box)
        values = np.empty(box.shape, self.output.dtype)
        values[...] = self._missing(stored, box)
        for part in boxes_of(cells, box, chunks):
            values[part.relative_to(box.begin).slices] = self._cast_input(part)
        return values

    def _missing(self, stored: list[Box] | None, box: Box) -> AnyArray:
        """Return what stands, in the output's dtype, where the input stores nothing; 0 where that is not known."""
        if stored is None or self._stored_input is None:
            return np.zeros((1,) * box.ndim, self.output.dtype)
        filled = np.full((1,) * box.ndim, self._stored_input.fill_value, self.input.dtype)
        return cast(filled, self.output.dtype, self.casting, box.begin)

    def _grids(self, box: Box) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the cells in which the output is written, and those in which the input is read."""
        whole = tuple(max(1, end) for end in box.end)
        unit = self.output.write_unit or self.input.chunks or whole
        return unit, self.input.chunks or unit

    def _stored_in(self, box: Box) -> list[Box] | None:
        return None if self._stored_input is None else self._stored_input.within(box)

    @cached_property
    def _chunked_input(self) -> Source | None:
        """The input where each chunk can be encoded, in few steps, while its voxels are still in the processor's cache."""
        a, b = self.input, self.output
        apart = a.codes_chunks and b.codes_chunks and b.shards is None
        return a if apart and a.chunks == b.chunks else None

    @cached_property
    def _store_to_store(self) -> StoreToStore | None:
        return StoreToStore.of(self.input, self.output)

    @cached_property
    def _stored_input(self) -> StoredParts | None:
        return StoredParts.of(self.input)

    @cached_property
    def _stored_mask(self) -> StoredParts | None:
        return None if self.mask is None else StoredParts.of(self.mask)

    @cached_property
    def _leaves_missing(self) -> bool:
        """Whether a chunk that the input does not store reads the same where the output does not store it either."""
        if not self.output_is_new or self._stored_input is None or self.output.stores_fill:
            return False
        if self.output.fill_value is None:
            return False
        mine = np.asarray(self._stored_input.fill_value).astype(self.input.dtype)
        other = np.asarray(self.output.fill_value).astype(self.output.dtype)
        became = cast_values(mine, self.output.dtype)
        kept = became == mine or (became != became and mine != mine)  # noqa: PLR0124 - NaN is not itself
        return bool(kept) and became.tobytes() == other.tobytes()

    def _cast_input(self, box: Box, buffers: ReadBuffers | None = None) -> AnyArray:
        """Return the voxels of the input in a box; with buffers they are gone when the thread reads the next ones."""
        buffer = None if buffers is None else buffers.for_read(self.input, box)
        values = self.meter.read_in(self.input, box, buffer)
        return cast(values, self.output.dtype, self.casting, box.begin)

    def _write(self, box: Box, values: AnyArray) -> int:
        return self.meter.write(self.output, box, values)


def _touched(
    box: Box, grid: tuple[int, ...], selected: AnyArray | None, stored: list[Box] | None
) -> npt.NDArray[np.bool_]:
    """Return which cells of a grid have a selected voxel and something stored; None stands for all."""
    cells = np.ones(cells_of(box, grid).shape, bool) if selected is None else cells_any(selected, box, grid)
    return cells if stored is None else cells & cells_under(stored, box, grid)


def units_of(
    blocks: Sequence[Box], shape: tuple[int, ...], unit: tuple[int, ...]
) -> Iterator[tuple[Box, list[tuple[int, Box]]]]:
    """Yield the write units that blocks lie in, with each block's index and its part of the unit."""
    hull = Box(
        tuple(map(min, zip(*(b.begin for b in blocks), strict=True))),
        tuple(map(max, zip(*(b.end for b in blocks), strict=True))),
    )
    units = Blocking(shape, unit)
    for box in (units[number] for number in units.ids_in(hull)):
        parts = [(n, block.intersect(box)) for n, block in enumerate(blocks)]
        if parts := [(n, part) for n, part in parts if not part.is_empty()]:
            yield box, parts


_APART_EVERY = 32


class StoreToStore:
    """Copies boxes so that each chunk is encoded while its voxels are still in the processor's cache.

    Such a copy does not tell reading from writing: each thread does a part of one box of many in two steps, and divides its time alike.
    """

    def __init__(self, input: Source, output: Source, write: Callable[[Box], None]) -> None:
        self._input, self._output, self._write = input, output, write
        self._own = _Own()

    @classmethod
    def of(cls, input: Source, output: Source) -> StoreToStore | None:
        """Return None unless chunks and dtype are the same; then voxels go through this process's memory."""
        write = output.writer_from(input)
        return None if write is None else cls(input, output, write)

    def copy(self, box: Box, meter: Meter, apart: Callable[[Box], int]) -> int:
        """Copy a box of whole chunks; `apart` reads a box and writes it, through the same meter."""
        own = self._own
        if own.left:
            own.left -= 1
            return self._through(box, meter, apart)
        sample, rest = self._cut(box)
        mine = meter.mine
        reading, writing = mine.reading, mine.writing
        n_bytes = apart(sample)
        reading, writing = mine.reading - reading, mine.writing - writing
        own.reading = reading / (reading + writing) if reading + writing > 0 else 0.5
        own.left = _APART_EVERY - 1
        return n_bytes if rest is None else n_bytes + self._through(rest, meter, apart)

    def _through(self, box: Box, meter: Meter, apart: Callable[[Box], int]) -> int:
        began = perf_counter()
        try:
            self._write(box)
        except StorageError:
            return apart(box)  # says which of the two it was
        mine, seconds = meter.mine, perf_counter() - began
        mine.reading += self._own.reading * seconds
        mine.writing += (1 - self._own.reading) * seconds
        mine.bytes_in += box.size * self._input.dtype.itemsize
        return meter.wrote(self._output, box)

    def _cut(self, box: Box) -> tuple[Box, Box | None]:
        """Return a layer of chunks, and the rest of the box; None where it is one layer."""
        assert self._output.chunks is not None
        for axis, extent in enumerate(self._output.chunks):
            at = box.begin[axis] + extent
            if at < box.end[axis]:
                begin, end = list(box.begin), list(box.end)
                begin[axis] = end[axis] = at
                return Box(box.begin, tuple(end)), Box(tuple(begin), box.end)
        return box, None


class _Own(threading.local):
    """Of a thread: the share of time spent reading, and for how many boxes it holds."""

    reading = 0.5
    left = 0
