"""The kernel of the road `verbatim` within one object store: the store copies each object by itself, and none is fetched whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from bioimage_py.chunks import (
    ChunkFrames,
    ChunkObjects,
    PayloadCheck,
    ShardedObjects,
    UnknownEncoding,
    why_all_bytes,
)
from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.kernels.copy_blocks import CopyKernel
from bioimage_py.kernels.moving import MOST_AT_ONCE, BothSides, MoveOptions, MovingKernel, SideBySide
from bioimage_py.kernels.write_units import UnitsOfBox
from bioimage_py.sources.stores import ObjectState, StoreCopier, place_of, why_fetched
from bioimage_py.storage import ObjectBytes, ObjectFolder, OpenObject, StoredBytes

# What is copied takes no memory here, so that only the store limits how many are asked for at once.
_WEIGHT = MOST_AT_ONCE
_Position = tuple[int, ...]


class _Object(NamedTuple):
    """An object of the input: its place in the output's grid of objects, its state, and the chunks in it."""

    position: _Position
    seen: ObjectState
    chunks: list[tuple[_Position, StoredBytes]]


class CopyObjectsKernel(MovingKernel):
    """Has the store copy the objects of chunks, or of whole shards, from one array to another in it.

    Of each object its length and its tag are looked at before and after, in lists of many where there are many. Chunks are
    checked before, by their lengths and a few of their bytes, which are all that is fetched; with `verify_encoded` they are
    decoded too, and then all codecs will do. An object with a chunk that has to be recoded is recoded as a whole.
    """

    def __init__(
        self, fallback: CopyKernel, options: MoveOptions | None = None, sides: BothSides | None = None
    ) -> None:
        super().__init__(fallback, options, sides)
        reader, files = self._reader, self._writer.files
        self._shards = reader if isinstance(reader, ShardedObjects) else None
        objects = reader.shards if isinstance(reader, ShardedObjects) else reader
        assert isinstance(objects, ChunkObjects)
        assert isinstance(files, ObjectFolder)
        self._objects = objects
        self._files = files
        self._copier = StoreCopier(objects.files, files)
        self._unit = self._made.shards or self._made.chunks
        self._per_object = tuple(u // c for u, c in zip(self._unit, self._made.chunks, strict=True))
        # A store keeps what it copies as it is, so that a wrong checksum stays one.
        self._frames = ChunkFrames(self._stored, self._made, self.match, sums=False)
        self._by_few_bytes = PayloadCheck(self._stored.codecs, sums=False).by_few_bytes
        if not self.options.verify_encoded and (self._calls is None or self._calls.most < MOST_AT_ONCE):
            self._calls = SideBySide(MOST_AT_ONCE)

    def _move_units(self, units: UnitsOfBox) -> None:
        with self._tally.rest("moving_out"):
            # A stop is looked at between slabs, so they have few objects.
            for cells in units.slabs(max(_WEIGHT, math.prod(self._per_object))):
                self._move_cells(cells, units)

    def _move_cells(self, cells: Box, units: UnitsOfBox) -> None:
        tally, seen = self._tally, dict[str, ObjectState]()
        stored = units.done_in(cells)
        looked = self._calls_of(partial(self._look, seen), units.left(self._objects_in(cells, seen), stored))
        found = [each for each in looked if each is not None]
        chunks = ((each.position, *chunk) for each in found for chunk in each.chunks)
        odd = {position for position in self._calls_of(self._check_chunk, chunks) if position is not None}
        whole = [each for each in found if each.position not in odd]
        for each in found:
            if each.position in odd:
                self._recode(self._voxels(each.position, self._unit), [chunk for chunk, _ in each.chunks])
        there = self._copy_objects(cells, whole)
        for each in whole:
            tally.encoded_in += each.seen.size
            tally.encoded_out += each.seen.size
            tally.chunks_moved += len(each.chunks)
            tally.chunks_by_store += len(each.chunks)
        for each in found:
            units.finish(each.position, each.seen.size)
        stored |= {each.position for each in found}
        self._finish_slab(units, cells, stored, there)

    def _copy_objects(self, cells: Box, objects: list[_Object]) -> list[_Position]:
        """Have objects copied and check the copies; return where the output may have objects, unless there is no need to know."""
        copied = list[_Object]()
        try:
            for _ in self._calls_of(partial(self._copy_object, copied), objects):
                pass
        except StorageError:
            # What others were asked for meanwhile has been made, and may be of other bytes than were checked.
            self._check_copies(cells, copied)
            raise
        return self._check_copies(cells, copied)

    def _check_copies(self, cells: Box, copied: list[_Object]) -> list[_Position]:
        made, there = dict[str, ObjectState](), list[_Position]()
        if copied or not self.options.output_is_new:
            listed = partial(self._copier.listed, made, copies=True)
            there = list(self._files.candidates(self._writer.keys, cells, listed))
        for _ in self._calls_of(partial(self._check_copy, made), copied):
            pass
        return there

    def _objects_in(self, cells: Box, seen: dict[str, ObjectState]) -> Iterator[_Position]:
        """Yield the output's positions at which the input may have an object; states that a list tells go into `seen`."""
        listed = partial(self._copier.listed, seen)
        for at in self._objects.files.candidates(self._objects.keys, cells.shift(self._shift), listed):
            yield tuple(a - s for a, s in zip(at, self._shift, strict=True))

    def _look(self, known: dict[str, ObjectState], position: _Position) -> _Object | None:
        """Return the object at a position of the output; None if the input has none there."""
        key = self._objects.keys.key(self._at(position))
        with self._naming(self._first(position)):
            seen = known.get(key) or self._copier.look(key)
            return None if seen is None else _Object(position, seen, self._chunks_in(position, key, seen))

    def _check_chunk(self, chunk: tuple[_Position, _Position, StoredBytes]) -> _Position | None:
        """Check a chunk of an object; return the position of the object if it has to be recoded."""
        position, at, stored = chunk
        with self._naming(at):
            if not self._by_few_bytes:
                stored = StoredBytes(None, 0, stored.length, stored.read())
            return position if self._checked(at, stored) is None else None

    def _copy_object(self, copied: list[_Object], each: _Object) -> None:
        key = self._objects.keys.key(self._at(each.position))
        with self._naming(self._first(each.position)):
            self._copier.copy(key, self._writer.keys.key(each.position))
        copied.append(each)

    def _check_copy(self, made: dict[str, ObjectState], each: _Object) -> None:
        key = self._objects.keys.key(self._at(each.position))
        new_key = self._writer.keys.key(each.position)
        with self._naming(self._first(each.position)):
            self._copier.check(key, each.seen, new_key, made.get(new_key))

    def _first(self, position: _Position) -> _Position:
        """Return the output's position of the first chunk in an object."""
        return tuple(p * n for p, n in zip(position, self._per_object, strict=True))

    def _chunks_in(
        self, position: _Position, key: str, seen: ObjectState
    ) -> list[tuple[_Position, StoredBytes]]:
        """Return the chunks that an object holds, by the output's positions; the table of a shard is checked."""
        if self._shards is None:
            return [(position, ObjectBytes(OpenObject(self._objects.files, key), 0, seen.size))]
        grid = self._made.grid
        # Shards stay as they are only where nothing is shifted.
        inside = self._shards.stored_in(position, seen.size)
        return [(at, part) for at, part in inside if all(p < n for p, n in zip(at, grid, strict=True))]


def store_copies(fallback: CopyKernel, options: MoveOptions, sides: BothSides) -> bool:
    """Whether an object store can copy the objects of the input into the output by itself."""
    place, into = place_of(sides.source), place_of(fallback.output)
    if place is None or into is None or why_fetched(place, into) is not None:
        return False
    if isinstance(sides.stored, UnknownEncoding) or not sides.match.whole_files:
        return False
    return options.verify_encoded or why_all_bytes(sides.stored.encoding.codecs) is None
