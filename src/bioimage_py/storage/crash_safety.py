"""What a crash of a writer leaves in a store, whether a writer is alive, and what network disks do for a while.

Workers import it before any library of arrays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from bioimage_py.errors import BioimagePyError
from bioimage_py.system import boot_id, process_exists, running_since

SIDE_FOLDER = ".bioimage-py"
"""The folder for what is kept beside stored voxels: in the folder of an array, or as an ending beside a file, see `Source.side_folder`."""

_LEFTOVER = re.compile(r"(_[0-9a-f]{1,16}\.__lock|\.[0-9a-f]{32}\.partial)\Z")
"""How TensorStore, which does not pad its number, and zarr-python call a file that is being written and not yet renamed."""
THIS_HOST = f"{zlib.crc32(platform.node().encode()) & 0xFFFF:04x}"
_OWN_LEFTOVER = re.compile(rf"\.{THIS_HOST}[0-9a-f]{{12}}([0-9a-f]{{8}})[0-9a-f]{{8}}\.partial\Z")
"""How a file is called that `FileFolder` writes, in a process of this computer whose number is in the name."""

_R = TypeVar("_R")

_PASSING = {
    getattr(errno, name) for name in ("EIO", "ESTALE", "ETIMEDOUT", "EREMOTEIO") if hasattr(errno, name)
}
_OS_ERROR = re.compile(r"\[os_error_code='(\d+)'\]")
_MOST_CAUSES = 8
_PAUSES = (0.05, 0.2, 0.8)
"""Seconds before what a network disk refused is tried again."""
_LOOK = 0.3
"""Seconds between two looks at what is not seen yet."""


def is_leftover(name: str) -> bool:
    return _LEFTOVER.search(name, max(0, len(name) - 41)) is not None


def remove_leftovers(folder: str) -> int:
    """Remove the half-written files that killed writers left below a folder; return how many there were."""
    removed = 0
    for entry in files_below(folder):
        if is_leftover(entry.name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)  # noqa: PTH108 - scandir gives texts
                removed += 1
    return removed


def remove_files_of_the_dead(folder: str) -> None:
    """Remove the half-written files in a folder, not below it, whose writers were processes of this computer and are gone."""
    for entry in os.scandir(folder):
        found = _OWN_LEFTOVER.search(entry.name)
        if found is not None and not process_exists(int(found[1], 16)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)  # noqa: PTH108 - scandir gives texts


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


def this_process() -> dict[str, Any]:
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "born": running_since(os.getpid()),
        "began": time.time(),
        "boot": boot_id(),
    }


def was_restarted(process: Mapping[str, Any]) -> bool:
    """Whether this computer was started anew since a process of it described itself: what that wrote last may not have reached the disk."""
    before = process.get("boot")
    return process.get("host") == platform.node() and before is not None and before != boot_id()


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process described by `this_process` still runs; None if it was on another machine."""
    if process.get("host") != platform.node():
        return None
    try:
        born = running_since(process["pid"])
    except (ProcessLookupError, PermissionError):
        return False  # or the number has gone to somebody else's process: the process was this user's own
    return born is None or process["born"] is None or born == process["born"]


def is_passing(error: BaseException | None) -> bool:
    """Whether an error is one of those that network disks answer for a moment, or was caused by one."""
    for _ in range(_MOST_CAUSES):  # they can go round in a circle
        said = _OS_ERROR.search(str(error))
        if (isinstance(error, OSError) and error.errno in _PASSING) or (said and int(said[1]) in _PASSING):
            return True
        error = None if error is None else error.__cause__
    return False


def tried_again(call: Callable[[], _R]) -> _R:
    """Make a call, again after a moment where a network disk failed under it; it must be one that can be made twice."""
    for pause in _PAUSES:
        try:
            return call()
        except Exception as error:
            if not is_passing(error):
                raise
        time.sleep(pause)
    return call()


def seen_in_time(call: Callable[[], _R], patience: float) -> _R:
    """Return what a call reads of what another machine wrote; for so many seconds it may not be seen yet."""
    end = time.monotonic() + patience
    while True:
        try:
            return call()
        except (OSError, BioimagePyError):
            if time.monotonic() >= end:
                raise
        time.sleep(_LOOK)
