"""One measurement in a process of its own: opens, copies, and prints one line of JSON.

It runs under the environment of the engine that it measures, so it imports nothing else of the benchmark but the
plain data in `workloads` and `data`. Imports, thread pools and code paths are warmed by the same copy of a tiny volume.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from data import fit, prepare, volume, zarr_array
from workloads import WORKLOADS, Workload

WARM_EDGE = 32


def run_ours(
    work: Workload, source: Path, mask: Path | None, output: Any, block: tuple[int, ...] | None
) -> None:
    import bioimage_py as bp

    opened = bp.open_source(source, work.key)
    bp.copy(
        opened, output, num_workers=2, block_shape=block, mask=None if mask is None else bp.open_source(mask)
    )


def run_peer(
    work: Workload, source: Path, mask: Path | None, output: Any, block: tuple[int, ...] | None
) -> None:
    import zarr

    import bioimage_py as bp

    def opened(path: Path) -> Any:
        if path.suffix == ".zarr":
            return zarr.open(str(path), mode="r")
        return bp.open_source(str(path), work.key)

    bp.copy(
        opened(source), output, block_shape=block, num_workers=2, mask=None if mask is None else opened(mask)
    )


def run_loop(
    work: Workload, source: Path, mask: Path | None, output: Any, block: tuple[int, ...] | None
) -> None:
    """Copy as one would by hand with TensorStore: two threads, one block after the other, nothing clever."""
    import tensorstore as ts

    del mask
    context = ts.Context({"data_copy_concurrency": {"limit": 2}, "file_io_sync": False})

    def opened(driver: str, path: Path) -> Any:
        spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}
        return ts.open(spec, open=True, context=context).result()

    n5 = source.suffix == ".n5"
    reader = opened("n5", source / str(work.key)).T if n5 else opened("zarr3", source)
    writer = opened("zarr3", Path(output.store.root))
    shape, step = reader.shape, block or work.chunks

    def copy_block(corner: tuple[int, ...]) -> None:
        at = tuple(slice(c, min(c + s, n)) for c, s, n in zip(corner, step, shape, strict=True))
        writer[at].write(reader[at].read().result()).result()

    grid = np.ndindex(*(-(-n // s) for n, s in zip(shape, step, strict=True)))
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(copy_block, [tuple(i * s for i, s in zip(at, step, strict=True)) for at in grid]):
            pass


ENGINES = {"ours": run_ours, "peer": run_peer, "loop": run_loop}


def timed(
    engine: str, work: Workload, edge: int, block: tuple[int, ...] | None, cache: Path, out: Path
) -> float:
    """Copy once into a new output and return the seconds of the call, opening included."""
    source = prepare(work.input, edge, cache)
    mask = None if work.mask is None else prepare(work.mask, edge, cache)
    output = zarr_array(out, edge, work.chunks, shards=work.shards)
    os.sync()
    start = time.perf_counter()
    ENGINES[engine](work, source, mask, output, None if block is None else fit(block, edge))
    return time.perf_counter() - start


def check(work: Workload, edge: int, cache: Path, out: Path) -> None:
    """Compare the output with the volume, voxel by voxel."""
    import zarr

    stored = zarr.open(str(out), mode="r")
    mask = None if work.mask is None else zarr.open(str(prepare(work.mask, edge, cache)), mode="r")
    vol = volume(edge, cache)
    for z in range(0, edge, 64):
        expected = np.asarray(vol[z : z + 64])
        if mask is not None:
            expected = np.where(mask[z : z + 64], expected, 0)
        if not np.array_equal(stored[z : z + 64], expected):
            raise SystemExit(f"the output of {work.title!r} differs from the input in planes {z} to {z + 64}")


def peak_resident_bytes() -> int:
    """Return the largest resident set of this process so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmHWM in /proc/self/status")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--block", help="block shape, as 64,512,512")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--check", action="store_true", help="compare the output afterwards")
    args = parser.parse_args()
    work = WORKLOADS[args.workload]
    block = tuple(int(n) for n in args.block.split(",")) if args.block else None
    scratch = Path(tempfile.mkdtemp(prefix="out-", dir=args.cache))
    try:
        timed(args.engine, work, WARM_EDGE, block, args.cache, scratch / "warm.zarr")
        seconds = timed(args.engine, work, args.edge, block, args.cache, scratch / "out.zarr")
        peak = peak_resident_bytes()
        if args.check:
            check(work, args.edge, args.cache, scratch / "out.zarr")
    finally:
        shutil.rmtree(scratch)
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
