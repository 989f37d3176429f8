"""Bytes of files by offset, from any number of threads: `pread` on descriptors of which only a few are open."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict

from bioimage_py.errors import ReadOnlyError, SourceNotFoundError, StorageError

__all__ = ["Descriptor", "OpenFiles"]

_PER_CALL = 2**30  # Linux moves at most 2 GiB - 4 KiB in one call


class Descriptor:
    """A file opened for reading; closed when the last one that holds it lets go of it.

    Raises
    ------
    SourceNotFoundError
        If the file is not there.
    StorageError
        If it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._fd).st_size
        except FileNotFoundError as error:
            raise SourceNotFoundError(f"there is no file {path!r}") from error
        except PermissionError as error:
            raise ReadOnlyError(f"file {path!r} may not be read: {error.strerror}") from error
        except OSError as error:
            raise StorageError(f"file {path!r} cannot be opened: {error}") from error

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def read(self, offset: int, count: int) -> bytes:
        """Return exactly `count` bytes; raises StorageError if the file ends before."""
        try:
            data = os.pread(self._fd, min(count, _PER_CALL), offset)
            if len(data) == count:
                return data
        except OSError as error:
            raise StorageError(f"file {self.path!r} cannot be read at byte {offset}: {error}") from error
        buffer = bytearray(count)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer of bytes; raises StorageError if the file ends before."""
        done = 0
        while done < len(buffer):
            try:
                n = os.preadv(self._fd, [buffer[done : done + _PER_CALL]], offset + done)
            except OSError as error:
                raise StorageError(
                    f"file {self.path!r} cannot be read at byte {offset + done}: {error}"
                ) from error
            if n == 0:
                raise StorageError(
                    f"file {self.path!r} is truncated: expected {len(buffer)} bytes at byte {offset}, found {done}; "
                    f"the file has {os.fstat(self._fd).st_size} bytes. Copy it again from where it came from"
                )
            done += n


class OpenFiles:
    """Descriptors by path, at most `max_open` kept open; one in use by a thread stays open until it is done.

    Parameters
    ----------
    max_open
        How many descriptors to keep.
    """

    def __init__(self, max_open: int = 8) -> None:
        self.max_open = max_open
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Descriptor] = OrderedDict()

    def get(self, path: str) -> Descriptor:
        """Return the descriptor of a file, opening it if need be."""
        with self._lock:
            found = self._open.get(path)
            if found is not None:
                self._open.move_to_end(path)
                return found
        opened = Descriptor(path)
        with self._lock:
            self._open[path] = opened
            while len(self._open) > self.max_open:
                self._open.popitem(last=False)
        return opened

    def clear(self) -> None:
        """Let go of every descriptor."""
        with self._lock:
            self._open.clear()
