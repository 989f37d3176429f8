"""The kernel of the road `verbatim`: each encoded chunk becomes a file of its own, and nothing is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from time import perf_counter

from bioimage_py.chunks import ChunkFiles, ChunkFrames, EncodedReader, NamedChunks
from bioimage_py.errors import BioimagePyError, StorageError
from bioimage_py.kernels.moving import MovingKernel
from bioimage_py.kernels.stage_timer import Tally
from bioimage_py.kernels.write_units import ALONE, UnitsOfBox
from bioimage_py.storage import SMALL, FileFolder, StoredBytes
from bioimage_py.system import READ


class MoveKernel(MovingKernel):
    """Moves chunks into an output without shards; the input's may be files, inside shards, or in an HDF5 file."""

    def _move_units(self, units: UnitsOfBox) -> None:
        for cells in units.slabs():
            stored = units.done_in(cells)
            for position, done in self._move_all(units.left(self._candidates(cells), stored)):
                if done is None:
                    continue
                stored.add(position)
                recode = isinstance(done, bool)
                if recode:
                    self._recode(self._voxels(position, self._made.chunks), [position])
                units.finish(position, ALONE if recode else done)
            self._finish_slab(units, cells, stored, self._writer.candidates(cells))

    def _move_all(
        self, positions: Iterable[tuple[int, ...]]
    ) -> Iterator[tuple[tuple[int, ...], int | bool | None]]:
        if self._small is None:
            for position, done in self._calls_of(self._move_chunk, positions):
                self._count(done)
                yield position, done
            return
        tally, move = self._tally, self._small.move
        for position in positions:
            n_bytes = move(self._at(position), position, tally)
            if n_bytes is not None:
                yield position, n_bytes
                continue
            _, done = self._move_chunk(position)
            self._count(done)
            yield position, done

    def _count(self, done: int | bool | None) -> None:
        if done is not None and not isinstance(done, bool):
            self._tally.encoded_out += done
            self._tally.chunks_moved += 1

    @cached_property
    def _small(self) -> SmallFiles | None:
        if self.options.verify_encoded or self._calls is not None:
            return None
        return SmallFiles.of(self._reader, self._writer, self._frames)

    def _move_chunk(self, position: tuple[int, ...]) -> tuple[tuple[int, ...], int | bool | None]:
        """Store what belongs at a position; return its bytes, None for nothing, False where it has to be recoded."""
        pieces = self._take(position)
        if pieces is None or isinstance(pieces, bool):
            return position, pieces
        began = perf_counter()
        try:
            n_bytes = self._writer.write(position, *pieces)
        except StorageError as error:
            raise self._refused(position, error) from error
        if self._calls is None:
            self._tally.moving_out += perf_counter() - began
        return position, n_bytes


class SmallFiles:
    """Moves small chunk files that stay as they are, where all goes well."""

    def __init__(
        self, reader: ChunkFiles, writer: NamedChunks, files: FileFolder, frames: ChunkFrames
    ) -> None:
        self._folder, self._files = reader.files.folder, files
        self.key, self._new_key = reader.keys.key, writer.keys.key
        self._same_names = reader.keys == writer.keys
        self._is_whole = frames.is_whole
        self._worth_it = True

    @classmethod
    def of(cls, reader: EncodedReader, writer: NamedChunks, frames: ChunkFrames) -> SmallFiles | None:
        """Return None unless chunks are files on both sides and stay as they are."""
        if not isinstance(reader, ChunkFiles) or not isinstance(writer.files, FileFolder):
            return None
        return cls(reader, writer, writer.files, frames) if frames.leaves_chunks else None

    def move(self, position: tuple[int, ...], new_position: tuple[int, ...], tally: Tally) -> int | None:
        """Move the file of a chunk; return its bytes.

        None where it is missing, large or anything is wrong with it: nothing was done, and the ordinary way says what it is.
        """
        key = self.key(position)
        data = self.read(key)
        if data is None:
            return None
        began, n_bytes = perf_counter(), len(data)
        try:
            if not self._files.write_small(key if self._same_names else self._new_key(new_position), data):
                return None
        except (OSError, BioimagePyError):
            return None
        tally.moving_out += perf_counter() - began
        tally.encoded_in += n_bytes
        tally.encoded_out += n_bytes
        tally.chunks_moved += 1
        return n_bytes

    def read(self, key: str) -> bytes | None:
        """Return the bytes of the file of a chunk, None as `move` does."""
        if not self._worth_it:
            return None
        try:
            data = _first_bytes(f"{self._folder}/{key}")
            # What was cut by a read that ended early is not whole either.
            if len(data) <= SMALL and self._is_whole(StoredBytes(None, 0, len(data), data)):
                return data
            # The next ones will be as large, or say as little of themselves.
            self._worth_it = False
        except (OSError, BioimagePyError):
            return None
        return None


def _first_bytes(path: str) -> bytes:
    """Return all bytes of a small file, and one more than such a file has of a larger one."""
    number = os.open(path, READ)
    try:
        return os.read(number, SMALL + 1)
    finally:
        os.close(number)
