"""A real Slurm cluster for tests: started by the first process that needs it, stopped by the last one that had it.

Every process that uses a cluster holds a shared lock on a file; who gets that lock for itself alone at its end is the
last one. Set `BIOIMAGE_PY_REQUIRE_SLURM=1` to make tests fail, not skip, where no cluster can be had.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parent
REQUIRE = "BIOIMAGE_PY_REQUIRE_SLURM"


@dataclass
class SlurmLab:
    """One cluster.

    Attributes
    ----------
    folder
        Where all of it is; short, for the sake of sockets in it.
    settings
        What `settings.sh` takes besides.
    """

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def conf(self) -> str:
        """What SLURM_CONF must be."""
        return str(self.folder / "etc" / "slurm.conf")

    @property
    def hidden(self) -> Path:
        """A folder that the nodes do not see."""
        return self.folder / "hidden"

    def start(self) -> None:
        """Start what does not run; return when all nodes are up."""
        self._script("start.sh")

    def stop(self) -> None:
        """End it and take its folder away."""
        self._script("stop.sh", "--wipe")

    def kill_node(self, node: str, *, keep_jobs: bool = False) -> None:
        """Cut a node's power, or with `keep_jobs` let it look dead while its jobs go on; `start` brings it back."""
        self._script("kill-node.sh", node, *(["--keep-jobs"] if keep_jobs else []))

    def stop_controller(self) -> None:
        """End slurmctld; `start` brings it back."""
        pid = int((self.folder / "run" / "slurmctld.pid").read_text())
        os.kill(pid, 15)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def command(self, *words: str) -> str:
        """Run one of Slurm's commands and return what it printed."""
        done = subprocess.run(
            words,
            env={**os.environ, "SLURM_CONF": self.conf},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.stdout + done.stderr

    def _script(self, name: str, *words: str) -> None:
        log = Path(tempfile.gettempdir()) / f"{self.folder.name}-scripts.log"
        with log.open("a") as file:
            done = subprocess.run(
                [str(HERE / name), *words],
                env={**os.environ, **self.settings, "SLURMLAB_DIR": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                check=False,
                timeout=600,
            )
        if done.returncode:
            end = "\n".join(log.read_text().splitlines()[-15:])
            raise RuntimeError(f"{name} failed:\n{end}")


def default_lab() -> SlurmLab:
    """Return the cluster with accounting that tests share."""
    return SlurmLab(Path(os.environ.get("SLURMLAB_DIR", "/tmp/bioimage-slurm-lab")))


def plain_lab() -> SlurmLab:
    """Return a cluster without accounting, as small as it can be, whose limits are tight."""
    settings = {
        "SLURMLAB_DB": "no",
        "SLURMLAB_NODES": "1",
        "SLURMLAB_NODE_PREFIX": "bpplain",
        "SLURMLAB_PORT": "27917",
        "SLURMLAB_EXTRA_CONF": "MaxArraySize=4\nMinJobAge=2",
    }
    return SlurmLab(Path("/tmp/bioimage-slurm-plain"), settings)


def why_not() -> str:
    """Return why no cluster can be had here, empty if one can."""
    if not sys.platform.startswith("linux"):
        return "the Slurm lab needs Linux"
    if os.geteuid() != 0:
        return "the Slurm lab needs root"
    if shutil.which("slurmctld") is not None and shutil.which("slurmd") is not None:
        return ""
    if not required():
        return f"Slurm is not installed; with {REQUIRE}=1 the tests install it with apt-get"
    if shutil.which("apt-get") is None:
        return "the Slurm lab installs Slurm with apt-get, which is not here"
    return ""


def required() -> bool:
    """Whether tests shall fail, not skip, where no cluster can be had."""
    return os.environ.get(REQUIRE, "0") not in ("", "0")


@contextmanager
def shared(lab: SlurmLab) -> Iterator[SlurmLab]:
    """Have the cluster run, together with other processes."""
    reason = why_not()
    if reason:
        if required():
            pytest.fail(f"{reason}, and {REQUIRE} is set")
        pytest.skip(reason)
    lock = Path(f"{lab.folder}.users")
    with lock.open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            lab.start()
            yield lab
        finally:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # others still use it: the last of them stops it
            else:
                if "SLURMLAB_KEEP" not in os.environ:
                    lab.stop()
