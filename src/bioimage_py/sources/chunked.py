"""Sources whose chunks we decode ourselves: assembling a region, and decoding each chunk once."""

from __future__ import annotations

import copy
import itertools
import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from bioimage_py.chunks import AnyArray, SharedThreads, copy_rows
from bioimage_py.geometry import Box
from bioimage_py.sources.base import FileSource, Source
from bioimage_py.sources.casting import cast_values


class DecodedChunks:
    """A bounded cache of decoded chunks; a chunk that two threads want at once is decoded by one of them."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, AnyArray] = OrderedDict()
        self._under_way: dict[Hashable, Future[AnyArray]] = {}
        self._bytes = 0

    def get(self, key: Hashable, decode: Callable[[], AnyArray]) -> AnyArray:
        """Return the chunk from the cache, from the thread that is decoding it, or by decoding it here."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
            waiting = self._under_way.get(key)
            if waiting is None:
                mine: Future[AnyArray] = Future()
                self._under_way[key] = mine
        if waiting is not None:
            return waiting.result()
        try:
            chunk = decode()
        except BaseException as error:
            with self._lock:
                del self._under_way[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._under_way[key]
            if chunk.nbytes <= self.max_bytes:
                self._kept[key] = chunk
                self._bytes += chunk.nbytes
            while self._bytes > self.max_bytes:
                _, dropped = self._kept.popitem(last=False)
                self._bytes -= dropped.nbytes
        mine.set_result(chunk)
        return chunk


_Cell = tuple[int, int, int, slice, slice, bool]
"""One axis of a part: index of the chunk, its begin and end, the voxels in the region and in the chunk, all of it."""


class ChunkPart(NamedTuple):
    """What one chunk contributes to a region: the chunk, and the same voxels in the region and in the chunk."""

    position: tuple[int, ...]
    chunk: Box
    target: tuple[slice, ...]
    source: tuple[slice, ...]
    whole: bool


def chunk_at(box: Box, chunks: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the grid position of the chunk that a box is, cut at the array; None for a part of one or several of them."""
    position = []
    for begin, end, c, n in zip(*box, chunks, shape, strict=True):
        index, inside = divmod(begin, c)
        if inside or end != min(begin + c, n):
            return None
        position.append(index)
    return tuple(position)


def parts_of(box: Box, chunks: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[ChunkPart]:
    """Yield what each chunk of an array contributes to a box; plain integers, because there can be many thousand."""
    per_axis: list[list[_Cell]] = []
    for begin, end, c, n in zip(*box, chunks, shape, strict=True):
        cells = []
        for index in range(begin // c, (end - 1) // c + 1):
            first, last = index * c, min((index + 1) * c, n)
            low, high = max(begin, first), min(end, last)
            target, source = slice(low - begin, high - begin), slice(low - first, high - first)
            cells.append((index, first, last, target, source, low == first and high == last))
        per_axis.append(cells)
    for cell in itertools.product(*per_axis):
        yield ChunkPart(
            tuple(c[0] for c in cell),
            Box(tuple(c[1] for c in cell), tuple(c[2] for c in cell)),
            tuple(c[3] for c in cell),
            tuple(c[4] for c in cell),
            all(c[5] for c in cell),
        )


class ChunkedFileSource(FileSource):
    """A file whose chunks are decoded one by one, by us, outside any lock.

    A subclass sets `chunks` and implements `_decode_chunk`, and `_encode_chunk` if it can be written. Chunks that a region covers only in part are kept in a
    cache (`cache_bytes`), because the neighbouring region will want the rest; whole ones only during a run that reads chunks again.
    """

    chunks: tuple[int, ...]  # shape of the grid's cells; cells at the far faces are cut at the array
    fills_buffers = True

    def __init__(self, *, threads: int = 1, cache_bytes: int = 64 * 2**20, in_run: bool = False) -> None:
        self._keeps_all = in_run and cache_bytes > 0
        self._threads = SharedThreads(threads)
        self._decoded = DecodedChunks(cache_bytes)

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        twin = copy.copy(self)
        ChunkedFileSource.__init__(twin, threads=threads, cache_bytes=cache_bytes, in_run=True)
        return twin

    @abstractmethod
    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray | None:
        """Return the chunk at a grid position, of shape `box.shape` (cut at the array), or None where all is fill."""

    def _encode_chunk(self, position: tuple[int, ...], box: Box, values: AnyArray) -> None:
        """Store the voxels of a chunk, of shape `box.shape` (cut at the array) and this dtype, where a source can be written."""
        del position
        super()._write(box, values)

    def _write(self, box: Box, values: AnyArray) -> None:
        for part in parts_of(box, self.chunks, self.shape):
            chunk = cast_values(values[part.target], self.dtype)
            if not part.whole:
                old = self._decode_chunk(part.position, part.chunk)
                whole = self._filled(part.chunk.shape) if old is None else np.array(old)
                whole[part.source] = chunk
                chunk = whole
            self._encode_chunk(part.position, part.chunk, chunk)

    def _read(self, box: Box) -> AnyArray:
        return self._gathered(box, None)

    def _read_into(self, box: Box, buffer: AnyArray) -> AnyArray:
        return self._gathered(box, buffer)

    def _gathered(self, box: Box, buffer: AnyArray | None) -> AnyArray:
        position = chunk_at(box, self.chunks, self.shape)
        if position is None or self._keeps_all:
            out = np.empty(box.shape, self.dtype) if buffer is None else buffer
            parts = list(parts_of(box, self.chunks, self.shape))
            if self._keeps_all:
                parts = [part._replace(whole=False) for part in parts]
            self._copy_parts(out, parts)
            return out
        if buffer is None:
            return self._decode_or_fill(position, box)
        self._decode_into(position, box, buffer)
        return buffer

    def _copy_parts(self, out: AnyArray, parts: list[ChunkPart]) -> None:
        self._threads.run(lambda part: self._copy_part(out, part), parts)

    def _decode_into(self, position: tuple[int, ...], box: Box, target: AnyArray) -> None:
        """Put the chunk at a grid position into memory of its shape, not always contiguous."""
        chunk = self._decode_chunk(position, box)
        if chunk is None:
            target[...] = self._fill()
        else:
            copy_rows(target, chunk)

    def _copy_part(self, out: AnyArray, part: ChunkPart) -> None:
        if part.whole:
            self._decode_into(part.position, part.chunk, out[part.target])
            return
        if self._decoded.max_bytes == 0:
            chunk = self._decode_chunk(part.position, part.chunk)
        else:
            chunk = self._decoded.get(part.position, lambda: self._decode_or_fill(part.position, part.chunk))
        if chunk is None:
            out[part.target] = self._fill()
        else:
            copy_rows(out[part.target], chunk[part.source])

    def _decode_or_fill(self, position: tuple[int, ...], box: Box) -> AnyArray:
        chunk = self._decode_chunk(position, box)
        return self._filled(box.shape) if chunk is None else chunk

    def _filled(self, shape: tuple[int, ...]) -> AnyArray:
        return np.full(shape, self._fill(), self.dtype)

    def _fill(self) -> object:
        return 0 if self.fill_value is None else self.fill_value

    def close(self) -> None:
        self._threads.close()
