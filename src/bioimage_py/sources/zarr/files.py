"""Zarr arrays in a local folder as runs read and write them: whole chunks by few steps of our own, the rest by TensorStore."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np

from bioimage_py.chunks import (
    AnyArray,
    ChunkCodec,
    ChunkEncoding,
    ChunkFiles,
    EncodedReader,
    NewShard,
    Scratch,
    ShardedChunks,
    copy_rows,
    number_in,
)
from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.sources.base import Source, SourceSpec, StandIn
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.chunk_access import stored_files
from bioimage_py.sources.chunked import ChunkedFileSource, ChunkPart, chunk_at, parts_of
from bioimage_py.sources.stores import TensorStoreSource
from bioimage_py.storage import ReadAhead, SlowReads

LEAST_BYTES = 2**18
"""Of a chunk, decoded: TensorStore takes fewer steps for each, which count for more than the codec in smaller ones.

It is one number for all machines and runs, so that what is stored does not depend on who wrote it.
"""


class ZarrSource(TensorStoreSource):
    """A Zarr array whose chunks are encoded in one way, whether in a run or not; decoded by TensorStore until a run begins."""

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        return _twin_for_run(self, threads, cache_bytes)

    @property
    def engine(self) -> str:
        return "tensorstore" if self._folder is None or self._writer is None else "imagecodecs"

    def _write(self, box: Box, values: AnyArray) -> None:
        if self._writer is None:
            super()._write(box, values)
        else:
            self._writer.write(box, values)

    @cached_property
    def _writer(self) -> ZarrFilesSource | None:
        return ZarrFilesSource.of(self.plain(), 1, 0)


class ZarrFilesSource(StandIn, ChunkedFileSource):
    """A Zarr array in a local folder whose chunks are decoded into the memory where they are wanted, and encoded in memory that is kept.

    Whatever is unusual is left to TensorStore, which knows what it is or says what is wrong with it: chunks that are not a plain
    stream, parts of chunks that are written, files that cannot be read.
    """

    concurrent_writes = True
    codes_chunks = True
    stands_for: TensorStoreSource

    def __init__(
        self,
        twin: TensorStoreSource,
        files: ChunkFiles,
        encoding: ChunkEncoding,
        codec: ChunkCodec,
        threads: int,
        cache_bytes: int,
    ) -> None:
        super().__init__(threads=threads, cache_bytes=cache_bytes, in_run=True)
        self.kind, self.path, self.key, self.mode = twin.kind, twin.path, twin.key, twin.mode
        self.format, self.codec, self.writable = twin.format, twin.codec, twin.writable
        self.shape, self.dtype, self.fill_value = twin.shape, twin.dtype, twin.fill_value
        self.chunks, self.shards = encoding.chunks, encoding.shards
        self.stands_for, self._files, self._encoding, self._codec = twin, files, encoding, codec
        self._reader: EncodedReader = files if encoding.shards is None else ShardedChunks(files, encoding)
        self._folder = files.files
        self._scratch = Scratch()
        self._slow = SlowReads()
        self._fill_voxel = np.frombuffer(encoding.fill, codec.dtype.newbyteorder("<")).astype(codec.dtype)
        self._fill_bits = self._fill_voxel.view(f"u{min(8, codec.dtype.itemsize)}")
        self._as_stored = self.dtype == codec.dtype
        # What the table of a shard says would have to be read again after each write.
        self._reads = encoding.shards is None or not twin.writable
        self._encodes = codec.encodes
        # Where the metadata name no fill value, others take what is not stored for anything.
        self._leaves_fill = twin.names_fill_value

    @classmethod
    def of(cls, twin: TensorStoreSource, threads: int, cache_bytes: int) -> ZarrFilesSource | None:
        """Return it for a twin that TensorStore has opened for a run; None where it could do nothing by itself, or gain nothing."""
        try:
            found = stored_files(twin)
        except StorageError:
            return None  # whoever reads or writes it says so
        if found is None:
            return None
        files, encoding = found
        codec = ChunkCodec.of(encoding)
        same = (encoding.chunks, encoding.shards, encoding.dtype) == (
            twin.chunks,
            twin.shards,
            twin.dtype.name,
        )
        if codec is None or not same or not isinstance(files, ChunkFiles) or not twin.fills_buffers:
            return None
        if encoding.chunk_bytes < LEAST_BYTES:
            return None
        return cls(twin, files, encoding, codec, threads, cache_bytes)

    def to_spec(self) -> SourceSpec:
        return self.stands_for.to_spec()

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        return _twin_for_run(self.stands_for, threads, cache_bytes)

    def _read(self, box: Box) -> AnyArray:
        return super()._read(box) if self._reads else self.stands_for.read(box)

    def _read_into(self, box: Box, buffer: AnyArray) -> AnyArray:
        return super()._read_into(box, buffer) if self._reads else self.stands_for.read(box, buffer)

    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray | None:
        chunk = np.empty(box.shape, self.dtype)
        return chunk if self._decode_stored(position, box, chunk) else None

    def _decode_into(self, position: tuple[int, ...], box: Box, target: AnyArray) -> None:
        if not self._decode_stored(position, box, target):
            target[...] = self.fill_value

    def ahead(self, box: Box) -> ReadAhead:
        return self._announced(parts_of(box, self.chunks, self.shape))

    def _announced(self, parts: Iterable[ChunkPart]) -> ReadAhead:
        # A shard is one file, of which the system reads more than it is asked for anyway.
        paths = () if self.shards is not None else (self._files.path(part.position) for part in parts)
        return ReadAhead(paths, self._slow)

    def _copy_parts(self, out: AnyArray, parts: list[ChunkPart]) -> None:
        ahead = self._announced(parts)

        def copy(part: ChunkPart) -> None:
            ahead.step()
            self._copy_part(out, part)

        self._threads.run(copy, parts)

    def _copy_part(self, out: AnyArray, part: ChunkPart) -> None:
        if part.whole or self._decoded.max_bytes:
            super()._copy_part(out, part)
            return
        chunk = self._scratch.array("part", part.chunk.shape, self.dtype)
        self._decode_into(part.position, part.chunk, chunk)
        copy_rows(out[part.target], chunk[part.source])

    def _decode_stored(self, position: tuple[int, ...], box: Box, target: AnyArray) -> bool:
        """Put a chunk, cut at the array, into memory of its shape; return whether it is stored."""
        try:
            data = self._encoded_chunk(position)
        except StorageError as error:
            if isinstance(error.__cause__, IsADirectoryError):
                raise  # TensorStore takes a folder for a chunk that is not stored
            target[...] = self.stands_for.read(box)  # says what is wrong, if it is still so
            return True
        if data is None:
            return False
        if self._as_stored and target.flags.c_contiguous and box.shape == self.chunks:
            done = self._codec.decode(data, target)
        else:
            chunk = self._scratch.array("chunk", self.chunks, self._codec.dtype)
            done = self._codec.decode(data, chunk)
            if done:
                copy_rows(target, chunk[tuple(map(slice, box.shape))])
        if not done:
            target[...] = self.stands_for.read(box)
        return True

    def _encoded_chunk(self, position: tuple[int, ...]) -> AnyArray | None:
        """Return the bytes of a chunk, which stay until the thread asks for the next ones; None where it is not stored."""
        began = perf_counter()
        piece = self._reader.piece(position)
        if piece is None:
            return None
        if piece.in_memory:
            data: AnyArray = np.frombuffer(piece.read(), np.uint8)
        else:
            data = self._scratch.bytes("file", piece.length)
            piece.file.read_into(piece.offset, data.data)
        self._slow.took(perf_counter() - began, piece.length)
        return data

    def _write(self, box: Box, values: AnyArray) -> None:
        units = self.shards or self.chunks
        store = self._write_chunk if self.shards is None else self._write_shard
        position = chunk_at(box, units, self.shape)
        if not self._encodes or (position is None and box.snap(units, self.shape) != box):
            self.stands_for.write(box, values)
        elif position is not None:
            store(position, values)
        else:
            parts = parts_of(box, units, self.shape)
            self._threads.run(lambda part: store(part.position, values[part.target]), parts)

    def _write_chunk(self, position: tuple[int, ...], values: AnyArray) -> None:
        key, folder = self._files.keys.key(position), self._folder
        data = self._encoded_values(values)
        if data is None:
            folder.remove(key)
        elif not folder.write_small(key, data.data):
            folder.write(key, data.data)

    def _write_shard(self, position: tuple[int, ...], values: AnyArray) -> None:
        """Encode the chunks of a shard, on all threads that are free, into its file, in C order; without any there is no file."""
        assert self.shards is not None
        assert self._encoding.index is not None
        grid = tuple(s // c for s, c in zip(self.shards, self.chunks, strict=True))
        key, folder = self._files.keys.key(position), self._folder
        chunks = list(parts_of(Box.whole(values.shape), self.chunks, values.shape))
        with folder.new(key) as file:
            shard, lock = NewShard(file, math.prod(grid), self._encoding.index), threading.Lock()
            waiting: dict[int, bytes | None] = {}
            done = stored = 0

            def store(number: int) -> None:
                nonlocal done, stored
                data = self._encoded_values(values[chunks[number].target])
                kept = None if data is None else data.tobytes()
                with lock:
                    waiting[number] = kept
                    while done in waiting:
                        kept = waiting.pop(done)
                        if kept is not None:
                            shard.append(number_in(grid, chunks[done].position), [kept])
                            stored += 1
                        done += 1

            self._threads.run(store, range(len(chunks)))
            if stored:
                shard.finish()
            else:
                file.abandon()
        if not stored:
            folder.remove(key)

    def _encoded_values(self, values: AnyArray) -> AnyArray | None:
        """Return what is stored for the voxels of a chunk, cut at the array; None where they all equal the fill value, bit by bit."""
        values = cast_values(values, self.dtype)
        if not (self._as_stored and values.flags.c_contiguous and values.shape == self.chunks):
            chunk = self._scratch.array("chunk", self.chunks, self._codec.dtype)
            if values.shape != self.chunks:
                chunk[...] = self._fill_voxel
            inside: Any = (*map(slice, values.shape), ...)  # a view, also without axes
            copy_rows(chunk[inside], values)
            values = chunk
        return (
            None if self._leaves_fill and self._is_fill(values) else self._codec.encode(values, self._scratch)
        )

    def _is_fill(self, chunk: AnyArray) -> bool:
        bits = chunk.reshape(-1).view(self._fill_bits.dtype)
        # Most chunks differ at once.
        if bits[0] != self._fill_bits[0] or bits[-1] != self._fill_bits[-1]:
            return False
        return bool((bits.reshape(-1, self._fill_bits.size) == self._fill_bits).all())


def _twin_for_run(array: TensorStoreSource, threads: int, cache_bytes: int) -> Source:
    twin = array.reopened(threads, cache_bytes).plain()
    return ZarrFilesSource.of(twin, threads, cache_bytes) or twin
