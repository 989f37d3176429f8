"""Encoded chunks of stored arrays by their position in the chunk grid: reading them, and putting others in their place."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.storage import ChunkKeys, FileBytes, FileFolder, ObjectFolder, Piece, StoredBytes, file_error


class FilePlace(NamedTuple):
    """Where an encoded chunk is: a file, and which of its bytes."""

    path: str
    offset: int
    length: int


class EncodedReader(ABC):
    """Encoded chunks by their position, from any number of threads.

    Attributes
    ----------
    remote
        Whether each chunk takes a request.
    """

    remote: bool = False

    @abstractmethod
    def piece(self, position: tuple[int, ...]) -> StoredBytes | None:
        """Return the bytes of a chunk, not yet read; None where it is not stored.

        Raises
        ------
        StorageError
            If they cannot be read, or a file's table of them is corrupt.
        """

    @abstractmethod
    def path(self, position: tuple[int, ...]) -> str:
        """Return the file that holds the chunk, if it is stored."""

    def candidates(self, cells: Box) -> Iterable[tuple[int, ...]]:
        """Yield the positions in a box of the grid at which there may be a chunk; each of them once."""
        return itertools.product(*map(range, *cells))

    def movable(self, position: tuple[int, ...]) -> bool:
        """Whether a chunk was encoded in the way of its array; HDF5 may have skipped filters for one."""
        del position
        return True

    def read(self, position: tuple[int, ...]) -> bytes | None:
        """Return the bytes of a chunk, None where it is not stored."""
        piece = self.piece(position)
        return None if piece is None else piece.read()

    def file_of(self, position: tuple[int, ...]) -> FilePlace | None:
        """Return where a chunk is, None where it is not stored."""
        piece = self.piece(position)
        return None if piece is None else FilePlace(self.path(position), piece.offset, piece.length)


class ChunkFiles(EncodedReader):
    """Chunks that are files of their own, or whole shards.

    Parameters
    ----------
    folder
        The array's folder.
    keys
        What the files are called.
    """

    def __init__(self, folder: str, keys: ChunkKeys) -> None:
        self.folder = folder
        self.keys = keys

    def path(self, position: tuple[int, ...]) -> str:
        """Return the path of the file at a position."""
        return f"{self.folder}/{self.keys.key(position)}"

    def piece(self, position: tuple[int, ...]) -> StoredBytes | None:
        """Open the file at a position; None if there is none."""
        path = self.path(position)
        try:
            return StoredBytes.of_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except StorageError:
            raise
        except OSError as error:
            raise file_error(error, f"opening {path!r}") from error

    def candidates(self, cells: Box) -> Iterable[tuple[int, ...]]:
        """Yield the positions at which there may be a file, without asking for each where folders can be listed."""
        return self.keys.candidates(self.folder, cells)


class ChunkObjects(EncodedReader):
    """Chunks, or whole shards, that are objects in a store behind a URL; each is read whole by one request.

    Parameters
    ----------
    objects
        What holds them.
    keys
        What they are called.
    """

    remote = True

    def __init__(self, objects: ObjectFolder, keys: ChunkKeys) -> None:
        self.objects = objects
        self.keys = keys

    def path(self, position: tuple[int, ...]) -> str:
        """Return the URL of the object at a position."""
        return self.objects.path(self.keys.key(position))

    def piece(self, position: tuple[int, ...]) -> StoredBytes | None:
        """Return the bytes of the object at a position, in memory; None if there is none."""
        found = self.objects.read(self.keys.key(position))
        return None if found is None else StoredBytes(None, 0, len(found.data), found.data)

    def candidates(self, cells: Box) -> Iterable[tuple[int, ...]]:
        """Yield the positions at which there may be an object, listed where that is cheaper than asking for each."""
        return self.objects.candidates(self.keys, cells)


class EncodedWriter:
    """Puts encoded chunks, or whole shards, in their place: each appears whole, under its name, or not at all.

    Parameters
    ----------
    files
        The array's folder, which has to be there, or its place in a store behind a URL.
    keys
        What the files are called.
    """

    def __init__(self, files: FileFolder | ObjectFolder, keys: ChunkKeys) -> None:
        self.keys = keys
        self.files = files

    @property
    def remote(self) -> bool:
        """Whether each file takes a request."""
        return isinstance(self.files, ObjectFolder)

    def write(self, position: tuple[int, ...], *pieces: Piece) -> int:
        """Store a chunk that is made of pieces; return its bytes.

        Raises
        ------
        ReadOnlyError
            If the folder may not be written.
        StorageError
            If the disk is full or fails, or bytes that a piece stands for cannot be read.
        """
        return self.files.write(self.keys.key(position), *pieces)

    def write_file_from(self, position: tuple[int, ...], path: str, offset: int, length: int) -> int:
        """Store a chunk whose bytes are in another file; blocks of the disk are shared where it can share them."""
        return self.write(position, StoredBytes(FileBytes.open(path), offset, length))

    def remove(self, position: tuple[int, ...]) -> bool:
        """Remove a chunk; return whether there was one, as far as the store says."""
        return self.files.remove(self.keys.key(position))

    def candidates(self, cells: Box) -> Iterable[tuple[int, ...]]:
        """Yield the positions in a box of the grid at which there may be a file already."""
        return self.files.candidates(self.keys, cells)
