"""What HDF5 reports, in the package's own errors."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bioimage_py.errors import (
    BioimagePyError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)

FOREIGN_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)
"""What h5py raises where HDF5 fails, depending on the call."""


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


def opening_error(path: str, mode: str, error: BaseException) -> BioimagePyError:  # noqa: PLR0911 - one per cause
    """Return the error for a file that h5py could not open."""
    words = hdf5_words(error)
    if isinstance(error, OSError) and error.errno == errno.EROFS and mode != "r":
        return ReadOnlyError(f"{path!r} cannot be written: its file system is read-only")
    if isinstance(error, FileNotFoundError) or not Path(path).exists():
        return SourceNotFoundError(f"there is no file {path!r}")
    if Path(path).is_dir():
        return UnsupportedFormatError(f"{path!r} is a folder, not an HDF5 file")
    if "signature not found" in words:
        return UnsupportedFormatError(f"{path!r} is not an HDF5 file, or its beginning is damaged: {words}")
    if "truncated file" in words:
        return StorageError(f"{path!r} is truncated: {words}. Copy it again from where it came from")
    if isinstance(error, PermissionError):
        if mode == "r":
            return StorageError(f"no permission to read {path!r}: {words}")
        return ReadOnlyError(f"no permission to write into {path!r}: {words}")
    if "already open for read-only" in words or "already open" in words:
        return StorageError(
            f"{path!r} cannot be opened for writing while an h5py handle in this process has it open for reading: "
            f"close that handle first ({words})"
        )
    if isinstance(error, BlockingIOError) or "unable to lock file" in words:
        other = "writing" if mode == "r" else "reading or writing"
        return StorageError(
            f"{path!r} is locked: another process has it open for {other}. Wait until it is closed there ({words})"
        )
    return StorageError(f"{path!r} cannot be opened as HDF5 with mode {mode!r}: {words}")
