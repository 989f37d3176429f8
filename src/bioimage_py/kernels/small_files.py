"""Small chunk files that stay as they are, in the fewest steps: of tens of thousands, each step counts."""

from __future__ import annotations

import os
from time import perf_counter

from bioimage_py.chunks import ChunkFiles, ChunkFrames, EncodedReader, EncodedWriter
from bioimage_py.errors import BioimagePyError
from bioimage_py.kernels.stage_timer import Tally
from bioimage_py.storage import SMALL, FileFolder, StoredBytes


class SmallFiles:
    """Moves small chunk files that stay as they are, where all goes well."""

    def __init__(
        self, reader: ChunkFiles, writer: EncodedWriter, files: FileFolder, frames: ChunkFrames
    ) -> None:
        self._folder, self._files = reader.folder, files
        self._key, self._new_key = reader.keys.key, writer.keys.key
        self._same_names = reader.keys == writer.keys
        self._is_whole = frames.is_whole
        self._worth_it = True

    @classmethod
    def of(cls, reader: EncodedReader, writer: EncodedWriter, frames: ChunkFrames) -> SmallFiles | None:
        """Return None unless chunks are files on both sides and stay as they are."""
        if not isinstance(reader, ChunkFiles) or not isinstance(writer.files, FileFolder):
            return None
        return cls(reader, writer, writer.files, frames) if frames.leaves_chunks else None

    def move(self, position: tuple[int, ...], new_position: tuple[int, ...], tally: Tally) -> int | None:
        """Move the file of a chunk; return its bytes.

        None where it is missing, large or anything is wrong with it: nothing was done, and the ordinary way says what it is.
        """
        if not self._worth_it:
            return None
        try:
            key = self._key(position)
            data = _first_bytes(f"{self._folder}/{key}")
            n_bytes = len(data)
            # What was cut by a read that ended early is not whole either.
            if n_bytes > SMALL or not self._is_whole(StoredBytes(None, 0, n_bytes, data)):
                # The next ones will be as large, or say as little of themselves.
                self._worth_it = False
                return None
            began = perf_counter()
            if not self._files.write_small(key if self._same_names else self._new_key(new_position), data):
                return None
        except (OSError, BioimagePyError):
            return None
        tally.moving_out += perf_counter() - began
        tally.encoded_in += n_bytes
        tally.encoded_out += n_bytes
        tally.chunks_moved += 1
        return n_bytes


def _first_bytes(path: str) -> bytes:
    """Return all bytes of a small file, and one more than such a file has of a larger one."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(number, SMALL + 1)
    finally:
        os.close(number)
