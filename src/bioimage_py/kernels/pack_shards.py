"""The kernel of the road `repack`: encoded chunks are put into shards, or whole shards are moved, and nothing is decoded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from time import perf_counter

from bioimage_py.chunks import NewShard, ShardedChunks, number_in
from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.kernels.cells import cells_of
from bioimage_py.kernels.copy_blocks import CopyKernel
from bioimage_py.kernels.move_chunks import SmallFiles
from bioimage_py.kernels.moving import BothSides, MoveOptions, MovingKernel, Pieces
from bioimage_py.kernels.write_units import ALONE, UnitsOfBox
from bioimage_py.storage import NewFile, NewObject

_Position = tuple[int, ...]


class PackKernel(MovingKernel):
    """Moves chunks into an output with shards; each shard is written in one go, one chunk in memory at a time.

    A shard with a chunk that cannot be moved is copied by the fallback as a whole. Where the input has the same
    shards with the same kind of index, their files are moved.
    """

    def __init__(
        self, fallback: CopyKernel, options: MoveOptions | None = None, sides: BothSides | None = None
    ) -> None:
        super().__init__(fallback, options, sides)
        assert self._made.shards is not None
        assert self._made.index is not None
        self._shards, self._index = self._made.shards, self._made.index
        self._per_shard = tuple(s // c for s, c in zip(self._shards, self._made.chunks, strict=True))
        # A region may end in the middle of what is in a shard of the input.
        whole = self._stored.shape == self._made.shape and not any(self._shift)
        same = self.match.road == "verbatim" and self.match.kind == "payload"
        reader = self._reader
        self._whole = reader if whole and same and isinstance(reader, ShardedChunks) else None
        self._reads_first = self._whole is None

    def _move_units(self, units: UnitsOfBox) -> None:
        for shards in units.slabs(math.prod(self._per_shard)):
            stored, chunks = units.done_in(shards), self._chunks_in(shards)
            for shard in units.left(chunks, stored):
                if self._move_shard(shard, chunks[shard]):
                    stored.add(shard)
                    units.finish(shard, ALONE)
            self._finish_slab(units, shards, stored, self._writer.candidates(shards))

    def _chunks_in(self, shards: Box) -> dict[_Position, list[_Position]]:
        """Return, for each shard, the positions at which the input may have a chunk."""
        chunks: dict[_Position, list[_Position]] = {}
        for position in self._candidates(cells_of(self._voxels_of(shards), self._made.chunks)):
            shard = tuple(p // n for p, n in zip(position, self._per_shard, strict=True))
            chunks.setdefault(shard, []).append(position)
        return chunks

    def _move_shard(self, shard: _Position, positions: list[_Position]) -> bool:
        """Store one shard; return whether there is one now."""
        voxels = self._voxels(shard, self._shards)
        n_moved = 0
        new: NewFile | NewObject = self._writer.files.new(self._writer.keys.key(shard))
        with self._tally.rest("moving_out"), new as file:
            movable = self._fill(file, shard, sorted(positions))
            if movable is not None and not (
                self.match.recodes_missing and movable < cells_of(voxels, self._made.chunks).size
            ):
                n_moved = movable
            if not n_moved:
                file.abandon()
        if n_moved:
            self._tally.chunks_moved += n_moved
            self._tally.encoded_out += file.size
        elif movable is None or self.match.recodes_missing:
            self._recode(voxels, positions)
            return True
        return n_moved > 0

    def _fill(self, file: NewFile | NewObject, shard: _Position, positions: list[_Position]) -> int | None:
        """Write a shard; return how many chunks are in it, None where one has to be recoded."""
        if self._whole is not None:
            return self._fill_whole(self._whole, file, shard, positions)
        new = NewShard(file, math.prod(self._per_shard), self._index)
        n_moved = 0
        for position, pieces in self._taken(positions):
            if isinstance(pieces, bool):
                return None
            if pieces is None:
                continue
            n_moved += 1
            inside = tuple(p % n for p, n in zip(position, self._per_shard, strict=True))
            try:
                new.append(number_in(self._per_shard, inside), pieces)
            except StorageError as error:
                raise self._refused(position, error) from error
        new.finish()
        return n_moved

    @cached_property
    def _small(self) -> SmallFiles | None:
        if self.options.verify_encoded or self._calls is not None:
            return None
        return SmallFiles.of(self._reader, self._writer, self._frames)

    def _taken(self, positions: list[_Position]) -> Iterator[tuple[_Position, Pieces | bool | None]]:
        tally, small = self._tally, self._small
        found = self._calls_of(self._take, positions) if small is None else None
        for position in positions:
            began = perf_counter()
            data = None if small is None else small.read(small.key(self._at(position)))
            if data is not None:
                tally.moving_in += perf_counter() - began
                tally.encoded_in += len(data)
                yield position, (data,)
                continue
            with tally.rest("moving_in"):
                pieces = self._take(position) if found is None else next(found)
            yield position, pieces

    def _fill_whole(
        self, reader: ShardedChunks, file: NewFile | NewObject, shard: _Position, positions: list[_Position]
    ) -> int | None:
        """Write a shard as it is stored, once each chunk in it has been looked at."""
        if not positions:
            return 0
        n_moved = 0
        try:
            with self._naming(positions[0]):
                found = reader.shard(shard)
            if found is None:
                return 0
            for position in positions:
                with self._tally.rest("moving_in"):
                    pieces = self._take(position)
                if isinstance(pieces, bool):
                    return None
                n_moved += pieces is not None
            with self._naming(positions[0]):
                file.append(found.stored)
        finally:
            reader.forget(shard)
        return n_moved

    def _voxels_of(self, shards: Box) -> Box:
        last = tuple(end - 1 for end in shards.end)
        return Box(self._voxels(shards.begin, self._shards).begin, self._voxels(last, self._shards).end)
