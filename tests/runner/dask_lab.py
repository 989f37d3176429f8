"""A Dask scheduler and its workers as processes of their own, as on a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from tests.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


class DaskLab:
    """Starts processes of Dask's command line, and kills them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.address = ""
        self.scheduler: subprocess.Popen[bytes] | None = None
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_scheduler(self) -> str:
        """Start a scheduler, on the port of the one before if there was one; return its address."""
        port = self.address.rpartition(":")[2] or "0"
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self._start(
            "dask_scheduler",
            "--host=127.0.0.1",
            f"--port={port}",
            "--no-dashboard",
            f"--scheduler-file={file}",
        )
        self.address = self._await_address(file)
        return self.address

    def start_workers(self, number: int, *options: str, before: tuple[str, ...] = ()) -> None:
        """Start that many worker processes of one thread, which a nanny starts again when they die."""
        self.workers.append(
            self._start(
                "dask_worker",
                self.address,
                f"--nworkers={number}",
                "--nthreads=1",
                "--no-dashboard",
                "--memory-limit=0",
                f"--local-directory={self.folder}",
                *options,
                before=before,
            )
        )

    def kill_scheduler(self) -> None:
        assert self.scheduler is not None
        self.scheduler.kill()
        self.scheduler.wait()

    def close(self) -> None:
        for process in [self.scheduler, *self.workers]:
            if process is not None:
                children = (
                    psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
                )
                process.send_signal(signal.SIGKILL)
                for child in children:
                    child.kill()
                process.wait()

    def _start(self, module: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        with (self.folder / f"{module}.log").open("ab") as log:
            return subprocess.Popen(
                [*before, sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )

    def _await_address(self, file: Path) -> str:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                return str(json.loads(file.read_text())["address"])
            except (OSError, ValueError):
                time.sleep(0.05)
        raise AssertionError((self.folder / "dask_scheduler.log").read_text())
