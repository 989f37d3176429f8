"""Processes: who runs, who owns a file, and how workers are told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from bioimage_py.system.machine import kernel_says, psutil

if TYPE_CHECKING:
    import subprocess

STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGINT", "SIGBREAK")
    if hasattr(signal, name)
)
"""What tells a worker to stop after its block: LSF sends SIGUSR2 at the end of its time, Grid Engine SIGUSR1, SIGUSR2 or SIGXCPU."""

PIPE_CLOSED: tuple[type[Exception], ...] = (BrokenPipeError,) if os.name != "nt" else (OSError, ValueError)
"""What writing to a process, or closing its pipe, raises when it has died. Windows answers EINVAL, and `ask_to_stop` closes pipes there."""


def after_fork(function: Callable[[], None]) -> None:
    """Call a function in processes that are forked from this one, where there is such a thing."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=function)


# -- other processes


def running_since(pid: int) -> int | None:
    """Return when a process began, in the system's own units, None if it does not say: a number that is used again has another.

    Raises ProcessLookupError if there is none, or it has ended and its parent has not asked for its exit code yet, and
    PermissionError if it is another user's.
    """
    library = None if _has_proc() else psutil()
    if library is not None:
        return _asked_of(library, pid)
    if os.name != "nt":
        os.kill(pid, 0)
    fields = (kernel_says(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    if not fields:
        return None  # the number alone has to do
    if fields[0] in ("Z", "X"):
        raise ProcessLookupError
    return int(fields[19])


@cache
def _has_proc() -> bool:
    return kernel_says("/proc/self/stat") is not None


def _asked_of(library: Any, pid: int) -> int:
    try:
        process = library.Process(pid)
        if process.status() == library.STATUS_ZOMBIE:
            raise ProcessLookupError
        return int(process.create_time() * 1000)
    except library.NoSuchProcess as error:
        raise ProcessLookupError from error
    except library.AccessDenied as error:
        raise PermissionError from error


def process_exists(pid: int) -> bool:
    try:
        running_since(pid)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it runs for another user
    return True


def interrupt(pid: int) -> None:
    """Tell a process to stop, as Ctrl-C does; Windows ends it at once."""
    # A background job of a script ignores SIGINT.
    gently = os.name != "nt" and not _ignores(pid, signal.SIGINT)
    os.kill(pid, signal.SIGINT if gently else signal.SIGTERM)


def _ignores(pid: int, number: signal.Signals) -> bool:
    """Whether a process ignores a signal, as far as the kernel says."""
    text = kernel_says(f"/proc/{pid}/status") or ""
    masks = [line.split()[1] for line in text.splitlines() if line.startswith("SigIgn:")]
    return bool(masks) and bool(int(masks[0], 16) >> (number - 1) & 1)


# -- processes that this one starts


def own_group() -> dict[str, Any]:
    """Return arguments of Popen for a process that Ctrl-C in the terminal does not reach, and that `kill_group` ends with its children."""
    import subprocess  # not for workers

    return {
        "start_new_session": True,
        "creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    }


def ask_to_stop(process: subprocess.Popen[str]) -> None:
    """Let a worker finish its block: by a signal, or by the end of its input where signals end processes at once."""
    if os.name != "nt":
        process.terminate()
    elif process.stdin is not None:
        with contextlib.suppress(*PIPE_CLOSED):
            process.stdin.close()


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a process that was started with `own_group`, and what it has started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        return
    library = psutil()
    if library is not None:
        # Without groups only the children of one that still runs can be found.
        with contextlib.suppress(library.NoSuchProcess):
            for child in library.Process(process.pid).children(recursive=True):
                with contextlib.suppress(library.NoSuchProcess):
                    child.kill()
    process.kill()


# -- owners


def user_id() -> int | None:
    """Return this user's number; None on Windows, whose users have none."""
    return os.geteuid() if hasattr(os, "geteuid") else None


def another_owner(found: os.stat_result) -> str | None:
    """Return why a file's content may be another user's, None if it is this user's own; Windows' permissions are not looked at."""
    ours = user_id()
    if ours is None:
        return None
    if found.st_uid != ours:
        return f"belongs to user {found.st_uid}, not to you ({ours})"
    if found.st_mode & 0o022:
        return f"can be written by others (mode {stat.S_IMODE(found.st_mode):04o})"
    return None
