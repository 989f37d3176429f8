"""How HDF5 encodes the chunks of a dataset, from its filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bioimage_py.chunks import (
    ChunkEncoding,
    Filter,
    StoredChunks,
    byte_order_of,
    codec_step,
    fill_bytes,
)
from bioimage_py.errors import UnsupportedFormatError
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import Source
from bioimage_py.sources.hdf5.dataset import DatasetDescription
from bioimage_py.sources.hdf5.read import Hdf5Source

_TWINS = {1: "zlib", 3: "fletcher32", 307: "bz2", 32001: "blosc", 32015: "zstd"}
_SHUFFLE = 2


def stored_chunks(source: Source) -> StoredChunks:
    """Return how the chunks of a dataset that is open for reading are stored."""
    if not isinstance(source, Hdf5Source):
        raise UnsupportedFormatError(f"{source.name} has no chunks in an HDF5 file that is open for reading")
    described = source.described
    if not described.bytes_readable or described.dtype.kind == "b":
        # Any byte but 0 is true in HDF5, which other formats do not promise.
        raise UnsupportedFormatError(f"the chunks of {source.name} have to be read through HDF5")
    return StoredChunks(_encoding(described), described.path)


def planned_encoding(spec: ArraySpec) -> ChunkEncoding:
    """Raise: chunks are written into HDF5 files by HDF5 only."""
    raise UnsupportedFormatError(f"chunks of {spec.shape} voxels are written into HDF5 files by HDF5 only")


def _encoding(described: DatasetDescription) -> ChunkEncoding:
    chunks = described.chunks
    assert chunks is not None
    found = [_step(used) for used in described.filters]
    return ChunkEncoding(
        format="hdf5",
        shape=described.shape,
        dtype=described.dtype.name,
        byte_order=byte_order_of(described.stored_dtype),
        chunks=chunks,
        axis_order=tuple(axis for axis, extent in enumerate(chunks) if extent > 1),
        codecs=tuple(step for step, _ in found if step != ("shuffle", 1)),
        settings=tuple(settings for step, settings in found if step != ("shuffle", 1)),
        fill=fill_bytes(described.fill_value, described.dtype),
    )


def _step(used: Filter) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    options: Mapping[str, Any] = {}
    if used.number == _SHUFFLE:
        return codec_step("shuffle", {"elementsize": used.values[0]})
    if used.number in (1, 307, 32015) and used.values:
        options = {"level": used.values[0]}
    if used.number in _TWINS:
        return codec_step(_TWINS[used.number], options)
    return codec_step(f"hdf5 {used.text.partition(':')[0]}", {"values": list(used.values)})
