"""How N5 encodes its chunks: big-endian behind a header, chunks at the far faces cut or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from bioimage_py.chunks import ChunkEncoding, StoredChunks, codec_step, fill_bytes
from bioimage_py.errors import UnsupportedFormatError
from bioimage_py.sources.base import Source
from bioimage_py.sources.n5.metadata import DTYPES, read_node, tensorstore_metadata
from bioimage_py.sources.stores import folder_of
from bioimage_py.storage import ChunkKeys


def stored_chunks(source: Source) -> StoredChunks:
    """Return where and how the chunks of an opened array are stored; UnsupportedFormatError if that is not known."""
    folder = folder_of(source, source.to_spec())
    node = read_node(folder)
    if node is None or node.array is None:
        raise UnsupportedFormatError(f"the chunks of {source.name} are not files of their own")
    encoding = encoding_of(tensorstore_metadata(node))
    return StoredChunks(
        encoding, folder.path if folder.is_local else None, chunk_keys(encoding.grid), folder.objects()
    )


def chunk_keys(grid: tuple[int, ...]) -> ChunkKeys:
    return ChunkKeys("", "/", fastest_first=True, grid=grid)


def encoding_of(array: Mapping[str, Any]) -> ChunkEncoding:
    """Return what the metadata of an array say about its chunks; UnsupportedFormatError if that is not known."""
    if array["dataType"] not in DTYPES or not array["dimensions"]:
        raise UnsupportedFormatError(f"an N5 array of {array['dataType']} with these axes is not known here")
    dtype = np.dtype(array["dataType"])
    chunks = tuple(int(n) for n in array["blockSize"][::-1])
    steps = [_compression(array["compression"])]
    found = [codec_step(name, options) for name, options in steps if name != "raw"]
    return ChunkEncoding(
        format="n5",
        shape=tuple(int(n) for n in array["dimensions"][::-1]),
        dtype=dtype.name,
        byte_order="" if dtype.itemsize == 1 else "big",
        chunks=chunks,
        axis_order=tuple(axis for axis, extent in enumerate(chunks) if extent > 1),
        codecs=tuple(step for step, _ in found),
        settings=tuple(settings for _, settings in found),
        fill=fill_bytes(0, dtype),
        edge="truncated",
        wrapping="n5",
    )


def _compression(compression: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(compression, str):
        compression = {"type": compression}
    name = str(compression.get("type"))
    options = {key: value for key, value in compression.items() if key != "type"}
    if name == "gzip":
        return ("zlib" if options.pop("useZlib", False) else "gzip"), options
    if name == "bzip2":
        return "bz2", options
    # LZ4 blocks and xz of N5 are not those of other formats.
    return (name if name in ("raw", "zstd", "blosc") else f"n5 {name}"), options
