"""How much later a run ends than it could when some workers are slow.

    python benchmarks/makespan.py [--rounds N] [--out FILE]

Two parts. A simulation of many workers, of which some have a quarter of the speed: portions that are claimed (`portion_sizes`), and the
same work in a fixed number of tasks per worker. And real worker processes: eight, of which two are stopped and continued (SIGSTOP,
SIGCONT) so that they run a quarter of the time, against the ideal: all work divided by the speed of all. Blocks wait, so that
the number of cores does not matter.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import os
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path

import bioimage_py as bp
from bioimage_py.runner import RunnerConfig, portion_sizes

SLOW = 0.25
STOPPED, RUNNING = 0.3, 0.1
"""Seconds: a quarter of the time."""


def simulated(sizes: list[int], speeds: list[float]) -> float:
    """Return when the last worker ends, in the time that one block takes at full speed, relative to the ideal."""
    free = [(0.0, n) for n in range(len(speeds))]
    heapq.heapify(free)
    for size in sizes:
        at, worker = heapq.heappop(free)
        heapq.heappush(free, (at + size / speeds[worker], worker))
    return max(at for at, _ in free) / (sum(sizes) / sum(speeds))


def simulation(n_workers: int, share_slow: float, blocks_each: int) -> dict[str, float]:
    n_slow = round(n_workers * share_slow)
    speeds = [SLOW] * n_slow + [1.0] * (n_workers - n_slow)
    n = n_workers * blocks_each
    return {
        "claimed": simulated(portion_sizes(n, n_workers, 4), speeds),
        "two tasks each": simulated([n // (2 * n_workers)] * 2 * n_workers, speeds),
        "four tasks each": simulated([n // (4 * n_workers)] * 4 * n_workers, speeds),
    }


def measured(n_workers: int, n_slow: int, n_blocks: int, folder: Path) -> float:
    """Return the seconds from the first block to the last, with some workers slowed down."""
    marks = str(folder)

    def block(item: int) -> None:
        del item
        with open(f"{marks}/{os.getpid()}", "a") as file:  # noqa: PTH123 - a worker has no pathlib yet
            file.write(f"{time.time()}\n")
        for _ in range(50):
            time.sleep(0.001)
        with open(f"{marks}/{os.getpid()}", "a") as file:  # noqa: PTH123
            file.write(f"{time.time()}\n")

    over = threading.Event()

    def slow_down() -> None:
        pids: list[int] = []
        while len(pids) < n_slow and not over.wait(0.01):
            pids = [int(path.name) for path in folder.iterdir()][:n_slow]
        while not over.is_set():
            for number, seconds in ((signal.SIGSTOP, STOPPED), (signal.SIGCONT, RUNNING)):
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                if over.wait(seconds):
                    break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    slowing = threading.Thread(target=slow_down)
    slowing.start()
    try:
        with tempfile.TemporaryDirectory() as runs:
            config = RunnerConfig(tmp_root=runs)
            bp.get_runner("subprocess", config).map(
                block, n_blocks, num_workers=n_workers, has_return_val=False
            )
    finally:
        over.set()
        slowing.join()
    times = [float(line) for path in folder.iterdir() for line in path.read_text().split()]
    return max(times) - min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found: dict[str, object] = {}
    for n_workers, share in ((40, 0.05), (200, 0.05), (1000, 0.05), (8, 0.25)):
        name = f"{n_workers} workers, {share:.0%} at a quarter of the speed"
        found[name] = simulation(n_workers, share, 100)
        print(name, {key: round(value, 2) for key, value in simulation(n_workers, share, 100).items()})
    ratios = []
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as even, tempfile.TemporaryDirectory() as uneven:
            alike = measured(8, 0, 640, Path(even))
            slowed = measured(8, 2, 640, Path(uneven))
        ratios.append(slowed / (alike * 8 / (6 + 2 * SLOW)))
        print(
            f"8 processes: {alike:.2f} s, two of them slowed down: {slowed:.2f} s, {ratios[-1]:.2f} of the ideal"
        )
    found["8 processes, 2 slowed down"] = statistics.median(ratios)
    print(f"median {statistics.median(ratios):.2f}")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
