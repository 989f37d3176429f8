"""Measure the largest resident set while 4 GiB are copied with `memory_limit="512MiB"`.

    python benchmarks/memory.py [--out FOLDER]

Each copy runs in a process of its own; the number is what the kernel recorded for it (VmHWM), interpreter and
libraries included. The input is made once, 2048 planes of 1024×1024 uint16, and kept in `.cache`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from data import volume
from measure import peak_resident_bytes

HERE = Path(__file__).resolve().parent
CACHE = HERE / ".cache" / "data"
LIMIT = "512MiB"
ALLOWED = (512 + 200) * 2**20
SHAPE = (2048, 1024, 1024)


def planes() -> Iterator[np.ndarray[Any, Any]]:
    small = volume(512, CACHE)
    for z in range(SHAPE[0]):
        yield np.tile(small[z % 512], (2, 2))


def make_zarr(path: Path, chunks: tuple[int, ...]) -> None:
    import zarr
    from zarr.codecs import ZstdCodec

    array = zarr.create_array(
        str(path), shape=SHAPE, chunks=chunks, dtype="uint16", compressors=ZstdCodec(level=1), overwrite=True
    )
    depth = max(chunks[0], 16)
    held: list[np.ndarray[Any, Any]] = []
    for z, plane in enumerate(planes()):
        held.append(plane)
        if len(held) == depth:
            array[z + 1 - depth : z + 1] = np.stack(held)
            held.clear()


def make_tiff(path: Path) -> None:
    import tifffile

    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(
            planes(),
            shape=SHAPE,
            dtype="uint16",
            compression="zlib",
            compressionargs={"level": 1},
            photometric="minisblack",
        )


INPUTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "Zarr 64³ → Zarr 64³": ("big_cubes.zarr", lambda p: make_zarr(p, (64, 64, 64))),
    "Zarr (1,Y,X) → 64³": ("big_slabs.zarr", lambda p: make_zarr(p, (1, *SHAPE[1:]))),
    "deflate multi-page TIFF → 64³": ("big.tif", make_tiff),
}


def copy_here(source: Path, target: Path) -> None:
    """Copy in this process and print seconds and peak; called in a process of its own."""
    import bioimage_py as bp

    start = time.perf_counter()
    bp.copy(
        str(source),
        str(target),
        num_workers=2,
        memory_limit=LIMIT,
        chunks=(64, 64, 64),
        codec="zstd:1",
        overwrite=True,
    )
    print(json.dumps({"seconds": time.perf_counter() - start, "peak_bytes": peak_resident_bytes()}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--copy", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.copy:
        copy_here(*args.copy)
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    results = {}
    for title, (name, make) in INPUTS.items():
        source, target = CACHE / name, CACHE / "big_out.zarr"
        done = CACHE / f".{name}.done"
        if not done.exists():
            make(source)
            done.touch()
        ran = subprocess.run(
            [sys.executable, __file__, "--copy", source, target], capture_output=True, text=True, check=False
        )
        if ran.returncode:
            raise SystemExit(f"{title} failed:\n{ran.stderr[-4000:]}")
        results[title] = json.loads(ran.stdout.splitlines()[-1])
        shutil.rmtree(target)
        peak = results[title]["peak_bytes"]
        verdict = "kept" if peak < ALLOWED else "OVER"
        print(
            f"{title}: {peak / 2**20:.0f} MiB of {ALLOWED / 2**20:.0f} ({verdict}), {results[title]['seconds']:.1f} s",
            flush=True,
        )
    lines = [
        "| copy of 4 GiB, limit 512 MiB | largest resident set (MiB) | seconds |",
        "| --- | ---: | ---: |",
    ]
    lines += [f"| {t} | {r['peak_bytes'] / 2**20:.0f} | {r['seconds']:.1f} |" for t, r in results.items()]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "memory.md").write_text("\n".join(lines) + "\n")
    (args.out / "memory.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    if any(r["peak_bytes"] >= ALLOWED for r in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
