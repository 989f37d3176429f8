"""What a crash of a writer leaves in a store, whether a writer is alive, and how files outlive a crash of the machine.

Workers import it before any library of arrays.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
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


def this_process() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "born": _state_and_birth(os.getpid())[1],
        "began": time.time(),
    }


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process described by `this_process` still runs; None if it was on another machine."""
    if process.get("host") != platform.node():
        return None
    try:
        os.kill(process["pid"], 0)
    except (ProcessLookupError, PermissionError):
        return False  # or the number has gone to somebody else's process: the process was this user's own
    state, born = _state_and_birth(process["pid"])
    if state in ("Z", "X"):
        return False  # it has died, and its parent has not asked for its exit code yet
    return born is None or process["born"] is None or born == process["born"]


def _state_and_birth(pid: int) -> tuple[str, int | None]:
    """Return a process's state and when it began, in clock ticks since boot: a reused pid has another."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", None  # no /proc here: the number alone has to do
    return fields[0], int(fields[19])
