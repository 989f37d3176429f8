"""How a stored array encodes its chunks, as plain data that two arrays can be compared by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bioimage_py.storage import ChunkKeys

if TYPE_CHECKING:
    from bioimage_py.storage import ObjectFolder


CodecStep = tuple[Any, ...]
"""A codec by name, with the parameters without which its output cannot be decoded."""

# What these write says itself how to decode it, so only their names matter.
_SELF_DESCRIBING = ("zstd", "gzip", "zlib", "bz2", "blosc", "lz4")


@dataclass(frozen=True)
class ShardIndexEncoding:
    """The table of a shard that says where its chunks are.

    Attributes
    ----------
    location
        `"end"` or `"start"` of the shard.
    byte_order
        `"little"` or `"big"`.
    checksum
        Whether a crc32c follows the table.
    """

    location: str = "end"
    byte_order: str = "little"
    checksum: bool = True


@dataclass(frozen=True)
class ChunkEncoding:
    """How the voxels of a chunk become the bytes that are stored for it.

    Attributes
    ----------
    format
        For people, such as `"zarr v3"`.
    shape
        Of the array in voxels, slowest axis first.
    dtype
        Name of the dtype, such as `"uint16"`.
    byte_order
        `"little"` or `"big"`; empty where a voxel is one byte.
    chunks, shards
        Extent of a chunk, and of a file of many chunks where there are such.
    index
        How the table of a shard is stored.
    axis_order
        The axes as they follow in memory, slowest first, without those of which a chunk has one voxel only.
    codecs
        What is applied to the voxels, in the order of writing.
    settings
        For each codec what decoding does not need, such as its level: sorted names and values.
    fill
        The bytes, little-endian, of the voxel that a chunk which is not stored is full of.
    edge
        `"padded"` where chunks at the far faces are stored with their whole extent, `"truncated"` where they need not be.
    wrapping
        `"n5"` where a header precedes what the codecs give, else `"bare"`.
    """

    format: str
    shape: tuple[int, ...]
    dtype: str
    byte_order: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    index: ShardIndexEncoding | None = None
    axis_order: tuple[int, ...] = ()
    codecs: tuple[CodecStep, ...] = ()
    settings: tuple[CodecStep, ...] = ()
    fill: bytes = b""
    edge: str = "padded"
    wrapping: str = "bare"

    @property
    def itemsize(self) -> int:
        """Bytes of a voxel."""
        return np.dtype(self.dtype).itemsize

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a whole chunk, decoded."""
        n = self.itemsize
        for extent in self.chunks:
            n *= extent
        return n

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks per axis."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))


@dataclass(frozen=True)
class UnknownEncoding:
    """The answer for a source whose chunks cannot be moved, and the reason in words that follow "because"."""

    why: str


@dataclass(frozen=True)
class StoredChunks:
    """Where the encoded chunks of an array are, and how they are encoded.

    Attributes
    ----------
    encoding
        How.
    place
        The local folder that holds the chunk files, or the HDF5 file; None behind a URL.
    keys
        What the files are called; None where all chunks are in one file.
    objects
        What holds the chunks behind a URL.
    """

    encoding: ChunkEncoding
    place: str | None
    keys: ChunkKeys | None = None
    objects: ObjectFolder | None = None


def codec_step(name: str, options: Mapping[str, Any]) -> tuple[CodecStep, CodecStep]:
    """Return a codec as it is compared, and what of it decoding does not need.

    Codecs that are not known here are compared with all their options.
    """
    if name in _SELF_DESCRIBING:
        settings = tuple(sorted((k, v) for k, v in options.items() if isinstance(v, (int, str)) or v is None))
        return (name,), (name, *settings)
    if name == "shuffle":
        return ("shuffle", int(options.get("elementsize", 4))), (name,)
    if name == "crc32c" and options.get("location", "end") == "end":
        return ("crc32c",), (name,)
    if name == "fletcher32":
        return (name,), (name,)
    return (name, json.dumps(dict(options), sort_keys=True)), (name,)


def byte_order_of(dtype: np.dtype[Any]) -> str:
    """Return `"little"`, `"big"`, or `""` where a voxel is one byte."""
    if dtype.itemsize == 1:
        return ""
    return "big" if dtype.newbyteorder("=").str != dtype.str else "little"


def fill_bytes(value: Any, dtype: np.dtype[Any]) -> bytes:
    """Return the bytes of a fill value, little-endian, so that NaN and -0.0 compare as what they are."""
    return np.asarray(0 if value is None else value).astype(dtype.newbyteorder("<")).tobytes()


AnyArray = npt.NDArray[Any]
