"""Arrays stored in every way that matters for moving their chunks, made and read back by other libraries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numcodecs
import numpy as np
import tensorstore as ts
import zarr
import zarr.codecs
import zarr.storage

from bioimage_py.kernels import MovingKernel
from bioimage_py.sources import Source, open_source

CODECS = ("none", "zstd", "gzip", "lz4", "bitshuffle")
_V2 = {
    "none": None,
    "zstd": numcodecs.Zstd(3),
    "gzip": numcodecs.GZip(4),
    "zlib": numcodecs.Zlib(4),
    "lz4": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
    "bitshuffle": numcodecs.Blosc("zstd", 1, numcodecs.Blosc.BITSHUFFLE),
}
_V3: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "zstd": [{"name": "zstd", "configuration": {"level": 3, "checksum": False}}],
    "zstd with checksum": [{"name": "zstd", "configuration": {"level": 3, "checksum": True}}],
    "gzip": [{"name": "gzip", "configuration": {"level": 4}}],
    "crc32c": [{"name": "zstd", "configuration": {"level": 1, "checksum": False}}, {"name": "crc32c"}],
}
for _name, _cname, _shuffle in (("lz4", "lz4", "shuffle"), ("bitshuffle", "zstd", "bitshuffle")):
    _V3[_name] = [
        {
            "name": "blosc",
            "configuration": {
                "cname": _cname,
                "clevel": 5,
                "shuffle": _shuffle,
                "typesize": 2,
                "blocksize": 0,
            },
        }
    ]


@dataclass(frozen=True)
class Storing:
    """One way to store an array."""

    kind: str  # "v2", "v3", "n5" (cut at the faces), "hdf5"
    codec: str = "zstd"
    chunks: tuple[int, ...] = (4, 5, 6)
    shards: tuple[int, ...] | None = None
    big: bool = False
    fortran: bool = False
    keys: str = "/"
    fill: Any = 0
    index_at: str = "end"


def make(path: Path, how: Storing, shape: tuple[int, ...], dtype: Any) -> Path:
    """Make an array in which no chunk is stored yet, and return its path."""
    dtype = np.dtype(dtype).newbyteorder(">" if how.big else "<")
    path.mkdir(parents=True, exist_ok=True)
    if how.kind == "v2":
        compressor = _V2[how.codec]
        metadata: dict[str, Any] = {
            "zarr_format": 2, "shape": list(shape), "chunks": list(how.chunks), "dtype": dtype.str, "fill_value": _json(how.fill, dtype),
            "order": "F" if how.fortran else "C", "filters": None, "dimension_separator": how.keys,
            "compressor": None if compressor is None else _v2_codec(compressor),
        }  # fmt: skip
        (path / ".zarray").write_text(json.dumps(metadata))
    elif how.kind == "v3":
        (path / "zarr.json").write_text(json.dumps(_v3_metadata(how, shape, dtype)))
    else:
        raise AssertionError(how.kind)
    return path


def _v2_codec(codec: Any) -> dict[str, Any]:
    config = dict(codec.get_config())
    if config.get("checksum") is False:
        del config["checksum"]  # which TensorStore does not know
    return config


def _v3_metadata(how: Storing, shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    turned = [{"name": "transpose", "configuration": {"order": list(range(len(shape)))[::-1]}}]
    as_bytes = {"name": "bytes", "configuration": {"endian": "big" if how.big else "little"}}
    codecs = [
        *(turned if how.fortran else []),
        as_bytes if dtype.itemsize > 1 else {"name": "bytes"},
        *_V3[how.codec],
    ]
    if how.shards:
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        sharding = {
            "chunk_shape": list(how.chunks),
            "codecs": codecs,
            "index_codecs": index,
            "index_location": how.index_at,
        }
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    return {
        "zarr_format": 3, "node_type": "array", "shape": list(shape), "data_type": dtype.name, "fill_value": _json(how.fill, dtype),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(how.shards or how.chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": how.keys}}, "codecs": codecs, "attributes": {},
    }  # fmt: skip


def _json(fill: Any, dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "c":
        return [float(fill), 0.0]
    return "NaN" if fill != fill else dtype.type(fill).item()


def store(
    path: Path, how: Storing, array: np.ndarray, boxes: list[tuple[slice, ...]] | None = None
) -> Source:
    """Store an array, or only some regions of it, with another library, and open it for reading."""
    boxes = [(slice(None),) * array.ndim] if boxes is None else boxes
    if how.kind == "hdf5":
        options = {"gzip": {"compression": "gzip"}, "zlib": {"compression": "gzip"}, "none": {}}[how.codec]
        with h5py.File(path, "w") as file:
            dtype = array.dtype.newbyteorder(">" if how.big else "<")
            made: Any = file.create_dataset(
                "raw", array.shape, dtype, chunks=how.chunks, fillvalue=how.fill, **options
            )
            for box in boxes:
                made[box] = array[box]
        return open_source(path, "raw")
    if how.kind == "n5":
        import z5py

        codec = {"none": "raw"}.get(how.codec, how.codec)
        made = z5py.File(path, "a").create_dataset(
            "raw", shape=array.shape, dtype=array.dtype.name, chunks=how.chunks, compression=codec
        )
        for box in boxes:
            made[tuple(slice(*s.indices(n)[:2]) for s, n in zip(box, array.shape, strict=True))] = array[box]
        return open_source(path, "raw")
    opened = zarr.open_array(make(path, how, array.shape, array.dtype), mode="r+")
    with zarr.config.set({"array.write_empty_chunks": True}):
        for box in boxes:
            opened[box] = array[box]
    return open_source(path)


def read_by_others(path: Path, how: Storing) -> list[np.ndarray]:
    """Return the voxels as zarr-python and TensorStore read them, in native byte order."""
    found = []
    if how.kind in ("v2", "v3"):
        by_zarr = np.asarray(zarr.open_array(path, mode="r")[...])
        found.append(by_zarr.astype(by_zarr.dtype.newbyteorder("=")))
    driver = {"v2": "zarr", "v3": "zarr3", "n5": "n5"}[how.kind]
    opened = ts.open({"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}}).result()
    found.append((opened.T if how.kind == "n5" else opened).read().result())
    return found


def files_below(path: Path) -> dict[str, bytes]:
    """Return the content of all chunk files by their names below the array."""
    metadata = ("zarr.json", ".zarray", "attributes.json")
    return {
        str(p.relative_to(path)): p.read_bytes()
        for p in path.rglob("*")
        if p.is_file() and p.name not in metadata and "copied" not in p.name
    }


def counts(kernel: MovingKernel) -> tuple[int, int, int]:
    """How many chunks were moved, how many recoded, and the encoded bytes written for those that were moved."""
    done = kernel.tally()
    return done.chunks_moved, done.chunks_recoded, done.encoded_out
