"""Copies over a network disk with bad habits, counted: `python benchmarks/lagging_disk.py --runs 20 --lag 5 --latency 2 --eio 0.01`.

Every machine (the one that submits, the workers', the nodes of a Slurm cluster) has a mount of its own at the same path, on which it sees what others write late. A line per
run, and a table: runs that failed, voxels that are wrong on the disk and as the submitting machine sees them when its call returns, blocks that were recorded twice.
`--kills` kills a worker of each run at a random moment. `--only` takes backends and roads; `--keep` leaves the folders of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.crash.campaign_roads import ROADS, expected, make_inputs, stored  # noqa: E402
from tests.lag_disk import LagDisk  # noqa: E402
from tests.runner.slurm_lab import SlurmLab, shared  # noqa: E402

NODES = 3
BACKENDS = ("subprocess", "slurm", "external")
CHOSEN = ("verbatim", "into-shards", "recode", "two-passes", "pyramid", "wrapper", "masked", "ome-zarr")
PROGRAM = """
import json, shutil, sys, warnings
from pathlib import Path
import numpy as np
import bioimage_py as bp
from bioimage_py.errors import AssumptionWarning, BioimagePyWarning
from bioimage_py.runner.run import RunFolder
from tests.crash.campaign_roads import expected, stored
warnings.simplefilter("error", BioimagePyWarning)
warnings.simplefilter("ignore", AssumptionWarning)
verb, road, source, output, job_type, config, options, disk, backing, kept = json.loads(sys.argv[1])
remove = RunFolder.remove
def keep(folder):
    # As it is on the disk: what is seen of it here may lag.
    place = backing + str(folder.path)[len(disk):]
    shutil.copytree(place, f"{kept}/{folder.path.name}", dirs_exist_ok=True)
    remove(folder)
RunFolder.remove = keep
if options.pop("plus_one", False):
    source = bp.wrapper.SimpleTransformationSource(bp.open_source(source), lambda voxels: voxels + 1)
config = {"slurm": bp.SlurmConfig}.get(job_type, bp.RunnerConfig)(**config)
getattr(bp, verb)(source, output, job_type=job_type, job_config=config, num_workers=3, **options)
wrong = 0
for path, voxels in expected(road, Path(output)).items():
    for _ in range(20):
        try:
            wrong += int((stored(path) != voxels).sum())
            break
        except Exception as error:
            print("look:", error, file=sys.stderr)
print(wrong)
"""


def one(
    disk: LagDisk,
    name: str,
    backend: str,
    road: str,
    config: dict[str, Any],
    environment: dict[str, str],
    chance: random.Random | None,
) -> Counter[str]:
    """Make one run and return what is wrong about it."""
    verb, source, output, options = ROADS[road]
    folder, kept = disk.path / name, disk.backing.parent / "kept" / name
    (disk.backing / name).mkdir()
    kept.mkdir(parents=True)
    options = dict(options)
    if "mask" in options:
        options["mask"] = str(disk.path / "inputs" / options["mask"])
    arguments = [
        verb,
        road,
        str(disk.path / "inputs" / source),
        str(folder / output),
        backend,
        {**config, "tmp_root": str(folder / "runs")},
        options,
    ]
    arguments += [str(disk.path), str(disk.backing), str(kept)]
    found: Counter[str] = Counter(runs=1)
    began = time.monotonic()
    process = subprocess.Popen(
        [*disk.enter(), sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    joined = []
    if backend == "external":
        (disk.backing / name / "runs").mkdir()
        words = [sys.executable, "-m", "bioimage_py", "worker", str(folder / "runs"), "--join"]
        log = (disk.backing.parent / f"{name}.log").open("wb")
        joined = [
            subprocess.Popen([*disk.enter(machine), *words], env=environment, stdout=log, stderr=log)
            for machine in disk.machines[1:]
        ]
    if chance is not None:
        found["killed"] = kill_a_worker(process, disk, name, chance)
    try:
        out, said = process.communicate(timeout=400)
        code, said = process.returncode, said.strip()
    except subprocess.TimeoutExpired as error:
        process.kill()
        code, out, said = 1, "", f"no end within {error.timeout:.0f} s"
    for worker in joined:
        worker.kill()
        worker.wait()
    found["seconds"] = round(time.monotonic() - began)
    found["failed"] = int(code != 0)
    found["seen wrong"] = int(out.split()[-1]) if code == 0 else 0
    if code == 0:
        found["wrong"] = sum(
            int((stored(path) != voxels).sum())
            for path, voxels in expected(road, disk.backing / name / output).items()
        )
    runs = list(kept.iterdir()) or list((disk.backing / name / "runs").glob("bioimage-run-*"))
    for run in runs:
        found["blocks"], found["twice"] = recorded(run)
        found["rounds"] = len(list((run / "rounds").glob("?????.json")))
    print(f"{name}: {dict(found)}" + (f"\n    {said[-1500:]}" if said else ""), flush=True)
    return found


def kill_a_worker(process: subprocess.Popen[str], disk: LagDisk, name: str, chance: random.Random) -> int:
    """Kill a worker once a random number of portions was worked through; return how many were killed."""
    least, folder = chance.randrange(12), str(disk.path / name)
    while process.poll() is None:
        if len(list((disk.backing / name / "runs").glob("bioimage-run-*/claims/00000/done/*"))) >= least:
            time.sleep(chance.uniform(0, 0.5))
            workers = [
                p for p in psutil.process_iter(["cmdline"]) if is_worker(p.info["cmdline"] or (), folder)
            ]
            if workers:
                chance.choice(workers).kill()
                return 1
        time.sleep(0.05)
    return 0


def is_worker(words: Sequence[str], folder: str) -> bool:
    """Whether a process with this command line is a worker of a run in a folder."""
    return "bioimage_py.runner.worker" in words and any(word.startswith(folder) for word in words)


def recorded(run: Path) -> tuple[int, int]:
    """Return how many blocks of a run are recorded, and how many records there are beyond one for each."""
    from bioimage_py.runner.run import RunFolder, read_recorded

    found = read_recorded(RunFolder(run))
    return len(found.done), sum(len(attempt.done) for attempt in found.attempts) - len(found.done)


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--lag", type=float, default=5)
    parser.add_argument("--latency", type=float, default=2)
    parser.add_argument("--eio", type=float, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", action="store_true")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    pairs = [(backend, road) for road in CHOSEN for backend in BACKENDS]
    wanted = set(given.only)
    pairs = [
        p
        for p in pairs
        if (p[0] in wanted or not wanted & set(BACKENDS)) and (p[1] in wanted or not wanted & set(CHOSEN))
    ]
    random.Random(given.seed).shuffle(pairs)
    place = Path(tempfile.mkdtemp(prefix="bioimage-lag-"))
    totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}", "BIOIMAGE_PY_NO_CONFIG": "1"}
    try:
        with ExitStack() as stack:
            disk = stack.enter_context(
                LagDisk(place, NODES + 1, lag=given.lag, latency=given.latency, eio=given.eio)
            )
            (disk.backing / "inputs").mkdir()
            make_inputs(disk.backing / "inputs")
            if any(backend == "slurm" for backend, _ in pairs):
                settings = {
                    "SLURMLAB_DB": "no",
                    "SLURMLAB_NODES": str(NODES),
                    "SLURMLAB_NODE_PREFIX": "bplag",
                    "SLURMLAB_PORT": "28417",
                }
                lab = SlurmLab(
                    Path("/tmp/bioimage-slurm-lag"),
                    {**settings, "SLURMLAB_ON_NODE": str(disk.node_program("bplag"))},
                )
                stack.enter_context(shared(lab))
                environment["SLURM_CONF"] = lab.conf
            time.sleep(given.lag)
            for n in range(given.runs):
                backend, road = pairs[n % len(pairs)]
                config: dict[str, Any] = {"poll_interval": 0.3}
                if backend == "slurm":
                    config |= {"mem": "800M", "time": 10}
                elif backend == "subprocess":
                    config |= {"python_executable": str(disk.worker_python()), "latency_wait": 30}
                found = one(
                    disk,
                    f"{n:03d}-{backend}-{road}",
                    backend,
                    road,
                    config,
                    environment,
                    random.Random(given.seed + n) if given.kills else None,
                )
                totals[backend] += found
                totals["all"] += found
    finally:
        if given.keep:
            print(f"kept: {place}")
        else:
            shutil.rmtree(place, ignore_errors=True)
    columns = ("runs", "killed", "failed", "wrong", "seen wrong", "blocks", "twice", "rounds", "seconds")
    print(
        f"\nlag {given.lag:g} s, latency {given.latency:g} ms, EIO in {given.eio:.1%} of reads and writes\n"
    )
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, counts in sorted(totals.items()):
        print(f"| {name} | {' | '.join(str(counts[column]) for column in columns)} |")


if __name__ == "__main__":
    main()
