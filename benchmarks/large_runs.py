"""What a run of very many blocks costs: a worker's start, the submitter, a look.

    python benchmarks/large_runs.py [--out FILE]

10⁷ scattered blocks for 10⁴ tasks: what the submitter needs to begin the round, and what a worker does in the run folder until its first block
is done, counted with strace. 10⁹ neighbours: the journals of 1,000 tasks, and how long a look at them takes. Each part is a process of
its own, so that its memory can be told: the most that it had, less what the interpreter and its imports have.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

COMMON = """
import resource, sys, time
import numpy as np
from pathlib import Path
from bioimage_py.geometry import IdSet
from bioimage_py.runner import RunnerConfig, Resources, new_run_folder
from bioimage_py.runner import begin_round
from bioimage_py.runner.run import AttemptJournal, RunFolder, StatusReader, read_recorded
from bioimage_py.runner import run_task
from bioimage_py.runner.work import ItemFunctionWork
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
root = sys.argv[1]
before, began = peak(), time.perf_counter()
"""
SUBMIT = (
    COMMON
    + """
ids = IdSet.from_arrays(*(np.arange(0, 2 * 10**7, 2) + shift for shift in (0, 1)))
work = ItemFunctionWork(abs, ids, False)
folder = new_run_folder(work, "subprocess", RunnerConfig(tmp_root=root), 1000, Resources(), 0)
begin_round(folder, work, ids, IdSet(), RunnerConfig(tasks_per_worker=5), 1000, {"memory": 1.0, "time": 1.0})
print(folder.path, peak() - before, time.perf_counter() - began)
"""
)
WORK = (
    COMMON
    + """
import threading
stop = threading.Event()
from bioimage_py.runner.run import Claims
take = Claims.take
def once(self, stopping):
    claim = take(self, stopping)
    Claims.take = lambda *_: None
    return claim
Claims.take = once
run_task(root, 0, 7)
print(peak() - before, time.perf_counter() - began)
"""
)
RESUME = (
    COMMON
    + """
folder = RunFolder.open(root)
run = folder.read_run()
ids = folder.stored_ids(run["work"]["block_ids"])
missing = ids - read_recorded(folder).done
print(len(missing), peak() - before, time.perf_counter() - began)
"""
)
NEIGHBOURS = (
    COMMON
    + """
n, tasks = 10**9, 1000
folder = RunFolder.make(Path(root))
folder.write_run({"created": 0, "job_type": "slurm", "num_workers": tasks, "bytes": 0, "work": {"kind": "map", "block_ids": [[0, n]]}})
folder.appear()
work = ItemFunctionWork(abs, IdSet.from_range(n), False)
begin_round(folder, work, work.block_ids, IdSet(), RunnerConfig(), tasks, {"memory": 1.0, "time": 1.0})
for task, part in enumerate(IdSet.from_range(n).split(tasks)):
    journal = AttemptJournal(folder, 0, task, beat=1e6)
    first, end = part.runs[0]
    for at in range(first, end, 5000):
        journal.done(range(at, min(end, at + 5000)))
    journal.end("finished")
size = sum(path.stat().st_size for path in folder.path.rglob("*") if path.is_file())
before, began = peak(), time.perf_counter()
reader = StatusReader(folder)
first = reader.look()
looked, began = time.perf_counter() - began, time.perf_counter()
reader.look()
assert first.blocks_done == n
print(size, looked, time.perf_counter() - began)
"""
)


def run(code: str, where: Path, *command: str) -> list[str]:
    done = subprocess.run(
        [*command, sys.executable, "-c", code, str(where)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return done.stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root, trace = Path(place), Path(place) / "trace"
        path, memory, seconds = run(SUBMIT, root)
        print(f"submitter, 10⁷ scattered blocks: {float(seconds):.1f} s, {float(memory):.0f} MiB")
        calls = "trace=%file,read,pread64,write,pwrite64,getdents64,mkdir"
        worker = run(WORK, Path(path), "strace", "-f", "-y", "-e", calls, "-o", str(trace))
        lines = [line for line in trace.read_text().splitlines() if Path(path).name in line]
        first = next(n for n, line in enumerate(lines) if "pwrite64" in line and ".blocks" in line)
        # What is asked of an open file, and not of its name, is answered without the disk.
        lines = [line for line in lines[:first] if "AT_EMPTY_PATH" not in line]
        n_read = sum(
            int(found[1])
            for line in lines
            if re.search(r"\bp?read", line) and (found := re.search(r"= (\d+)$", line))
        )
        kinds = [found[1] for line in lines if (found := re.match(r"\d+ +(\w+)\(", line))]
        names = [kind for kind in kinds if kind not in ("read", "pread64", "write", "pwrite64")]
        print(
            f"a worker until its first block is done: {len(names)} operations on names, {len(kinds)} in all, {n_read:,} bytes read, {float(worker[0]):.0f} MiB"
        )
        left, memory, seconds = run(RESUME, Path(path))
        print(f"resume, {int(left):,} missing: {float(seconds):.1f} s, {float(memory):.0f} MiB")
    with tempfile.TemporaryDirectory() as place:
        size, first, again = run(NEIGHBOURS, Path(place))
        print(
            f"10⁹ neighbours of 1,000 tasks: {int(size) / 1e6:.1f} MB, first look {float(first):.2f} s, the next {float(again):.2f} s"
        )
    if args.out:
        args.out.write_text(
            json.dumps({"worker": [len(names), n_read], "journal": int(size), "look": float(first)}) + "\n"
        )


if __name__ == "__main__":
    main()
