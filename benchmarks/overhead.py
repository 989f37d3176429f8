"""Measure what the runner and the planner cost by themselves.

    python benchmarks/overhead.py [--out FOLDER]

A kernel that does nothing over 100,000 blocks, in microseconds a block; the plan of a copy of 10⁹ blocks, whose
arrays are metadata only, in seconds and resident memory; and what is done with sets of 10⁷ scattered block ids.
"""

from __future__ import annotations

import argparse
import json
import operator
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data import zarr_array
from measure import peak_resident_bytes

HERE = Path(__file__).resolve().parent
SIDE = 1000


def nothing(block: Any, inputs: Any, outputs: Any, mask: Any) -> None:
    """Do nothing with a block."""


def empty_kernel() -> dict[str, float]:
    import bioimage_py as bp

    voxels = np.broadcast_to(np.uint8(0), (1000, 1000, 100))
    runner = bp.get_runner("local")
    result = {}
    for workers in (1, 2):
        start = time.perf_counter()
        runner.run(nothing, [voxels], block_shape=(10, 10, 10), num_workers=workers)
        result[f"{workers} workers, µs per block"] = (time.perf_counter() - start) / 1e5 * 1e6
    return result


def huge_plan() -> dict[str, float]:
    import bioimage_py as bp

    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.zarr", "b.zarr"):
            zarr_array(Path(folder) / name, SIDE * 64, (64, 64, 64))
        before = peak_resident_bytes()
        source, target = bp.open_source(f"{folder}/a.zarr"), bp.open_source(f"{folder}/b.zarr", mode="r+")
        start = time.perf_counter()
        text = str(bp.plan(source, target, block_shape=(64, 64, 64), num_workers=2))
        planned = time.perf_counter() - start
        peak = peak_resident_bytes()
        print(text, file=sys.stderr)
        start = time.perf_counter()
        bp.copy(source, target, block_shape=(64, 64, 64), num_workers=2, block_ids=range(5))
        five = time.perf_counter() - start
    return {
        "plan, seconds": planned,
        "plan, resident MiB in all": peak / 2**20,
        "plan, MiB before": before / 2**20,
        "copy of 5 of 10⁹ blocks, seconds": five,
    }


def scattered_ids(n: int = 10**7) -> dict[str, float]:
    from bioimage_py.geometry import Blocking, IdSet
    from bioimage_py.runner.work import BlockGroups

    def measure(what: str, call: Callable[..., Any], *args: Any) -> Any:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        start = time.perf_counter()
        found = call(*args)
        result[f"10⁷ ids, {what}, seconds"] = time.perf_counter() - start
        result[f"10⁷ ids, {what}, resident MiB in all"] = peak_resident_bytes() / 2**20
        return found

    result: dict[str, float] = {}
    order = np.random.default_rng(0).permutation(n) * 2
    ids = measure("from random order", IdSet.from_ids, order)
    half = IdSet.from_ids(order[: n // 2])
    del order
    measure("minus half of them", operator.sub, ids, half)
    measure("or half of them", operator.or_, ids, half)
    del half
    measure("in 10⁴ parts", ids.split, 10**4)
    data = measure("to bytes", ids.to_bytes)
    measure("from bytes", IdSet.from_bytes, data)
    del data
    blocking = Blocking((300,) * 3, (1,) * 3)
    groups = BlockGroups(blocking, (4,) * 3)
    measure("groups of 4³ blocks", groups.group_ids, ids)
    del ids
    undone = IdSet.from_range(blocking.n_blocks) - IdSet.from_ids([n])
    measure("groups of all blocks but one", groups.group_ids, undone)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        print(json.dumps(PARTS[args.part]()))
        return
    results: dict[str, float] = {}
    for part in PARTS:
        ran = subprocess.run(
            [sys.executable, __file__, "--part", part], stdout=subprocess.PIPE, text=True, check=True
        )
        results.update(json.loads(ran.stdout.splitlines()[-1]))
    for what, value in results.items():
        print(f"{what}: {value:.3g}")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "overhead.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


PARTS = {"kernel": empty_kernel, "plan": huge_plan, "ids": scattered_ids}


if __name__ == "__main__":
    main()
