"""Local files that hold one array: what they cannot take, how they are opened, and how their errors read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bioimage_py.errors import InvalidArgumentError, ReadOnlyError, StorageError
from bioimage_py.sources.base import FileSource, StoredSize
from bioimage_py.storage import FileBytes, Identity, file_identity, is_url


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
    """Refuse what a local file with one array has not: keys, URLs, options, and writing where it is not supported."""
    if is_url(path):
        raise InvalidArgumentError(
            f"{title} files are read from local folders only, not from {path!r}: download it first"
        )
    if key:
        raise InvalidArgumentError(
            f"{path!r} is a {title} file, which holds one array: leave out the key {key!r}"
        )
    if options:
        given = ", ".join(f"{name}=" for name in sorted(options))
        raise InvalidArgumentError(f"{title} has no option {given} to open it with; it takes none")
    if mode != "r" and not writable:
        raise ReadOnlyError(
            f"{title} files can only be read: open {path!r} with mode='r', and copy it to change it"
        )


def open_file(path: str, mode: str) -> FileBytes:
    """Open a local file for reading, in mode `"r+"` for writing too."""
    file = FileBytes.open(path, mode)
    if file.size == 0:
        raise StorageError(f"{path!r} is not an image: the file is empty (0 bytes)")
    file.read(0, 1)
    return file
