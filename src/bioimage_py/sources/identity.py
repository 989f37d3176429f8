"""Which stored array a source leads to, so that two names for one array are seen to be one."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bioimage_py.sources.location import is_url

__all__ = ["Identity", "file_identity"]

Identity = tuple[Any, ...]


def file_identity(path: str, key: str | None = None, *, key_is_folder: bool = False) -> Identity:
    """Return a token that is equal for every path that leads to one stored array.

    Parameters
    ----------
    path
        File, folder or URL.
    key
        Name of the array in the container.
    key_is_folder
        Whether the key is a folder below the path, as in Zarr and N5; then the folder's own identity is taken.
    """
    if is_url(path):
        parts = urlsplit(path)
        whole = posixpath.normpath(posixpath.join(parts.path or "/", key or "")) if key_is_folder else parts.path
        return ("url", parts.scheme.lower(), parts.netloc.lower(), whole, None if key_is_folder else key)
    place = Path(path, key) if key and key_is_folder else Path(path)
    rest = None if key_is_folder else key
    try:
        found = place.stat()
    except OSError:
        return ("path", str(place.absolute()), rest)
    return ("file", found.st_dev, found.st_ino, rest)
