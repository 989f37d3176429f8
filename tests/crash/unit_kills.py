"""Kills in the middle of large blocks, and which write units are written again: `python -m tests.crash.unit_kills --runs 20 --seed 0`.

Each run copies two blocks of many units, on two threads or in two processes. With `--limit` it has a limit on the time of its tasks instead, which
is a tenth of what a block takes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

import bioimage_py as bp
from tests.waiting import PATIENCE, eventually, slowed

PROGRAM = """
import json, sys
import bioimage_py as bp
source, output, job_type, options, config = json.loads(sys.argv[1])
bp.copy(source, output, job_type=job_type, num_workers=2, job_config=bp.RunnerConfig(**config), **options)
"""
RESUME = "import sys, bioimage_py as bp; bp.resume(sys.argv[1])"


class Road(NamedTuple):
    """What is copied, and how."""

    options: dict[str, Any]
    units: int  # in each of the two blocks
    seconds: float  # that a unit takes at least
    run: int  # the most units that are recorded together


# Chunks are recorded after a second at the latest.
ROADS = {
    "verbatim": Road({"chunks": (8, 8)}, 400, 0.006, 168),
    "repack": Road({"chunks": (8, 8), "shards": (16, 16)}, 100, 0.015, 1),
}
SHAPE, BLOCK = (320, 160), (160, 160)


class UnitRun:
    """A run that is killed again and again.

    Parameters
    ----------
    folder
        An empty folder.
    road, job_type, seed
        What is run, and where chance begins.
    slower
        How many times longer each unit takes.
    config
        More settings of the backend.
    """

    def __init__(
        self, folder: Path, road: str, job_type: str, seed: str, *, slower: float = 1.0, **config: Any
    ) -> None:
        self.road, self.job_type, self.chance = ROADS[road], job_type, random.Random(seed)
        self.input, self.output, self.runs = folder / "in.zarr", folder / "out.zarr", folder / "runs"
        self.marks, self.log = folder / "marks", folder / "log"
        self.marks.mkdir()
        self.image = np.random.default_rng(0).integers(1, 60_000, SHAPE).astype("uint16")
        bp.copy(self.image, self.input, chunks=(8, 8))
        plan = bp.plan(self.input, self.output, block_shape=BLOCK, **self.road.options)
        assert plan.road == road
        self.most_again = 0  # how many units may have been written again
        self._environment = slowed(self.output / "c", self.marks, slower * self.road.seconds)
        config = {"tmp_root": str(self.runs), "poll_interval": 0.1, "tasks_per_worker": 1, **config}
        options = {**self.road.options, "block_shape": BLOCK}
        self._start(PROGRAM, json.dumps([str(self.input), str(self.output), job_type, options, config]))

    def _start(self, program: str, argument: str) -> None:
        self._begun = self.written()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, argument],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def resume(self) -> None:
        """Begin to finish the run in another process."""
        (folder,) = self.runs.iterdir()
        self._start(RESUME, str(folder))

    def written(self) -> Counter[str]:
        """Return how often each unit was written, or was about to be when its writer died."""
        return Counter(
            name for file in self.marks.iterdir() for name in file.read_bytes().decode().splitlines()
        )

    def again(self) -> int:
        """Return how many writes were not the first of their unit."""
        return self.written().total() - len(self.written())

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes that have written something, whoever their parent is now."""
        found = []
        for file in self.marks.iterdir():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(int(file.name))
                if "bioimage_py.runner.worker" in process.cmdline() and file.stat().st_size:
                    found.append(process)
        return found

    def bad_moment(self) -> bool:
        """Wait until so many more units are written; return whether the run is still at work."""
        n = self.written().total() + self.chance.randrange(1, self.road.units // 2)
        eventually(lambda: self.process.poll() is not None or self.written().total() >= n, self.printed)
        return self.process.poll() is None

    def strike(self, victim: str, sent: signal.Signals) -> None:
        """Send a signal to a worker, or to everything."""
        if victim == "a worker":
            eventually(lambda: self.workers() or self.process.poll() is not None, self.printed)
            threads = 1
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                self.chance.choice(self.workers()).send_signal(sent)
        else:
            threads = 2
            for process in [psutil.Process(self.process.pid), *self.workers()]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(sent)
            self.process.wait(PATIENCE)
            eventually(lambda: not self.workers(), self.printed)
        # A worker that is told to stop finishes the unit in hand; one that is interrupted has little time for that.
        self.most_again += 0 if sent == signal.SIGTERM else threads * self.road.run

    def check(self) -> None:
        """Wait for the end, and check that all is right and that little was written again."""
        assert self.process.wait(PATIENCE) == 0, self.printed()
        np.testing.assert_array_equal(bp.open_source(self.output)[...], self.image)
        assert len(self.written()) == 2 * self.road.units
        assert self.again() <= self.most_again
        assert not list(self.runs.iterdir())

    def printed(self) -> str:
        """Return what the processes said."""
        return self.log.read_text(errors="replace")

    def close(self) -> None:
        """End whatever still runs."""
        for process in [*self.workers(), self.process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()


def killed(run: UnitRun, kills: int) -> list[str]:
    """Kill a run so often, finish it, and return what was done to it."""
    done = []
    for n in range(kills):
        if not run.bad_moment():
            break
        if run.job_type == "subprocess" and n % 3 < 2:
            victim, sent = "a worker", run.chance.choice([signal.SIGKILL, signal.SIGTERM])
        else:
            victim, sent = "everything", signal.SIGKILL
            if run.job_type == "local":
                sent = run.chance.choice([signal.SIGKILL, signal.SIGINT])
        run.strike(victim, sent)
        done.append(f"{sent.name} to {victim}")
        if victim == "everything":
            run.resume()
    run.check()
    return done


def limited(folder: Path, road: str, seconds: float) -> str:
    """Run with a limit on the time of a task that is a tenth of what a block takes; return what happened."""
    block = ROADS[road].units * ROADS[road].seconds
    run = UnitRun(
        folder,
        road,
        "subprocess",
        "",
        slower=10 * seconds / block,
        task_timeout=seconds,
        keep_run_folder=True,
    )
    try:
        assert run.process.wait(3 * PATIENCE) == 0, run.printed()
        np.testing.assert_array_equal(bp.open_source(run.output)[...], run.image)
        each = [
            file.read_bytes().count(b"\n")
            for file in sorted(run.marks.iterdir(), key=lambda f: f.stat().st_mtime)
        ]
    finally:
        run.close()
    return f"limit {seconds:g} s, blocks of {10 * seconds:g} s: units of each attempt {[n for n in each if n]}, {run.again()} written again"


def main() -> None:
    """Kill runs, or limit them, and say how many units were written again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=5, help="of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, metavar="SECONDS")
    given = parser.parse_args()
    if given.limit:
        for road in ROADS:
            with tempfile.TemporaryDirectory(prefix="units-") as folder:
                print(road, limited(Path(folder).resolve(), road, given.limit), flush=True)
        return
    pairs = itertools.cycle(itertools.product(ROADS, ("subprocess", "local")))
    total = Counter[str]()
    for n, (road, job_type) in zip(range(given.runs), pairs, strict=False):
        with tempfile.TemporaryDirectory(prefix="units-") as folder:
            run = UnitRun(Path(folder).resolve(), road, job_type, f"{given.seed} {n}", keep_run_folder=False)
            began = time.monotonic()
            try:
                done = killed(run, given.kills)
            finally:
                run.close()
            print(
                f"{n} {road} {job_type}: {', '.join(done)}; {run.again()} of {2 * run.road.units} units written again, at most {run.most_again}; {time.monotonic() - began:.0f} s",
                flush=True,
            )
            total[f"{road}: kills"] += len(done)
            total[f"{road}: written again"] += run.again()
    print(dict(total))


if __name__ == "__main__":
    main()
