"""Measure what worker processes and Slurm cost beside threads.

    python benchmarks/backends.py [--quick] [--repeats N] [--out FOLDER] [--slurm]

Copies of 512³ uint16 (Zarr 64³ to Zarr 64³) with two workers on each backend, in turn: the default call, which moves encoded
chunks, and one into another level of zstd, which decodes and encodes. Each call is in a process of its own, which times the
call alone. The start of an interpreter that imports what a worker for Zarr imports is measured beside it.
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
START = "import bioimage_py.runner.work.copying, bioimage_py.sources.zarr.array"
PLAIN = "import bioimage_py"

COPY = """
import sys, time, shutil
import bioimage_py as bp
job_type, source, output, runs, codec = sys.argv[1:]
options = {"codec": codec} if codec else {}
if job_type != "local":
    config = bp.SlurmConfig if job_type == "slurm" else bp.RunnerConfig
    options |= {"job_type": job_type, "job_config": config(tmp_root=runs)}
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
        input=f"#!/bin/sh\nexec {sys.executable} -c '{PLAIN}'\n",
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
            for codec, what in (("", "move"), ("zstd:1", "recode")):
                for job_type in ("local", "subprocess", *(["slurm"] if args.slurm else [])):
                    output = f"{folder}/{job_type}.zarr"
                    seconds = timed(COPY, job_type, source, output, folder, codec)
                    found.setdefault(f"{what}, {job_type}", []).append(seconds)
                    shutil.rmtree(output)
            found.setdefault("start of an interpreter", []).append(interpreter_start())
            if args.slurm:
                found.setdefault("20 empty tasks", []).append(timed(EMPTY, folder))
                found.setdefault("20 interpreters, plain array", []).append(plain_array(Path(folder)))
        print({name: round(times[-1], 2) for name, times in found.items()}, flush=True)
    middle: dict[str, Any] = {name: statistics.median(times) for name, times in found.items()}
    start = middle["start of an interpreter"]
    for what in ("move", "recode"):
        local = middle[f"{what}, local"]
        middle[f"{what}: subprocess without one start, over local"] = (
            middle[f"{what}, subprocess"] - start
        ) / local
        if args.slurm:
            allowed = 1.4 * local + start
            middle[f"{what}: Slurm beyond 1.4 times local and one start, seconds"] = (
                middle[f"{what}, slurm"] - allowed
            )
    if args.slurm:
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
