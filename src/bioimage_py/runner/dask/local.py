"""A Dask cluster on this machine for the length of one run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bioimage_py.runner.dask.config import distributed_library

_PATIENCE = 5.0
"""Seconds that workers get to go home after a run."""


class LocalHostError(Exception):
    """The cluster did not start; the message says why."""


class LocalHost:
    """Worker processes with a scheduler of their own, hosted by a process that ends when this one does.

    What they say to each other is encrypted where the package `cryptography` is installed: a scheduler runs whatever it
    is told, and others may be logged in on this machine.

    Parameters
    ----------
    n_workers
        Number of worker processes.
    python
        Their interpreter; None for this one.
    log
        File for what they print.
    """

    def __init__(self, n_workers: int, python: str | None, log: Path) -> None:
        interpreter = python or sys.executable
        secret = _new_secret()
        self._scratch = tempfile.TemporaryDirectory(prefix="bioimage-dask-", ignore_cleanup_errors=True)
        with log.open("ab") as file:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [interpreter, "-P", "-m", "bioimage_py.runner.dask.host", self._scratch.name],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    text=True,
                    start_new_session=True,
                    cwd=_directory(self._scratch.name),
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
            said = log.read_text(errors="replace").strip().splitlines()
            raise LocalHostError(
                f"the Dask workers on this machine did not start: {said[-1] if said else 'they said nothing'}"
            )
        self.security = security_from(secret)

    def _begin(self, n_workers: int, secret: dict[str, str] | None) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"workers": n_workers, "secret": secret}
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        return self._process.stdout.readline().strip()

    @property
    def alive(self) -> bool:
        """Whether the scheduler's process is there."""
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
            self._process.wait(0 if at_once else _PATIENCE)
        except subprocess.TimeoutExpired:
            self._kill()
        else:
            if self._process.returncode != 0:
                self._kill()
        self._scratch.cleanup()

    def _kill(self) -> None:
        try:
            # Its session is a group of its own: the scheduler, the workers, and nobody else.
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # all of them have ended
        finally:
            self._process.wait()


def _directory(scratch: str) -> str:
    """Return the working directory; where it was removed, so that no worker would start there, the scratch folder."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return scratch


def _new_secret() -> dict[str, str] | None:
    """Return a certificate and its key, made for one cluster and kept in memory; None if they cannot be made here."""
    try:
        made = distributed_library().Security.temporary()
    except ImportError:
        return None
    return {"certificate": made.tls_ca_file, "key": made.tls_client_key}


def security_from(secret: dict[str, str] | None) -> Any:
    """Return Dask's settings for connections that only holders of the key can make; None for plain ones."""
    if secret is None:
        return None
    roles = {f"tls_{role}_key": secret["key"] for role in ("client", "scheduler", "worker")}
    roles |= {f"tls_{role}_cert": secret["certificate"] for role in ("client", "scheduler", "worker")}
    return distributed_library().Security(require_encryption=True, tls_ca_file=secret["certificate"], **roles)
