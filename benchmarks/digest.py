"""What digests cost: hashing an array beside reading it alone, and copies with a digest beside copies without one, in one run.

    python benchmarks/digest.py            512³ uint16, 5 rounds
    python benchmarks/digest.py --quick    256³, 3 rounds

Each round runs both sides of each row, one after the other, so that what else the machine does meets them alike. Medians are printed of the seconds by the
clock and, for machines that do other work too, of the processor. Reading alone is the same blocks in the same threads, chunk by chunk where a digest goes so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from data import volume

import bioimage_py as bp
from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels import TileKernel
from bioimage_py.operations import RunOptions
from bioimage_py.operations.tile_digests import plan_digest
from bioimage_py.planning import ArrayLayout
from bioimage_py.runner import run_twin

INPUTS: dict[str, dict[str, Any]] = {
    "zstd:1, chunks 64³": {"chunks": (64, 64, 64), "codec": "zstd:1"},
    "zstd:1, chunks 128³": {"chunks": (128, 128, 128), "codec": "zstd:1"},
    "gzip:5, chunks 64³": {"chunks": (64, 64, 64), "codec": "gzip:5"},
    "blosc lz4, chunks 64³": {"chunks": (64, 64, 64), "codec": {"name": "blosc", "cname": "lz4", "level": 5}},
    "zstd:1, planes": {"chunks": (1, 512, 512), "codec": "zstd:1"},
    "zstd:1, shards 256³ of 64³": {"chunks": (64, 64, 64), "shards": (256, 256, 256), "codec": "zstd:1"},
    "not compressed, chunks 64³": {"chunks": (64, 64, 64), "codec": "none"},
}
COPIES: dict[str, tuple[str, dict[str, Any]]] = {
    "recode zstd:1 → zstd:3": ("zstd:1, chunks 64³", {"codec": "zstd:3"}),
    "recode zstd:1 → blosc lz4": ("zstd:1, chunks 64³", {"codec": {"name": "blosc", "cname": "lz4", "level": 5}}),
    "recode planes → 64³": ("zstd:1, planes", {"chunks": (64, 64, 64)}),
    "recode 64³ → gzip:5": ("zstd:1, chunks 64³", {"codec": "gzip:5"}),
    "verbatim": ("zstd:1, chunks 64³", {}),
}  # fmt: skip


def read_alone(path: Path, threads: int) -> None:
    with bp.open_source(path) as source:
        planned = plan_digest(ArrayLayout.of(source), RunOptions(num_workers=threads))
        with run_twin(source, planned.threads, planned.cache_bytes) as twin:
            kernel = TileKernel(twin)

            def read(block: Box) -> None:
                for _ in kernel._areas(block):  # noqa: SLF001 - the same reads, without the hashes
                    pass

            with ThreadPoolExecutor(planned.in_flight) as pool:
                list(pool.map(read, Blocking(source.shape, planned.block_shape)))


def measured(*calls: Callable[[], object], rounds: int) -> list[tuple[float, float]]:
    """Return for each call the median seconds by the clock and of the processor; calls take turns."""
    found: list[list[tuple[float, float]]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, times in zip(calls, found, strict=True):
            clock, cpu = time.perf_counter(), time.process_time()
            call()
            if number:  # the first one warms up
                times.append((time.perf_counter() - clock, time.process_time() - cpu))
    return [tuple(map(statistics.median, zip(*times, strict=True))) for times in found]  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    edge, rounds = (256, 3) if args.quick else (512, 5)
    voxels = volume(edge, Path(__file__).parent / ".cache" / "data")
    where = Path(tempfile.mkdtemp(prefix="digest-", dir=os.environ.get("TMPDIR")))
    try:
        for n, options in enumerate(INPUTS.values()):
            cut = {
                k: tuple(min(c, edge) for c in v) if isinstance(v, tuple) else v for k, v in options.items()
            }
            bp.copy(voxels, where / f"{n}.zarr", num_workers=None, **cut).close()
        paths = {name: where / f"{n}.zarr" for n, name in enumerate(INPUTS)}
        print(f"{edge}³ uint16, {args.workers} threads; seconds by the clock (of the processor)")
        for name, path in paths.items():
            if args.only and not any(word in name for word in args.only):
                continue
            alone, hashed = measured(
                lambda path=path: read_alone(path, args.workers),
                lambda path=path: bp.digest(path, num_workers=args.workers),
                rounds=rounds,
            )
            print(
                f"{name:30} read {shown(alone)}  digest {shown(hashed)}  speed {ratio(alone, hashed)} of reading"
            )
        for name, (source, options) in COPIES.items():
            if args.only and not any(word in name for word in args.only):
                continue

            def copied(source: str = source, options: dict[str, Any] = options, **more: Any) -> None:
                output = where / "out.zarr"
                shutil.rmtree(output, ignore_errors=True)
                bp.copy(paths[source], output, num_workers=args.workers, **options, **more).close()

            without, with_digest = measured(copied, lambda copied=copied: copied(digest=True), rounds=rounds)
            print(
                f"{name:30} copy {shown(without)}  digest=True {shown(with_digest)}  takes {ratio(with_digest, without)} of it"
            )
    finally:
        shutil.rmtree(where)


def shown(times: tuple[float, float]) -> str:
    return f"{times[0]:6.3f} s ({times[1]:6.3f})"


def ratio(a: tuple[float, float], b: tuple[float, float]) -> str:
    return f"{a[0] / b[0]:.2f} ({a[1] / b[1]:.2f})"


if __name__ == "__main__":
    main()
