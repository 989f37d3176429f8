"""The process that waits for a run: identified by host, number and time of birth, and stopped by a signal."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import signal
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError
from bioimage_py.runner.run.run_folder import RunFolder, finish_hint
from bioimage_py.storage import is_alive, this_process

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What file systems answer that are mounted without locks, as Lustre and NFS can be."""


@contextlib.contextmanager
def driving(folder: RunFolder) -> Iterator[None]:
    """Make this the only process and thread that waits for a run; raises InvalidArgumentError if another does, or just did."""
    with _locked(folder):
        _check_alone(folder)
        folder.write_driver(this_process())
        try:
            yield
        finally:
            folder.clear_driver()


@contextlib.contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    """Hold the lock of a run folder, which ends with the process, however that ends, and holds for other machines on NFS too."""
    with folder.open_lock() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _driven(folder, folder.read_driver()) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        if not folder.exists():
            raise InvalidArgumentError(
                f"the run {str(folder.path)!r} was finished by another process just now"
            )
        yield


def _check_alone(folder: RunFolder) -> None:
    before = folder.read_driver()
    if before is not None:
        alive = is_alive(before)
        if alive:
            raise _driven(folder, before)
        if alive is None:
            warnings.warn(
                f"process {before['pid']} on {before['host']} may still be waiting for this run: two processes that do cost time, but no voxels",
                BioimagePyWarning,
                stacklevel=6,
            )


def _driven(folder: RunFolder, driver: Mapping[str, Any] | None) -> InvalidArgumentError:
    who = "another process" if driver is None else f"process {driver['pid']} on {driver['host']}"
    return InvalidArgumentError(
        f"the run {str(folder.path)!r} is being run by {who}: wait for it, or stop it with Ctrl-C or 'bioimage-py cancel'"
    )


def interrupt_driver(folder: RunFolder) -> str:
    """Interrupt the process that waits for a run, which stops its workers; return a sentence about it."""
    driver = folder.read_driver()
    alive = False if driver is None else is_alive(driver)
    if driver is None or alive is False:
        raise InvalidArgumentError(
            f"nothing runs for {str(folder.path)!r}: there is nothing to cancel",
            hints=[finish_hint(folder.path)],
        )
    if alive is None:
        raise InvalidArgumentError(
            f"the run {str(folder.path)!r} is run by process {driver['pid']} on {driver['host']}, which cannot be stopped from "
            f"{platform.node()}: call this there"
        )
    # A background job of a script ignores SIGINT.
    os.kill(driver["pid"], signal.SIGTERM if _ignores(driver["pid"], signal.SIGINT) else signal.SIGINT)
    return f"told process {driver['pid']} to stop; what is done stays written"


def _ignores(pid: int, number: signal.Signals) -> bool:
    """Whether a process ignores a signal, as far as the kernel says."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    masks = [line.split()[1] for line in text.splitlines() if line.startswith("SigIgn:")]
    return bool(masks) and bool(int(masks[0], 16) >> (number - 1) & 1)
