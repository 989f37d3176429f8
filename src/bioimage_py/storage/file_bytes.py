"""Bytes of files by offset, from any number of threads: `pread` and `pwrite` on descriptors that cannot be mixed up."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections import OrderedDict

from bioimage_py.errors import ReadOnlyError, SourceNotFoundError, StorageError

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
            flags = os.O_CLOEXEC | os.O_NONBLOCK
            number = os.open(path, (os.O_RDWR if mode == "r+" else os.O_RDONLY) | flags)
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"there is no file {path!r}") from error
        except OSError as error:
            if mode == "r+" and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise ReadOnlyError(f"{path!r} may not be written: {os.strerror(error.errno)}") from error
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
            data = os.pread(self.number, min(count, _PER_CALL), offset)
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
                n = os.preadv(self.number, [buffer[done : done + _PER_CALL]], offset + done)
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
                done += os.pwrite(self.number, data[done : done + _PER_CALL], offset + done)
            except OSError as error:
                raise file_error(error, f"writing {self.name}") from error


class OpenFiles:
    """Files by path, at most `max_open` kept open; one in use by a thread stays open until it is done."""

    def __init__(self, max_open: int = 8) -> None:
        self.max_open = max_open
        self._lock = threading.Lock()
        self._open: OrderedDict[str, FileBytes] = OrderedDict()
        self._stamps: dict[str, int] = {}

    def get(self, path: str) -> FileBytes:
        """Return a file, opened if need be; StorageError if it has changed since it was opened first."""
        with self._lock:
            found = self._open.get(path)
            if found is not None:
                self._open.move_to_end(path)
                return found
        opened = FileBytes.open(path)
        with self._lock:
            if self._stamps.setdefault(path, opened.stamp) != opened.stamp:
                raise StorageError(
                    f"{opened.name} was replaced or written since it was opened first: open its source again"
                )
            self._open[path] = opened
            while len(self._open) > self.max_open:
                self._open.popitem(last=False)
        return opened


def file_error(error: OSError, doing: str) -> StorageError:
    hints = {
        errno.ENOSPC: "no space left on the disk; make room or choose another folder",
        errno.EDQUOT: "no space left in the quota; make room or choose another folder",
        errno.EACCES: "permission denied; ask its owner for access",
        errno.EISDIR: "it is a folder",
    }
    reason = hints.get(error.errno or 0) or error.strerror or str(error)
    return StorageError(f"{doing} failed: {reason}")
