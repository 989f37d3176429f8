"""Which process wrote something, and whether it is still there. Workers import it before any library of arrays."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Return what `is_alive` recognises this process by."""
    return {"host": platform.node(), "pid": os.getpid(), "born": _birth(os.getpid()), "began": time.time()}


def is_alive(process: Mapping[str, Any]) -> bool | None:
    """Whether a process described by `this_process` still runs; None if it was on another machine."""
    if process.get("host") != platform.node():
        return None
    try:
        os.kill(process["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # The number has gone to somebody else's process: the process was this user's own.
        return False
    fields = _fields(process["pid"])
    if fields is not None and fields[0] in "ZX":
        return False  # it has died, and its parent has not asked for its exit code yet
    born = _birth(process["pid"])
    return born is None or process["born"] is None or born == process["born"]


def _birth(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot: a reused pid has another."""
    fields = _fields(pid)
    return None if fields is None else int(fields[19])


def _fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on; None where there is no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None  # no /proc here: the number alone has to do
    return text.rpartition(")")[2].split()
