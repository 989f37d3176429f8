"""Sources whose chunks we decode ourselves: assembling a region, and decoding each chunk once."""

from __future__ import annotations

import itertools
import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import numpy as np

from bioimage_py.geometry import Box
from bioimage_py.sources.base import AnyArray, FileSource

__all__ = ["ChunkedFileSource", "DecodedChunks"]


class DecodedChunks:
    """A bounded cache of decoded chunks; a chunk that two threads want at once is decoded by one of them.

    Parameters
    ----------
    max_bytes
        Decoded bytes to keep, least recently used out first. Chunks being decoded come on top.
    """

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
            self._keep(key, chunk)
        mine.set_result(chunk)
        return chunk

    def _keep(self, key: Hashable, chunk: AnyArray) -> None:
        if chunk.nbytes > self.max_bytes:
            return
        self._kept[key] = chunk
        self._bytes += chunk.nbytes
        while self._bytes > self.max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes


_Cell = tuple[int, int, int, slice, slice, bool]
"""One axis of a part: index of the chunk, its begin and end, the voxels in the region and in the chunk, all of it."""


class _Part(NamedTuple):
    """What one chunk contributes to a region: the chunk, and the same voxels in the region and in the chunk."""

    position: tuple[int, ...]
    chunk: Box
    target: tuple[slice, ...]
    source: tuple[slice, ...]
    whole: bool


class ChunkedFileSource(FileSource):
    """A file whose chunks are decoded one by one, by us, outside any lock.

    A subclass sets `chunks` and implements `_decode_chunk`. Chunks that a region covers only in part are kept in a
    cache (`cache_bytes`), because the neighbouring region will want the rest; whole ones are not.

    Attributes
    ----------
    chunks
        Shape of the grid's cells; cells at the far faces are cut at the array.
    """

    chunks: tuple[int, ...]
    fills_buffers = True

    def __init__(self, *, threads: int = 1, cache_bytes: int = 64 * 2**20) -> None:
        self._threads = threads
        self._decoded = DecodedChunks(cache_bytes)
        self._pool: ThreadPoolExecutor | None = None
        self._pool_lock = threading.Lock()
        self._reading = 0

    @abstractmethod
    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray | None:
        """Return the chunk at a grid position, of shape `box.shape` (cut at the array), or None where all is fill."""

    def _read(self, box: Box) -> AnyArray:
        return self._gathered(box, None)

    def _read_into(self, box: Box, buffer: AnyArray) -> AnyArray:
        return self._gathered(box, buffer)

    def _gathered(self, box: Box, buffer: AnyArray | None) -> AnyArray:
        """Return the voxels in a box, in the buffer if there is one."""
        parts = list(self._parts(box))
        if buffer is None and len(parts) == 1 and parts[0].whole and parts[0].chunk == box:
            chunk = self._decode_chunk(parts[0].position, box)
            return self._filled(box.shape) if chunk is None else chunk
        out = np.empty(box.shape, self.dtype) if buffer is None else buffer
        with self._pool_lock:
            self._reading += 1
            share = self._threads // self._reading
        try:
            self._copy_parts(out, parts, share)
        finally:
            with self._pool_lock:
                self._reading -= 1
        return out

    def _parts(self, box: Box) -> Iterator[_Part]:
        """Yield what each chunk contributes to a box; plain integers, because there can be many thousand."""
        per_axis: list[list[_Cell]] = []
        for begin, end, c, n in zip(*box, self.chunks, self.shape, strict=True):
            cells = []
            for index in range(begin // c, (end - 1) // c + 1):
                first, last = index * c, min((index + 1) * c, n)
                low, high = max(begin, first), min(end, last)
                target, source = slice(low - begin, high - begin), slice(low - first, high - first)
                cells.append((index, first, last, target, source, low == first and high == last))
            per_axis.append(cells)
        for cell in itertools.product(*per_axis):
            yield _Part(
                tuple(c[0] for c in cell),
                Box(tuple(c[1] for c in cell), tuple(c[2] for c in cell)),
                tuple(c[3] for c in cell),
                tuple(c[4] for c in cell),
                all(c[5] for c in cell),
            )

    def _copy_parts(self, out: AnyArray, parts: list[_Part], threads: int) -> None:
        """Decode here, and on the decoding threads that no other reader needs."""

        def run(mine: list[_Part]) -> None:
            for part in mine:
                self._copy_part(out, part)

        if threads < 2 or len(parts) < 2:
            run(parts)
            return
        others = [self._executor().submit(run, parts[n::threads]) for n in range(1, threads)]
        try:
            run(parts[::threads])
        finally:
            wait(others)
        for other in others:
            other.result()

    def _decode_into(self, position: tuple[int, ...], box: Box, target: AnyArray) -> None:
        """Put the chunk at a grid position into memory of its shape, not always contiguous."""
        chunk = self._decode_chunk(position, box)
        target[...] = self._fill() if chunk is None else chunk

    def _copy_part(self, out: AnyArray, part: _Part) -> None:
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
            out[part.target] = chunk[part.source]

    def _decode_or_fill(self, position: tuple[int, ...], box: Box) -> AnyArray:
        chunk = self._decode_chunk(position, box)
        return self._filled(box.shape) if chunk is None else chunk

    def _filled(self, shape: tuple[int, ...]) -> AnyArray:
        return np.full(shape, self._fill(), self.dtype)

    def _fill(self) -> object:
        return 0 if self.fill_value is None else self.fill_value

    def _executor(self) -> ThreadPoolExecutor:
        with self._pool_lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="bioimage-decode")
            return self._pool

    def close(self) -> None:
        """Stop the decoding threads; a subclass closes its file and calls this."""
        with self._pool_lock:
            if self._pool is not None:
                self._pool.shutdown(wait=False)
                self._pool = None
