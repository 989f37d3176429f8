"""A run of bytes in an open file: what an encoded chunk is until someone decodes it."""

from __future__ import annotations

import os

from bioimage_py.errors import StorageError
from bioimage_py.storage.file_bytes import FileBytes, file_error

SMALL = 2**16
"""Up to so many bytes are read at once, because asking the system twice takes longer."""
MOST_READ = 2**22
"""Up to so many bytes are held in memory on their way into a file; longer ones go in parts."""


class StoredBytes:
    """A range of bytes in an open file, or in memory: what an encoded chunk is until it is decoded."""

    __slots__ = ("_data", "_file", "length", "offset")

    def __init__(
        self,
        file: FileBytes | None,
        offset: int = 0,
        length: int | None = None,
        data: bytes | None = None,
    ) -> None:
        self._file = file
        self.offset = offset
        self._data = data
        self.length = self.file.size - offset if length is None else length

    @classmethod
    def of_file(cls, path: str) -> StoredBytes:
        """Return all bytes of a file; a small one is read and closed at once. FileNotFoundError passes."""
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.fstat(number)
            size = found.st_size
            data = os.read(number, size + 1) if size <= SMALL else None
        except OSError as error:
            os.close(number)
            raise file_error(error, f"reading {path!r}") from error
        if data is None:
            return cls(FileBytes(number, repr(path), found))
        os.close(number)
        if len(data) != size:
            raise StorageError(f"{path!r} was written while it was read")
        return cls(None, 0, size, data)

    @property
    def file(self) -> FileBytes:
        assert self._file is not None
        return self._file

    @property
    def in_memory(self) -> bool:
        return self._data is not None

    def read(self) -> bytes:
        if self._data is None:
            self._data = self.file.read(self.offset, self.length)
        return self._data

    def at(self, begin: int, count: int) -> bytes:
        """Return up to `count` bytes from `begin` on; a negative begin counts from the end."""
        if begin < 0:
            begin = max(0, begin + self.length)
        data = self._data
        if data is None and self.length <= SMALL:
            data = self.read()
        if data is not None:
            return data[begin : begin + count]
        return self.file.read(self.offset + begin, max(0, min(count, self.length - begin)))

    def part(self, begin: int, end: int) -> StoredBytes:
        """Return the bytes from `begin` to `end`; a negative end counts from the end."""
        end = max(begin, end + self.length) if end < 0 else end
        if self._data is not None:
            data = self._data[begin:end]
            return StoredBytes(self._file, self.offset + begin, len(data), data)
        return StoredBytes(self._file, self.offset + begin, end - begin)

    def check_unchanged(self) -> None:
        """Raise StorageError if the file was written, or cut, since it was opened."""
        file = self._file
        if file is None:
            return
        found = os.fstat(file.number)
        if hash((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)) != file.stamp:
            raise StorageError(f"{file.name} was written while it was read")


Piece = bytes | memoryview | StoredBytes
"""A part of a file that is written: bytes in memory, or in another file."""
