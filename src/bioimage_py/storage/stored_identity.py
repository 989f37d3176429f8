"""Which stored thing a path leads to, and whether it is still as it was."""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from bioimage_py.storage.names import is_url, url_decoded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

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


class PartStamps(NamedTuple):
    """What tells of each file or object that holds a part of an array whether it was written or replaced since.

    Parts are cells of a grid from the first voxel on. `times` are in nanoseconds, of the last write or of when the file came to its name,
    and `removed` is when one may have been removed last; both are 0 where no clock tells that.
    """

    what: str  # what the parts are, for people: "chunk files", "slices"
    extents: tuple[int, ...]  # of a part, in voxels
    stamps: npt.NDArray[np.uint64]  # 0 where nothing is stored
    times: npt.NDArray[np.int64] | None = None
    removed: int = 0


def stat_stamp(found: os.stat_result) -> int:
    """Return a number of 64 bits, never 0, that is another one for a file that was written, replaced or renamed."""
    mixed = (
        found.st_size * 0x9E3779B97F4A7C15
        + found.st_mtime_ns * 0xC2B2AE3D27D4EB4F
        + found.st_ctime_ns * 0x165667B19E3779F9
        + found.st_ino * 0xD6E8FEB86659FD93
    )
    return mixed % 2**64 or 1


def text_stamp(text: str) -> int:
    """Return a number of 64 bits, never 0, for a text such as the etag of an object."""
    return (
        int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()) or 1
    )


def stamps_below(
    folder: str,
    grid: tuple[int, ...],
    extents: tuple[int, ...],
    position: Callable[[str], tuple[int, ...] | None],
) -> PartStamps:
    """Return the stamps of the files below the folder of an array; `position` is where in the grid a name belongs.

    A file that came with its folder is as young as the folder's place; one behind a link is as young as can be.
    """
    import numpy as np

    stamps, times = np.zeros(grid, np.uint64), np.zeros(grid, np.int64)
    latest, waiting = 0, [(folder, "", 0)]
    while waiting:
        path, above, moved = waiting.pop()
        # What is removed meanwhile is not there.
        with contextlib.suppress(FileNotFoundError), os.scandir(path) as entries:
            changed = os.stat(path).st_mtime_ns  # noqa: PTH116 - for each of many folders
            latest = max(latest, changed)
            for entry in entries:
                name, young = above + entry.name, moved
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISLNK(found.st_mode):
                        young, found = _ALWAYS_YOUNG, entry.stat()
                    if stat.S_ISDIR(found.st_mode):
                        if name.count("/") <= len(grid):
                            young = max(young, min(changed, found.st_ctime_ns))
                            waiting.append((entry.path, f"{name}/", young))
                        continue
                    at = position(name)
                    if at is not None and all(n < end for n, end in zip(at, grid, strict=True)):
                        stamps[at] = stat_stamp(found)
                        times[at] = max(found.st_mtime_ns, found.st_ctime_ns, young)
    return PartStamps("chunk files", extents, stamps, times, latest)


_ALWAYS_YOUNG = 2**62
