"""Which stored thing a path leads to, and whether it is still as it was."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bioimage_py.storage.names import is_url, url_decoded

Identity = tuple[Any, ...]


def file_identity(path: str, key: str | None = None, *, key_is_folder: bool = False) -> Identity:
    """Return a token that is equal for every path that leads to one stored array.

    With `key_is_folder` (Zarr, N5) the key is a folder below the path, and the token is that folder's.
    """
    if is_url(path):
        parts = urlsplit(path)
        inside = url_decoded(parts.path)
        whole = posixpath.normpath(posixpath.join(inside or "/", key or "")) if key_is_folder else inside
        return ("url", parts.scheme.lower(), parts.netloc.lower(), whole, None if key_is_folder else key)
    place = Path(path, key) if key and key_is_folder else Path(path)
    rest = None if key_is_folder else key
    try:
        found = place.stat()
    except OSError:
        return ("path", str(place.absolute()), rest)
    return ("file", found.st_dev, found.st_ino, rest)


def meet(ours: Iterable[Identity], theirs: Iterable[Identity]) -> bool:
    """Whether two sets of tokens share an array, or one names a whole file and the other a part of it."""
    one, other = frozenset(ours), frozenset(theirs)
    if one & other:
        return True
    for whole, parts in ((one, other), (other, one)):
        files = {token[:3] for token in whole if token[0] == "file" and token[3] is None}
        if files and any(token[:3] in files for token in parts):
            return True
    return False


def file_stamp(path: str) -> str | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - for each of many slices
    except (OSError, ValueError):
        return None
    seconds, rest = divmod(found.st_mtime_ns, 10**9)
    if not stat.S_ISREG(found.st_mode):
        return None
    return (
        f"{found.st_size} bytes of {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{rest:09d} UTC"
    )


def stamp_of_files(paths: Iterable[str]) -> str:
    digest, n = hashlib.sha256(), 0
    for n, path in enumerate(paths, 1):  # noqa: B007 - how many
        digest.update(f"{posixpath.basename(path)}\0{file_stamp(path)}\0".encode("utf-8", "surrogateescape"))
    return f"{n} files with names, sizes and times {digest.hexdigest()[:16]}"
