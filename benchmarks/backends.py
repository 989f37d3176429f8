"""Measure what worker processes and Slurm cost beside threads.

    python benchmarks/backends.py [--quick] [--repeats N] [--out FOLDER] [--slurm]

The default copy of 512³ uint16 (Zarr 64³ to Zarr 64³) with two workers on each backend, in turn; each call in a process of
its own, which times the call alone. The start of an interpreter that imports what a worker imports is measured beside it.
With `--slurm`, on whatever cluster `sbatch` leads to: the same copy there, and 20 tasks that do nothing, against a plain
array of 20 interpreters that import the package.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from data import prepare

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache"
START = "import bioimage_py.runner.worker"

COPY = """
import sys, time, shutil
import bioimage_py as bp
job_type, source, output, runs = sys.argv[1:]
options = {}
if job_type != "local":
    config = bp.SlurmConfig if job_type == "slurm" else bp.RunnerConfig
    options = {"job_type": job_type, "job_config": config(tmp_root=runs)}
opened = bp.open_source(source)
begin = time.perf_counter()
bp.copy(opened, output, num_workers=2, **options)
print(time.perf_counter() - begin)
"""

EMPTY = """
import sys, time
import bioimage_py as bp
runner = bp.get_runner("slurm", bp.SlurmConfig(tmp_root=sys.argv[1], tasks_per_worker=1))
begin = time.perf_counter()
assert runner.map(abs, 20, num_workers=20, has_return_val=False) is None
print(time.perf_counter() - begin)
"""


def timed(code: str, *words: str) -> float:
    """Run Python code in a new process and return the seconds that it printed."""
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"failed:\n{done.stderr[-4000:]}")
    return float(done.stdout.splitlines()[-1])


def interpreter_start() -> float:
    """Return how long an interpreter takes to import what a worker imports."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", START], check=True)
    return time.perf_counter() - begin


def plain_array(folder: Path) -> float:
    """Return how long Slurm takes for an array of 20 interpreters that import the package."""
    begin = time.perf_counter()
    done = subprocess.run(
        ["sbatch", "--parsable", "--array=0-19", f"--output={folder}/%a.out"],
        input=f"#!/bin/sh\nexec {sys.executable} -c '{START}'\n",
        capture_output=True,
        text=True,
        check=True,
    )
    job = done.stdout.strip().split(";")[0]
    while subprocess.run(
        ["squeue", "-h", "-j", job], capture_output=True, text=True, check=False
    ).stdout.strip():
        time.sleep(0.05)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="256³ voxels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--slurm", action="store_true", help="measure Slurm too")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    source = str(prepare("cubes.zarr", 256 if args.quick else 512, CACHE / "data"))
    found: dict[str, list[float]] = {}
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            for job_type in ("local", "subprocess", *(["slurm"] if args.slurm else [])):
                output = f"{folder}/{job_type}.zarr"
                found.setdefault(f"copy, {job_type}", []).append(
                    timed(COPY, job_type, source, output, folder)
                )
                shutil.rmtree(output)
            found.setdefault("start of an interpreter", []).append(interpreter_start())
            if args.slurm:
                found.setdefault("20 empty tasks", []).append(timed(EMPTY, folder))
                found.setdefault("20 interpreters, plain array", []).append(plain_array(Path(folder)))
        print({name: round(times[-1], 2) for name, times in found.items()}, flush=True)
    middle: dict[str, Any] = {name: statistics.median(times) for name, times in found.items()}
    rest = middle["copy, subprocess"] - middle["start of an interpreter"]
    middle["subprocess without one start, over local"] = rest / middle["copy, local"]
    if args.slurm:
        allowed = 1.4 * middle["copy, local"] + middle["start of an interpreter"]
        middle["Slurm beyond 1.4 times local and one start, seconds"] = middle["copy, slurm"] - allowed
        middle["20 empty tasks beyond the plain array, seconds"] = (
            middle["20 empty tasks"] - middle["20 interpreters, plain array"]
        )
    for name, value in middle.items():
        print(f"{name}: {value:.2f}")
    args.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"medians": middle, "seconds": found}, indent=1)
    (args.out / "backends.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
