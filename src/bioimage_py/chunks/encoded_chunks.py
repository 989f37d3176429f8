"""Encoded chunks of stored arrays by their position in the chunk grid: reading them, and putting others in their place."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.storage import ChunkKeys, FileFolder, ObjectFolder, Piece, StoredBytes, file_error


class FilePlace(NamedTuple):
    """Where an encoded chunk is: a file, and which of its bytes."""

    path: str
    offset: int
    length: int


class EncodedReader(ABC):
    """Encoded chunks by grid position, from any thread; `remote` where each takes a request."""

    remote: bool = False  # whether each chunk takes a request

    @abstractmethod
    def piece(self, position: tuple[int, ...]) -> StoredBytes | None:
        """Return the bytes of a chunk, not yet read; None where it is not stored."""

    @abstractmethod
    def path(self, position: tuple[int, ...]) -> str: ...

    def candidates(self, cells: Box) -> Iterable[tuple[int, ...]]:
        """Yield, once each, the positions in a box of the grid at which there may be a chunk."""
        return itertools.product(*map(range, *cells))

    def movable(self, position: tuple[int, ...]) -> bool:
        """Whether a chunk is encoded as its array says; HDF5 may have skipped filters for one."""
        del position
        return True

    def read(self, position: tuple[int, ...]) -> bytes | None:
        piece = self.piece(position)
        return None if piece is None else piece.read()

    def file_of(self, position: tuple[int, ...]) -> FilePlace | None:
        piece = self.piece(position)
        return None if piece is None else FilePlace(self.path(position), piece.offset, piece.length)


class NamedChunks(EncodedReader):
    """Chunks, or whole shards, that are files or objects of their own; one that is written appears whole, or not at all."""

    def __init__(self, files: FileFolder | ObjectFolder, keys: ChunkKeys) -> None:
        self.files, self.keys = files, keys

    def path(self, position: tuple[int, ...]) -> str:
        return self.files.path(self.keys.key(position))

    def candidates(self, cells: Box) -> Iterable[tuple[int, ...]]:
        return self.files.candidates(self.keys, cells)

    def write(self, position: tuple[int, ...], *pieces: Piece) -> int:
        return self.files.write(self.keys.key(position), *pieces)

    def remove(self, position: tuple[int, ...]) -> bool:
        return self.files.remove(self.keys.key(position))


class ChunkFiles(NamedChunks):
    files: FileFolder

    def piece(self, position: tuple[int, ...]) -> StoredBytes | None:
        path = self.path(position)
        try:
            return StoredBytes.of_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except StorageError:
            raise
        except OSError as error:
            raise file_error(error, f"opening {path!r}") from error


class ChunkObjects(NamedChunks):
    """Objects behind a URL; each is read whole by one request."""

    files: ObjectFolder
    remote = True

    def piece(self, position: tuple[int, ...]) -> StoredBytes | None:
        found = self.files.read(self.keys.key(position))
        return None if found is None else StoredBytes(None, 0, len(found.data), found.data)
