"""How fast encoded chunks are moved: our kernels against `cp -r`, plain Python files and a TensorStore loop, in one run.

    python benchmarks/moves.py            512³ uint16, 5 rounds
    python benchmarks/moves.py --quick    256³, 3 rounds
    python benchmarks/moves.py --check    compares each output with the volume, voxel by voxel

Each round runs every engine of a workload once, one after the other, so that what else the machine does meets them
alike; medians and their ratios are printed. Outputs are made before the clock starts, opening them is timed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

sys.path.insert(0, str(Path(__file__).resolve().parent))

from data import Volume, prepare, volume

from bioimage_py.geometry import Blocking
from bioimage_py.kernels import CopyKernel, MoveOptions, moving_kernel
from bioimage_py.sources import open_source

Shape = tuple[int, int, int]
THREADS = 2
CUBE = (64, 64, 64)


@dataclass(frozen=True)
class Grid:
    """How an array is stored: version of Zarr or N5 or HDF5, codec, chunks, shards."""

    kind: str
    codec: str
    chunks: Shape = CUBE
    shards: Shape | None = None
    big: bool = False


@dataclass(frozen=True)
class Workload:
    title: str
    input: Grid
    output: Grid
    block: Shape
    engines: tuple[str, ...]
    promised: dict[str, float] = field(default_factory=dict)


WORKLOADS = {
    "v3-v3": Workload("Zarr v3 zstd → Zarr v3", Grid("v3", "zstd"), Grid("v3", "zstd"), (64, 256, 512), ("cp",), {"cp": 1.3}),
    "v2-v3-zstd": Workload("Zarr v2 zstd → Zarr v3", Grid("v2", "zstd"), Grid("v3", "zstd"), (64, 256, 512), ("cp",), {"cp": 1.5}),
    "v2-v3-blosc": Workload("Zarr v2 blosc → Zarr v3", Grid("v2", "blosc"), Grid("v3", "blosc"), (64, 256, 512), ("cp",), {"cp": 1.5}),
    "shards": Workload(
        "64³ → shards of 256³", Grid("v3", "zstd"), Grid("v3", "zstd", shards=(256, 256, 256)), (256, 256, 256), ("files", "loop"),
        {"files": 1.5, "loop": 0.5},
    ),
    "unpack": Workload(
        "shards of 256³ → 64³", Grid("v3", "zstd", shards=(256, 256, 256)), Grid("v3", "zstd"), (256, 256, 256), ("cp", "loop"),
    ),
    "whole-shards": Workload(
        "shards of 256³ → the same", Grid("v3", "zstd", shards=(256, 256, 256)), Grid("v3", "zstd", shards=(256, 256, 256)),
        (256, 256, 256), ("cp",),
    ),
    "n5": Workload("N5 gzip → Zarr v3 gzip", Grid("n5", "gzip"), Grid("v3", "gzip", big=True), (64, 256, 512), ("cp", "loop")),
    "hdf5": Workload("HDF5 gzip → Zarr v3 gzip", Grid("hdf5", "gzip"), Grid("v3", "gzip"), (64, 256, 512), ("cp",)),
    "tiny": Workload(
        "chunks of 16³", Grid("v3", "zstd", (16, 16, 16)), Grid("v3", "zstd", (16, 16, 16)), (64, 256, 512), ("cp", "naive"), {"cp": 2.0},
    ),
}  # fmt: skip

CODECS: dict[str, dict[str, Any]] = {
    "zstd": {"name": "zstd", "configuration": {"level": 1}},
    "gzip": {"name": "gzip", "configuration": {"level": 5}},
    "blosc": {
        "name": "blosc",
        "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 2, "blocksize": 0},
    },
}
COMPRESSORS_V2 = {
    "zstd": {"id": "zstd", "level": 1},
    "blosc": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
}


def fit(extents: Shape, edge: int) -> list[int]:
    return [min(n, edge) for n in extents]


def made(path: Path, grid: Grid, edge: int) -> Any:
    """Make an empty Zarr array with TensorStore and return it."""
    shape = [edge] * 3
    if grid.kind == "v2":
        driver, metadata = (
            "zarr",
            {"shape": shape, "chunks": fit(grid.chunks, edge), "dtype": "<u2", "dimension_separator": "/"},
        )
        metadata["compressor"] = COMPRESSORS_V2[grid.codec]
    else:
        as_bytes = {"name": "bytes", "configuration": {"endian": "big" if grid.big else "little"}}
        codecs = [as_bytes, CODECS[grid.codec]]
        if grid.shards:
            inner = {"chunk_shape": fit(grid.chunks, edge), "codecs": codecs}
            codecs = [{"name": "sharding_indexed", "configuration": inner}]
        outer = {"name": "regular", "configuration": {"chunk_shape": fit(grid.shards or grid.chunks, edge)}}
        driver, metadata = (
            "zarr3",
            {"shape": shape, "data_type": "uint16", "chunk_grid": outer, "codecs": codecs},
        )
    return opened(driver, path, metadata=metadata, create=True)


def opened(driver: str, path: Path, create: bool = False, **how: Any) -> Any:
    context = ts.Context({"data_copy_concurrency": {"limit": THREADS}, "file_io_sync": False})
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}, **how}
    return ts.open(spec, create=create, open=not create, context=context).result()


def stored(grid: Grid, edge: int, cache: Path) -> tuple[Path, str | None]:
    """Return path and key of an input, made on first use."""
    if grid.kind in ("n5", "hdf5"):
        return prepare("gzip.n5" if grid.kind == "n5" else "gzip.h5", edge, cache), "raw"
    shards = "" if grid.shards is None else f"-shards{grid.shards[0]}"
    path = cache / f"{edge}" / f"moves-{grid.kind}-{grid.codec}-{grid.chunks[0]}{shards}.zarr"
    if not path.with_suffix(".done").exists():
        shutil.rmtree(path, ignore_errors=True)
        array, vol = made(path, grid, edge), volume(edge, cache)
        step = (grid.shards or CUBE)[0]
        for z in range(0, edge, step):
            array[z : z + step].write(vol[z : z + step]).result()
        path.with_suffix(".done").write_text("")
    return path, None


def ours(work: Workload, source: Path, key: str | None, out: Path) -> None:
    kernel = moving_kernel(
        CopyKernel(open_source(source, key), open_source(out, mode="r+")), MoveOptions(output_is_new=True)
    )
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(kernel.copy_box, Blocking(kernel.output.shape, work.block)):
            pass
    if kernel.tally().chunks_recoded:
        raise SystemExit(f"{work.title}: {kernel.tally().chunks_recoded} chunks were recoded")


def cp(work: Workload, source: Path, key: str | None, out: Path) -> None:
    """Copy the files of the input, whatever their names; the output's metadata are of no interest."""
    del work
    array = source / key if key and source.is_dir() else source
    subprocess.run(["cp", "-r", array, out / "copied"], check=True)


def files(work: Workload, source: Path, key: str | None, out: Path) -> None:
    """Read each chunk and append it to the file of its shard, as plain Python does."""
    del key
    assert work.output.shards is not None
    n = work.output.shards[0] // work.output.chunks[0]
    places: dict[tuple[int, ...], list[Path]] = {}
    for path in (source / "c").rglob("*"):
        if path.is_file():
            at = tuple(map(int, path.relative_to(source / "c").parts))
            places.setdefault(tuple(i // n for i in at), []).append(path)

    def write(shard: tuple[int, ...]) -> None:
        target = out.joinpath("c", *map(str, shard))
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for path in places[shard]:
                file.write(path.read_bytes())

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(write, places))


def naive(work: Workload, source: Path, key: str | None, out: Path) -> None:
    """Move each chunk with a temporary name and a rename, as one writes it down first."""
    del work, key
    for path in (source / "c").rglob("*"):
        if path.is_file():
            target = out / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(target.name + ".tmp")
            partial.write_bytes(path.read_bytes())
            partial.rename(target)


def loop(work: Workload, source: Path, key: str | None, out: Path) -> None:
    """Decode and encode with TensorStore, two threads, one block after the other."""
    reader = opened("n5", source / str(key)).T if work.input.kind == "n5" else opened("zarr3", source)
    writer = opened("zarr3", out)

    def copy_block(block: Any) -> None:
        writer[block.slices].write(reader[block.slices].read().result()).result()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(copy_block, Blocking(tuple(reader.shape), work.block)))


ENGINES: dict[str, Callable[[Workload, Path, str | None, Path], None]] = {
    "ours": ours, "cp": cp, "files": files, "naive": naive, "loop": loop,
}  # fmt: skip


@contextlib.contextmanager
def output(work: Workload, edge: int, cache: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="moves-", dir=cache))
    try:
        made(folder / "out.zarr", work.output, edge)
        yield folder / "out.zarr"
    finally:
        shutil.rmtree(folder)


def measured(work: Workload, edge: int, rounds: int, cache: Path, check: bool) -> dict[str, list[float]]:
    source, key = stored(work.input, edge, cache)
    seconds: dict[str, list[float]] = {name: [] for name in ("ours", *work.engines)}
    for number in range(rounds + 1):
        for name, times in seconds.items():
            with output(work, edge, cache) as out:
                os.sync()
                start = time.perf_counter()
                ENGINES[name](work, source, key, out)
                taken = time.perf_counter() - start
                if number:  # the first round fills the page cache
                    times.append(taken)
                elif check and name == "ours":
                    compare(out, volume(edge, cache))
    return seconds


def compare(out: Path, vol: Volume) -> None:
    import zarr

    read = zarr.open_array(out, mode="r")
    for z in range(0, len(vol), 64):
        if not np.array_equal(read[z : z + 64], vol[z : z + 64]):
            raise SystemExit(f"{out} differs from the volume in planes {z} to {z + 64}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="256³ and 3 rounds")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS)
    parser.add_argument("--check", action="store_true", help="compare each output with the volume once")
    parser.add_argument("--cache", type=Path, default=Path(__file__).resolve().parent / ".cache/data")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    edge, rounds = (256, args.rounds or 3) if args.quick else (512, args.rounds or 5)
    args.cache.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    print(
        f"{edge}³ uint16, {rounds} rounds, {os.cpu_count()} cores, load {load:.1f} at the start; seconds, medians"
    )
    figures = {}
    for name in args.only or WORKLOADS:
        work = WORKLOADS[name]
        seconds = measured(work, edge, rounds, args.cache, args.check)
        medians = {engine: statistics.median(taken) for engine, taken in seconds.items()}
        parts = [f"{work.title:28} ours {medians['ours']:.3f}"]
        for engine in work.engines:
            bound = work.promised.get(engine)
            target = "" if bound is None else f", at most {bound}"
            parts.append(
                f"{engine} {medians[engine]:.3f} (ours/{engine} {medians['ours'] / medians[engine]:.2f}{target})"
            )
        print("  ".join(parts), flush=True)
        figures[name] = seconds
    if args.json:
        args.json.write_text(json.dumps({"edge": edge, "load": load, "seconds": figures}, indent=1))


if __name__ == "__main__":
    main()
