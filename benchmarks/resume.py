"""How soon a resume of a run of a million blocks begins, and how large its folder is: `python benchmarks/resume.py`.

The journals are written as workers write them. What is measured is `bioimage_py.resume` in an interpreter of its own with
one block missing, less an interpreter that only imports the package: the promise is two seconds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import bioimage_py as bp
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.kernels import CopyKernel
from bioimage_py.runner import FIRST_NEEDS, Resources, RunnerConfig, begin_round, new_run_folder
from bioimage_py.runner.run import AttemptJournal, BlockLog, RunFolder
from bioimage_py.runner.work import CopyWork

SIDE, CHUNK = 400, 4
N_BLOCKS = (SIDE // CHUNK) ** 3


def prepared(place: Path, job_type: str, order: str) -> RunFolder:
    """Return the folder of a copy in a million blocks, all recorded but one."""
    source, sink = (
        bp.create_output(place / f"{name}.zarr", shape=(SIDE,) * 3, dtype="uint8", chunks=(CHUNK,) * 3)
        for name in ("in", "out")
    )
    blocking = Blocking(source.shape, (CHUNK,) * 3)
    work = CopyWork(
        CopyKernel(source, sink, None, "unsafe"), blocking, (CHUNK,) * 3, IdSet.from_range(N_BLOCKS)
    )
    folder = new_run_folder(work, job_type, RunnerConfig(tmp_root=place / "runs"), 2, Resources(), 0)
    begin_round(folder, work, work.block_ids, IdSet(), RunnerConfig(), 1, FIRST_NEEDS)
    ids = np.arange(N_BLOCKS - 1)
    if order == "random":
        np.random.default_rng(0).shuffle(ids)
    AttemptJournal(folder, 0, 0).end("killed")
    (attempt,) = folder.attempts()
    attempt.blocks.unlink()
    log = BlockLog(attempt.blocks)
    for block_id in ids.tolist():
        log.add([(block_id, block_id + 1)])
    log.close()
    return folder


def seconds(code: str) -> float:
    """Return how long an interpreter takes to run some code."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job-type", default="local", choices=["local", "subprocess"])
    parser.add_argument("--order", default="random", choices=["random", "sorted"])
    given = parser.parse_args()
    bare = min(seconds("import bioimage_py.resume, bioimage_py.runner, numpy, tensorstore") for _ in range(3))
    with tempfile.TemporaryDirectory() as place:
        folder = prepared(Path(place), given.job_type, given.order)
        size = sum(p.stat().st_size for p in folder.path.rglob("*") if p.is_file())
        whole = seconds(f"import bioimage_py as bp; bp.resume({str(folder.path)!r})")
    print(
        f"{given.job_type}, {N_BLOCKS:,} blocks recorded in {given.order} order: folder {size / 1e6:.1f} MB, resume of the last block "
        f"{whole:.2f} s, of which an interpreter with its imports takes {bare:.2f} s"
    )


if __name__ == "__main__":
    main()
