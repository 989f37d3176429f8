"""A network disk for tests, as several machines see it: each has a mount of its own at the same path, in a mount namespace.

`lagfs.py`, which passes everything on to a real folder, is found where shared test files are; it needs root, FUSE and a Python with fusepy (this one, or the one that
`BIOIMAGE_PY_FUSE_PYTHON` names).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

from tests.waiting import eventually

LAGFS = Path(__file__).resolve().parents[2] / "shared" / "lagfs" / "lagfs.py"
PYTHON = os.environ.get("BIOIMAGE_PY_FUSE_PYTHON", sys.executable)
_TOOLS = ("unshare", "nsenter", "setpriv", "mountpoint")
_MAKE = 'hostname "$0" && exec "$@"'
# A worker's machine is one on which no other works; a lock says so, which ends with the process.
_SOME_MACHINE = """\
#!/bin/sh
while :; do
    for pid in {pids}; do
        exec 9>"{locks}/$pid"
        flock -n 9 && exec nsenter --mount --uts --target "$pid" -- "{python}" "$@"
    done
    sleep 0.1
done
"""


def why_not() -> str:
    """Return why no such disk can be had here, empty if one can."""
    if not LAGFS.is_file():
        return f"the shared test file {LAGFS} is absent"
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "mounts of one's own need Linux and root"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "there is no /dev/fuse"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(missing)} not installed"
    done = subprocess.run([PYTHON, "-c", "import fuse"], capture_output=True, check=False, timeout=60)
    if done.returncode:
        return f"{PYTHON} cannot import fuse (fusepy and Debian's libfuse2); BIOIMAGE_PY_FUSE_PYTHON names another Python"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "mount namespaces are not allowed here"
    return ""


class LagDisk:
    """A disk and the machines that have it; the first of them is the one that submits.

    Attributes
    ----------
    backing
        The disk as it is.
    path
        Where each machine sees it; here it is an empty folder.
    machines
        Their names.
    """

    def __init__(
        self, folder: Path, machines: int, *, lag: float = 5, latency: float = 2, eio: float = 0
    ) -> None:
        if reason := why_not():
            pytest.skip(reason)
        self.backing, self.path, self._folder = folder / "backing", folder / "disk", folder
        self.machines = [f"lag{n}" for n in range(machines)]
        self._options = [f"--lag={lag}", f"--latency={latency}", f"--eio={eio}"]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        for folder in (self.backing, self.path, self._folder / "locks"):
            folder.mkdir()
        try:
            for seed, name in enumerate(self.machines):
                self._processes[name] = self._boot(name, seed)
            for name in self.machines:
                test = [*self.enter(name), "mountpoint", "-q", str(self.path)]
                eventually(
                    lambda test=test: subprocess.run(test, check=False, timeout=60).returncode == 0,
                    f"{name} has no disk",
                )  # type: ignore[misc]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self._processes.values():
            machine.kill()
            machine.wait()

    def _boot(self, name: str, seed: int) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                ["unshare", "--mount", "--uts", "--propagation=private", "setpriv", "--pdeathsig=KILL", "sh", "-c", _MAKE, name,
                 PYTHON, str(LAGFS), str(self.backing), str(self.path), f"--seed={seed}", *self._options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def enter(self, name: str = "", *, uts: bool = True) -> list[str]:
        """Return what a command begins with that runs on a machine; without `uts` it keeps this machine's name."""
        machine = self._processes[name or self.machines[0]]
        return ["nsenter", "--mount", *(["--uts"] if uts else []), f"--target={machine.pid}", "--"]

    def worker_python(self) -> Path:
        """Return a Python that runs on one of the machines that do not submit, one process on each."""
        program = self._folder / "python"
        pids = " ".join(str(self._processes[name].pid) for name in self.machines[1:])
        text = _SOME_MACHINE.format(pids=pids, locks=self._folder / "locks", python=sys.executable)
        program.write_text(text)
        program.chmod(0o755)
        return program

    def node_program(self, prefix: str) -> Path:
        """Return what starts the daemon of node PREFIX1, PREFIX2, … of a Slurm cluster: `PROGRAM NODE COMMAND…`."""
        program = self._folder / "on-node"
        cases = "\n".join(
            f'    {prefix}{n}) exec {" ".join(self.enter(name, uts=False))} "$@" ;;'
            for n, name in enumerate(self.machines[1:], 1)
        )
        program.write_text(f'#!/bin/sh\nnode=$1; shift\ncase "$node" in\n{cases}\nesac\nexit 1\n')
        program.chmod(0o755)
        return program
