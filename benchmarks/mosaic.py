"""A mosaic of TIFF tiles beside a plain loop that reads each tile with tifffile and writes it, in rounds that take turns.

`python benchmarks/mosaic.py [--tiles 10] [--depth 10] [--edge 1024] [--rounds 3]` prints a line for each output and overlap, and the most memory that a copy
in a process of its own takes under `memory_limit="256MiB"`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

import bioimage_py as bp

ALONE = """
import sys, bioimage_py as bp
bp.copy(bp.open_source(sys.argv[1], overlap=sys.argv[3]), sys.argv[2], num_workers=2, memory_limit="256MiB")
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def seconds(step: Callable[[], Any]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("tiles", 10), ("depth", 10), ("edge", 1024), ("share", 10), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--compression", choices=("zlib", "zstd"))
    parser.add_argument("--folder")
    parser.add_argument("--outputs", nargs="+", default=["out.npy", "out.zarr"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        pitch, places, rng = args.edge - args.edge * args.share // 100, [], np.random.default_rng(0)
        shape = (args.depth, args.edge, args.edge)
        voxels = rng.poisson(200, shape).astype("uint16")
        lines = ["file,x,y"]
        for n in range(args.tiles**2):
            y, x = (int(k * pitch + rng.integers(0, 9)) for k in divmod(n, args.tiles))
            places.append((y, x))
            tifffile.imwrite(
                folder / f"{n}.tif", voxels, compression=args.compression, metadata={"axes": "ZYX"}
            )
            lines.append(f"{n}.tif,{x},{y}")
        table = folder / "tiles.csv"
        table.write_text("\n".join(lines))
        low = np.min(places, axis=0)
        whole = bp.open_source(table)
        print(
            f"{len(places)} tiles of {shape}, {whole.nbytes / 2**30:.2f} GiB, {args.compression or 'not compressed'}"
        )

        def ours(out: str, overlap: str = "first") -> None:
            with bp.open_source(table, overlap=overlap) as source:
                bp.copy(source, folder / out, num_workers=2, overwrite=True)

        def loop(out: str) -> None:
            target: Any
            if out.endswith(".npy"):
                target = np.lib.format.open_memmap(folder / out, "w+", whole.dtype, whole.shape)
            else:
                import zarr

                target = zarr.create_array(
                    folder / out,
                    shape=whole.shape,
                    dtype=whole.dtype,
                    chunks=bp.open_source(folder / "out.zarr").chunks,
                    overwrite=True,
                )
            for n, (y, x) in reversed(list(enumerate(places - low))):
                target[:, y : y + args.edge, x : x + args.edge] = tifffile.imread(folder / f"{n}.tif")

        warnings.simplefilter("ignore", bp.errors.BioimagePyWarning)
        for out in args.outputs:
            times = []
            for _ in range(args.rounds):
                times.append((seconds(partial(ours, out)), seconds(partial(loop, f"loop{out}"))))
                assert bp.verify(folder / out, folder / f"loop{out}").equal if len(times) == 1 else True
            mine, other = (statistics.median(column) for column in zip(*times, strict=True))
            linear = seconds(partial(ours, out, "linear"))
            print(
                f"{out:9} copy {mine:6.2f} s  loop {other:6.2f} s  ratio {mine / other:.2f}  linear {linear:6.2f} s"
            )
        for overlap in ("first", "linear"):
            command = [sys.executable, "-c", ALONE, str(table), str(folder / f"{overlap}.zarr"), overlap]
            used = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
            print(f"{overlap:9} {int(used) / 1024:.0f} MiB at most under memory_limit='256MiB'")


if __name__ == "__main__":
    main()
