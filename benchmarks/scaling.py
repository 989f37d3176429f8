"""Time and memory against size, 64 MiB to 8 GiB, and what that says of 10 TB and 1 PB.

    python benchmarks/scaling.py [--rounds N] [--largest GIB] [--out FOLDER] [--quick]

Each size is an array of its own (64·k × 512 × 1024 uint16 in zstd chunks of 64³, files of their own). Two copies: the
default call with two workers, which moves chunks, and the same into blosc-lz4, which decodes and encodes. Each copy is in a
process of its own that warms up on a small volume; sizes take turns. A straight line through the medians gives the seconds
for a GiB, and the largest deviation from it says whether it is one. Results go to `scaling.json` and `scaling.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from road_inputs import grid, linked_array
from road_rows import LZ4
from road_table import machine_text, seconds_text
from roads import CACHE, HERE, Engine
from run import machine

MIB = 2**20
SIZES = (64, 256, 1024, 2048, 4096, 8192)
PLANE = (512, 1024)
WAYS: dict[str, dict[str, Any]] = {
    "move": {"num_workers": 2},
    "recode": {"num_workers": 2, "codec": LZ4},
}
TITLES = {"move": "encoded chunks moved", "recode": "decoded, and encoded as blosc-lz4"}
TB, PB = 1e12, 1e15
NODES = 100
RECORD = 16
"""Bytes that a run folder holds for each block."""


def shape_of(mebibytes: int) -> tuple[int, int, int]:
    return (mebibytes * MIB // (2 * PLANE[0] * PLANE[1]), *PLANE)


def stored(mebibytes: int) -> Path:
    """Return the array of a size, made on first use."""
    path = CACHE / f"scaling-{mebibytes}.zarr"
    done = path.with_suffix(".done")
    if not done.exists():
        shutil.rmtree(path, ignore_errors=True)
        linked_array(path, shape_of(mebibytes), grid(shape_of(mebibytes)), CACHE, copies=True)
        done.write_text("")
    return path


def copied(mebibytes: int, options: dict[str, Any]) -> dict[str, Any]:
    """Copy one size in a new process, warmed up by the smallest."""
    engine = Engine("ours")
    folder = Path(tempfile.mkdtemp(prefix="scaling-", dir=CACHE))
    try:
        for number, size in enumerate((SIZES[0], mebibytes)):
            out = folder / f"{number}.zarr"
            job = {"source": str(stored(size)), "key": None, "out": str(out), "mask": None, "ours": options}
            answer = engine.copy(job)
        return answer
    finally:
        engine.close()
        shutil.rmtree(folder)


def measured(sizes: list[int], rounds: int) -> dict[str, Any]:
    runs: dict[str, dict[int, list[dict[str, Any]]]] = {way: {s: [] for s in sizes} for way in WAYS}
    for size in sizes:
        for path in stored(size).rglob("*"):
            if path.is_file():
                path.read_bytes()
    for number in range(rounds):
        for way, options in WAYS.items():
            for size in sizes if number % 2 == 0 else sizes[::-1]:
                runs[way][size].append(copied(size, options))
                print(f"{way}, {size} MiB: {runs[way][size][-1]['seconds']:.2f} s", flush=True)
    return {way: {str(size): summary(some) for size, some in by.items()} for way, by in runs.items()}


def summary(some: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = [run["seconds"] for run in some]
    peak = max(run["peak_bytes"] for run in some)
    return {"median": statistics.median(seconds), "seconds": seconds, "peak_bytes": peak}


def line(by_size: dict[str, Any]) -> dict[str, float]:
    """Return seconds for a GiB, seconds at the start, and the largest deviation from the line as part of the time.

    Sizes span two orders of magnitude, so each deviation counts relative to the time: the line of least squares would
    be that of the largest size alone.
    """
    size = np.array([int(mebibytes) / 1024 for mebibytes in by_size])
    time = np.array([run["median"] for run in by_size.values()])
    weight = 1 / time
    (slope, start), *_ = np.linalg.lstsq(
        np.stack([size, np.ones_like(size)], 1) * weight[:, None], time * weight
    )
    fitted = slope * size + start
    spread = (
        float(np.abs(fitted - time).max() / 1) if len(size) < 3 else float(np.abs(fitted / time - 1).max())
    )
    return {"seconds_per_gib": float(slope), "seconds_at_start": float(start), "largest_deviation": spread}


def report(facts: dict[str, Any]) -> str:
    """Return the tables and what follows from them, as markdown."""
    sizes = list(next(iter(facts["ways"].values())))
    lines = [
        f"| copy | {' | '.join(size_text(int(s)) for s in sizes)} | seconds for a GiB | largest deviation from a line |",
        f"| --- |{' ---: |' * (len(sizes) + 2)}",
    ]
    for way, by_size in facts["ways"].items():
        fit = facts["lines"][way]
        times = " | ".join(seconds_text(run["median"]) for run in by_size.values())
        lines.append(
            f"| {TITLES[way]}, seconds | {times} | {fit['seconds_per_gib']:.2f} | {100 * fit['largest_deviation']:.0f} % |"
        )
        peaks = " | ".join(f"{run['peak_bytes'] / MIB:.0f}" for run in by_size.values())
        lines.append(f"| the same, largest resident set in MiB | {peaks} | | |")
    busy = " The machine was busy with other work: the figures are rough." if facts["load"] > 1.5 else ""
    lines += [
        "",
        f"{machine_text(facts['machine'])} Medians of {facts['rounds']} rounds, two workers, warm page cache.{busy}",
        "",
        *extrapolation(facts),
    ]
    return "\n".join(lines) + "\n"


def size_text(mebibytes: int) -> str:
    return f"{mebibytes // 1024} GiB" if mebibytes >= 1024 else f"{mebibytes} MiB"


def hours_text(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 2 * 86400 else f"{seconds / 86400:.1f} days"


def extrapolation(facts: dict[str, Any]) -> list[str]:
    """Return what the lines say of 10 TB on this machine, and of 1 PB on many like it, and what that rests on."""
    lines = [
        f"| copy | voxels in GB/s | 10 TB on this node | 1 PB on {NODES} such nodes | storage has to give and take |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for way, fit in facts["lines"].items():
        per_byte = fit["seconds_per_gib"] / 2**30
        times = f"{hours_text(10 * TB * per_byte)} | {hours_text(PB * per_byte / NODES)}"
        lines.append(
            f"| {TITLES[way]} | {1e-9 / per_byte:.2f} | {times} | {1e-9 * NODES / per_byte:.0f} GB/s each |"
        )
    n_blocks = PB / facts["block_bytes"]
    hour = 3600 / (facts["lines"]["recode"]["seconds_per_gib"] / 2**30) / facts["block_bytes"]
    text = (
        f"It rests on the seconds for a GiB above, on blocks of {facts['block_bytes'] / MIB:.0f} MiB, and on storage that keeps up "
        "with the last column, in voxels before compression. A disk that gives less decides the time alone: divide the bytes by "
        f"its rate. 1 PB is {n_blocks / 1e6:.1f} million blocks, whose records take {RECORD * n_blocks / 1e6:.0f} MB of the run "
        f"folder. Tasks of an hour are {hour:,.0f} blocks each, {n_blocks / hour:,.0f} tasks in all"
    )
    if facts["start_seconds"] is not None:
        share = facts["start_seconds"] / 3600
        text += (
            f"; the start of one costs {facts['start_seconds']:.1f} s beside it, {100 * share:.2f} % of the time "
            "(measured by `benchmarks/backends.py`)"
        )
    return [*lines, "", text + ". Nodes share nothing but the storage."]


def block_bytes(mebibytes: int) -> int:
    """Return the bytes of a planned block of the copy that encodes."""
    import bioimage_py as bp

    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        plan = bp.plan(str(stored(mebibytes)), f"{folder}/out.zarr", **WAYS["recode"])
    return math.prod(plan.block_shape) * 2


def start_seconds() -> float | None:
    """Return what starting one task on Slurm took, interpreter included, where that has been measured."""
    path = HERE / "results" / "backends.json"
    if not path.exists():
        return None
    found: float | None = json.loads(path.read_text())["medians"].get("20 empty tasks")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--largest", type=int, default=8, help="the largest size in GiB")
    parser.add_argument("--quick", action="store_true", help="up to 1 GiB, one round")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    sizes = [s for s in SIZES if s <= (1024 if args.quick else args.largest * 1024)]
    CACHE.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    rounds = 1 if args.quick else args.rounds
    found = measured(sizes, rounds)
    facts = {
        "machine": machine(None),
        "load": load,
        "rounds": rounds,
        "ways": found,
        "block_bytes": block_bytes(sizes[-1]),
        "start_seconds": start_seconds(),
        "lines": {way: line(by_size) for way, by_size in found.items()},
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "scaling.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    (args.out / "scaling.md").write_text(report(facts))
    print(report(facts))


if __name__ == "__main__":
    main()
