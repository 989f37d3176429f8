"""The kernel of a copy: read a block, cast it, write it; with a mask only where it is set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter

import numpy as np

from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels.casting import cast
from bioimage_py.kernels.mask_regions import MaskRegions
from bioimage_py.kernels.tally import Meter, Tally
from bioimage_py.sources import AnyArray, Source
from bioimage_py.sources.read_clock import READ

__all__ = ["CopyKernel"]


@dataclass(frozen=True)
class CopyKernel:
    """Copies blocks from one source into another of the same shape.

    Attributes
    ----------
    input, output, mask
        The sources; voxels are copied where the mask is non-zero, everywhere without one.
    casting
        See `cast`.
    meter
        Where its threads count what they do.
    """

    input: Source
    output: Source
    mask: Source | None = None
    casting: str = "unsafe"
    meter: Meter = field(default_factory=Meter, compare=False, repr=False)

    def counted_anew(self) -> CopyKernel:
        """Return the same kernel with nothing counted yet."""
        return replace(self, meter=Meter())

    def tally(self) -> Tally:
        """Return what was done so far, and how long it took."""
        return self.meter.total()

    def copy_box(self, box: Box) -> int:
        """Copy one box of whole write units; return the bytes written."""
        with self.meter.mine.rest("computing"):
            return self._copy_box(box)

    def copy_parts(self, unit: Box, parts: Sequence[Box]) -> int:
        """Copy several boxes that lie in one write unit, and write the unit once; return the bytes written.

        The parts' own voxels alone are read from the input, and only where the mask is set.
        """
        with self.meter.mine.rest("computing"):
            return self._copy_parts(unit, parts)

    def masked(self, box: Box) -> tuple[bool, bool]:
        """Return whether the mask is set somewhere in a box, and everywhere in it."""
        with self.meter.mine.rest("computing"):
            if self.masks_out(box):
                return False, False
            selected = self._mask(box)
            return (True, True) if selected is None else (bool(selected.any()), bool(selected.all()))

    def read_input(self, box: Box) -> AnyArray:
        """Return the voxels of the input in a box; the time that its stores take counts as reading."""
        return self._read(self.input, box)

    def _copy_box(self, box: Box) -> int:
        if self.masks_out(box):
            return 0
        selected = self._mask(box)
        if selected is None:
            return self._write(box, self._cast_input(box))
        if not selected.any():
            return 0
        touched = self._touched(selected, box)
        part = selected[touched.relative_to(box.begin).slices]
        if part.all():
            return self._write(touched, self._cast_input(touched))
        values = self._cast_input(touched)
        old = self._read(self.output, touched)
        return self._write(touched, np.where(part, values, old))

    def _copy_parts(self, unit: Box, parts: Sequence[Box]) -> int:
        chosen: list[tuple[Box, AnyArray | None]] = []
        for part in parts:
            if self.masks_out(part):
                continue
            selected = self._mask(part)
            if selected is None or selected.any():
                chosen.append((part, None if selected is None or selected.all() else selected))
        if not chosen:
            return 0
        covered = sum(part.size for part, selected in chosen if selected is None)
        if covered == unit.size:
            buffer = np.empty(unit.shape, self.output.dtype)
        else:
            buffer = np.array(self._read(self.output, unit))
        for part, selected in chosen:
            values = self._cast_input(part)
            np.copyto(
                buffer[part.relative_to(unit.begin).view],
                values,
                where=True if selected is None else selected,
            )
        return self._write(unit, buffer)

    def masks_out(self, box: Box) -> bool:
        """Whether the mask selects nothing in a box, as far as that is known without reading it."""
        return self.mask is not None and not self._regions.may_select(box)

    def units_of(
        self, blocks: Sequence[Box], write_unit: tuple[int, ...]
    ) -> Iterator[tuple[Box, list[tuple[int, Box]]]]:
        """Yield the write units that blocks lie in, with each block's index and its part of the unit."""
        hull = Box(
            tuple(map(min, zip(*(b.begin for b in blocks), strict=True))),
            tuple(map(max, zip(*(b.end for b in blocks), strict=True))),
        )
        units = Blocking(self.output.shape, write_unit)
        for unit_id in units.ids_in(hull):
            unit = units[unit_id]
            parts = [(n, block.intersect(unit)) for n, block in enumerate(blocks)]
            if parts := [(n, part) for n, part in parts if not part.is_empty()]:
                yield unit, parts

    @cached_property
    def _regions(self) -> MaskRegions:
        assert self.mask is not None
        return MaskRegions(self.mask)

    def _mask(self, box: Box) -> AnyArray | None:
        return None if self.mask is None else np.asarray(self._read(self.mask, box)) != 0

    def _cast_input(self, box: Box) -> AnyArray:
        n_bytes = READ.n_bytes
        values = self.read_input(box)
        self.meter.mine.bytes_in += READ.n_bytes - n_bytes
        return cast(values, self.output.dtype, self.casting, box.begin)

    def _read(self, source: Source, box: Box) -> AnyArray:
        seconds = READ.seconds
        values = source.read(box)
        self.meter.mine.reading += READ.seconds - seconds
        return values

    def _touched(self, selected: AnyArray, box: Box) -> Box:
        """Return the write units inside the box that hold a selected voxel, as one box."""
        begin, end = [], []
        for axis in range(selected.ndim):
            others = tuple(a for a in range(selected.ndim) if a != axis)
            hits = np.flatnonzero(selected.any(axis=others))
            begin.append(int(hits[0]) + box.begin[axis])
            end.append(int(hits[-1]) + 1 + box.begin[axis])
        unit = self.output.write_unit or (1,) * len(box.begin)
        return Box(tuple(begin), tuple(end)).snap(unit, self.output.shape).intersect(box)

    def _write(self, box: Box, values: AnyArray) -> int:
        began = perf_counter()
        self.output.write(box, values)
        tally = self.meter.mine
        tally.writing += perf_counter() - began
        n_bytes = math.prod(box.shape) * self.output.dtype.itemsize
        tally.bytes_out += n_bytes
        tally.chunks_recoded += self._n_chunks(box)
        return n_bytes

    def _n_chunks(self, box: Box) -> int:
        """Return how many chunks of the output a box touches; none where it has no chunks."""
        if self.output.chunks is None:
            return 0
        return math.prod(
            -(-e // c) - b // c for b, e, c in zip(box.begin, box.end, self.output.chunks, strict=True)
        )
