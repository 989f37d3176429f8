"""Files that appear under their name only when they are whole: a temporary name, then a rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from bioimage_py.errors import (
    BioimagePyError,
    Hint,
    OutputExistsError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.geometry import Box
from bioimage_py.storage.chunk_keys import ChunkKeys
from bioimage_py.storage.crash_safety import THIS_HOST
from bioimage_py.storage.file_bytes import MOST_READ, SMALL, Piece, StoredBytes, file_error
from bioimage_py.storage.names import check_writable
from bioimage_py.system import (
    NEVER_WAITS,
    NEW,
    READ_WRITE,
    RENAMES_OPEN_FILES,
    copy_range,
    pwrite,
    rename_unless_taken,
    replace,
    try_lock,
    writev,
)

_ONE_PIECE = 2**20
_TOGETHER = 2**18
_MANY_PIECES = 512
_DISK_BLOCK = 4096
_LONGEST_NAME = 255
# What a kernel or a file system answers that cannot copy between these two files by itself.
_CANNOT_COPY = (
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.ETXTBSY,
    errno.EBADF,
)


class FileFolder:
    """A folder below which files appear whole or not at all. It must exist; folders below it are made as needed."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._token = f"{THIS_HOST}{os.urandom(6).hex()}"
        self._numbers = itertools.count()

    def path(self, key: str) -> str:
        return f"{self.folder}/{key}"

    def new(self, key: str) -> NewFile:
        """Return a file for a `with` block; it gets its name at the end of the block."""
        path = self.path(key)
        return NewFile(self.folder, path, self._partial(path))

    def candidates(self, keys: ChunkKeys, cells: Box) -> Iterator[tuple[int, ...]]:
        return keys.candidates(self.folder, cells)

    def _partial(self, path: str) -> str:
        # A name that `crash_safety` knows; the process is in it because a fork copies the token, and because others ask whether it lives.
        return f"{path}.{self._token}{os.getpid() & 0xFFFFFFFF:08x}{next(self._numbers) & 0xFFFFFFFF:08x}.partial"

    def write(self, key: str, *pieces: Piece) -> int:
        if len(pieces) == 1 and isinstance(pieces[0], StoredBytes) and pieces[0].in_memory:
            data = pieces[0].read()
            if self.write_small(key, data):
                return len(data)
        with self.new(key) as new:
            for piece in pieces:
                new.append(piece)
        return new.size

    def write_small(self, key: str, data: bytes | memoryview) -> bool:
        """As `write`, in as few steps as possible; False where its folder is missing or not all bytes were taken."""
        path = f"{self.folder}/{key}"
        partial = self._partial(path)
        try:
            number = os.open(partial, NEW, 0o666)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _writing_error(error, path) from error
        whole = False
        try:
            try:
                whole = os.write(number, data) == len(data)
            finally:
                os.close(number)
            if whole:
                replace(partial, path)
        except BaseException as failure:
            _drop(partial)
            if isinstance(failure, OSError):
                raise _writing_error(failure, path) from failure
            raise
        if not whole:
            _drop(partial)
        return whole

    def remove(self, key: str) -> bool:
        try:
            os.unlink(self.path(key))  # noqa: PTH108 - called for each chunk
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise _writing_error(error, self.path(key)) from error
        return True


class NewFile:
    """A file that is written under a temporary name; `size` is what was appended so far."""

    def __init__(self, folder: str, path: str, partial: str) -> None:
        self._folder, self._path, self._partial = folder, path, partial
        self._number = -1
        self._waiting: list[bytes | memoryview] = []
        self._n_waiting = 0
        self._abandoned = False
        self.size = 0

    def __enter__(self) -> Self:
        try:
            try:
                self._number = os.open(self._partial, NEW, 0o666)
            except FileNotFoundError:
                self._make_folders()
                self._number = os.open(self._partial, NEW, 0o666)
        except OSError as error:
            raise _writing_error(error, self._path) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole = kind is None and not self._abandoned
        try:
            try:
                if whole:
                    self._write_waiting()
            finally:
                os.close(self._number)
            if whole:
                replace(self._partial, self._path)
        except BaseException as failure:
            _drop(self._partial)
            if isinstance(failure, OSError):
                raise _writing_error(failure, self._path) from failure
            raise
        if not whole:
            _drop(self._partial)

    def append(self, piece: Piece) -> None:
        """Append bytes; those of another file are copied by the system where it can, and must not change meanwhile."""
        if isinstance(piece, StoredBytes):
            shares = (piece.offset | self.size) % _DISK_BLOCK == 0
            if not piece.in_memory and piece.length > (SMALL if shares else MOST_READ):
                self._write_waiting()
                try:
                    self._copy(piece, shares)
                except OSError as error:
                    raise _writing_error(error, self._path) from error
                piece.check_unchanged()
                self.size += piece.length
                return
            data = piece.read()
            piece.check_unchanged()
            piece = data
        self._waiting.append(piece)
        self._n_waiting += len(piece)
        self.size += len(piece)
        if self._n_waiting >= _TOGETHER or len(self._waiting) >= _MANY_PIECES:
            self._write_waiting()

    def write_at(self, offset: int, data: bytes) -> None:
        self._write_waiting()
        try:
            while data:
                n = pwrite(self._number, data, offset)
                data, offset = data[n:], offset + n
        except OSError as error:
            raise _writing_error(error, self._path) from error

    def abandon(self) -> None:
        """Drop the file at the end of the block, as after an error."""
        self._abandoned = True

    def _make_folders(self) -> None:
        if not os.path.isdir(self._folder):  # noqa: PTH112 - a text stays a text
            # Making it again would leave chunks without their metadata.
            raise StorageError(f"writing {self._path!r} failed: the folder {self._folder!r} no longer exists")
        os.makedirs(os.path.dirname(self._path), exist_ok=True)  # noqa: PTH103, PTH120 - a text stays a text

    def _write_waiting(self) -> None:
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        if not waiting:
            return
        try:
            n = writev(self._number, waiting) if len(waiting) > 1 else os.write(self._number, waiting[0])
            if n < sum(map(len, waiting)):
                left = memoryview(b"".join(waiting))[n:]
                while left:
                    left = left[os.write(self._number, left) :]
        except OSError as error:
            raise _writing_error(error, self._path) from error

    def _copy(self, piece: StoredBytes, shares: bool) -> None:
        done = 0
        if shares:
            # File systems that can share blocks between files do it here; for others it takes as long as reading and writing.
            try:
                while done < piece.length:
                    n = copy_range(piece.file.number, self._number, piece.length - done, piece.offset + done)
                    if n == 0:
                        break
                    done += n
            except OSError as error:
                if error.errno not in _CANNOT_COPY:
                    raise
        while done < piece.length:
            data = memoryview(piece.file.read(piece.offset + done, min(_ONE_PIECE, piece.length - done)))
            done += len(data)
            while data:
                data = data[os.write(self._number, data) :]


def check_new_file(
    path: str, title: str, is_own: Callable[[str], bool], *, overwrite: bool, reopens: bool = True
) -> None:
    """Raise what making a file would raise: it is there and is not to be replaced, or is not of the format that `is_own` tells.

    `reopens` says whether one that is there could be opened for writing.
    """
    place = Path(path)
    if not place.parent.is_dir():
        raise SourceNotFoundError(
            f"cannot make {path!r}: there is no folder {str(place.parent)!r}; make it first"
        )
    if os.path.lexists(place):
        if not overwrite:
            more = [Hint.of("to write into it, use {}", "open_source", path, mode="r+")] if reopens else []
            hints = [Hint.of("to replace it, give {}", overwrite=True), *more]
            raise OutputExistsError(f"{path!r} is there already", hints=hints)
        # An empty one was left by a killed process.
        if not place.is_file() or (place.stat().st_size and not is_own(path)):
            raise OutputExistsError(
                f"{path!r} is not a {title} file, so it is never replaced: remove it first"
            )
    check_writable(path)


class UnfinishedFile:
    """A file that a run writes for long under a temporary name beside its own, and renames at its end.

    The temporary name is always the same, so killed runs leave one file at most, which the next run removes.
    """

    def __init__(self, path: str, *, replaces: bool) -> None:
        # A process may work in another folder by the time it ends.
        self.path = os.path.abspath(path)  # noqa: PTH100 - follows no links
        self._replaces = replaces
        folder, name = os.path.split(self.path)
        temporary = f".{name}.partial"
        if len(os.fsencode(temporary)) > _LONGEST_NAME:
            temporary = f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.partial"
        self.partial = os.path.join(folder, temporary)  # noqa: PTH118 - a text stays a text

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the system answers to writing the file into errors that say which file it is."""
        try:
            yield
        except BioimagePyError:
            raise
        except OSError as error:
            raise _writing_error(error, self.path) from error

    def make_free(self) -> None:
        """Remove what a killed run left under the temporary name; OutputExistsError if another run still writes it."""
        try:
            number = os.open(self.partial, READ_WRITE | NEVER_WAITS)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _writing_error(error, self.path) from error
        try:
            self.lock(number)
            if RENAMES_OPEN_FILES:
                os.unlink(self.partial)  # noqa: PTH108 - a text stays a text
        finally:
            os.close(number)
        _drop(self.partial)

    def lock(self, number: int) -> None:
        """Lock the open file until it is closed; OutputExistsError if another run has locked it."""
        try:
            locked = try_lock(number)
        except OSError as error:
            raise _writing_error(error, self.path) from error
        if not locked:
            raise OutputExistsError(
                f"{self.path!r} is being written by another run: wait for it, or choose another name"
            )

    def finish(self) -> None:
        """Give the file its name; OutputExistsError if one has appeared that must not be replaced."""
        try:
            if self._replaces or not self._named_by_link():
                replace(self.partial, self.path)
        except OSError as error:
            raise _writing_error(error, self.path) from error

    def _named_by_link(self) -> bool:
        """Give the file its name unless it is taken; False where the file system cannot do that."""
        try:
            rename_unless_taken(self.partial, self.path)
        except FileExistsError:
            raise OutputExistsError(
                f"{self.path!r} was made by somebody else meanwhile; this run's output is {self.partial!r}"
            ) from None
        except OSError as error:
            if error.errno not in _CANNOT_COPY:
                raise
            return False
        return True

    def drop(self) -> None:
        _drop(self.partial)

    def drop_if_named(self) -> None:
        """Drop the temporary name of a file that has its own: a process that was killed as it gave that can have left both."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.lstat(self.partial), os.lstat(self.path)):
                self.drop()


def _drop(partial: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)  # noqa: PTH108 - a text stays a text


def _writing_error(error: OSError, path: str) -> BioimagePyError:
    if isinstance(error, BioimagePyError):
        return error
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReadOnlyError(
            f"{path!r} cannot be written: {error.strerror}. Check the permissions of the folder"
        )
    return file_error(error, f"writing {path!r}")
