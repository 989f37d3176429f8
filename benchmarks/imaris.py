"""The copy of an Imaris file into an OME-Zarr beside a plain h5py loop over the chunks of its volumes, in rounds that take turns.

`python benchmarks/imaris.py [--depth 64] [--edge 1024] [--channels 2] [--rounds 3]` prints a line for chunks that are moved as they are and one for chunks that are
encoded anew; both sides write the same arrays, with all levels.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr

import bioimage_py as bp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.sources.volume_files import halved, write_ims


def seconds(step: Callable[[], Any]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def loop(path: Path, out: Path, codec: str) -> None:
    """What is written without this package: h5py reads, zarr-python writes, chunk by chunk."""
    compressor = {"gzip": zarr.codecs.GzipCodec(level=2), "zstd": zarr.codecs.ZstdCodec(level=3)}[codec]
    root = zarr.open_group(out, mode="w")
    with h5py.File(path) as file:
        for level, group in enumerate(file["DataSet"].values()):
            volumes = [list(time_point.values()) for time_point in group.values()]
            first = volumes[0][0]
            size = [int(b"".join(first.attrs[f"ImageSize{axis}"])) for axis in "ZYX"]
            chunks = first["Data"].chunks
            shape = (len(volumes), len(volumes[0]), *size)
            made = root.create_array(
                str(level),
                shape=shape,
                dtype=first["Data"].dtype,
                chunks=(1, 1, *chunks),
                compressors=compressor,
            )
            for t, c in np.ndindex(shape[:2]):
                data = volumes[t][c]["Data"]
                for at in np.ndindex(*(-(-n // k) for n, k in zip(size, chunks, strict=True))):
                    part = tuple(
                        slice(a * k, min(n, (a + 1) * k)) for a, k, n in zip(at, chunks, size, strict=True)
                    )
                    made[(t, c, *part)] = data[part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("depth", 64), ("edge", 1000), ("channels", 2), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, rng = Path(name), np.random.default_rng(0)
        shape = (1, args.channels, args.depth, args.edge, args.edge)
        image = rng.poisson(200, shape).astype("uint16")
        levels = halved(image, 2)
        path = write_ims(folder / "in.ims", levels, chunks=(16, 128, 128))
        n_bytes = sum(level.nbytes for level in levels)
        print(f"{image.shape}, {n_bytes / 2**20:.0f} MiB in {len(levels)} levels, deflated")
        for codec, given in (("gzip", None), ("zstd", "zstd:3")):
            ours, plain = [], []
            for _ in range(args.rounds):
                ours.append(
                    seconds(
                        lambda given=given: bp.copy(
                            path, folder / "ours.ome.zarr", codec=given, num_workers=2, overwrite=True
                        )
                    )
                )
                plain.append(seconds(lambda codec=codec: loop(path, folder / "loop.zarr", codec)))
            for n, level in enumerate(levels):
                for out in ("ours.ome.zarr", "loop.zarr"):
                    assert np.array_equal(
                        zarr.open_array(folder / out / str(n), mode="r")[...].reshape(level.shape), level
                    )
            a, b = statistics.median(ours), statistics.median(plain)
            print(f"{codec}: copy {a:.2f} s, h5py loop {b:.2f} s: {b / a:.1f} times as fast")


if __name__ == "__main__":
    main()
