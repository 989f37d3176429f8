"""Makes Python look as on another system to this package: every interpreter that has this folder on its PYTHONPATH imports it first.

BIOIMAGE_PY_AS_SYSTEM is `windows` or `macos`. Calls from `bioimage_py` do not find what that system lacks in `os`, `signal`, `fcntl`,
`resource` and below /proc; other libraries, which have their own ways on each system, are left alone. On "Windows" also: `os.open`
needs O_BINARY, open files are not renamed, replaced or removed, folders are not opened, `os.kill` ends a process whatever
the signal, and a lock is had from `msvcrt`. What is missing is read from typeshed; see `tests/system/lacking.py`.
"""

from __future__ import annotations

import builtins
import errno
import importlib
import io
import json
import os
import signal
import subprocess
import sys
from types import FrameType, ModuleType, SimpleNamespace
from typing import Any

SYSTEM = os.environ.get("BIOIMAGE_PY_AS_SYSTEM", "")
_BINARY = 1 << 28
_KERNEL = ("/proc/", "/sys/")


def _ours(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").partition(".")[0] == "bioimage_py" or (
        frame.f_globals.get("__spec__") is not None
        and frame.f_globals["__spec__"].name.partition(".")[0] == "bioimage_py"
    )


def _hide(module: ModuleType, gone: frozenset[str], instead: dict[str, Any]) -> None:
    class Hiding(ModuleType):
        def __getattribute__(self, name: str) -> Any:
            if (name in gone or name in instead) and _ours(sys._getframe(1)):
                if name in instead:
                    return instead[name]
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r} on {SYSTEM}")
            return ModuleType.__getattribute__(self, name)

        def __reduce__(self) -> Any:
            return importlib.import_module, (self.__name__,)

    module.__class__ = Hiding


def _hide_modules(gone: frozenset[str], instead: dict[str, Any]) -> None:
    load, import_module = builtins.__import__, importlib.import_module

    def found(name: str, otherwise: Any) -> Any:
        if name in gone and _ours(sys._getframe(2)):
            raise ModuleNotFoundError(f"No module named {name!r} on {SYSTEM}", name=name)
        return instead[name] if name in instead and _ours(sys._getframe(2)) else otherwise()

    def __import__(name: str, *arguments: Any, **options: Any) -> Any:
        return found(name, lambda: load(name, *arguments, **options))

    builtins.__import__ = __import__
    importlib.import_module = lambda name, package=None: found(name, lambda: import_module(name, package))


def _hide_kernel() -> None:
    real = io.open

    def opened(file: Any, *arguments: Any, **options: Any) -> Any:
        if (
            isinstance(file, (str, os.PathLike))
            and os.fspath(file).startswith(_KERNEL)
            and _ours(sys._getframe(1))
        ):
            raise FileNotFoundError(errno.ENOENT, f"there is none on {SYSTEM}", file)
        return real(file, *arguments, **options)

    builtins.open = opened


def _refuse_open(path: str) -> None:
    """Raise PermissionError if this process has a file open, as Windows does."""
    real = os.path.realpath(path)
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target == real or target.startswith(f"{real}/"):
            raise PermissionError(errno.EACCES, "it is open in this process", path)


def _windows() -> dict[str, Any]:
    kill, names = os.kill, {}
    for name in ("replace", "rename", "unlink", "remove", "rmdir"):
        names[name] = getattr(os, name)

    def closed_first(name: str) -> Any:
        def call(*paths: Any, dir_fd: int | None = None, **options: Any) -> None:
            if dir_fd is None:
                for path in paths:
                    _refuse_open(os.fspath(path))
                if name == "rename" and os.path.lexists(paths[1]) and _ours(sys._getframe(1)):
                    raise FileExistsError(errno.EEXIST, "it is there", paths[1])
                return names[name](*paths, **options)
            return names[name](*paths, dir_fd=dir_fd, **options)

        return call

    # Path and shutil call these too: they meet open files as on Windows.
    for name in names:
        setattr(os, name, closed_first(name))
    import shutil

    shutil._use_fd_functions = False

    def opened(path: Any, flags: int, mode: int = 0o777) -> int:
        assert flags & _BINARY, "os.open without O_BINARY changes line ends on Windows"
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return os.open(path, flags & ~_BINARY | os.O_CLOEXEC, mode)

    def ended(pid: int, number: int) -> None:
        kill(pid, signal.Signals["SIGKILL"])

    subprocess.Popen.terminate = subprocess.Popen.kill
    return {"name": "nt", "O_BINARY": _BINARY, "open": opened, "kill": ended, "rename": os.rename}


def _locking(number: int, mode: int, count: int) -> None:
    import fcntl

    assert os.lseek(number, 0, os.SEEK_CUR) > 2**40, "what is locked on Windows cannot be read by others"
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise PermissionError(errno.EACCES, "Permission denied") from error


if SYSTEM:
    # The session that pytest runs in has written what is missing: workers need no mypy.
    with open(os.environ["BIOIMAGE_PY_LACKING"]) as _file:
        _told = json.load(_file)
    _instead = _windows() if SYSTEM == "windows" else {}
    for _name, _gone in _told["names"].items():
        if _name not in _told["modules"]:
            _hide(importlib.import_module(_name), frozenset(_gone), _instead if _name == "os" else {})
    _msvcrt = SimpleNamespace(locking=_locking, LK_NBLCK=2)
    _hide_modules(frozenset(_told["modules"]), {"msvcrt": _msvcrt} if SYSTEM == "windows" else {})
    _hide_kernel()
