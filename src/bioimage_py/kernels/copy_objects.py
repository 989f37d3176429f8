"""The kernel of the road `verbatim` within one object store: the store copies each object by itself, and none is fetched."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.kernels.cells import cells_of
from bioimage_py.kernels.copy_blocks import CopyKernel
from bioimage_py.kernels.moving import MoveOptions, MovingKernel, slabs
from bioimage_py.kernels.side_by_side import side_by_side
from bioimage_py.sources.encoded_chunks import ChunkObjects
from bioimage_py.sources.encoded_shards import ShardedObjects
from bioimage_py.sources.encoding import encoding_of
from bioimage_py.sources.encoding_match import compare_encodings
from bioimage_py.sources.object_folder import ObjectFolder
from bioimage_py.sources.payload_check import known_length
from bioimage_py.sources.store_copy import ObjectState, StoreCopier, place_of, why_fetched

__all__ = ["CopyObjectsKernel", "store_copies"]

# What is copied takes no memory here, so that only the store limits how many are asked for at once.
_AT_ONCE = 16
_Position = tuple[int, ...]


class _Copied(NamedTuple):
    """An object that was copied: its place in the grid of objects, its bytes, and the chunks in it."""

    position: _Position
    n_bytes: int
    n_chunks: int


class CopyObjectsKernel(MovingKernel):
    """Has the store copy the objects of chunks, or of whole shards, from one array to another in it.

    Of each object its length and its tag are looked at before and after; what is in it only with `verify_encoded`. The table of
    a shard is read and checked.
    """

    def __init__(self, fallback: CopyKernel, options: MoveOptions | None = None) -> None:
        super().__init__(fallback, options)
        reader, files = self._reader, self._writer.files
        self._shards = reader if isinstance(reader, ShardedObjects) else None
        objects = reader.shards if isinstance(reader, ShardedObjects) else reader
        assert isinstance(objects, ChunkObjects)
        assert isinstance(files, ObjectFolder)
        self._objects = objects
        self._copier = StoreCopier(objects.objects, files)
        self._unit = self._made.shards or self._made.chunks
        self._per_object = tuple(u // c for u, c in zip(self._unit, self._made.chunks, strict=True))
        self._length = known_length(self._stored)
        if not self.options.verify_encoded and self._at_once < _AT_ONCE:
            self._at_once = _AT_ONCE
            self._pool = ThreadPoolExecutor(_AT_ONCE)

    def _move_box(self, box: Box) -> None:
        with self._tally.rest("moving_out"):
            for cells in slabs(cells_of(box, self._unit), math.prod(self._per_object)):
                self._move_cells(cells)

    def _move_cells(self, cells: Box) -> None:
        stored = set[_Position]()
        tally = self._tally
        found = side_by_side(self._copy_object, self._object_candidates(cells), self._pool, self._at_once)
        for copied in found:
            if copied is None:
                continue
            stored.add(copied.position)
            tally.encoded_in += copied.n_bytes
            tally.encoded_out += copied.n_bytes
            tally.chunks_moved += copied.n_chunks
            tally.chunks_by_store += copied.n_chunks
        if self.match.recodes_missing:
            for position in itertools.product(*map(range, *cells)):
                if position not in stored:
                    self._recode(self._voxels(position, self._unit))
        elif not self.options.output_is_new:
            for position in list(self._writer.candidates(cells)):
                if position not in stored:
                    self._writer.remove(position)

    def _object_candidates(self, cells: Box) -> Iterable[_Position]:
        return self._candidates(cells) if self._shards is None else self._objects.candidates(cells)

    def _copy_object(self, position: _Position) -> _Copied | None:
        """Have the object at a position of the output copied; None if the input has none there."""
        at = self._at(position) if self._shards is None else position
        key = self._objects.keys.key(at)
        first = chunk = tuple(p * n for p, n in zip(position, self._per_object, strict=True))
        try:
            seen = self._copier.look(key)
            if seen is None:
                return None
            chunks = self._chunks_in(position, seen)
            if self.options.verify_encoded:
                for chunk in chunks:
                    self.fallback.meter.read(self.input, self._voxels(chunk, self._made.chunks))
                chunk = first
            self._copier.copy(key, seen, self._writer.keys.key(position))
        except StorageError as error:
            raise self._refused(chunk, error) from error
        return _Copied(position, seen.size, len(chunks))

    def _chunks_in(self, position: _Position, seen: ObjectState) -> list[_Position]:
        """Return the output's positions of the chunks that an object holds, once its length has been checked."""
        if self._shards is None:
            if seen.size == 0 or self._length not in (None, seen.size):
                raise StorageError(f"it has {seen.size} bytes where {self._length or 'some'} are expected")
            return [position]
        grid = Box.whole(self._made.grid)
        inside = self._shards.stored_in(position, seen.size)
        return [at for at in inside if all(p < end for p, end in zip(at, grid.end, strict=True))]


def store_copies(fallback: CopyKernel, options: MoveOptions) -> bool:
    """Whether a store can copy the objects of an input into the output of a copy by itself."""
    source = fallback.input if options.source is None else options.source
    place, into = place_of(source), place_of(fallback.output)
    if place is None or into is None or why_fetched(place, into) is not None:
        return False
    return compare_encodings(encoding_of(source), encoding_of(fallback.output), options.offset).whole_files
