"""The `attributes.json` of N5: reading nodes, and describing arrays to be made.

N5 names axes fastest first, so everything that has one entry per axis is turned around on its way in and out.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from bioimage_py.chunks import ChunkEncoding, StoredChunks, codec_step, fill_bytes
from bioimage_py.errors import BioimagePyWarning, UnsupportedFormatError
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.base import Source
from bioimage_py.sources.n5.conventions import attributes_of, metadata_from
from bioimage_py.sources.stores import Node, first_dataset, folder_of, new_chunks
from bioimage_py.sources.zarr import blosc_fields, checked_codec, checked_level
from bioimage_py.storage import ChunkKeys, StoreFolder, check_json

_log = logging.getLogger(__name__)

DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
_CODECS = ("none", "gzip", "zstd", "blosc", "bz2", "lz4")
_ARRAY_FIELDS = ("dimensions", "blockSize", "dataType", "compression", "compressionType")


def read_node(folder: StoreFolder) -> Node | None:
    """Return the group or array in a folder, or None; every local folder with folders in it counts as a group."""
    found = folder.read_json("attributes.json")
    if found is not None and "dimensions" in found and "dataType" in found:
        dimensions = found["dimensions"]
        known = isinstance(dimensions, list) and all(isinstance(n, int) for n in dimensions)
        # The version of N5 stands beside them where an array is the whole container.
        attributes = {name: value for name, value in found.items() if name not in {*_ARRAY_FIELDS, "n5"}}
        return Node(
            folder, found, attributes, tuple(dimensions[::-1]) if known else (), str(found["dataType"])
        )
    if found is not None:
        return Node(folder, None, found, first=first_dataset(found))
    if folder.is_local and folder.has_folders():
        return Node(folder, None)
    return None


_BLOSC_FIELDS = ("type", "cname", "clevel", "shuffle", "blocksize")


def tensorstore_metadata(node: Node) -> dict[str, Any]:
    """Return what TensorStore needs to decode an array, without attributes that could break its parsing."""
    array = dict(node.array or {})
    found = {name: array[name] for name in _ARRAY_FIELDS if name in array}
    if "compression" not in found:  # N5 before version 1.0
        found["compression"] = {"type": found.get("compressionType", "raw")}
    found.pop("compressionType", None)
    check_json(found, node.folder.path)
    compression = found["compression"]
    if isinstance(compression, Mapping) and compression.get("type") == "blosc":
        # z5py adds how many threads it has; decoding needs none of that, and TensorStore refuses what it does not know.
        found["compression"] = {k: v for k, v in compression.items() if k in _BLOSC_FIELDS}
    return found


def image_metadata(node: Node) -> ImageMetadata:
    above = []
    for folder in node.folder.parents(3):
        try:
            found = folder.read_json("attributes.json")
        except OSError as error:
            # The folders around an array need not be readable, nor be N5 at all.
            _log.debug("no N5 attributes from %s: %s", folder.path, error)
            break
        if found is not None:
            above.append(found)
    return metadata_from(node.attributes, above, node.folder.path, len(node.shape))


def array_metadata(spec: ArraySpec) -> tuple[dict[str, Any], dict[str, Any]]:
    chunks = new_chunks(spec, "N5", DTYPES)
    metadata = {
        "dimensions": list(spec.shape[::-1]),
        "blockSize": list(chunks[::-1]),
        "dataType": spec.dtype.name,
        "compression": _compression(spec),
    }
    attributes = attributes_of(spec.metadata)
    clash = sorted(set(attributes) & {*_ARRAY_FIELDS, "n5"})
    for name in clash:
        del attributes[name]
    if clash:
        warnings.warn(
            f"attributes {', '.join(clash)} of the input are not written: N5 keeps its own values under these names",
            BioimagePyWarning,
            stacklevel=4,
        )
    return metadata, attributes


def _compression(spec: ArraySpec) -> dict[str, Any]:
    codec = checked_codec(spec.codec or Codec("gzip", 1), _CODECS, "N5")
    if codec.name == "none":
        return {"type": "raw"}
    if codec.name == "blosc":
        return {"type": "blosc", **blosc_fields(codec, spec.dtype)}
    if codec.name == "bz2":
        return {"type": "bzip2", "blockSize": checked_level(codec)}
    return {"type": codec.name, "level": checked_level(codec)}


def stored_chunks(source: Source) -> StoredChunks:
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
    if array["dataType"] not in DTYPES or not array["dimensions"]:
        raise UnsupportedFormatError(f"an N5 array of {array['dataType']} with these axes is not known here")
    dtype = np.dtype(array["dataType"])
    chunks = tuple(int(n) for n in array["blockSize"][::-1])
    name, options = _codec_step(array["compression"])
    found = [] if name == "raw" else [codec_step(name, options)]
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


def _codec_step(compression: Any) -> tuple[str, Mapping[str, Any]]:
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
