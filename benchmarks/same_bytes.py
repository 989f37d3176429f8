"""Whether two checkouts of the package write the same bytes: random copies on all roads, by both, compared file by file.

python benchmarks/same_bytes.py OLD/src NEW/src --copies 200 --seed 0
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

INPUTS = (
    "zarr3",
    "zarr3 blosc",
    "zarr2",
    "shards",
    "n5",
    "hdf5",
    "hdf5 plain",
    "npy",
    "tiff tiled",
    "tiff plain",
    "slices",
    "mrc",
    "nifti",
    "precomputed",
    "ome-zarr",
    "wrapper",
)
OUTPUTS = (
    "zarr3",
    "zarr2",
    "shards",
    "n5",
    "hdf5",
    "npy",
    "precomputed",
    "ome-zarr",
    "pyramid",
    "downsample",
)
GZIP = b"\x1f\x8b\x08"
CHILD = """
import json, sys, warnings
import bioimage_py as bp
warnings.simplefilter("ignore")
for line in sys.stdin:
    job = json.loads(line)
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in job["options"].items()}
    source = job["source"] if job["key"] is None else bp.open_source(job["source"], job["key"])
    try:
        if job["how"] == "wrapper":
            source = bp.wrapper.FlipSource(bp.wrapper.CastSource(source, "float32"), 0)
        if job["how"] == "pyramid":
            bp.pyramid(source, job["out"], **options)
        elif job["how"] == "downsample":
            bp.downsample(source, 2, job["out"], **options)
        else:
            bp.copy(source, job["out"], **options)
        said = "done"
    except Exception as error:
        said = type(error).__name__
    print(json.dumps(said), flush=True)
"""


def make_input(kind: str, folder: Path, image: np.ndarray, draw: random.Random) -> tuple[Path, str | None]:
    """Store an image in a format; return its path, and the key in it."""
    import h5py
    import mrcfile
    import nibabel
    import tifffile

    import bioimage_py as bp

    chunks = tuple(draw.choice((8, 16, 24)) for _ in image.shape)
    folder.mkdir()
    if kind in ("hdf5", "hdf5 plain"):
        with h5py.File(folder / "in.h5", "w") as file:
            how = {"compression": "gzip", "shuffle": draw.random() < 0.5} if kind == "hdf5" else {}
            file.create_dataset("raw", data=image, chunks=chunks, **how)
        return folder / "in.h5", "raw"
    if kind in ("tiff tiled", "tiff plain"):
        tile = {"tile": (16, 32), "compression": "zlib"} if kind == "tiff tiled" else {}
        tifffile.imwrite(folder / "in.tif", image, photometric="minisblack", **tile)
        return folder / "in.tif", None
    if kind == "slices":
        for number, plane in enumerate(image):
            tifffile.imwrite(folder / f"z{number:03}.tif", plane, compression="zlib")
        return folder, None
    if kind == "mrc":
        mrcfile.write(folder / "in.mrc", image.astype("int16"))
        return folder / "in.mrc", None
    if kind == "nifti":
        nibabel.save(nibabel.Nifti1Image(image.T.astype("int16"), np.eye(4)), folder / "in.nii")
        return folder / "in.nii", None
    if kind == "npy":
        np.save(folder / "in.npy", image)
        return folder / "in.npy", None
    name = {"n5": "in.n5/raw", "precomputed": "in.precomputed", "ome-zarr": "in.ome.zarr"}.get(
        kind, "in.zarr"
    )
    how = {
        "zarr2": {"zarr_format": 2},
        "shards": {"shards": tuple(2 * n for n in chunks)},
        "zarr3 blosc": {"codec": "blosc"},
    }
    with bp.create_output(
        folder / name, shape=image.shape, dtype=image.dtype, chunks=chunks, **how.get(kind, {})
    ) as out:
        out[...] = image
    return folder / name, None


def drawn_copy(draw: random.Random) -> tuple[str, str, dict[str, Any], tuple[int, ...], str]:
    """Return input, output, options, shape and dtype of one random copy."""
    kind, to = draw.choice(INPUTS), draw.choice(OUTPUTS)
    shape = tuple(draw.randint(25, 70) for _ in range(3))
    dtype = draw.choice(("uint8", "uint16", "int16", "float32", "uint32"))
    options: dict[str, Any] = {"num_workers": draw.choice((1, 2))}
    if to == "hdf5":
        options["num_workers"] = 1  # else chunks are in the file in the order in which threads had them
    if to == "zarr2":
        options["zarr_format"] = 2
    if to == "shards":
        options |= {"chunks": [8, 8, 8], "shards": [16, 32, 16]}
    elif to in ("zarr3", "zarr2", "n5", "hdf5", "ome-zarr") and draw.random() < 0.6:
        options["chunks"] = draw.choice(([16, 16, 16], [1, 32, 32], [32, 8, 64]))
    if to in ("zarr3", "zarr2", "shards") and draw.random() < 0.4:
        options["codec"] = draw.choice(
            ("zstd:1", "blosc", "none") if to == "shards" else ("zstd:1", "gzip:2", "blosc", "none")
        )
    if draw.random() < 0.2 and to not in ("pyramid", "downsample"):
        options["dtype"] = draw.choice(("float32", "uint8"))
    if draw.random() < 0.25:
        options["memory_limit"] = draw.choice(("256KiB", "1MiB"))
    return kind, to, options, shape, dtype


def digest(path: Path) -> dict[str, str]:
    """Return a hash of each file below a path."""
    files = [path] if path.is_file() else [p for p in sorted(path.rglob("*")) if p.is_file()]
    return {str(p.relative_to(path)): hashlib.sha256(inflated(p.read_bytes())).hexdigest() for p in files}


def inflated(data: bytes) -> bytes:
    """Return the bytes of a file, those of a gzip stream decoded: TensorStore's zlib does not find the same matches each time."""
    begin = data.find(GZIP, 0, 64)
    return data if begin < 0 else data[:begin] + gzip.decompress(data[begin:])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sides = {
        name: subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for name, path in (("old", args.old), ("new", args.new))
    }
    ends = {
        ".zarr": ("zarr3", "zarr2", "shards", "downsample"),
        ".n5": ("n5",),
        ".h5": ("hdf5",),
        ".npy": ("npy",),
        ".precomputed": ("precomputed",),
        ".ome.zarr": ("ome-zarr", "pyramid"),
    }
    ending = {to: end for end, tos in ends.items() for to in tos}
    different, done = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.copies):
            draw = random.Random(f"{args.seed}:{number}")
            kind, to, options, shape, dtype = drawn_copy(draw)
            image = np.random.default_rng(number).integers(0, 100, shape).astype(dtype)
            stored = "zarr3" if kind == "wrapper" else kind
            source, key = make_input(stored, Path(folder, f"in{number}"), image, draw)
            said, written = {}, {}
            for name, child in sides.items():
                # One path for both: HDF5 and metadata may hold names.
                out = Path(folder, f"out{number}{ending[to]}")
                where = f"{out}/raw" if to == "n5" else f"{out}:/raw" if to == "hdf5" else str(out)
                how = kind if kind == "wrapper" else to
                job = {"source": str(source), "key": key, "how": how, "out": where, "options": options}
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdin.write(json.dumps(job) + "\n")
                child.stdin.flush()
                said[name] = json.loads(child.stdout.readline())
                written[name] = digest(out) if out.exists() else {}
                out.rename(Path(folder, f"{name}{number}")) if out.exists() else None
            done += said["old"] == said["new"] == "done"
            if said["old"] != said["new"] or written["old"] != written["new"]:
                differ = [
                    n
                    for n in {**written["old"], **written["new"]}
                    if written["old"].get(n) != written["new"].get(n)
                ]
                different.append((number, kind, to, options, said, differ[:5]))
                print("DIFFERENT", *different[-1], flush=True)
    print(f"{args.copies} copies, {done} done by both, {len(different)} different")
    return bool(different)


if __name__ == "__main__":
    sys.exit(main())
