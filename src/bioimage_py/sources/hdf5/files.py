"""The HDF5 files that this process has open: briefly for reading, shared while one is open for writing.

HDF5 lets a process open a file twice only with compatible modes. So nothing is held open for reading between reads,
and everything in a file that is open for writing goes through that one handle.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
from h5py._objects import phil

from bioimage_py.errors import (
    BioimagePyError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.storage import file_error
from bioimage_py.system import CAN_ALLOCATE, NEW, allocate

FileKey = tuple[int, int]
_WAIT_FOR_READERS = 60.0
_DRIVERS_WITH_DESCRIPTOR = ("sec2",)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FOR_METADATA = 2**17
_AHEAD = 2**24
_numbers = itertools.count()
_changed = threading.Condition()
_reading: Counter[FileKey] = Counter()


FOREIGN_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)
"""What h5py raises when HDF5 fails, depending on the call."""


def hdf5_words(error: BaseException) -> str:
    """Return HDF5's own text of an error."""
    return str(error.args[-1]) if isinstance(error, KeyError) and error.args else str(error)


@contextmanager
def hdf5_errors(doing: str) -> Iterator[None]:
    """Turn errors of h5py inside the block into StorageError that begins with what was being done."""
    try:
        yield
    except BioimagePyError:
        raise
    except FOREIGN_ERRORS as error:
        raise StorageError(f"{doing}: {hdf5_words(error)}") from error


def _opening_error(path: str, mode: str, error: BaseException) -> BioimagePyError:
    words = hdf5_words(error)
    if isinstance(error, OSError) and error.errno == errno.EROFS and mode != "r":
        return ReadOnlyError(f"{path!r} cannot be written: its file system is read-only")
    if not Path(path).exists():
        return SourceNotFoundError(f"there is no file {path!r}")
    if Path(path).is_dir():
        return UnsupportedFormatError(f"{path!r} is a folder, not an HDF5 file")
    if "signature not found" in words:
        return UnsupportedFormatError(f"{path!r} is not an HDF5 file, or its beginning is damaged: {words}")
    if isinstance(error, PermissionError) and mode != "r":
        return ReadOnlyError(f"no permission to write into {path!r}: {words}")
    why = f"cannot be opened as HDF5 with mode {mode!r}"
    if "truncated file" in words:
        why = "is truncated: copy it again from where it came from"
    elif "already open" in words:
        why = "is open for reading by an h5py handle in this process: close that handle first"
    elif isinstance(error, BlockingIOError) or "unable to lock file" in words:
        why = "is locked: another process has it open. Wait until it is closed there"
    return StorageError(f"{path!r} {why} ({words})")


class RoomAhead:
    """Allocates disk space for a file that is being written before HDF5 needs it.

    When HDF5 finds the disk full it keeps what it could not write, cannot be closed, and crashes the process at exit. So the
    space for each write, and for the metadata that it changes, is allocated first: a full disk is found before HDF5 begins.
    File systems that cannot allocate ahead (ZFS, btrfs with compression, some network disks) are used without this.
    """

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._possible = file.driver in _DRIVERS_WITH_DESCRIPTOR and CAN_ALLOCATE
        self.owed = 0  # bytes that HDF5 may hold in memory

    def take(self, n_bytes: int, *, later: bool = False) -> None:
        """Make sure that so many bytes can be added; the caller holds h5py's lock until they are.

        With `later` HDF5 may write them at any time until the next `flush`.
        """
        if not self._possible:
            return
        full = self._allocate(n_bytes, _AHEAD) and self._allocate(n_bytes, 0)
        if full and self.owed:
            # What HDF5 holds may be stored already and be counted twice.
            self.flush()
            full = self._allocate(n_bytes, 0)
        if full:
            raise file_error(full, f"writing {self._file.filename!r}") from full
        if later:
            self.owed += n_bytes

    def _allocate(self, n_bytes: int, ahead: int) -> OSError | None:
        """Allocate what is needed and some bytes ahead; return the error if the disk is full."""
        number, size = self._descriptor(), int(self._file.id.get_filesize())
        needed = self.owed + n_bytes + _FOR_METADATA
        if os.fstat(number).st_size >= size + needed:
            return None
        try:
            allocate(number, size, needed + ahead)
        except OSError as error:
            if error.errno in _FULL:
                return error
            self._possible = False
        return None

    def flush(self) -> None:
        """Hand all that HDF5 holds to the system, and release what was allocated ahead; the caller holds h5py's lock."""
        self._file.flush()
        self.owed = 0
        if self._possible:
            size, number = int(self._file.id.get_filesize()), self._descriptor()
            if os.fstat(number).st_size > size:
                os.ftruncate(number, size)

    def _descriptor(self) -> int:
        return int(self._file.id.get_vfd_handle())


class OpenForWriting:
    """A file that this process writes into, shared by all sources in it; the last one to let go closes it."""

    def __init__(self, path: str, file: h5py.File) -> None:
        self.path = path
        self.file = file
        self.room = RoomAhead(file)
        self.number = next(_numbers)
        self.users = 1
        # By the addresses of datasets: sources that may write it, and a number that grows when what is stored may have changed.
        self.written: Counter[int] = Counter()
        self.versions: Counter[int] = Counter()

    def begin_writing(self, address: int) -> None:
        """Count one more source that writes the dataset."""
        with _changed:
            self.written[address] += 1

    def end_writing(self, address: int) -> None:
        """Flush, and count one source less that writes the dataset."""
        try:
            with hdf5_errors(f"writing what is left to {self.path!r} failed"), phil:
                self.room.flush()
        finally:
            with _changed:
                self.written[address] -= 1
                self.versions[address] += 1

    def let_go(self) -> None:
        """End one use; the last one closes the file."""
        with _changed:
            self.users -= 1
            if self.users:
                return
            for key in [k for k, writer in WRITERS.items() if writer is self]:
                del WRITERS[key]
            with hdf5_errors(f"closing {self.path!r} failed, it may be incomplete"):
                with phil:
                    self.room.flush()
                self.file.close()


WRITERS: weakref.WeakValueDictionary[FileKey, OpenForWriting] = weakref.WeakValueDictionary()
"""The files that this process writes. A source that is dropped without being closed does not keep its file locked."""


def file_key(path: str | int) -> FileKey:
    """Return device and inode of a path or descriptor; raises OSError if there is nothing."""
    found = os.stat(path)  # noqa: PTH116 - takes descriptors too
    return (found.st_dev, found.st_ino)


def _key_or_none(path: str) -> FileKey | None:
    try:
        return file_key(path)
    except OSError:
        return None


@contextmanager
def reading(path: str) -> Iterator[h5py.File]:
    """Open a file for the duration of the block, or give the handle that is writing into it."""
    with _changed:
        key = _key_or_none(path)
        writer = None if key is None else WRITERS.get(key)
        if writer is not None:
            writer.users += 1
            file = writer.file
        else:
            file = _opened(path, "r")
            opened = file_key(path)
            _reading[opened] += 1
    try:
        yield file
    finally:
        if writer is not None:
            writer.let_go()
        else:
            with _changed:
                file.close()
                _reading[opened] -= 1
                if not _reading[opened]:
                    del _reading[opened]
                _changed.notify_all()


def open_for_writing(path: str, mode: str = "r+", *, shown: str | None = None) -> OpenForWriting:
    """Open a file for writing, or share the handle that has it open; `let_go` ends it."""
    with _changed:
        key = _key_or_none(path)
        if key is not None:
            deadline = time.monotonic() + _WAIT_FOR_READERS
            while _reading[key]:
                if not _changed.wait(deadline - time.monotonic()):
                    raise StorageError(
                        f"{path!r} cannot be opened for writing: other threads go on reading from it"
                    )
            writer = WRITERS.get(key)
            if writer is not None and mode == "r+":
                writer.users += 1
                return writer
        if mode == "x":
            _check_room_for_new(path)
        opened = OpenForWriting(shown or path, _opened(path, mode))
        with phil:
            opened.room.take(0)
        WRITERS[file_key(path)] = opened
        return opened


def _check_room_for_new(path: str) -> None:
    """Raise StorageError where there is no room for the metadata of a new file: HDF5 could not close one."""
    trial = f"{path}.{os.urandom(16).hex()}.partial"
    try:
        number = os.open(trial, NEW, 0o600)
    except OSError:
        return  # HDF5 meets it too, and says it
    try:
        allocate(number, 0, _FOR_METADATA)
    except OSError as error:
        if error.errno in _FULL:
            raise file_error(error, f"making {path!r}") from error
    finally:
        os.close(number)
        os.unlink(trial)  # noqa: PTH108 - a text stays a text


def _opened(path: str, mode: str) -> h5py.File:
    place = Path(path)
    if place.exists() and not (place.is_file() or place.is_dir()):
        # HDF5 would wait for a writer of a named pipe.
        raise StorageError(f"{path!r} is not a file, but a named pipe or a device")
    if mode == "r+" and place.is_file() and not place.stat().st_size:
        # HDF5 would turn it into an HDF5 file.
        raise UnsupportedFormatError(f"{path!r} is not an HDF5 file: it is empty")
    try:
        return h5py.File(path, mode)
    except FOREIGN_ERRORS as error:
        raise _opening_error(path, mode, error) from error
