"""Measure resampling: copies through `downsample`, and wrappers of arrays in memory beside SciPy.

    python benchmarks/resampling.py [--edge N] [--repeats N] [--out FOLDER] [--before SRC]

Copies are from Zarr 64³ into Zarr 64³ by two workers, each in a process of its own that times the call alone. Wrappers and SciPy compute the
same from one array, one after the other on one thread, and are compared: processor time per voxel of the result. `--before` is the
folder `src` of another version of this package, which takes turns.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data import prepare
from run import CACHE, HERE, machine

COPIES: dict[str, dict[str, Any]] = {
    "mean": {"method": "mean"},
    "order 1, anti-aliasing": {"order": 1, "anti_aliasing": True},
    "order 3": {"order": 3},
}
TIMED = """
import json, os, sys, time
import bioimage_py as bp
source, small, out, how = sys.argv[1:]
how = json.loads(how)
bp.downsample(bp.open_source(small), 2, out + "/warm.zarr", num_workers=2, **how)
os.sync()
start = time.perf_counter()
bp.downsample(bp.open_source(source), 2, out + "/out.zarr", num_workers=2, **how)
print(time.perf_counter() - start)
"""
ARRAY_EDGE = 160
TURN = ((0.99, 0.1, 0.02, 3), (-0.1, 0.98, 0.03, 8), (0.01, -0.02, 0.97, 2))


def copied(src: Path, edge: int, how: dict[str, Any]) -> float:
    source, small = (prepare("cubes.zarr", n, CACHE / "data") for n in (edge, 64))
    out = tempfile.mkdtemp(prefix="resampling-", dir=CACHE / "data")
    try:
        command = [sys.executable, "-c", TIMED, source, small, out, json.dumps(how)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(src)}
        )
        return float(done.stdout)
    finally:
        shutil.rmtree(out)


def rows(edge: int) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Return what is computed by ours and by SciPy."""
    from scipy import ndimage

    from bioimage_py.wrapper import AffineSource, ResizedSource

    image = np.random.default_rng(0).integers(0, 4000, (edge,) * 3).astype("uint16")
    half = np.ascontiguousarray(image[: edge // 2, : edge // 2, : edge // 2])
    found: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {}
    for order in range(4):
        for name, array, n in (("half", image, edge // 2), ("twice", half, edge)):
            zoom = {"grid_mode": True, "mode": "mirror", "order": order, "output": "float64"}
            found[f"{name} the size, order {order}"] = (
                lambda array=array, n=n, order=order: ResizedSource(array, (n,) * 3, order)[...],
                lambda array=array, n=n, zoom=zoom: ndimage.zoom(array, n / len(array), **zoom),
            )
    for order in (0, 1, 3):
        found[f"affine, order {order}"] = (
            lambda order=order: AffineSource(image, affine_matrix=TURN, order=order)[...],
            lambda order=order: ndimage.affine_transform(
                image, np.array(TURN)[:, :3], np.array(TURN)[:, 3], order=order
            ),
        )
    return found


def per_voxel(edge: int, repeats: int) -> dict[str, dict[str, float]]:
    """Return nanoseconds of processor time for a voxel of the result, and the largest difference."""
    from threadpoolctl import threadpool_limits

    table = {}
    with threadpool_limits(1):
        for name, both in rows(edge).items():
            ours, theirs = (call() for call in both)
            if "order 0" not in name:  # voxels between two are taken from either side
                apart = np.abs(np.rint(theirs).clip(0) - ours.astype("float64"))[1:-1, 1:-1, 1:-1].max()
                if apart > 1:
                    raise SystemExit(f"{name}: voxels differ by {apart}")
            runs: list[list[float]] = [[], []]
            for _ in range(repeats):
                for call, taken in zip(both, runs, strict=True):
                    start = time.process_time()
                    call()
                    taken.append((time.process_time() - start) / ours.size * 1e9)
            table[name] = dict(zip(("ours", "scipy"), map(statistics.median, runs), strict=True))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--edge", type=int, default=512, help="of the volume that is copied; wrappers take half"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, default=HERE / "results", help="folder for resampling.json and .md"
    )
    parser.add_argument("--before", type=Path, help="src of another version")
    args = parser.parse_args()
    sources = {"ours": HERE.parent / "src"} | ({"before": args.before} if args.before else {})
    runs: dict[str, dict[str, list[float]]] = {name: {which: [] for which in sources} for name in COPIES}
    for _ in range(args.repeats):
        for name, how in COPIES.items():
            for which, src in sources.items():
                runs[name][which].append(copied(src, args.edge, how))
    seconds = {
        name: {which: statistics.median(t) for which, t in found.items()} for name, found in runs.items()
    }
    voxels = per_voxel(ARRAY_EDGE, args.repeats)
    head = ["work", *sources, *(["times faster"] if args.before else [])]
    text = [f"| {args.edge}³ uint16 made half as large, seconds |" + "".join(f" {one} |" for one in head[1:]), "| --- |" + " ---: |" * (len(head) - 1)]  # fmt: skip
    for name, found in seconds.items():
        more = [f"{found['before'] / found['ours']:.1f}"] if args.before else []
        text.append("| " + " | ".join([name, *(f"{t:.2f}" for t in found.values()), *more]) + " |")
    text += [
        "",
        "| nanoseconds of one processor for a voxel | ours | SciPy | times faster |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, found in voxels.items():
        text.append(
            f"| {name} | {found['ours']:.1f} | {found['scipy']:.1f} | {found['scipy'] / found['ours']:.1f} |"
        )
    facts = {"edge": args.edge, "machine": machine(None), "seconds": runs, "nanoseconds": voxels}
    if os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1):
        text += ["", "The machine was busy with other work: seconds are many times those of a quiet one, only the rows beside each other tell something."]  # fmt: skip
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "resampling.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    (args.out / "resampling.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
