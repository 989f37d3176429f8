"""The kernel of a pyramid: read a block once, and write it at full size and reduced, as far as its levels go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels.casting import cast
from bioimage_py.kernels.copy_blocks import CopyKernel, ReadBuffers
from bioimage_py.kernels.moving import MovingKernel
from bioimage_py.kernels.moving_roads import kernel_for_road
from bioimage_py.kernels.stage_timer import Meter, Tally
from bioimage_py.sources import Source
from bioimage_py.sources.stores import piece_shape
from bioimage_py.wrapper.resampling import reduce_windows


@dataclass(frozen=True)
class PyramidKernel:
    """Makes the levels of a pyramid. Each level is computed from the stored voxels of the level before."""

    input: Source  # of the pyramid, or a level of it
    outputs: tuple[Source, ...]  # the levels that are written, largest first
    # per output: how many voxels of the one before (or the input) become one
    steps: tuple[tuple[int, ...], ...]
    method: str
    tile_shape: tuple[int, ...]  # in which pieces a block is read
    casting: str = "unsafe"
    mover: MovingKernel | None = None  # moves encoded chunks into the first level, where both encode alike
    own_meter: Meter = field(default_factory=Meter, compare=False, repr=False)
    _buffers: ReadBuffers = field(default_factory=ReadBuffers, compare=False, repr=False)

    @property
    def meter(self) -> Meter:
        """Where its threads, and the mover, count what they do."""
        return self.own_meter if self.mover is None else self.mover.fallback.meter

    def with_new_counts(self) -> PyramidKernel:
        mover = None if self.mover is None else self.mover.counted_by(Meter())
        return replace(self, mover=mover, own_meter=Meter())

    def tally(self) -> Tally:
        return self.meter.total()

    @property
    def copies(self) -> bool:
        """Whether the first level has the voxels of the input."""
        return all(factor == 1 for factor in self.steps[0])

    def make_box(self, box: Box) -> int:
        """Make the part of each level that a box of the input, whole write units of each level, gives; return the bytes written."""
        with self.meter.mine.rest("computing"):
            return self._make_box(box)

    def _make_box(self, box: Box) -> int:
        levels = list(zip(self.outputs, self.steps, strict=True))
        n_bytes = 0
        if self.copies:
            del levels[0]
        if not levels:
            for tile in self._tiles(box):
                n_bytes += self._copied(tile)[1]
            return n_bytes
        (output, step), *coarser = levels
        place = _reduced(box, step)
        made = np.empty(place.shape, output.dtype)
        for tile in self._tiles(box):
            values, written = self._copied(tile)
            n_bytes += written
            made[_reduced(tile, step).relative_to(place.begin).view] = reduce_windows(
                values, step, self.method
            )
            # Else it would be held while the next one is read.
            del values
        n_bytes += _write(self.meter, output, place, made)
        for output, step in coarser:
            place, made = _reduced(place, step), np.ascontiguousarray(reduce_windows(made, step, self.method))
            n_bytes += _write(self.meter, output, place, made)
        return n_bytes

    def _tiles(self, box: Box) -> Iterator[Box]:
        """Yield the pieces of a box: of the input's whole grid, so that each is whole write units too."""
        yield from Blocking(self.input.shape, self.tile_shape, roi=box)

    def _copied(self, tile: Box) -> tuple[AnyArray, int]:
        """Return the voxels of a tile as they are stored, until the thread takes the next tile, and the bytes written."""
        buffer = self._buffers.for_read(self.input, tile)
        if self.mover is not None:
            written = self.mover.copy_box(tile)
            # Of a single level nobody asks for the voxels.
            single = len(self.outputs) == 1
            return np.empty(0) if single else self.meter.read(self.input, tile, buffer), written
        output = self.outputs[0]
        values = self.meter.read_in(self.input, tile, buffer)
        values = cast(values, output.dtype, self.casting, tile.begin)
        return values, _write(self.meter, output, tile, values) if self.copies else 0


def mover_for(
    input: Source, output: Source, road: str, *, verify_encoded: bool, output_is_new: bool
) -> MovingKernel | None:
    """Return what moves encoded chunks into the full-size level, None on the road `"recode"`."""
    kernel = kernel_for_road(
        CopyKernel(input, output), road, verify_encoded=verify_encoded, output_is_new=output_is_new
    )
    return kernel if isinstance(kernel, MovingKernel) else None


def _write(meter: Meter, output: Source, box: Box, values: AnyArray) -> int:
    """Write a box a few whole write units at a time: what is encoded and waits for the disk is held as well."""
    unit = output.write_unit or (1,) * output.ndim
    for piece in Blocking(output.shape, piece_shape(unit, output.dtype.itemsize, box), roi=box):
        meter.write(output, piece, values[piece.relative_to(box.begin).view])
    return box.size * output.dtype.itemsize


def _reduced(box: Box, step: tuple[int, ...]) -> Box:
    """Return where a box lies when windows become voxels; it begins with a whole window."""
    return Box(
        tuple(b // f for b, f in zip(box.begin, step, strict=True)),
        tuple(-(-e // f) for e, f in zip(box.end, step, strict=True)),
    )
