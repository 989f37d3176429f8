"""A run of bytes in an open file: what an encoded chunk is until someone decodes it."""

from __future__ import annotations

import os

from bioimage_py.errors import StorageError
from bioimage_py.sources.file_bytes import FileBytes

__all__ = ["SMALL", "StoredBytes"]

SMALL = 2**16
"""Up to so many bytes are read at once, because asking the system twice takes longer."""


class StoredBytes:
    """Bytes `offset` to `offset + length` of a file.

    Parameters
    ----------
    file
        The open file.
    offset, length
        Where in it, in bytes. The default is all of it.
    """

    __slots__ = ("_data", "file", "length", "offset")

    def __init__(self, file: FileBytes, offset: int = 0, length: int | None = None) -> None:
        self.file = file
        self.offset = offset
        self.length = file.size - offset if length is None else length
        self._data: bytes | None = None

    @property
    def in_memory(self) -> bool:
        """Whether reading them costs nothing more."""
        return self._data is not None

    def read(self) -> bytes:
        """Return all bytes; raises StorageError if the file ends before."""
        if self._data is None:
            self._data = self.file.read(self.offset, self.length)
        return self._data

    def at(self, begin: int, count: int) -> bytes:
        """Return up to `count` bytes from `begin` on, fewer where they end; a negative begin counts from the end."""
        begin = max(0, begin + self.length) if begin < 0 else begin
        if self._data is None and self.length <= SMALL:
            self.read()
        if self._data is not None:
            return self._data[begin : begin + count]
        return self.file.read(self.offset + begin, max(0, min(count, self.length - begin)))

    def part(self, begin: int, end: int) -> StoredBytes:
        """Return the bytes from `begin` to `end`; a negative end counts from the end."""
        end = max(begin, end + self.length) if end < 0 else end
        found = StoredBytes(self.file, self.offset + begin, end - begin)
        if self._data is not None:
            found._data = self._data[begin:end]
        return found

    def check_unchanged(self) -> None:
        """Raise StorageError if the file was written, or cut, since it was opened."""
        found = os.fstat(self.file.number)
        if hash((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)) != self.file.stamp:
            raise StorageError(f"{self.file.name} was written while it was read")
