"""Bytes of files by offset, from any thread, on descriptors that cannot be mixed up; runs of such bytes; reading ahead."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from bioimage_py.errors import ReadOnlyError, SourceNotFoundError, StorageError
from bioimage_py.system import NEVER_WAITS, READ, READ_WRITE, READS_AHEAD, pread, preadv, pwrite, read_ahead

_K = TypeVar("_K")
_V = TypeVar("_V")
_PER_CALL = 2**30  # Linux moves at most 2 GiB - 4 KiB in one call


class FileBytes:
    """An open file, closed when its last holder lets go of it; `stamp` changes when the file is written or replaced.

    There is no `close`: a descriptor that is closed while another thread is about to use it may by then belong to another file.
    """

    def __init__(self, number: int, name: str, found: os.stat_result | None = None) -> None:
        self.number = number
        self.name = name
        found = os.fstat(number) if found is None else found
        self.size = found.st_size
        self.stamp = hash((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))

    @classmethod
    def open(cls, path: str, mode: str = "r") -> FileBytes:
        """Open an existing file for reading, or in mode `"r+"` for writing too."""
        try:
            # Opening a named pipe would wait for somebody who writes into it.
            number = os.open(path, (READ_WRITE if mode == "r+" else READ) | NEVER_WAITS)
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"there is no file {path!r}") from error
        except OSError as error:
            if mode == "r+" and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise ReadOnlyError(f"{path!r} may not be written: {os.strerror(error.errno)}") from error
            if error.errno == errno.EACCES and os.path.isdir(path):  # noqa: PTH112 - as Windows says it
                error = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            raise file_error(error, f"opening {path!r}") from error
        found = os.fstat(number)
        opened = cls(number, repr(path), found)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise StorageError(
                f"{path!r} is neither a file nor a folder, but a named pipe or a device, which cannot be read by region: "
                "write what it gives into a file first"
            )
        return opened

    def __del__(self) -> None:
        os.close(self.number)

    def read(self, offset: int, count: int) -> bytes:
        """Return exactly `count` bytes; raises StorageError if the file ends before."""
        try:
            data = pread(self.number, min(count, _PER_CALL), offset)
        except OSError as error:
            raise file_error(error, f"reading {self.name} at byte {offset}") from error
        if len(data) == count:
            return data
        buffer = bytearray(count)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            try:
                n = preadv(self.number, [buffer[done : done + _PER_CALL]], offset + done)
            except OSError as error:
                raise file_error(error, f"reading {self.name} at byte {offset + done}") from error
            if n == 0:
                raise StorageError(
                    f"{self.name} is truncated, or was cut while it was open: expected {len(buffer)} bytes at byte "
                    f"{offset}, found {done}; the file has {os.fstat(self.number).st_size} bytes. Copy it again from "
                    "where it came from"
                )
            done += n

    def write(self, offset: int, data: memoryview) -> None:
        done = 0
        while done < len(data):
            try:
                done += pwrite(self.number, data[done : done + _PER_CALL], offset + done)
            except OSError as error:
                raise file_error(error, f"writing {self.name}") from error


class Recent(Generic[_K, _V]):
    """The values used last, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[_K, _V] = OrderedDict()

    def get(self, key: _K, make: Callable[[_K], _V]) -> _V:
        """Return a value, made if it is not kept; several threads may make it at once."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = make(key)
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value

    def if_kept(self, key: _K) -> _V | None:
        with self._lock:
            return self._kept.get(key)

    def forget(self, key: _K) -> None:
        with self._lock:
            self._kept.pop(key, None)


class OpenFiles:
    """Files by path, at most `max_open` kept open; one in use by a thread stays open until it is done."""

    def __init__(self, max_open: int = 8) -> None:
        self._kept = Recent[str, FileBytes](max_open)
        self._stamps: dict[str, int] = {}

    def get(self, path: str) -> FileBytes:
        """Return a file, opened if need be; StorageError if it has changed since it was opened first."""
        return self._kept.get(path, self._opened)

    def _opened(self, path: str) -> FileBytes:
        opened = FileBytes.open(path)
        if self._stamps.setdefault(path, opened.stamp) != opened.stamp:
            raise StorageError(
                f"{opened.name} was replaced or written since it was opened first: open its source again"
            )
        return opened


def file_error(error: OSError, doing: str) -> StorageError:
    hints = {
        errno.ENOSPC: "no space left on the disk; make room or choose another folder",
        errno.EDQUOT: "no space left in the quota; make room or choose another folder",
        errno.EACCES: "permission denied; ask its owner for access",
        errno.EISDIR: "it is a folder",
    }
    reason = hints.get(error.errno or 0) or error.strerror or str(error)
    told = StorageError(f"{doing} failed: {reason}")
    told.errno = error.errno
    return told


SMALL = 2**16
"""Up to so many bytes are read at once, because asking the system twice takes longer."""

MOST_READ = 2**22
"""Up to so many bytes are held in memory on their way into a file; longer ones go in parts."""


class StoredBytes:
    """A range of bytes in an open file, or in memory: what an encoded chunk is until it is decoded."""

    __slots__ = ("_data", "_file", "length", "offset")

    def __init__(
        self, file: FileBytes | None, offset: int = 0, length: int | None = None, data: bytes | None = None
    ) -> None:
        self._file = file
        self.offset = offset
        self._data = data
        self.length = self.file.size - offset if length is None else length

    @classmethod
    def of_file(cls, path: str) -> StoredBytes:
        """Return all bytes of a file; a small one is read and closed at once. FileNotFoundError passes."""
        number = os.open(path, READ)
        try:
            found = os.fstat(number)
            size = found.st_size
            data = os.read(number, size + 1) if size <= SMALL else None
        except OSError as error:
            os.close(number)
            raise file_error(error, f"reading {path!r}") from error
        if data is None or len(data) < size:  # network disks may give less than they could
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

_FILES_AHEAD = 4

_SLOW_READS = 3

_WAIT_SECONDS, _BYTES_PER_SECOND = 5e-4, 1e9


class SlowReads:
    """Finds out whether files come from a disk or server slower than memory; once `found`, it stays so."""

    def __init__(self) -> None:
        self.found = False
        # Elsewhere there is nobody to tell.
        self._n_slow = 0 if READS_AHEAD else -(2**63)

    def took(self, seconds: float, n_bytes: int) -> None:
        if not self.found and seconds > _WAIT_SECONDS + n_bytes / _BYTES_PER_SECOND:
            # One may have waited for a thread.
            self._n_slow += 1
            self.found = self._n_slow >= _SLOW_READS


class ReadAhead:
    """Tells the system which files will be read next, in this order, where reads are slow; threads call `step` before each."""

    def __init__(self, paths: Iterable[str], slow: SlowReads) -> None:
        self._waiting = deque(paths) if slow.found else deque[str]()
        for _ in range(_FILES_AHEAD):
            self.step()

    def step(self) -> None:
        try:
            path = self._waiting.popleft()
        except IndexError:
            return
        # Whoever reads it says what is wrong with it.
        with contextlib.suppress(OSError):
            number = os.open(path, READ)
            try:
                read_ahead(number)
            finally:
                os.close(number)
