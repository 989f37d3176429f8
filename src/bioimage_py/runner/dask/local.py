"""A Dask cluster on this machine for the length of one run, hosted by a process: `python -m bioimage_py.runner.dask.local SCRATCH`.

That process reads one line of JSON (number of workers, certificate and key), writes the address of its scheduler as one line, and ends
when its input does: so it never outlives the process that started it. Then it removes the folder SCRATCH with its temporary
files. Its workers are children of this module, hence a user's script needs no guard around its main part.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bioimage_py.runner.dask.config import distributed_library

_PATIENCE = 5.0
"""Seconds that workers get to end after a run."""


class LocalHostError(Exception):
    """The cluster did not start; the message says why."""


class LocalHost:
    """Worker processes with a scheduler of their own, which print into a log.

    What they say to each other is encrypted where the package `cryptography` is installed: a scheduler runs whatever it
    is told, and others may be logged in on this machine.
    """

    def __init__(self, n_workers: int, python: str | None, log: Path) -> None:
        interpreter = python or sys.executable
        secret = _new_secret()
        self._scratch = tempfile.TemporaryDirectory(prefix="bioimage-dask-", ignore_cleanup_errors=True)
        try:
            here = str(Path.cwd())
        except FileNotFoundError:  # it was removed: no worker would start there
            here = self._scratch.name
        with log.open("ab") as file:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [interpreter, "-P", "-m", "bioimage_py.runner.dask.local", self._scratch.name],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    text=True,
                    start_new_session=True,
                    cwd=here,
                )
            except OSError as error:
                self._scratch.cleanup()
                raise LocalHostError(
                    f"the workers' Python {interpreter!r} cannot be started: {error.strerror}. Give python_executable= another"
                ) from error
        try:
            self.address = self._begin(n_workers, secret)
        except BaseException:
            self.close(at_once=True)
            raise
        if not self.address:
            self.close(at_once=True)
            said = log.read_text(errors="replace").strip().splitlines() or ["they said nothing"]
            raise LocalHostError(f"the Dask workers on this machine did not start: {said[-1]}")
        self.security = _security_from(secret)

    def _begin(self, n_workers: int, secret: dict[str, str] | None) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"workers": n_workers, "secret": secret}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._process.stdout.readline().strip()

    @property
    def alive(self) -> bool:
        """Whether the scheduler's process is running."""
        return self._process.poll() is None

    def close(self, *, at_once: bool = False) -> None:
        """End the workers and their scheduler; `at_once` in the middle of what they do."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # it has died: there is nobody to tell
        try:
            well = self._process.wait(0 if at_once else _PATIENCE) == 0
        except subprocess.TimeoutExpired:
            well = False
        if not well:
            # Its session is a group of its own: the scheduler, the workers, and nobody else.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._scratch.cleanup()


def _new_secret() -> dict[str, str] | None:
    """Return a certificate and its key, made for one cluster and kept in memory; None if they cannot be made here."""
    try:
        made = distributed_library().Security.temporary()
    except ImportError:
        return None
    return {"certificate": made.tls_ca_file, "key": made.tls_client_key}


def _security_from(secret: dict[str, str] | None) -> Any:
    """Return Dask's settings for connections that only holders of the key can make; None for plain ones."""
    if secret is None:
        return None
    roles = {f"tls_{role}_key": secret["key"] for role in ("client", "scheduler", "worker")}
    roles |= {f"tls_{role}_cert": secret["certificate"] for role in ("client", "scheduler", "worker")}
    return distributed_library().Security(require_encryption=True, tls_ca_file=secret["certificate"], **roles)


def _host(scratch: str) -> int:
    """Host a cluster until the input ends; return the exit code."""
    try:
        order = sys.stdin.readline()
        if order:
            _serve(json.loads(order), scratch)
    except BrokenPipeError:
        return 1  # whoever started this has died meanwhile
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


def _serve(wanted: dict[str, Any], scratch: str) -> None:
    library = distributed_library()
    # The scheduler has a folder too, for which LocalCluster takes no argument.
    importlib.import_module("dask").config.set({"temporary-directory": scratch})
    with library.LocalCluster(
        n_workers=wanted["workers"],
        threads_per_worker=1,
        processes=True,
        # The plan keeps to its own limit; Dask would otherwise kill workers at a share of the machine's memory.
        memory_limit=0,
        # Any free port, and nothing to look at: two runs on one machine do not get in each other's way.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        local_directory=scratch,
        security=_security_from(wanted["secret"]),
    ) as cluster:
        sys.stdout.write(f"{cluster.scheduler_address}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    sys.exit(_host(sys.argv[1]))
