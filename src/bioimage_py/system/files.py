"""Files: positioned reads and writes, opening, renaming, locking, and forcing to disk."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

Buffer = bytes | bytearray | memoryview

# Descriptors do not go to child processes, and Windows changes no line ends.
_ALWAYS: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0) | getattr(os, "O_BINARY", 0)

READ = os.O_RDONLY | _ALWAYS
READ_WRITE = os.O_RDWR | _ALWAYS
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _ALWAYS
NEW_READ_WRITE = os.O_RDWR | os.O_CREAT | os.O_EXCL | _ALWAYS
OPEN_OR_MAKE = os.O_RDWR | os.O_CREAT | _ALWAYS
NEVER_WAITS: int = getattr(os, "O_NONBLOCK", 0)
"""Added to the flags of a file that may be a named pipe: opening one would wait for its other end."""

READS_AHEAD = hasattr(os, "posix_fadvise")
"""Whether the system can be told what is read next."""

CAN_ALLOCATE = hasattr(os, "posix_fallocate")
"""Whether disk space can be taken before it is written."""

RENAMES_OPEN_FILES = os.name != "nt"
"""Whether a file that is open can be renamed, replaced and removed."""

CHANGE_TIMES = os.name != "nt"
"""Whether `st_ctime` is when a file was written or came to its name last."""

RESERVES_NAMES = os.name == "nt"
"""Whether there are names that no file can have, see `reserved_name`."""

_PATIENCE = 2.0
"""Seconds that a virus scanner, or a reader, gets to close a file that is to be replaced."""

# -- positioned reads and writes: the calls of the system themselves where it has them

_TURNS = tuple(threading.Lock() for _ in range(64))
"""Without positioned calls, those that use one descriptor take turns."""


@contextlib.contextmanager
def _placed(number: int, offset: int) -> Iterator[None]:
    """Place a descriptor at an offset, alone, and back again."""
    with _TURNS[number % len(_TURNS)]:
        before = os.lseek(number, 0, os.SEEK_CUR)
        os.lseek(number, offset, os.SEEK_SET)
        try:
            yield
        finally:
            os.lseek(number, before, os.SEEK_SET)


def _pread_in_turn(number: int, count: int, offset: int, /) -> bytes:
    with _placed(number, offset):
        return os.read(number, count)


def _pwrite_in_turn(number: int, data: Buffer, offset: int, /) -> int:
    with _placed(number, offset):
        return os.write(number, data)


pread: Callable[[int, int, int], bytes] = getattr(os, "pread", _pread_in_turn)
pwrite: Callable[[int, Buffer, int], int] = getattr(os, "pwrite", _pwrite_in_turn)


def _preadv(number: int, buffers: Sequence[memoryview], offset: int, /) -> int:
    done = 0
    for buffer in buffers:
        data = pread(number, len(buffer), offset + done)
        buffer[: len(data)] = data
        done += len(data)
        if len(data) < len(buffer):
            break
    return done


def _writev(number: int, buffers: Sequence[Buffer], /) -> int:
    return os.write(number, b"".join(buffers))


preadv: Callable[[int, Sequence[memoryview], int], int] = getattr(os, "preadv", _preadv)
writev: Callable[[int, Sequence[Buffer]], int] = getattr(os, "writev", _writev)


def _cannot_copy(*_: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


copy_range: Callable[[int, int, int, int], int] = getattr(os, "copy_file_range", _cannot_copy)
"""`copy_range(source, target, count, source_offset)`; raises OSError with ENOSYS where the system cannot."""

# -- disk space, caches


def allocate(number: int, offset: int, count: int) -> None:
    """Take disk space for a part of a file; raises OSError where there is none, with ENOSYS where the system cannot."""
    function = getattr(os, "posix_fallocate", None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    function(number, offset, count)


def read_ahead(number: int) -> None:
    """Tell the system that a file will be read, where `READS_AHEAD`."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(number, 0, 0, getattr(os, "POSIX_FADV_WILLNEED", 0))


def forget_cached(number: int, offset: int, count: int) -> None:
    """Ask the system to keep a part of a file in memory no longer, so that the next read is from the disk."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(number, offset, count, getattr(os, "POSIX_FADV_DONTNEED", 0))


force_to_disk: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Force what was written through a descriptor to the disk."""


def sync_file_system(path: str) -> None:
    """Force everything written to the file system of a path to its disk, folders and renames included.

    Windows can do that for files only: all of those at the path and below.
    """
    sync = _syncfs()
    if sync is not None:
        descriptor = os.open(path, READ)
        try:
            if sync(descriptor) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), path)
        finally:
            os.close(descriptor)
    elif hasattr(os, "sync"):
        os.sync()
    else:
        _sync_files(path)


@cache
def _syncfs() -> Any:
    if os.name == "nt":
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is not None:
        function.argtypes, function.restype = [ctypes.c_int], ctypes.c_int
    return function


def _sync_files(path: str) -> None:
    files = (f"{folder}/{name}" for folder, _, names in os.walk(path) for name in names)
    for file in files if os.path.isdir(path) else (path,):  # noqa: PTH112 - a text stays a text
        with contextlib.suppress(FileNotFoundError):  # another run has removed its temporary file
            number = os.open(file, READ_WRITE)
            try:
                os.fsync(number)
            finally:
                os.close(number)


# -- names


def _replace_patiently(source: str, target: str, /) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            os.replace(source, target)  # noqa: PTH105 - called for each chunk
        except PermissionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


replace: Callable[[str, str], None] = os.replace if RENAMES_OPEN_FILES else _replace_patiently


def rename_unless_taken(source: str, target: str) -> None:
    """Rename a file; FileExistsError if there is one already, other OSErrors where the file system cannot do that."""
    if os.name == "nt":
        os.rename(source, target)  # noqa: PTH104 - a text stays a text
        return
    os.link(source, target, follow_symlinks=False)
    os.unlink(source)  # noqa: PTH108 - a text stays a text


def forward_slashes(path: str) -> str:
    """Return a local path with '/' between its parts, which every system reads."""
    if os.sep != "\\":
        return path
    path = path.replace("\\", "/")
    return path[1:] if re.match("/[a-zA-Z]:", path) else path  # of a `file:///C:/…`


_RESERVED = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{device}{n}" for device in ("com", "lpt") for n in "123456789¹²³"}
)
_NOT_IN_NAMES = frozenset('<>:"|?*') | {chr(n) for n in range(32)}


def reserved_name(name: str) -> str | None:
    """Return why Windows cannot have a file or a folder of that name, None if it can."""
    if name.partition(".")[0].rstrip(" ").lower() in _RESERVED:
        return "it is the name of a device on Windows"
    if _NOT_IN_NAMES & set(name):
        return "it has a character that names on Windows cannot have"
    if name[-1:] in (".", " "):
        return "Windows drops the dot or space at its end"
    return None


def device_number(major: int, minor: int) -> int:
    """Return `st_dev` of a device."""
    make: Callable[[int, int], int] = getattr(os, "makedev", lambda _, minor: minor)
    return make(major, minor)


def set_mode(number: int, mode: int) -> None:
    """Set the permissions of an open file, where the system has such."""
    if hasattr(os, "fchmod"):
        os.fchmod(number, mode)


# -- locks

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems answer that are mounted without locks, as Lustre and NFS can be."""
_FAR = 2**43
"""Where Windows locks one byte, which nobody else can read then: behind the end of files."""


def try_lock(number: int) -> bool:
    """Lock an open file until it is closed; False if another has locked it. Where there are no locks, all get one."""
    try:
        _lock(number)
    except OSError as error:
        if isinstance(error, (BlockingIOError, PermissionError)) or error.errno == errno.EDEADLK:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _lock(number: int) -> None:
    if os.name != "nt":
        fcntl: Any = importlib.import_module("fcntl")
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    msvcrt: Any = importlib.import_module("msvcrt")
    before = os.lseek(number, 0, os.SEEK_CUR)
    os.lseek(number, _FAR, os.SEEK_SET)
    try:
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
    finally:
        os.lseek(number, before, os.SEEK_SET)
