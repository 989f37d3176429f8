"""Encoded chunks of stored arrays by their position in the chunk grid: reading them, and putting others in their place."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.sources.base import Source
from bioimage_py.sources.chunk_keys import ChunkKeys
from bioimage_py.sources.encoding import StoredChunks, UnknownEncoding, stored_chunks
from bioimage_py.sources.file_bytes import FileBytes, file_error
from bioimage_py.sources.new_files import FileFolder
from bioimage_py.sources.stored_bytes import StoredBytes

__all__ = ["ChunkFiles", "EncodedReader", "EncodedWriter", "FilePlace", "encoded_reader", "encoded_writer"]


class FilePlace(NamedTuple):
    """Where an encoded chunk is: a file, and which of its bytes."""

    path: str
    offset: int
    length: int


class EncodedReader(ABC):
    """Encoded chunks by their position, from any number of threads."""

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


class EncodedWriter:
    """Puts encoded chunks, or whole shards, in their place: each file appears whole, under its name, or not at all.

    Parameters
    ----------
    folder
        The array's folder; it has to be there.
    keys
        What the files are called.
    """

    def __init__(self, folder: str, keys: ChunkKeys) -> None:
        self.keys = keys
        self.files = FileFolder(folder)

    def write(self, position: tuple[int, ...], *pieces: bytes | StoredBytes) -> int:
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
        """Remove a chunk; return whether there was one."""
        return self.files.remove(self.keys.key(position))

    def candidates(self, cells: Box) -> Iterable[tuple[int, ...]]:
        """Yield the positions in a box of the grid at which there may be a file already."""
        return self.keys.candidates(self.files.folder, cells)


def encoded_reader(source: Source) -> EncodedReader:
    """Return access to the encoded chunks of a source.

    Raises
    ------
    UnsupportedFormatError
        If they cannot be had; the message says why.
    """
    stored = _local(source)
    assert stored.place is not None
    if stored.keys is None:
        from bioimage_py.sources.encoded_hdf5 import Hdf5Chunks

        return Hdf5Chunks(source)
    if stored.encoding.shards is None:
        return ChunkFiles(stored.place, stored.keys)
    from bioimage_py.sources.encoded_shards import ShardedChunks

    return ShardedChunks(ChunkFiles(stored.place, stored.keys), stored.encoding)


def encoded_writer(source: Source) -> EncodedWriter:
    """Return what puts whole files into the folder of a source: its chunks, or its shards if it has such.

    Raises
    ------
    UnsupportedFormatError
        If it is not stored as files in a local folder; the message says why.
    """
    stored = _local(source)
    assert stored.place is not None
    if stored.keys is None:
        raise UnsupportedFormatError(f"chunks are written into {source.format} files by its library only")
    return EncodedWriter(stored.place, stored.keys)


def _local(source: Source) -> StoredChunks:
    stored = stored_chunks(source)
    if isinstance(stored, UnknownEncoding):
        raise UnsupportedFormatError(stored.why)
    if stored.place is None:
        raise UnsupportedFormatError(f"{source.name} is behind a URL, where chunks are not moved as they are")
    return stored
