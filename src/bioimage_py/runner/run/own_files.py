"""Files of a run folder: written as a whole, with checksums, and on a disk read only if no other user can have written them.

Whether a folder is on a disk or in a bucket is asked here and in `run_folder`, and nowhere else in this room.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, StorageError
from bioimage_py.storage import SIDE_FOLDER, AnyPath, ObjectLog, ObjectPath, tried_again
from bioimage_py.system import NEW, READ, another_owner, force_to_disk, pread, pwrite, replace, set_mode

_LOG_LINES, _LOG_BYTES = 5, 4096
_SMALL = 2**20
"""Bytes of an object that is read whole, so that its parts are not asked for one by one."""
_SOON = 0.4
"""Seconds within which a writer that was believed dead comes to its end."""
_CHECKED = re.compile(rb'\{"check":"([0-9a-f]{8})",?')


def write_json(path: AnyPath, content: dict[str, Any]) -> None:
    """Write an object with a checksum; raises as `write_whole` does."""
    write_whole(path, json_bytes(content))


def json_bytes(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, separators=(",", ":"))[1:].encode()
    return b'{"check":"%08x"%s' % (zlib.crc32(text), b"," if content else b"") + text


def read_json(path: AnyPath) -> dict[str, Any]:
    """Return what `write_json` wrote, or an object without a checksum, as written by hand; raises as `read_own`."""
    data = read_own(path)
    check = _CHECKED.match(data)
    if check and int(check[1], 16) != zlib.crc32(data[check.end() :]):
        raise StorageError(f"{path} cannot be read: it is damaged, as its checksum says")
    try:
        content = json.loads(data)
    except ValueError as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise StorageError(f"{path} cannot be read: it is not a JSON object")
    content.pop("check", None)
    return content


def read_own(path: AnyPath) -> bytes:
    """Return what is in a file of a run folder, or raise InvalidArgumentError if it is not this user's own."""

    def read() -> bytes:
        if isinstance(path, ObjectPath):
            return path.read_from(0)
        with path.open("rb") as file:
            refuse_strangers(path, os.fstat(file.fileno()))
            return file.read()

    try:
        return tried_again(read)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error


def read_from(path: AnyPath, place: int) -> bytes:
    """Return what is behind a place in a log; raises OSError."""
    if isinstance(path, ObjectPath):
        return path.read_from(place)

    def read() -> bytes:
        with path.open("rb") as file:
            file.seek(place)
            return file.read()

    return tried_again(read)


def read_slices(path: AnyPath, place: int, n_bytes: int) -> Iterator[bytes]:
    """Yield what is behind a place in a log, in parts of about so many bytes; raises OSError."""
    if isinstance(path, ObjectPath):
        yield path.read_from(place)
        return
    with path.open("rb") as file:
        file.seek(place)
        while data := file.read(n_bytes):
            yield data


def read_with_time(path: AnyPath, most: int) -> tuple[bytes, float]:
    """Return the first bytes of a file, and when it was last written; raises OSError."""
    if isinstance(path, ObjectPath):
        return path.read_with_time()

    def read() -> tuple[bytes, float]:
        with path.open("rb") as file:
            return file.read(most), os.fstat(file.fileno()).st_mtime

    return tried_again(read)


class RangeReader:
    """Reads ranges of one file that is this user's own; raises OSError, and InvalidArgumentError as `read_own` does."""

    def __init__(self, path: AnyPath) -> None:
        if isinstance(path, ObjectPath):
            self._file: ObjectPath | int = path
            self.size = path.stat().st_size
            self._data = path.read_bytes() if self.size <= _SMALL else b""
            return
        self._file = os.open(path, READ)
        try:
            found = os.fstat(self._file)
            refuse_strangers(path, found)
        except BaseException:
            self.close()
            raise
        self.size = found.st_size

    def read(self, place: int, n_bytes: int) -> bytes:
        if isinstance(self._file, ObjectPath):
            if self._data or not n_bytes:
                return self._data[place : place + n_bytes]
            return self._file.read_range(place, n_bytes)
        return tried_again(partial(pread, self._file, n_bytes, place))

    def close(self) -> None:
        if not isinstance(self._file, ObjectPath):
            os.close(self._file)


def write_whole(path: AnyPath, content: bytes | Callable[[], Iterable[bytes]], mode: int = 0o600) -> None:
    """Write a file that appears whole or not at all; a large one from pieces that a function makes."""

    def write() -> None:
        if isinstance(path, ObjectPath):
            path.write_bytes(content if isinstance(content, bytes) else b"".join(content()))
            return
        beside = path.with_name(f".{path.name}.{os.getpid()}{os.urandom(4).hex()}")
        descriptor = os.open(beside, NEW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines((content,) if isinstance(content, bytes) else content())
                set_mode(file.fileno(), mode)
                file.flush()
                if SIDE_FOLDER not in path.parts:  # what is beside voxels outlives them for nothing
                    os.fsync(file.fileno())
            replace(str(beside), str(path))
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    try:
        tried_again(write)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error


class WrittenFile:
    """A new file that one writer writes, and others read meanwhile; raises OSError, or StorageError from a bucket."""

    def __init__(self, path: AnyPath) -> None:
        self._file = ObjectLog(path) if isinstance(path, ObjectPath) else os.open(path, NEW, 0o600)

    def write_at(self, data: bytes, place: int) -> None:
        """Write at a place; when this returns it is out of this process's hands, but for a bucket: there it waits for `store`."""
        if isinstance(self._file, ObjectLog):
            self._file.write_at(data, place)
            return
        number = self._file

        def write() -> None:
            view, at = memoryview(data), place
            while view:
                n_bytes = pwrite(number, view, at)
                view, at = view[n_bytes:], at + n_bytes

        tried_again(write)

    def force_to_disk(self) -> None:
        """Return when what was written survives a crash of the machine."""
        if isinstance(self._file, ObjectLog):
            self._file.store()
        else:
            tried_again(partial(force_to_disk, self._file))

    @property
    def waits(self) -> bool:
        """Whether what was written waits for `store`, as objects are stored whole."""
        return isinstance(self._file, ObjectLog) and self._file.waits

    def store(self) -> None:
        """Store what waits for it."""
        if isinstance(self._file, ObjectLog):
            self._file.store()

    def show(self) -> None:
        """Let other machines see what was written: a client of a network disk sends it when a descriptor is closed."""
        if isinstance(self._file, ObjectLog):
            self._file.store()
        else:
            os.close(os.dup(self._file))

    def close(self) -> None:
        if not isinstance(self._file, ObjectLog):
            os.close(self._file)


class AppendedFile(WrittenFile):
    """A new file that one writer appends to."""

    def __init__(self, path: AnyPath) -> None:
        super().__init__(path)
        self._end = 0

    def append(self, data: bytes) -> None:
        """Append a record; raises OSError if it cannot be written: the file then ends with the record before it."""
        try:
            self.write_at(data, self._end)
        except OSError:
            if not isinstance(self._file, ObjectLog):
                os.ftruncate(self._file, self._end)
            raise
        self._end += len(data)


def refuse_strangers(path: Path, found: os.stat_result) -> None:
    """Raise InvalidArgumentError if another user could have written what is at a path; `found` is its `os.stat_result`."""
    trust = ""
    if stat.S_ISLNK(found.st_mode):
        why = "is a link, which run folders do not have"
    else:
        theirs = another_owner(found)
        if theirs is None:
            return
        why = theirs
        if "written" in why:
            trust = f". If you trust it: chmod go-w {str(path)!r}"
    raise InvalidArgumentError(f"{str(path)!r} {why}: what is in it could make you run another's code{trust}")


def remove_in_the_end(path: str | os.PathLike[str], remove: Callable[[], None], what: str) -> None:
    """Remove what is at a path, again where a writer that was believed dead has just made a file; what stays is said in a warning."""
    for wait in (0.1, 0.4, 1, 2, 4, 8, 16, None):
        try:
            remove()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not os.path.lexists(path):
                return
            # A network disk may not list yet what other machines made in it.
            if wait is None or (wait > _SOON and error.errno not in (errno.ENOTEMPTY, errno.ENOENT)):
                why = error.strerror or error
                warn = BioimagePyWarning(f"{what} {str(path)!r} cannot be removed: {why}. Remove it by hand")
                warnings.warn(warn, stacklevel=4)
            else:
                time.sleep(wait)
        else:
            return


def remove_tree(folder: AnyPath) -> None:
    """Remove a run folder that has no `run.json` any more, and last in it what says that its run has finished."""
    if isinstance(folder, ObjectPath):
        folder.remove_below("finished.json")
        return
    import shutil  # not for workers

    for entry in folder.iterdir():
        if entry.name != "finished.json":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    shutil.rmtree(folder)


def end_of_log(path: Path) -> str:
    """Return the last lines that a task printed, as one; empty where it has no log."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LOG_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return " / ".join([line.strip() for line in lines if line.strip()][-_LOG_LINES:])
