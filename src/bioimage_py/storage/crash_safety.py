"""What a crash of a writer leaves in a store, and how written files outlive a crash of the machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

_LEFTOVER = re.compile(r"(_[0-9a-f]{1,16}\.__lock|\.[0-9a-f]{32}\.partial)\Z")
"""How TensorStore, which does not pad its number, and zarr-python call a file that is being written and not yet renamed."""


def remove_leftovers(folder: str) -> int:
    """Remove the half-written files that killed writers left below a folder; return how many there were."""
    removed = 0
    for entry in files_below(folder):
        if _LEFTOVER.search(entry.name, max(0, len(entry.name) - 41)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)  # noqa: PTH108 - scandir gives texts
                removed += 1
    return removed


def files_below(folder: str) -> Iterator[os.DirEntry[str]]:
    """Yield the files in a folder and below; links to folders are not followed, and files that vanish are skipped."""
    waiting = [folder]
    while waiting:
        with contextlib.suppress(FileNotFoundError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield entry


def sync_file_system(path: str) -> None:
    """Force everything written to the file system of a path to its disk, folders and renames included."""
    sync = _syncfs()
    if sync is None:
        os.sync()
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if sync(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


@cache
def _syncfs() -> Any:
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is not None:
        function.argtypes, function.restype = [ctypes.c_int], ctypes.c_int
    return function
