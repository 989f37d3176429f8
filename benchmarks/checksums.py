"""What checksums cost: copies of one array into Zarr v3 with and without them, in rounds that take turns.

`python benchmarks/checksums.py [--edge 512] [--rounds 7] [--workers 2]` prints one line per codec, and writes `results/checksums.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from data import volume
from run import CACHE, HERE, machine

import bioimage_py as bp

LZ4 = {"name": "blosc", "level": 1, "cname": "lz4", "shuffle": "shuffle"}
CODECS: dict[str, tuple[dict[str, Any], str]] = {
    "blosc lz4 + crc32c": (LZ4, "crc32c"),
    "blosc zstd + crc32c": ({"name": "blosc", "level": 1}, "crc32c"),
    "zstd + checksum": ({"name": "zstd", "level": 1}, "checksum"),
    "zstd + crc32c": ({"name": "zstd", "level": 1}, "crc32c"),
    "none + crc32c": ({"name": "none"}, "crc32c"),
}


def seconds(voxels: Any, out: str, codec: dict[str, Any], workers: int) -> tuple[float, float]:
    """Return how long a copy took, and its processor time, which other programs disturb less."""
    os.sync()
    began, used = time.perf_counter(), time.process_time()
    bp.copy(voxels, out, codec=codec, chunks=(64, 64, 64), num_workers=workers, axes="zyx").close()
    return time.perf_counter() - began, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    voxels = np.array(volume(args.edge, CACHE / "data"))
    found: dict[str, Any] = {
        "edge": args.edge,
        "workers": args.workers,
        "machine": machine(None),
        "seconds": {},
    }
    for name, (codec, checksum) in CODECS.items():
        # Removing trees between runs makes the files of the next one slower on some file systems.
        with tempfile.TemporaryDirectory() as folder:
            times: list[list[tuple[float, float]]] = [[], []]
            for number in range(args.rounds + 1):
                for summed in (number % 2, 1 - number % 2):
                    how = {**codec, checksum: True} if summed else codec
                    took = seconds(voxels, f"{folder}/{number}_{summed}.zarr", how, args.workers)
                    times[summed].extend([took] if number else [])
        found["seconds"][name] = {"without": times[0], "with": times[1]}
        plain, with_sum = ([statistics.median(column) for column in zip(*one, strict=True)] for one in times)
        print(
            f"{name:20} without {plain[0]:6.3f} s ({plain[1]:.3f} of the processor)  with {with_sum[0]:6.3f} s "
            f"({with_sum[1]:.3f})  ratio {with_sum[0] / plain[0]:.3f} ({with_sum[1] / plain[1]:.3f})",
            flush=True,
        )
    Path(HERE / "results" / "checksums.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
