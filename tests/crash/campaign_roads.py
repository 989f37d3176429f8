"""What a kill campaign copies: the inputs, the roads, and what must come out, by numpy and TensorStore alone."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import tensorstore as ts
import tifffile

import bioimage_py as bp

CHUNKS, SMALL, SHARD = [32, 64, 64], [16, 32, 64], [32, 64, 128]
BLOCK = {"block_shape": [32, 64, 128]}
PYRAMID: dict[str, Any] = {"levels": 3, "scale_factors": [2, 2], "method": "stride"}
# By name: verb, input, output, options.
ROADS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "verbatim": ("copy", "chunks.zarr", "out.zarr", BLOCK),
    "verbatim-small": ("copy", "small.zarr", "out.zarr", BLOCK),
    "into-shards": ("copy", "small.zarr", "out.zarr", {"shards": SHARD, **BLOCK}),
    "out-of-shards": ("copy", "shards.zarr", "out.zarr", {"chunks": SMALL, **BLOCK}),
    "recode": ("copy", "chunks.zarr", "out.zarr", {"codec": "gzip:1", **BLOCK}),
    "other-chunks": ("copy", "chunks.zarr", "out.zarr", {"chunks": [48] * 3, "zarr_format": 2, "block_shape": [48, 96, 96]}),
    "two-passes": ("copy", "slabs.zarr", "out.zarr", {"chunks": [32] * 3, "memory_limit": "4MiB"}),
    "to-n5": ("copy", "chunks.zarr", "out.n5/raw", BLOCK),
    "from-n5": ("copy", "in.n5/raw", "group.zarr/a/b", BLOCK),
    "precomputed": ("copy", "chunks.zarr", "out.precomputed", BLOCK),
    "tiff": ("copy", "in.tif", "out.zarr", {"chunks": CHUNKS, **BLOCK}),
    "ome-zarr": ("copy", "in.ome.zarr", "out.ome.zarr", BLOCK),
    "ome-zarr-passes": ("copy", "slabs.ome.zarr", "out.ome.zarr", {"chunks": [32] * 3, "memory_limit": "4MiB"}),
    "pyramid": ("pyramid", "chunks.zarr", "out.ome.zarr", {**PYRAMID, "block_shape": [64, 128, 128]}),
    "masked": ("copy", "chunks.zarr", "out.zarr", {"mask": "mask.zarr", **BLOCK}),
    "wrapper": ("copy", "chunks.zarr", "out.zarr", {"plus_one": True, **BLOCK}),
    "npy": ("copy", "chunks.zarr", "files/out.npy", BLOCK),
    "nifti-gz": ("copy", "chunks.zarr", "files/out.nii.gz", BLOCK),
    "hdf5": ("copy", "chunks.zarr", "files/out.h5", {"chunks": CHUNKS, **BLOCK}),
}  # fmt: skip
FILES = ("npy", "nifti-gz", "hdf5")
"""The roads into a file, which takes one writing process. The first two go on after a kill."""


@cache
def image() -> np.ndarray:
    """Return the volume that is copied: no voxel of it is 0, so that each that is not written shows."""
    return np.random.default_rng(0).integers(1, 4000, (96, 320, 384)).astype("uint16")


@cache
def mask() -> np.ndarray:
    """Return where the masked copy copies: all of some blocks, parts of others, nothing of the rest."""
    z, y, x = np.ogrid[:96, :320, :384]
    return ((z < 70) & (y + x < 400)).astype("uint8")


def make_inputs(folder: Path) -> None:
    """Store the inputs of all roads."""
    for name, grid in {
        "chunks.zarr": {"chunks": CHUNKS},
        "small.zarr": {"chunks": SMALL},
        "shards.zarr": {"chunks": SMALL, "shards": SHARD},
        "slabs.zarr": {"chunks": [1, 320, 384]},
        "in.n5/raw": {"chunks": CHUNKS},
    }.items():
        bp.copy(image(), folder / name, **grid)
    bp.copy(mask(), folder / "mask.zarr", chunks=CHUNKS)
    for name, chunks in {"in.ome.zarr": CHUNKS, "slabs.ome.zarr": [1, 320, 384]}.items():
        bp.pyramid(image(), folder / name, chunks=chunks, axes="zyx", **PYRAMID)
    tifffile.imwrite(folder / "in.tif", image(), compression="zlib")


def expected(road: str, output: Path) -> dict[Path, np.ndarray]:
    """Return the voxels of each array that a road makes, by numpy alone."""
    if output.name == "out.ome.zarr":
        return {output / str(level): image()[:: 2**level, :: 2**level, :: 2**level] for level in range(3)}
    made = {"masked": lambda: image() * mask(), "wrapper": lambda: image() + np.uint16(1)}
    return {output: made.get(road, image)()}


def stored(path: Path) -> np.ndarray:
    """Read all of an array with TensorStore, or the library of a file, and nothing of this package."""
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".gz":
        return np.asanyarray(nibabel.load(path).dataobj)
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return file["data"][...]
    kinds = {
        "zarr.json": "zarr3",
        ".zarray": "zarr",
        "attributes.json": "n5",
        "info": "neuroglancer_precomputed",
    }
    (driver,) = (driver for name, driver in kinds.items() if (path / name).exists())
    array = ts.open({"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}}).result()
    voxels = array.read().result()
    return (
        voxels[..., 0].T if driver == "neuroglancer_precomputed" else voxels.T if driver == "n5" else voxels
    )
