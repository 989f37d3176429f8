"""The kernel of a verification: count the voxels of a block that differ, and find the first; chunks of equal bytes are not decoded."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from bioimage_py.chunks import ChunkFrames, EncodedReader, UnknownEncoding, compare_encodings
from bioimage_py.errors import StorageError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels.casting import differing
from bioimage_py.kernels.cells import Flags, boxes_of, cells_of, cells_under
from bioimage_py.kernels.stored_parts import StoredParts, moving_origin
from bioimage_py.kernels.write_units import slabs
from bioimage_py.sources import Source, encoded_reader, stored_chunks
from bioimage_py.storage import StoredBytes


@dataclass(frozen=True)
class Difference:
    """Voxels of a block that differ: how many, where the first is in C order, and what stands there."""

    count: int
    first: tuple[int, ...]
    values: tuple[Any, Any]


@dataclass(frozen=True)
class CompareKernel:
    """Compares two sources of one shape by value; NaN equals NaN. What neither of them stores is not read.

    Chunks whose stored bytes are equal in both are not decoded, unless it `decodes` all.
    """

    a: Source
    b: Source
    decodes: bool = False

    def compare(self, box: Box) -> tuple[Difference | None, int]:
        """Return how the voxels in a box differ, and how many chunks have equal bytes in both."""
        n_equal, areas = 0, self._stored_areas(box)
        if self._encoded is not None and self._encoded.has_whole(box):
            to_decode, n_equal = self._encoded.compared(box)
            areas = boxes_of(to_decode, box, self._encoded.chunks)
        found = [one for area in areas if (one := self._compare(area)) is not None]
        if not found:
            return None, n_equal
        first = min(found, key=lambda difference: difference.first)
        return replace(first, count=sum(one.count for one in found)), n_equal

    def _compare(self, box: Box) -> Difference | None:
        a, b = self.a.read(box), self.b.read(box)
        count, first = 0, None
        for piece in Blocking(box.shape, _slab(box.shape)):
            mine, other = a[piece.view], b[piece.view]
            if mine.dtype == other.dtype and np.array_equal(mine, other):
                continue
            differs = differing(mine, other)
            here = int(np.count_nonzero(differs))
            if here and first is None:
                at = np.unravel_index(int(np.argmax(differs)), differs.shape)
                first = tuple(int(i) + o for i, o in zip(at, piece.begin, strict=True))
            count += here
        if first is None:
            return None
        where = tuple(i + o for i, o in zip(first, box.begin, strict=True))
        return Difference(count, where, (a[first].item(), b[first].item()))

    def _stored_areas(self, box: Box) -> Iterator[Box]:
        """Yield boxes that hold all that one of the sources stores; all of the box where that is not known."""
        stored = [] if self._parts is None else [parts.within(box, most=True) for parts in self._parts]
        if not stored or any(boxes is None for boxes in stored):
            yield box
            return
        grid = tuple(map(math.lcm, self.a.chunks or box.shape, self.b.chunks or box.shape))
        cells = cells_under(itertools.chain(*(boxes or () for boxes in stored)), box, grid)
        yield from boxes_of(cells, box, grid)

    @cached_property
    def _encoded(self) -> EncodedPair | None:
        if self.decodes:
            return None
        return EncodedPair.of(self.a, self.b) or EncodedPair.of(self.b, self.a)

    @cached_property
    def _parts(self) -> tuple[StoredParts, StoredParts] | None:
        """What both store, if all other voxels are equal."""
        a = StoredParts.of(self.a)
        b = None if a is None else StoredParts.of(self.b)
        if a is None or b is None or differing(*(np.asarray([parts.fill_value]) for parts in (a, b))).any():
            return None
        return a, b


class EncodedPair(NamedTuple):
    """The chunks of two arrays on local disks that are encoded alike; the first array can begin some whole chunks before the second."""

    first: EncodedReader
    second: EncodedReader
    frames: ChunkFrames
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shift: tuple[int, ...]  # from a position in the second grid to that in the first
    same_fill: bool

    @classmethod
    def of(cls, a: Source, b: Source) -> EncodedPair | None:
        """Return None where chunks of `a` cannot become those of `b` without being decoded, or are behind a URL."""
        first, second = moving_origin(a), moving_origin(b)
        if first is None or second is None or second.offset is not None or not b.ndim:
            return None
        mine, other = stored_chunks(first.source), stored_chunks(second.source)
        if isinstance(mine, UnknownEncoding) or isinstance(other, UnknownEncoding):
            return None
        # Nothing is written, so it does not matter who could.
        encodings = replace(mine.encoding, one_file=False), replace(other.encoding, one_file=False)
        match = compare_encodings(*encodings, first.offset)
        # The header of zlib tells of a level, which the other direction takes off.
        if match.road == "recode" or "zlib" in match.wrap or mine.place is None or other.place is None:
            return None
        readers = encoded_reader(first.source, mine), encoded_reader(second.source, other)
        chunks = other.encoding.chunks
        shift = tuple(o // c for o, c in zip(first.offset or (0,) * b.ndim, chunks, strict=True))
        return cls(
            *readers, ChunkFrames(*encodings, match), b.shape, chunks, shift, not match.recodes_missing
        )

    def has_whole(self, box: Box) -> bool:
        """Whether a box cuts no chunk."""
        return box == box.snap(self.chunks, self.shape)

    def compared(self, box: Box) -> tuple[Flags, int]:
        """Return which chunks of a box have to be decoded to be compared, and how many others both store with equal bytes."""
        cells, n_equal = cells_of(box, self.chunks), 0
        to_decode = np.full(cells.shape, not self.same_fill)
        for part in slabs(cells):
            firsts = self.first.candidates(part.shift(self.shift))
            shifted = (tuple(p - s for p, s in zip(at, self.shift, strict=True)) for at in firsts)
            for at in {*shifted, *self.second.candidates(part)}:
                equal = self._equal(at)
                if equal is not None:
                    to_decode[tuple(p - b for p, b in zip(at, cells.begin, strict=True))] = not equal
                    n_equal += equal
        return to_decode, n_equal

    def _equal(self, at: tuple[int, ...]) -> bool | None:
        """Whether both store a chunk with equal bytes, and it looks whole; None if neither stores it. Decoding says what is wrong."""
        begin = tuple(p + s for p, s in zip(at, self.shift, strict=True))
        try:
            mine, other = self.first.piece(begin), self.second.piece(at)
            if mine is None or other is None:
                return None if mine is other else False
            if not self.first.movable(begin) or not self.second.movable(at):
                return False
            if self.frames.leaves_chunks and mine.length != other.length:
                return False
            data = mine.read()
            pieces, _ = self.frames.moved(mine)
            if pieces is not None and pieces != (mine,):
                data = b"".join(one.read() if isinstance(one, StoredBytes) else one for one in pieces)
            return pieces is not None and data == other.read()
        except StorageError:
            return False


def _slab(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of neighbours in C order that are compared at once."""
    from bioimage_py.planning import COMPARED_AT_ONCE  # not for the workers of copies, which plan nothing

    slab, room = [], COMPARED_AT_ONCE
    for extent in reversed(shape):
        slab.append(max(1, min(extent, room)))
        room //= max(1, extent)
    return tuple(reversed(slab))
