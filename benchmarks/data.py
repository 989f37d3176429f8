"""The volume that every workload copies, and the inputs stored from it; kept under `.cache/data` between runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Volume = np.ndarray[Any, np.dtype[np.uint16]]


def volume(edge: int, where: Path) -> Volume:
    """Return `edge`³ uint16 voxels, mapped from a file; texture and noise that zstd level 1 takes to about 77 %."""
    path = where / f"volume_{edge}.npy"
    if not path.exists():
        where.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp.npy")
        made = np.lib.format.open_memmap(partial, "w+", np.uint16, (edge,) * 3)
        rng = np.random.default_rng(0)
        y, x = np.ogrid[:edge, :edge]
        for z in range(edge):
            texture = 1000 + 500 * np.sin(z / 9.0) * np.cos(y / 13.0) + 300 * np.sin(x / 7.0)
            made[z] = texture + rng.normal(0, 120, (edge, edge))
        made.flush()
        partial.rename(path)
    return np.load(path, mmap_mode="r")


def fit(chunks: tuple[int, ...], edge: int) -> tuple[int, ...]:
    """Cut a chunk shape for the full volume down to a smaller one."""
    return tuple(min(c, edge) for c in chunks)


def zarr_array(
    path: Path,
    edge: int,
    chunks: tuple[int, ...],
    *,
    shards: tuple[int, ...] | None = None,
    level: int = 1,
    dtype: str = "uint16",
) -> Any:
    """Make an empty Zarr v3 array with zstd, the same way for every engine, and return it opened by zarr-python."""
    import zarr
    from zarr.codecs import ZstdCodec

    return zarr.create_array(
        str(path),
        shape=(edge,) * 3,
        chunks=fit(chunks, edge),
        shards=None if shards is None else fit(shards, edge),
        dtype=dtype,
        compressors=ZstdCodec(level=level),
        fill_value=0,
        overwrite=True,
    )


def store_zarr(chunks: tuple[int, ...], level: int = 1) -> Callable[[Path, Volume], None]:
    def store(path: Path, vol: Volume) -> None:
        array = zarr_array(path, len(vol), chunks, level=level)
        depth = array.chunks[0] * max(1, 64 // array.chunks[0])
        for z in range(0, len(vol), depth):
            array[z : z + depth] = vol[z : z + depth]

    return store


def store_n5(path: Path, vol: Volume) -> None:
    """Store N5 in the order its readers expect: the fastest axis first in the file, last in numpy."""
    import tensorstore as ts

    array = ts.open(
        {
            "driver": "n5",
            "kvstore": {"driver": "file", "path": str(path / "raw")},
            "metadata": {
                "dimensions": list(vol.shape[::-1]),
                "blockSize": list(fit((64, 64, 64), len(vol))),
                "dataType": "uint16",
                "compression": {"type": "gzip", "level": 5},
            },
        },
        create=True,
    ).result()
    (path / "attributes.json").write_text('{"n5": "2.0.0"}')
    for z in range(0, len(vol), 64):
        part = vol[z : z + 64]
        array[:, :, z : z + len(part)].write(part.T).result()


def store_hdf5(path: Path, vol: Volume) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=vol, chunks=fit((64, 64, 64), len(vol)), compression="gzip")


def store_tiff(**options: Any) -> Callable[[Path, Volume], None]:
    def store(path: Path, vol: Volume) -> None:
        import tifffile

        if "tile" in options:
            tile = fit(options["tile"], len(vol))
            tifffile.imwrite(
                path, iter(_tiles(vol, tile)), shape=vol.shape, dtype=vol.dtype, **{**options, "tile": tile}
            )
        else:
            tifffile.imwrite(path, vol, **options)

    return store


def _tiles(vol: Volume, tile: tuple[int, ...]) -> Any:
    height, width = tile
    for page in vol:
        for y in range(0, page.shape[0], height):
            for x in range(0, page.shape[1], width):
                yield page[y : y + height, x : x + width]


def store_slices(path: Path, vol: Volume) -> None:
    import tifffile

    path.mkdir(parents=True)
    for z, page in enumerate(vol):
        tifffile.imwrite(path / f"slice_{z:04d}.tif", page, compression="zlib")


def store_mask(path: Path, vol: Volume) -> None:
    """Store a mask, Zarr 64³, whose voxels lie in 3 % of the blocks of 64³ (at least one)."""
    edge = len(vol)
    array = zarr_array(path, edge, (64, 64, 64), dtype="uint8")
    block = array.chunks[0]
    side = edge // block
    wanted = max(1, round(0.03 * side**3))
    rng = np.random.default_rng(1)
    for number in sorted(rng.choice(side**3, wanted, replace=False)):
        z, y, x = (int(i) * block for i in np.unravel_index(number, (side,) * 3))
        ball = np.indices((block,) * 3) - (block - 1) / 2
        inside = (ball**2).sum(0) < (0.48 * block) ** 2
        array[z : z + block, y : y + block, x : x + block] = inside.astype("uint8")


INPUTS: dict[str, Callable[[Path, Volume], None]] = {
    "cubes.zarr": store_zarr((64, 64, 64), level=3),
    "slabs.zarr": store_zarr((1, 512, 512)),
    "tiny.zarr": store_zarr((16, 16, 16)),
    "plain.tif": store_tiff(photometric="minisblack"),
    "tiled.tif": store_tiff(photometric="minisblack", tile=(256, 256), compression="zlib"),
    "slices": store_slices,
    "gzip.n5": store_n5,
    "gzip.h5": store_hdf5,
    "mask.zarr": store_mask,
}


def prepare(name: str, edge: int, cache: Path) -> Path:
    """Return the path of a stored input, made on first use; a half-made one is never taken for a whole one."""
    path = cache / f"{edge}" / name
    done = path.with_name(f".{name}.done")
    if not done.exists():
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        INPUTS[name](path, volume(edge, cache))
        done.write_text(json.dumps({"edge": edge}))
    return path


def bytes_below(path: Path) -> int:
    """Return the size on disk of a file or of everything in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
