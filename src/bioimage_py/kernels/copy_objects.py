"""The kernel of the road `verbatim` within one object store: the store copies each object by itself, and none is fetched."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, TypeVar

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
_T = TypeVar("_T")
_R = TypeVar("_R")


class _Copied(NamedTuple):
    """An object that was copied: its place in the grid of objects, its state before, and how many chunks are in it."""

    position: _Position
    seen: ObjectState
    n_chunks: int


class CopyObjectsKernel(MovingKernel):
    """Has the store copy the objects of chunks, or of whole shards, from one array to another in it.

    Of each object its length and its tag are looked at before and after, in lists of many where there are many; what is in it only
    with `verify_encoded`. The table of a shard is read and checked.
    """

    def __init__(self, fallback: CopyKernel, options: MoveOptions | None = None) -> None:
        super().__init__(fallback, options)
        reader, files = self._reader, self._writer.files
        self._shards = reader if isinstance(reader, ShardedObjects) else None
        objects = reader.shards if isinstance(reader, ShardedObjects) else reader
        assert isinstance(objects, ChunkObjects)
        assert isinstance(files, ObjectFolder)
        self._objects = objects
        self._files = files
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
        tally, seen = self._tally, dict[str, ObjectState]()
        done = self._at_a_time(partial(self._copy_object, seen), self._objects_in(cells, seen))
        copied = [each for each in done if each is not None]
        made, there = dict[str, ObjectState](), list[_Position]()
        if copied or not self.options.output_is_new:
            listed = partial(self._copier.listed_copies, made)
            there = list(self._files.candidates(self._writer.keys, cells, listed))
        for each in self._at_a_time(partial(self._check_copy, made), copied):
            tally.encoded_in += each.seen.size
            tally.encoded_out += each.seen.size
            tally.chunks_moved += each.n_chunks
            tally.chunks_by_store += each.n_chunks
        stored = {each.position for each in copied}
        if self.match.recodes_missing:
            for position in itertools.product(*map(range, *cells)):
                if position not in stored:
                    self._recode(self._voxels(position, self._unit))
        elif not self.options.output_is_new:
            for position in there:
                if position not in stored:
                    self._writer.remove(position)

    def _at_a_time(self, function: Callable[[_T], _R], things: Iterable[_T]) -> Iterator[_R]:
        return side_by_side(function, things, self._pool, self._at_once)

    def _objects_in(self, cells: Box, seen: dict[str, ObjectState]) -> Iterator[_Position]:
        """Yield the output's positions at which the input may have an object; states that a list tells go into `seen`."""
        listed = partial(self._copier.listed, seen)
        for at in self._objects.objects.candidates(self._objects.keys, cells.shift(self._shift), listed):
            yield tuple(a - s for a, s in zip(at, self._shift, strict=True))

    def _copy_object(self, known: dict[str, ObjectState], position: _Position) -> _Copied | None:
        """Have the object at a position of the output copied; None if the input has none there."""
        key = self._objects.keys.key(self._at(position))
        first = chunk = tuple(p * n for p, n in zip(position, self._per_object, strict=True))
        try:
            seen = known.get(key) or self._copier.look(key)
            if seen is None:
                return None
            chunks = self._chunks_in(position, seen)
            if self.options.verify_encoded:
                for chunk in chunks:
                    self.fallback.meter.read(self.input, self._voxels(chunk, self._made.chunks))
                chunk = first
            self._copier.copy(key, self._writer.keys.key(position))
        except StorageError as error:
            raise self._refused(chunk, error) from error
        return _Copied(position, seen, len(chunks))

    def _check_copy(self, made: dict[str, ObjectState], copied: _Copied) -> _Copied:
        key, new_key = (
            self._objects.keys.key(self._at(copied.position)),
            self._writer.keys.key(copied.position),
        )
        try:
            self._copier.check(key, copied.seen, new_key, made.get(new_key))
        except StorageError as error:
            first = tuple(p * n for p, n in zip(copied.position, self._per_object, strict=True))
            raise self._refused(first, error) from error
        return copied

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
