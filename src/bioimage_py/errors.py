"""Every exception and warning that the package raises.

Each class is also the builtin that a caller would expect, so `except ValueError` and `except FileNotFoundError`
work without importing anything from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "AmbiguousSourceError",
    "BioimagePyError",
    "BioimagePyWarning",
    "CastingError",
    "InvalidArgumentError",
    "InvalidIndexError",
    "MissingDependencyError",
    "NotPortableError",
    "OutputExistsError",
    "ReadOnlyError",
    "RunInterrupted",
    "RunnerError",
    "SourceNotFoundError",
    "StorageError",
    "UnsupportedFormatError",
]


class BioimagePyError(Exception):
    """Base of every error that the package raises itself."""


class BioimagePyWarning(UserWarning):
    """Base of every warning that the package issues itself."""


class InvalidArgumentError(BioimagePyError, ValueError):
    """An argument, or a combination of arguments, that cannot be carried out."""


class NotPortableError(InvalidArgumentError):
    """Something that exists in this process only, where other processes would have to open it."""


class InvalidIndexError(BioimagePyError, IndexError):
    """An index that a source does not take: out of bounds, or not numpy basic indexing with step 1."""


class AmbiguousSourceError(InvalidArgumentError):
    """A path that leads to several arrays, with no key that names one of them."""


class CastingError(InvalidArgumentError):
    """A voxel, or a dtype, that the output cannot hold under the casting rule given."""


class UnsupportedFormatError(InvalidArgumentError):
    """A file, an encoding or a dtype that the package or the target store cannot read or write."""


class SourceNotFoundError(BioimagePyError, FileNotFoundError):
    """A path, a key in a container, or a pattern that leads to nothing."""


class OutputExistsError(BioimagePyError, FileExistsError):
    """An output that is there already and was not asked to be replaced."""


class ReadOnlyError(BioimagePyError, PermissionError):
    """A write into a source, a file or a folder that can only be read."""


class StorageError(BioimagePyError, OSError):
    """Reading or writing stored voxels failed: corrupt, truncated, unreachable, or no space left."""


class MissingDependencyError(BioimagePyError, ImportError):
    """An optional library that this call needs is not installed."""


class RunnerError(BioimagePyError, RuntimeError):
    """A run in which some blocks are not done.

    Parameters
    ----------
    message
        What failed, with the text of the first error.
    failed_block_ids
        Exactly the blocks that are not done, sorted.
    tmp_folder
        The run folder that was kept, or None for a run without one.
    """

    def __init__(
        self, message: str, failed_block_ids: Sequence[int] = (), tmp_folder: str | Path | None = None
    ) -> None:
        super().__init__(message)
        self.failed_block_ids = failed_block_ids
        self.tmp_folder = None if tmp_folder is None else str(tmp_folder)


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run; the message says what is done, `done_block_ids` and `failed_block_ids` list it.

    `tmp_folder` is the run folder that was kept, or None for a run without one.
    """

    def __init__(
        self,
        message: str,
        done_block_ids: Sequence[int] = (),
        failed_block_ids: Sequence[int] = (),
        tmp_folder: str | Path | None = None,
    ) -> None:
        super().__init__(message)
        self.done_block_ids = done_block_ids
        self.failed_block_ids = failed_block_ids
        self.tmp_folder = None if tmp_folder is None else str(tmp_folder)
