"""A Dask cluster on this machine for the length of one run, hosted by a process: `python -m bioimage_py.runner.dask.local SCRATCH WORKERS`.

That process writes one line of JSON (address of its scheduler, certificate and key), and ends when its input does: so it never
outlives the process that started it. Then it removes the folder SCRATCH with its temporary files. Its workers are children of this module, hence a user's script needs no guard around its main part.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bioimage_py.runner.dask.config import distributed_library
from bioimage_py.system import PIPE_CLOSED, kill_group, own_group

_PATIENCE = 5.0
"""Seconds that workers get to end after a run."""


class UnreachableError(Exception):
    """No scheduler can be reached; the message says which, and what to do."""


class LocalHost:
    """Worker processes with a scheduler of their own, which print into a log.

    What they say to each other is encrypted where the package `cryptography` is installed: a scheduler runs whatever it
    is told, and others may be logged in on this machine.
    """

    def __init__(self, n_workers: int, python: str | None, log: Path) -> None:
        interpreter = python or sys.executable
        self._scratch = tempfile.TemporaryDirectory(prefix="bioimage-dask-", ignore_cleanup_errors=True)
        try:
            here = str(Path.cwd())
        except FileNotFoundError:  # it was removed: no worker would start there
            here = self._scratch.name
        with log.open("ab") as file:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [
                        interpreter,
                        "-P",
                        "-m",
                        "bioimage_py.runner.dask.local",
                        self._scratch.name,
                        str(n_workers),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    text=True,
                    cwd=here,
                    **own_group(),
                )
            except OSError as error:
                self._scratch.cleanup()
                raise UnreachableError(
                    f"the workers' Python {interpreter!r} cannot be started: {error.strerror}. Give python_executable= another"
                ) from error
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
        except BaseException:
            self.close(at_once=True)
            raise
        if not line:
            self.close(at_once=True)
            said = log.read_text(errors="replace").strip().splitlines() or ["they said nothing"]
            raise UnreachableError(f"the Dask workers on this machine did not start: {said[-1]}")
        self.address, secret = json.loads(line)
        self.security = _security_from(secret)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def close(self, *, at_once: bool = False) -> None:
        """End the workers and their scheduler; `at_once` in the middle of what they do."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except PIPE_CLOSED:
                continue  # it has died: there is nobody to tell
        try:
            well = self._process.wait(0 if at_once else _PATIENCE) == 0
        except subprocess.TimeoutExpired:
            well = False
        if not well:
            # Its session is a group of its own: the scheduler, the workers, and nobody else.
            kill_group(self._process)
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


def _host(scratch: str, n_workers: int) -> int:
    try:
        library, secret = distributed_library(), _new_secret()
        # The scheduler has a folder too, for which LocalCluster takes no argument.
        importlib.import_module("dask").config.set({"temporary-directory": scratch})
        with library.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            # The plan keeps to its own limit; Dask would otherwise kill workers at a share of the machine's memory.
            memory_limit=0,
            # Any free port, and nothing to look at: two runs on one machine do not get in each other's way.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            local_directory=scratch,
            security=_security_from(secret),
        ) as cluster:
            sys.stdout.write(json.dumps([cluster.scheduler_address, secret]) + "\n")
            sys.stdout.flush()
            sys.stdin.read()
    except PIPE_CLOSED[:1]:
        return 1  # whoever started this has died meanwhile
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(_host(sys.argv[1], int(sys.argv[2])))
