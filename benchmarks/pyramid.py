"""Measure making a pyramid beside copying alone, and beside other programs that make one.

    python benchmarks/pyramid.py [--quick] [--repeats N] [--out FOLDER] [--peer-python PYTHON] [--rivals-python PYTHON]

Four levels of 512³ uint16, from Zarr 64³ into Zarr v3 64³ with zstd of another level, on two cores. Engines take turns on the same
input, each call in a process of its own that times the call alone; files are forced to the disk before. All of them reduce by
the mean of 2×2×2 voxels, or by what they have that comes nearest to it. What ours makes is compared with plain numpy once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from data import prepare, volume
from run import CACHE, HERE, machine, peer_python

RIVALS = ("ngff-zarr==0.50.0", "ome-zarr==0.18.0")

TIMED = """
import os, sys, time, warnings
warnings.simplefilter("ignore")
source, small, out = sys.argv[1:]
{program}
make(small, out + "/warm")
os.sync()
start = time.perf_counter()
make(source, out + "/out")
print(time.perf_counter() - start)
"""
OURS_COPY = """
import bioimage_py as bp
def make(source, out):
    bp.copy(bp.open_source(source), out + ".zarr", chunks=CHUNKS, codec="zstd:1", num_workers=2)
"""
OURS = """
import bioimage_py as bp
def make(source, out):
    bp.pyramid(bp.open_source(source), out + ".ome.zarr", levels=4, chunks=CHUNKS, codec="zstd:1", num_workers=2)
"""
PEER = """
import zarr
from zarr.codecs import ZstdCodec
import bioimage_py as bp
def made(out, level, shape):
    chunks = tuple(min(n, c) for n, c in zip(shape, CHUNKS))
    return zarr.create_array(
        f"{out}.zarr/{level}", shape=shape, chunks=chunks, dtype="uint16", compressors=ZstdCodec(level=1), fill_value=0
    )
def make(source, out):
    above = zarr.open(source, mode="r")
    for level in range(4):
        shape = tuple(-(-n // 2) for n in above.shape) if level else above.shape
        block = tuple(min(n, b) for n, b in zip(shape, (128, 128, 128)))
        array = made(out, level, shape)
        if level:
            bp.downsample(above, 2, array, order=1, block_shape=block, num_workers=2)
        else:
            bp.copy(above, array, block_shape=block, num_workers=2)
        above = array
"""
OME_ZARR = """
import dask, dask.array, zarr
from zarr.codecs import ZstdCodec
from ome_zarr.scale import Methods
from ome_zarr.writer import write_image
def make(source, out):
    with dask.config.set(scheduler="threads", num_workers=2):
        write_image(
            dask.array.from_zarr(source), zarr.open_group(out + ".zarr", mode="w", zarr_format=3), axes="zyx",
            scale_factors=[2, 4, 8], method=Methods.LOCAL_MEAN,
            storage_options={"chunks": CHUNKS, "compressors": [ZstdCodec(level=1)]},
        )
"""
NGFF_ZARR = """
import dask, dask.array, ngff_zarr
def make(source, out):
    with dask.config.set(scheduler="threads", num_workers=2):
        image = ngff_zarr.to_ngff_image(dask.array.from_zarr(source), dims=["z", "y", "x"])
        found = ngff_zarr.to_multiscales(
            image, scale_factors=[2, 4, 8], chunks=64, method=ngff_zarr.Methods.ITKWASM_BIN_SHRINK
        )
        ngff_zarr.to_ngff_zarr(out + ".zarr", found, version="0.5", chunks_per_shard=None)
"""


def rivals_python(given: Path | None) -> Path:
    """Return the Python of an environment with the other programs; without one, make it with pip."""
    if given is not None:
        return given
    folder = CACHE / "rivals"
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *RIVALS], check=True)
        (folder / ".ready").touch()
    return python


def seconds(python: Path, program: str, edge: int, *, check: bool = False) -> float:
    """Run a program in a new process and return the seconds that it printed."""
    source, small = (prepare("cubes.zarr", n, CACHE / "data") for n in (edge, 64))
    out = Path(tempfile.mkdtemp(prefix="pyramid-", dir=CACHE / "data"))
    chunks = f"CHUNKS = ({min(64, edge // 8)},) * 3\n"
    try:
        done = subprocess.run(
            [python, "-c", TIMED.format(program=chunks + program), source, small, out],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"a program failed:\n{program}\n{done.stderr[-4000:]}")
        if check:
            check_levels(out / "out.ome.zarr", edge)
        return float(done.stdout.split()[-1])
    finally:
        shutil.rmtree(out)


def check_levels(path: Path, edge: int) -> None:
    """Compare the levels with plain numpy: means of 2×2×2, rounded half to even, level by level."""
    import zarr

    above = np.asarray(volume(edge, CACHE / "data"))
    for level in range(4):
        if level:
            half = above.shape[0] // 2
            windows = above.reshape(half, 2, half, 2, half, 2)
            above = np.rint(windows.mean(axis=(1, 3, 5), dtype="float64")).astype("uint16")
        if not np.array_equal(np.asarray(zarr.open(str(path / str(level)), mode="r")), above):
            raise SystemExit(f"level {level} is not what numpy makes of level {level - 1}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="256³ voxels and 3 repeats: for a look")
    parser.add_argument("--repeats", type=int, help="measurements per engine (default 5)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder for pyramid.json")
    parser.add_argument("--peer-python", type=Path, help="Python of an environment that has the peer")
    parser.add_argument("--rivals-python", type=Path, help=f"Python of an environment with {RIVALS}")
    args = parser.parse_args()
    edge, repeats = (256, args.repeats or 3) if args.quick else (512, args.repeats or 5)
    own, rivals = Path(sys.executable), rivals_python(args.rivals_python)
    engines: dict[str, tuple[Path, str]] = {
        "copy alone": (own, OURS_COPY),
        "pyramid": (own, OURS),
        "bioimage-py 0.2.2, level by level": (peer_python(args.peer_python), PEER),
        "ome-zarr-py": (rivals, OME_ZARR),
        "ngff-zarr": (rivals, NGFF_ZARR),
    }
    seconds(*engines["pyramid"], edge, check=True)
    runs: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(repeats):
        for name, (python, program) in engines.items():
            runs[name].append(seconds(python, program, edge))
    mid = {name: statistics.median(found) for name, found in runs.items()}
    for name, median in mid.items():
        print(f"{name:36}{median:7.2f} s {median / mid['pyramid']:6.2f} × pyramid")
    print(f"pyramid / copy alone: {mid['pyramid'] / mid['copy alone']:.2f}")
    facts: dict[str, Any] = {"edge": edge, "machine": machine(None), "seconds": runs, "medians": mid}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "pyramid.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
