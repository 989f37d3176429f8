"""How a stored array encodes its chunks, as plain data that two arrays can be compared by."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bioimage_py.storage import ChunkKeys

if TYPE_CHECKING:
    from bioimage_py.storage import ObjectFolder


NUMBERS = frozenset({
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
})  # fmt: skip
"""Names of the dtypes of whose bytes all libraries think alike."""
CodecStep = tuple[Any, ...]
"""A codec by name, with the parameters without which its output cannot be decoded."""


@dataclass(frozen=True)
class CodecTraits:
    """What a codec of Zarr is like; one that is not known here is like none of these."""

    self_describing: bool = False  # what it writes says itself how to decode it, so only its name matters
    tells_length: bool = False  # what it writes says, or shows, what it decodes to; it is decoded here too
    few_bytes: bool = False  # and a few bytes are enough to see that
    keeps_length: bool = False
    deflates: bool = False  # a deflate stream behind a header and before a checksum
    sums: bool = False  # a checksum of 4 bytes behind what it is given


CODECS = {
    "zstd": CodecTraits(self_describing=True, tells_length=True),
    "gzip": CodecTraits(self_describing=True, tells_length=True, few_bytes=True, deflates=True),
    "zlib": CodecTraits(self_describing=True, tells_length=True, deflates=True),
    "blosc": CodecTraits(self_describing=True, tells_length=True, few_bytes=True),
    "bz2": CodecTraits(self_describing=True),
    "lz4": CodecTraits(self_describing=True),
    "shuffle": CodecTraits(keeps_length=True),
    "crc32c": CodecTraits(sums=True),
    "fletcher32": CodecTraits(sums=True),
}
"""Codecs that turn bytes into bytes, by the names that they have in all versions of Zarr."""
BLOSC_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")
_UNKNOWN = CodecTraits()


def traits_of(step: CodecStep) -> CodecTraits:
    # What has options that are not known here may be anything.
    return CODECS.get(step[0], _UNKNOWN) if len(step) == 1 or step[0] == "shuffle" else _UNKNOWN


@dataclass(frozen=True)
class ShardIndexEncoding:
    """How the table of a shard, which says where its chunks are, is stored."""

    location: str = "end"  # or `"start"` of the shard
    byte_order: str = "little"  # or `"big"`
    checksum: bool = True  # whether a crc32c follows the table


@dataclass(frozen=True)
class ChunkEncoding:
    """How the voxels of a chunk become the bytes that are stored for it."""

    format: str  # for people, such as `"zarr v3"`
    shape: tuple[int, ...]  # of the array in voxels, slowest axis first
    dtype: str  # name of the dtype, such as `"uint16"`
    byte_order: str  # `"little"` or `"big"`; empty where a voxel is one byte
    chunks: tuple[int, ...]  # extent of a chunk, and of a file of many chunks where there are such
    shards: tuple[int, ...] | None = None
    index: ShardIndexEncoding | None = None
    axis_order: tuple[int, ...] = ()  # in memory, slowest first; without axes on which a chunk has one voxel
    codecs: tuple[CodecStep, ...] = ()  # what is applied to the voxels, in the order of writing
    settings: tuple[CodecStep, ...] = ()  # per codec: sorted names and values that decoding does not need
    fill: bytes = b""  # little-endian bytes of the voxels of chunks that are not stored
    edge: str = "padded"  # or `"truncated"`: chunks at the far faces need not have their whole extent
    wrapping: str = "bare"  # `"n5"` where a header precedes what the codecs give, else `"bare"`
    one_file: bool = False  # all chunks are in one file, which only its library can write

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunks) * self.itemsize

    @property
    def grid(self) -> tuple[int, ...]:
        return tuple(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))


@dataclass(frozen=True)
class UnknownEncoding:
    """Chunks that cannot be moved; `why` follows "because"."""

    why: str


@dataclass(frozen=True)
class StoredChunks:
    """Where the encoded chunks of an array are, and how they are encoded."""

    encoding: ChunkEncoding
    place: str | None  # the local folder that holds the chunk files, or the HDF5 file; None behind a URL
    keys: ChunkKeys | None = None  # what the files are called; None where all chunks are in one file
    objects: ObjectFolder | None = None  # what holds the chunks behind a URL


def codec_step(name: str, options: Mapping[str, Any]) -> tuple[CodecStep, CodecStep]:
    """Return a codec as it is compared, and its settings that decoding does not need; unknown codecs are compared with all options."""
    if CODECS.get(name, _UNKNOWN).self_describing:
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
