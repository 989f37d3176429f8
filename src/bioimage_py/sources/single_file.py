"""Local files that hold one array: what they cannot take, how they are opened, and how their errors read."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from bioimage_py.errors import InvalidArgumentError, ReadOnlyError, SourceNotFoundError, StorageError
from bioimage_py.sources.base import FileSource, StoredSize
from bioimage_py.sources.identity import Identity, file_identity
from bioimage_py.sources.location import is_url

__all__ = ["SingleFileSource", "check_single_array", "open_descriptor", "storage_error"]


class SingleFileSource(FileSource):
    """A source that is one local file and holds one array."""

    def identities(self) -> frozenset[Identity]:
        """Return the identity of the file."""
        return frozenset({file_identity(self.path)})

    def stored_size(self) -> StoredSize | None:
        """Return the size of the file."""
        try:
            return StoredSize(os.stat(self.path).st_size, 1)  # noqa: PTH116 - the path is text as the user gave it
        except OSError:
            return None


def check_single_array(
    title: str, path: str, key: str | None, mode: str, *, writable: bool, options: Mapping[str, Any]
) -> None:
    """Refuse what a local file with one array has not: keys, URLs, options, and writing where it is not supported.

    Raises
    ------
    InvalidArgumentError
        For a key, a URL or an option.
    ReadOnlyError
        For mode `"r+"` where `writable` is False.
    """
    if is_url(path):
        raise InvalidArgumentError(
            f"{title} files are read from local folders only, not from {path!r}: download it first"
        )
    if key:
        raise InvalidArgumentError(
            f"{path!r} is a {title} file, which holds one array: leave out the key {key!r}"
        )
    if options:
        raise InvalidArgumentError(f"{title} files take no option {', '.join(map(repr, sorted(options)))}")
    if mode != "r" and not writable:
        raise ReadOnlyError(
            f"{title} files can only be read: open {path!r} with mode='r', and copy it to change it"
        )


def open_descriptor(path: str, mode: str) -> int:
    """Open a local file for positioned reads, and writes in mode `"r+"`; the caller closes it.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    ReadOnlyError
        If it may not be written and `mode` is `"r+"`.
    StorageError
        If it is empty, a folder, or cannot be opened.
    """
    try:
        descriptor = os.open(path, (os.O_RDWR if mode == "r+" else os.O_RDONLY) | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"there is no file {path!r}") from error
    except OSError as error:
        if mode == "r+" and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise ReadOnlyError(f"{path!r} may not be written: {os.strerror(error.errno)}") from error
        raise storage_error(error, f"opening {path!r}") from error
    try:
        if os.fstat(descriptor).st_size == 0:
            raise StorageError(f"{path!r} is no image: the file is empty (0 bytes)")
        os.pread(descriptor, 1, 0)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, StorageError):
            raise
        raise storage_error(error, f"opening {path!r}") from error
    return descriptor


def storage_error(error: OSError, doing: str) -> StorageError:
    """Return the StorageError that says what failed, and what to do where that is known."""
    hints = {
        errno.ENOSPC: "no space left on the disk; make room or choose another folder",
        errno.EDQUOT: "no space left in the quota; make room or choose another folder",
        errno.EACCES: "permission denied; ask its owner for access",
        errno.EISDIR: "it is a folder",
    }
    reason = hints.get(error.errno or 0) or error.strerror or str(error)
    return StorageError(f"{doing} failed: {reason}")
