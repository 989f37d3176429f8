"""The process that waits for a run: identified by host, number and time of birth, and stopped by a signal."""

from __future__ import annotations

import contextlib
import platform
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError
from bioimage_py.runner.run.run_folder import RunFolder, finish_hint
from bioimage_py.storage import is_alive, this_process
from bioimage_py.system import interrupt, try_lock


@contextlib.contextmanager
def driving(folder: RunFolder) -> Iterator[None]:
    """Make this the only process and thread that waits for a run; raises InvalidArgumentError if another does, or just did."""
    with _locked(folder):
        tag = folder.driver_tag()
        _check_alone(folder)
        if not folder.take_driver(this_process(), tag):
            raise _driven(folder, folder.read_driver())
        try:
            yield
        finally:
            folder.clear_driver()


@contextlib.contextmanager
def _locked(folder: RunFolder) -> Iterator[None]:
    """Hold the lock of a run folder, which ends with the process, however that ends, and holds for other machines on NFS too."""
    with folder.open_lock() or contextlib.nullcontext() as file:
        if file is not None and not try_lock(file.fileno()):
            raise _driven(folder, folder.read_driver())
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
    interrupt(driver["pid"])
    return f"told process {driver['pid']} to stop; what is done stays written"
