"""Sources whose chunks we decode ourselves: assembling a region, and decoding each chunk once."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import numpy as np

from bioimage_py.geometry import Blocking, Box
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
        grid = Blocking(self.shape, self.chunks)
        parts = list(self._parts(grid, box))
        if len(parts) == 1 and parts[0][1] == box:
            chunk = self._decode_chunk(*parts[0])
            return self._filled(box.shape) if chunk is None else chunk
        out = np.empty(box.shape, self.dtype)
        with self._pool_lock:
            self._reading += 1
            share = self._threads // self._reading
        try:
            self._copy_parts(out, box, parts, share)
        finally:
            with self._pool_lock:
                self._reading -= 1
        return out

    def _copy_parts(
        self, out: AnyArray, box: Box, parts: list[tuple[tuple[int, ...], Box]], threads: int
    ) -> None:
        """Decode here, and on the decoding threads that no other reader needs."""
        if threads < 2 or len(parts) < 2:
            for part in parts:
                self._copy_part(out, box, *part)
            return

        def run(mine: list[tuple[tuple[int, ...], Box]]) -> None:
            for part in mine:
                self._copy_part(out, box, *part)

        others = [self._executor().submit(run, parts[n::threads]) for n in range(1, threads)]
        try:
            run(parts[::threads])
        finally:
            wait(others)
        for other in others:
            other.result()

    def _parts(self, grid: Blocking, box: Box) -> Iterator[tuple[tuple[int, ...], Box]]:
        for chunk_id in grid.ids_in(box):
            position = grid.position(chunk_id)
            yield position, grid.block_at(position)

    def _copy_part(self, out: AnyArray, box: Box, position: tuple[int, ...], chunk_box: Box) -> None:
        shared = chunk_box.intersect(box)
        target = shared.relative_to(box.begin).slices
        if box.contains(chunk_box) or self._decoded.max_bytes == 0:
            chunk = self._decode_chunk(position, chunk_box)
        else:
            chunk = self._decoded.get(position, lambda: self._decode_or_fill(position, chunk_box))
        if chunk is None:
            out[target] = self._fill()
        else:
            out[target] = chunk[shared.relative_to(chunk_box.begin).slices]

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
