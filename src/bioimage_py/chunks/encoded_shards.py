"""Shards of Zarr v3: the table that says where their chunks are, read with care and written again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt

from bioimage_py.chunks.encoded_chunks import ChunkFiles, ChunkObjects, EncodedReader
from bioimage_py.chunks.encoding import ChunkEncoding, ShardIndexEncoding
from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.storage import NewFile, NewObject, ObjectBytes, OpenObject, Piece, Recent, StoredBytes

_MISSING = 2**64 - 1
_Table = npt.NDArray[np.uint64]


class Shard(NamedTuple):
    """An open shard; its table has begin and length of each chunk, in C order."""

    stored: StoredBytes
    table: _Table

    def piece(self, number: int) -> StoredBytes | None:
        offset, length = map(int, self.table[number])
        return None if offset == _MISSING else self.stored.part(offset, offset + length)


def read_shard(stored: StoredBytes, n_chunks: int, index: ShardIndexEncoding) -> Shard:
    """Read and check the table of a shard; StorageError if the shard was cut or the table is corrupt."""
    n_bytes = _table_bytes(n_chunks, index)
    if stored.length < n_bytes:
        raise StorageError(
            f"it has {stored.length} bytes, but its index of {n_chunks} chunks alone has {n_bytes}"
        )
    at_start = index.location == "start"
    table = _checked_table(stored.at(0 if at_start else -n_bytes, n_bytes), n_chunks, index)
    _check_inside(table, stored.length, n_bytes, at_start=at_start)
    return Shard(stored, table)


def _check_inside(table: _Table, length: int, n_bytes: int, *, at_start: bool) -> None:
    """Raise StorageError if a table of so many bytes leads out of a shard, or into itself."""
    present = table[(table != _MISSING).any(axis=1)]
    low, high = (n_bytes, length) if at_start else (0, length - n_bytes)
    begins, lengths = present[:, 0], present[:, 1]
    # In an order in which no sum can pass the largest integer.
    outside = (begins < low) | (begins > high) | (lengths > high - np.minimum(begins, high))
    if outside.any():
        raise StorageError(f"its index leads out of its {length} bytes: it was cut, or is corrupt")


def _table_bytes(n_chunks: int, index: ShardIndexEncoding) -> int:
    return 16 * n_chunks + 4 * index.checksum


def _checked_table(data: bytes, n_chunks: int, index: ShardIndexEncoding) -> _Table:
    if index.checksum:
        computed = google_crc32c.value(data[:-4])
        if computed != int.from_bytes(data[-4:], "little"):
            raise StorageError(
                f"the crc32c of its index is {computed:#010x}, but {data[-4:].hex()} was stored"
            )
    return np.frombuffer(data, _numbers(index), 2 * n_chunks).reshape(-1, 2).astype(np.uint64)


def _numbers(index: ShardIndexEncoding) -> np.dtype[Any]:
    return np.dtype(">u8" if index.byte_order == "big" else "<u8")


class NewShard:
    """A shard that is being written: chunks in any order, then the table."""

    def __init__(self, file: NewFile | NewObject, n_chunks: int, index: ShardIndexEncoding) -> None:
        self._file = file
        self._index = index
        self._table = np.full((n_chunks, 2), _MISSING, np.uint64)
        if index.location == "start":
            file.append(bytes(16 * n_chunks + 4 * index.checksum))

    def append(self, number: int, pieces: Iterable[Piece]) -> None:
        begin = self._file.size
        for piece in pieces:
            self._file.append(piece)
        self._table[number] = begin, self._file.size - begin

    def finish(self) -> None:
        data = self._table.astype(_numbers(self._index)).tobytes()
        if self._index.checksum:
            data += google_crc32c.value(data).to_bytes(4, "little")
        if self._index.location == "start":
            self._file.write_at(0, data)
        else:
            self._file.append(data)


class ShardedChunks(EncodedReader):
    """Chunks inside the shards of an array; a few shards are kept open."""

    def __init__(self, shards: ChunkFiles | ChunkObjects, encoding: ChunkEncoding, max_open: int = 8) -> None:
        assert encoding.shards is not None
        assert encoding.index is not None
        self.shards = shards
        self.per_shard = tuple(s // c for s, c in zip(encoding.shards, encoding.chunks, strict=True))
        self._index = encoding.index
        self._open = Recent[tuple[int, ...], Shard | None](max_open)

    def path(self, position: tuple[int, ...]) -> str:
        return self.shards.path(self._divided(position)[0])

    def piece(self, position: tuple[int, ...]) -> StoredBytes | None:
        at, inside = self._divided(position)
        shard = self.shard(at)
        return None if shard is None else shard.piece(number_in(self.per_shard, inside))

    def shard(self, position: tuple[int, ...]) -> Shard | None:
        """Open a shard by its position in the grid of shards; None if it is not stored."""
        return self._open.get(position, self._opened)

    def _opened(self, position: tuple[int, ...]) -> Shard | None:
        stored = self.shards.piece(position)
        return None if stored is None else read_shard(stored, math.prod(self.per_shard), self._index)

    def forget(self, position: tuple[int, ...]) -> None:
        """Close a shard that will not be needed again."""
        self._open.forget(position)

    def candidates(self, cells: Box) -> Iterable[tuple[int, ...]]:
        if cells.is_empty():
            return
        outer = cells.snap(self.per_shard, cells.end)
        shards = Box(
            tuple(b // n for b, n in zip(outer.begin, self.per_shard, strict=True)),
            tuple(-(-e // n) for e, n in zip(outer.end, self.per_shard, strict=True)),
        )
        for at in self.shards.candidates(shards):
            corner = tuple(a * n for a, n in zip(at, self.per_shard, strict=True))
            inside = Box(corner, tuple(c + n for c, n in zip(corner, self.per_shard, strict=True)))
            yield from itertools.product(*map(range, *inside.intersect(cells)))

    def _divided(self, position: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        pairs = [divmod(p, n) for p, n in zip(position, self.per_shard, strict=True)]
        return tuple(at for at, _ in pairs), tuple(inside for _, inside in pairs)


class ShardedObjects(ShardedChunks):
    """Chunks inside shards that are objects in a store behind a URL: each is read by a request of its own.

    A shard that was opened as a whole gives its chunks from memory, until it is forgotten.
    """

    remote = True

    def __init__(self, shards: ChunkObjects, encoding: ChunkEncoding, max_open: int = 8) -> None:
        super().__init__(shards, encoding, max_open)
        self._objects, self._keys = shards.files, shards.keys
        self._tables = Recent[tuple[int, ...], _KnownTable | None](max_open)

    def piece(self, position: tuple[int, ...]) -> StoredBytes | None:
        at, inside = self._divided(position)
        number = number_in(self.per_shard, inside)
        opened = self._open.if_kept(at)
        if opened is not None:
            return opened.piece(number)
        known = self._tables.get(at, self._fetched_table)
        if known is None or int(known.table[number, 0]) == _MISSING:
            return None
        begin, length = map(int, known.table[number])
        key = self._keys.key(at)
        found = self._objects.read(key, begin, begin + length)
        if found is None or found.generation != known.generation:
            raise StorageError(f"{self._objects.path(key)} was written while it was read")
        return StoredBytes(None, 0, length, found.data)

    def stored_in(self, at: tuple[int, ...], length: int) -> list[tuple[tuple[int, ...], ObjectBytes]]:
        """Return the chunks in a shard of so many bytes, with their positions; only its table is fetched, and checked."""
        n_bytes = _table_bytes(math.prod(self.per_shard), self._index)
        if length < n_bytes:
            raise StorageError(f"it has {length} bytes, but its index alone has {n_bytes}")
        known = self._tables.get(at, self._fetched_table)
        if known is None:
            return []
        _check_inside(known.table, length, n_bytes, at_start=self._index.location == "start")
        numbers = np.flatnonzero(known.table[:, 0] != _MISSING)
        inside = np.stack(np.unravel_index(numbers, self.per_shard), axis=1).tolist()
        positions = [tuple(a * n + i for a, n, i in zip(at, self.per_shard, p, strict=True)) for p in inside]
        key, found = self._keys.key(at), known.table[numbers].tolist()
        runs = [ObjectBytes(OpenObject(self._objects, key, known.generation), *run) for run in found]
        return list(zip(positions, runs, strict=True))

    def _fetched_table(self, at: tuple[int, ...]) -> _KnownTable | None:
        n_chunks = math.prod(self.per_shard)
        n_bytes = _table_bytes(n_chunks, self._index)
        begin, end = (0, n_bytes) if self._index.location == "start" else (-n_bytes, None)
        found = self._objects.read(self._keys.key(at), begin, end)
        if found is None:
            return None
        return _KnownTable(_checked_table(found.data, n_chunks, self._index), found.generation)


class _KnownTable(NamedTuple):
    """The table of a shard; `generation` changes when the shard is stored again."""

    table: _Table
    generation: bytes


def number_in(grid: tuple[int, ...], position: tuple[int, ...]) -> int:
    """Return the number of a position in a grid, in C order."""
    number = 0
    for extent, at in zip(grid, position, strict=True):
        number = number * extent + at
    return number
