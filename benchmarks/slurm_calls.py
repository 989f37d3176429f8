"""What runs ask of a Slurm controller: bytes of a look beside the jobs of others, and commands per minute.

    python benchmarks/slurm_calls.py [--only bytes calls limit storm] [--foreign N] [--tasks N] [--seconds S] [--out FOLDER]

It starts the real cluster of the tests (as root, with Debian's packages of Slurm, and strace) under a name of its own: 32
processors on four nodes. `bytes`: what two arrays cost to be asked about, by strace, alone and beside jobs of another user.
`calls`: a run whose function sleeps, with wrappers on PATH that note each command. `limit`: the same where a user may have 40
jobs. `storm`: the same where two nodes lose power, one after the other. Results go to `slurm_calls.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests.runner.slurm_lab import SlurmLab  # noqa: E402 - the one of this checkout

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sacct")
USER = "bioimage-bench"
LAB = SlurmLab(
    Path("/tmp/bioimage-slurm-bench"),
    {
        "SLURMLAB_NODE_PREFIX": "bpbench",
        "SLURMLAB_PORT": "28317",
        "SLURMLAB_CPUS": "8",
        "SLURMLAB_MEM": "64000",
    },
)
LIMIT = 40
RECEIVED = re.compile(r"(?:read|recv|recvfrom|recvmsg)\(\d+<TCP:.* = (\d+)$")


@contextmanager
def wrapped(folder: Path, line: str) -> Iterator[None]:
    """Have scripts of one line in place of Slurm's commands."""
    before = os.environ["PATH"]
    folder.mkdir()
    for name in COMMANDS:
        script = folder / name
        real = shutil.which(name)
        script.write_text(f"#!/bin/sh\n{line.format(name=name, real=real, log=folder / 'log')}\n")
        script.chmod(0o755)
    os.environ["PATH"] = f"{folder}:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def bytes_of_look(jobs: list[str], folder: Path) -> int:
    """Return what comes over the network when some arrays are asked about."""
    from bioimage_py.runner.slurm import Slurm

    traced = (
        'exec strace -f -qq -yy -e trace=read,recv,recvfrom,recvmsg -e signal=none -o {log}.$$ {real} "$@"'
    )
    with wrapped(folder, traced):
        for job in jobs:
            if not Slurm().queue(job):
                raise RuntimeError(f"nothing is listed of job {job}")
    lines = [line for path in folder.glob("log.*") for line in path.read_text(errors="replace").splitlines()]
    return sum(int(found[1]) for line in lines if (found := RECEIVED.search(line)))


def bytes_of_looks(n_foreign: int, place: Path) -> dict[str, int]:
    script = place / "held.sh"
    script.write_text("#!/bin/sh\nsleep 100000\n")
    held = ["--parsable", "--hold", "--mem=10", "--output=/dev/null", str(script)]
    jobs = [LAB.command("sbatch", "--array=0-19", *held).strip() for _ in range(2)]
    found = {"0": bytes_of_look(jobs, place / "alone")}
    if subprocess.run(["id", USER], capture_output=True, check=False).returncode:
        subprocess.run(["useradd", "--no-create-home", USER], check=True)
    LAB.command("sacctmgr", "-i", "add", "user", USER, "Account=lab", "Cluster=lab")
    submit = f"cd /; for i in $(seq {n_foreign}); do sbatch {' '.join(held)}; done"
    LAB.command("runuser", "-u", USER, "--", "timeout", "50", "sh", "-c", submit)
    n_there = len(LAB.command("squeue", "-h", "-u", USER).splitlines())
    found[str(n_there)] = bytes_of_look(jobs, place / "crowded")
    LAB.command("scancel", "--quiet", "--user", USER)
    for job in jobs:
        LAB.command("scancel", job)
    return found


def lose_nodes() -> None:
    for node in ("bpbench1", "bpbench2"):
        time.sleep(60)
        LAB.kill_node(node)
        time.sleep(30)
        LAB.start()


def calls(n_tasks: int, seconds: float, place: Path) -> dict[str, Any]:
    """Run a function that sleeps in so many tasks; return how often Slurm's commands were called."""
    from bioimage_py.runner.slurm import SlurmConfig, SlurmRunner

    def wait(item: int) -> int:
        time.sleep(seconds)
        return item

    config = SlurmConfig(tmp_root=place / "runs", tasks_per_worker=2, mem="100M", time=60)
    began = time.time()
    with wrapped(place / "calls", 'echo "$(date +%s.%N) {name}" >> {log}; exec {real} "$@"'):
        results = SlurmRunner(config).map(wait, n_tasks, num_workers=n_tasks // 2)
    if results != list(range(n_tasks)):
        raise RuntimeError("the run has other results than it should")
    lines = [line.split() for line in (place / "calls" / "log").read_text().splitlines()]
    times = [float(at) for at, _ in lines]
    minutes = [Counter[str]() for _ in range(int(time.time() - began) // 60 + 1)]
    for at, name in lines:
        minutes[int(float(at) - began) // 60][name] += 1
    return {
        "seconds": round(time.time() - began),
        "calls": Counter(name for _, name in lines),
        "most in 60 s": max(sum(first <= other < first + 60 for other in times) for first in times),
        "per minute": minutes,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=["bytes", "calls", "limit", "storm"])
    parser.add_argument("--foreign", type=int, default=1500)
    parser.add_argument("--tasks", type=int, default=1200)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each call of the function")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    given = parser.parse_args()
    os.environ.update(SLURM_CONF=LAB.conf, BIOIMAGE_PY_NO_CONFIG="1")
    results: dict[str, Any] = {}
    LAB.start()
    try:
        for what in given.only:
            with tempfile.TemporaryDirectory(prefix="slurm-calls-") as folder:
                place = Path(folder)
                place.chmod(0o755)
                if what == "bytes":
                    results["bytes of a look, by foreign jobs"] = bytes_of_looks(given.foreign, place)
                    continue
                limit = LIMIT if what == "limit" else -1
                LAB.command("sacctmgr", "-i", "modify", "user", "root", "set", f"MaxSubmitJobs={limit}")
                storm = threading.Thread(target=lose_nodes, daemon=True)
                if what == "storm":
                    storm.start()
                results[what] = calls(given.tasks, given.seconds, place)
                if what == "storm":
                    storm.join()
            print(json.dumps(results, indent=2))
    finally:
        LAB.stop()
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "slurm_calls.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
