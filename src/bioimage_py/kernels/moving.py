"""What kernels that move encoded chunks have in common: which chunk is taken from where, the mask, the counts."""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import NamedTuple, Self, TypeVar

from bioimage_py.chunks import (
    ChunkFiles,
    ChunkFrames,
    EncodedReader,
    EncodingMatch,
    NamedChunks,
    StoredChunks,
    UnknownEncoding,
    compare_encodings,
)
from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.kernels.cells import boxes_of, cells_all, cells_any
from bioimage_py.kernels.copy_blocks import CopyKernel
from bioimage_py.kernels.stage_timer import Meter, Tally
from bioimage_py.kernels.write_units import ALONE, BlockUnits, UnitsOfBox
from bioimage_py.sources import Source, encoded_reader, encoded_writer, stored_chunks
from bioimage_py.storage import MOST_READ, Piece, StoredBytes, give_up_waiting

Pieces = tuple[Piece, ...]

_T = TypeVar("_T")
_R = TypeVar("_R")

# A server takes its time for each chunk, so that many are asked for at once, as long as they take little memory.
MOST_AT_ONCE = 128
_BYTES_AT_ONCE = 2**26
_SHORT_CALLS = 2**17
"""Bytes of a chunk, decoded, up to which the system copies it in less time than Python needs to ask for it."""
_FIRST_AT_ONCE = 16
_FASTER = 1.2


@dataclass(frozen=True)
class MoveOptions:
    """How encoded chunks are moved."""

    # decode each chunk that is moved; else check its length, headers and checksums
    verify_encoded: bool = False
    output_is_new: bool = False  # no chunk is stored where it writes, so none has to be removed
    source: Source | None = None  # the stored array that the input is a region of; None for itself
    offset: tuple[int, ...] | None = None  # where the input begins in `source`, whole chunks


class BothSides(NamedTuple):
    """How both sides of a copy store their chunks, as their metadata say now, and how these match."""

    source: Source
    stored: StoredChunks | UnknownEncoding
    made: StoredChunks | UnknownEncoding
    match: EncodingMatch

    @classmethod
    def of(cls, fallback: CopyKernel, options: MoveOptions) -> BothSides:
        source = fallback.input if options.source is None else options.source
        stored, made = stored_chunks(source), stored_chunks(fallback.output)
        a, b = (one if isinstance(one, UnknownEncoding) else one.encoding for one in (stored, made))
        return cls(source, stored, made, compare_encodings(a, b, options.offset))


class MovingKernel(ABC):
    """Copies blocks by moving encoded chunks; called like a `CopyKernel`, from many threads at once.

    Chunks that cannot be moved are copied by `fallback`; those that the input does not store are not stored in the output.
    """

    def __init__(
        self, fallback: CopyKernel, options: MoveOptions | None = None, sides: BothSides | None = None
    ) -> None:
        self.options = options = options or MoveOptions()
        self.fallback = fallback
        self.input, self.output = fallback.input, fallback.output
        self.mask, self.casting = fallback.mask, fallback.casting
        sides = sides or BothSides.of(fallback, options)
        source, self.match = sides.source, sides.match
        if (
            isinstance(sides.stored, UnknownEncoding)
            or isinstance(sides.made, UnknownEncoding)
            or self.match.road == "recode"
        ):
            raise UnsupportedFormatError(
                f"chunks of {source.name} cannot be moved into {fallback.output.name}: {'; '.join(self.match.why)}"
            )
        self._stored = stored = sides.stored.encoding
        self._made = made = sides.made.encoding
        self._frames = ChunkFrames(stored, made, self.match)
        self._shift = tuple(
            o // c for o, c in zip(options.offset or (0,) * len(made.chunks), made.chunks, strict=True)
        )
        self._shifted = any(self._shift)
        self._source_name = source.name
        self._reader: EncodedReader = encoded_reader(source, sides.stored)
        self._writer: NamedChunks = encoded_writer(fallback.output, sides.made)
        # Whole files can share their blocks on the disk with the copy; all else is read anyway, so it is read once.
        self._reads_first = self.match.road == "repack" or not isinstance(self._reader, ChunkFiles)
        # What copies boxes of which it is known that the mask is set everywhere.
        self.unmasked = replace(fallback, mask=None)
        most = max(1, min(MOST_AT_ONCE, _BYTES_AT_ONCE // stored.chunk_bytes))
        waits = (self._reader.remote or self._writer.remote) and most > 1
        self._calls = SideBySide(most) if waits else None
        local = not (self._reader.remote or self._writer.remote)
        light = not (options.verify_encoded or self._frames.inflates) and self.mask is None
        self.calls_are_short = local and light and stored.chunk_bytes <= _SHORT_CALLS

    def counted_by(self, meter: Meter) -> Self:
        twin = copy.copy(self)
        twin.fallback = self.fallback.counted_by(meter)
        twin.unmasked = replace(twin.fallback, mask=None)
        return twin

    @property
    def meter(self) -> Meter:
        return self.fallback.meter

    def tally(self) -> Tally:
        return self.fallback.tally()

    def copy_box(self, box: Box) -> int:
        """Copy one box of whole write units; return the bytes of its voxels. A StorageError names the chunk."""
        if self.fallback.leaves_out(box):
            return 0
        selected = self.fallback.selected(box)
        if selected is None:
            return self._moved(box, BlockUnits())[0]
        unit = self._made.shards or self._made.chunks
        with self._tally.rest("computing"):
            whole, touched = cells_all(selected, box, unit), cells_any(selected, box, unit)
        written = sum(self._moved(part, BlockUnits())[0] for part in boxes_of(whole, box, unit))
        for part in boxes_of(touched & ~whole, box, unit):
            written += self.fallback.copy_selected(part, selected[part.relative_to(box.begin).slices])
        return written

    def copy_units(self, box: Box, known: BlockUnits) -> tuple[int, bool]:
        """Copy those write units of a box that are not done, and record them; return the bytes of their voxels.

        Returns False as well if it was told to stop before all were done. With a mask the box is copied as by `copy_box`.
        """
        return self._moved(box, known) if self.mask is None else (self.copy_box(box), True)

    def copy_parts(self, unit: Box, parts: Sequence[Box]) -> int:
        """Copy several boxes that lie in one write unit; it is moved where they fill it."""
        if sum(part.size for part in parts) == unit.size:
            return self.copy_box(unit)
        return self.fallback.copy_parts(unit, parts)

    @abstractmethod
    def _move_units(self, units: UnitsOfBox) -> None: ...

    def _moved(self, box: Box, known: BlockUnits) -> tuple[int, bool]:
        """Copy the write units of a box everywhere; return the bytes of the voxels, and whether all units are done."""
        units = UnitsOfBox(self._made.shape, self._made.shards or self._made.chunks, box, known)
        tally = self._tally
        recoded = -tally.bytes_out
        try:
            with tally.rest("moving_in"):
                self._move_units(units)
        finally:
            units.flush()
        recoded += tally.bytes_out
        n_bytes = units.n_voxels * self.output.dtype.itemsize
        tally.bytes_in += n_bytes - recoded
        tally.bytes_out += n_bytes - recoded
        return n_bytes, not units.stopped

    @property
    def _tally(self) -> Tally:
        return self.fallback.meter.mine

    def _voxels(self, cell: tuple[int, ...], grid: tuple[int, ...]) -> Box:
        begin = tuple(at * g for at, g in zip(cell, grid, strict=True))
        end = tuple(b + g for b, g in zip(begin, grid, strict=True))
        return Box(begin, end).intersect(Box.whole(self._made.shape))

    def _candidates(self, cells: Box) -> Iterator[tuple[int, ...]]:
        """Yield the output's positions at which the input may have a chunk."""
        if not self._shifted:
            yield from self._reader.candidates(cells)
            return
        for at in self._reader.candidates(cells.shift(self._shift)):
            yield tuple(a - s for a, s in zip(at, self._shift, strict=True))

    def _take(self, position: tuple[int, ...]) -> Pieces | bool | None:
        """Return what to store at a position of the output; None for nothing, False where it has to be recoded."""
        at = self._at(position)
        try:
            stored = self._reader.piece(at)
            if stored is None:
                return None
            if not self._reader.movable(at):
                return False
            if self._reads_first and stored.length <= MOST_READ:
                stored.read()
            pieces = self._checked(position, stored)
        except StorageError as error:
            raise self._refused(position, error) from error
        if pieces is None:
            return False
        self._tally.encoded_in += stored.length
        return pieces

    def _checked(self, position: tuple[int, ...], stored: StoredBytes) -> Pieces | None:
        """Return what to store for a chunk, once it has been found to be whole; None where it has to be recoded."""
        pieces, whole = self._frames.moved(stored)
        if pieces is not None and (self.options.verify_encoded or not whole):
            self.fallback.meter.read(self.input, self._voxels(position, self._made.chunks))
        return pieces

    def _calls_of(self, function: Callable[[_T], _R], things: Iterable[_T]) -> Iterator[_R]:
        """Yield what a function returns for each thing, in order: side by side where it waits for a server, else one after the other."""
        return map(function, things) if self._calls is None else self._calls.map(function, things)

    def _at(self, position: tuple[int, ...]) -> tuple[int, ...]:
        """Return where in the grid of the stored array a position of the output is."""
        if not self._shifted:
            return position
        return tuple(p + s for p, s in zip(position, self._shift, strict=True))

    @contextmanager
    def _naming(self, position: tuple[int, ...]) -> Iterator[None]:
        """Let a StorageError say which chunk, at a position of the output, it is about."""
        try:
            yield
        except StorageError as error:
            raise self._refused(position, error) from error

    def _refused(self, position: tuple[int, ...], error: StorageError) -> StorageError:
        at = self._at(position)
        return StorageError(
            f"chunk {at} of {self._source_name} cannot be copied ({self._reader.path(at)}): {error}"
        )

    def _finish_slab(
        self, units: UnitsOfBox, cells: Box, stored: set[tuple[int, ...]], old: Iterable[tuple[int, ...]]
    ) -> None:
        """See to the units of a slab that the input does not store, unless it was left because of a stop.

        They are written if they would read otherwise in the output; else what the output has there, at the `old` positions, is removed.
        """
        if self.match.recodes_missing:
            for position in units.left(itertools.product(*map(range, *cells)), stored):
                self._recode(self._voxels(position, self._made.shards or self._made.chunks))
                units.finish(position, ALONE)
        elif not units.stopped and not self.options.output_is_new:
            for position in list(old):
                if position not in stored:
                    self._writer.remove(position)
        units.finish_slab(cells)

    def _recode(self, box: Box, positions: Iterable[tuple[int, ...]] = ()) -> None:
        """Copy a box by decoding it; where that fails, the error names which of the chunks at these positions it is."""
        try:
            self.unmasked.copy_box(box)
        except StorageError:
            for position in positions:
                with self._naming(position):
                    self.fallback.meter.read(self.input, self._voxels(position, self._made.chunks))
            raise


class SideBySide:
    """Calls under way at the same time: twice as many as before, up to `most`, as long as that makes them faster."""

    def __init__(self, most: int, at_once: int = _FIRST_AT_ONCE) -> None:
        self.most, self.at_once = most, min(most, at_once)
        self._pool = ThreadPoolExecutor(most)
        self._returned, self._since, self._pace = 0, perf_counter(), 0.0

    def map(self, function: Callable[[_T], _R], things: Iterable[_T]) -> Iterator[_R]:
        """Yield what a function returns for each thing, in order.

        After an error no further call begins; those under way are waited for.
        """
        waiting: deque[Future[_R]] = deque()
        try:
            for thing in things:
                waiting.append(self._pool.submit(function, thing))
                if len(waiting) >= self.at_once:
                    yield waiting.popleft().result()
                    self._count()
            while waiting:
                yield waiting.popleft().result()
        except KeyboardInterrupt:
            give_up_waiting()
            raise
        finally:
            wait([future for future in waiting if not future.cancel()])

    def _count(self) -> None:
        """Count a call that has returned; several threads may lose some counts, which changes nothing but the moment."""
        self._returned += 1
        if self.at_once == self.most or self._returned < 2 * self.at_once:
            return
        now = perf_counter()
        pace = self._returned / max(now - self._since, 1e-6)
        if pace > _FASTER * self._pace:
            self.at_once = min(self.most, 2 * self.at_once)
        self._returned, self._since, self._pace = 0, now, pace
