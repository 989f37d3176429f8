"""Decoding an HDF5 chunk: the filters of its dataset undone in reverse order, outside any lock.

A filter is known here by its registered number. Datasets with any other filter are read through HDF5 itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import imagecodecs
import numpy as np

from bioimage_py.chunks.encoding import AnyArray, CodecStep, codec_step
from bioimage_py.errors import StorageError

_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_BZIP2, _LZF, _BLOSC, _LZ4, _BITSHUFFLE, _ZSTD = 307, 32000, 32001, 32004, 32008, 32015
BLOSC_COMPRESSORS = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
_BITSHUFFLE_CODECS = {0: "", 2: "lz4", 3: "zstd"}

Bytes = bytes | bytearray | memoryview
# Its stubs ask for bytes or bytearray, but any buffer is taken.
_codecs: Any = imagecodecs


class Filter(NamedTuple):
    """One filter of a dataset: its registered number, its parameters, and the name that the file gives it."""

    number: int
    values: tuple[int, ...]
    name: str = ""

    @property
    def level(self) -> int | None:
        return self.values[0] if self.number in (_DEFLATE, _BZIP2, _ZSTD) and self.values else None

    @property
    def text(self) -> str:
        """The filter for people, such as `"gzip:4"`."""
        name = _known(self).name or self.name or f"filter {self.number}"
        if self.level is not None:
            return f"{name}:{self.level}"
        if self.number == _BLOSC and len(self.values) >= 7 and self.values[6] < len(BLOSC_COMPRESSORS):
            shuffle = {1: " shuffle", 2: " bitshuffle"}.get(self.values[5], "")
            return f"blosc {BLOSC_COMPRESSORS[self.values[6]]}:{self.values[4]}{shuffle}"
        if self.number == _BITSHUFFLE and len(self.values) >= 5 and self.values[4]:
            return f"bitshuffle {_BITSHUFFLE_CODECS.get(self.values[4], self.values[4])}"
        return name

    @property
    def step(self) -> tuple[CodecStep, CodecStep]:
        """The filter as a codec of other formats, see `codec_step`."""
        if self.number == _SHUFFLE:
            return codec_step("shuffle", {"elementsize": self.values[0]})
        if codec := _known(self).codec:
            return codec_step(codec, {} if self.level is None else {"level": self.level})
        return codec_step(f"hdf5 {self.text.partition(':')[0]}", {"values": list(self.values)})

    @property
    def decodable(self) -> bool:
        values = self.values
        if self.number == _BITSHUFFLE:
            return len(values) >= 5 and values[2] > 0 and values[4] in _BITSHUFFLE_CODECS
        if self.number == _SHUFFLE:
            return len(values) >= 1 and values[0] > 0
        return _known(self).decode is not None


def codec_text(filters: tuple[Filter, ...]) -> str:
    """Return how chunks are encoded, for people: compression first, then what prepares for it."""
    prepares = (_SHUFFLE, _FLETCHER32)
    ordered = [f for f in filters if f.number not in prepares] + [f for f in filters if f.number in prepares]
    return " + ".join(f.text for f in ordered)


class FilterPipeline:
    """The filters of a dataset, in the order of writing; `decodable` if all are known here."""

    def __init__(self, filters: tuple[Filter, ...], chunk_bytes: int) -> None:
        self.filters = filters
        self.chunk_bytes = chunk_bytes
        self.decodable = all(used.decodable for used in filters)
        self._decoders = [_known(used).decode for used in filters]

    def decode(self, stored: Bytes, mask: int) -> Bytes:
        """Return a whole decoded chunk; bit i of `mask` is set where filter i was skipped for it."""
        data = stored
        sizes = self._sizes_before(mask)
        for i in reversed(range(len(self.filters))):
            if mask >> i & 1:
                continue
            used, decode = self.filters[i], self._decoders[i]
            assert decode is not None
            try:
                data = decode(data, used.values, sizes[i])
            except (RuntimeError, ValueError, MemoryError, struct.error) as error:
                raise StorageError(
                    f"{used.text} cannot decode it: {error or type(error).__name__}"
                ) from error
        if len(data) != self.chunk_bytes:
            raise StorageError(f"it holds {len(data)} bytes where {self.chunk_bytes} are expected")
        return data

    def _sizes_before(self, mask: int) -> list[int | None]:
        """Return the size of what each filter was given on writing, None behind a compression."""
        sizes: list[int | None] = []
        size: int | None = self.chunk_bytes
        for i, used in enumerate(self.filters):
            sizes.append(size)
            if mask >> i & 1 or used.number == _SHUFFLE:
                continue
            size = size + 4 if used.number == _FLETCHER32 and size is not None else None
        return sizes


def _inflate(data: Bytes, values: tuple[int, ...], size: int | None) -> Bytes:
    del values
    if size is None:
        return cast("Bytes", _codecs.zlib_decode(data))
    return cast("Bytes", _codecs.deflate_decode(data, out=size))


def _unshuffle(data: Bytes, values: tuple[int, ...], size: int | None) -> Bytes:
    del size
    item = values[0]
    n = len(data) // item
    if item == 1 or n <= 1:
        return data
    planes = np.frombuffer(data, np.uint8)
    out = np.empty(len(data), np.uint8)
    items = out[: n * item].reshape(n, item)
    for k in range(item):
        items[:, k] = planes[k * n : (k + 1) * n]
    out[n * item :] = planes[n * item :]
    return out.data


def _check_fletcher32(data: Bytes, values: tuple[int, ...], size: int | None) -> Bytes:
    del values, size
    body = memoryview(data)[:-4]
    (stored,) = struct.unpack("<I", memoryview(data)[-4:])
    computed = int(_codecs.h5checksum_fletcher32(body))
    # HDF5 before 1.6.3 stored the bytes of each half the other way round, and HDF5 accepts both.
    swapped = (computed & 0x00FF00FF) << 8 | (computed >> 8) & 0x00FF00FF
    if stored not in (computed, swapped):
        raise StorageError(f"its fletcher32 checksum is {computed:#010x}, but {stored:#010x} was stored")
    return body


def _from_bitshuffle(data: Bytes, values: tuple[int, ...], size: int | None) -> Bytes:
    item, codec = values[2], values[4]
    if not codec:
        block = values[3] if len(values) > 3 else 0
        return cast("Bytes", _codecs.bitshuffle_decode(data, itemsize=item, blocksize=block))
    total, block_bytes = struct.unpack_from(">QI", data)
    if size is not None and total != size:
        raise ValueError(f"its header says {total} bytes where {size} are expected")
    shuffled = _bitshuffled_blocks(memoryview(data), total, block_bytes, item, codec)
    return cast(
        "Bytes", _codecs.bitshuffle_decode(bytes(shuffled), itemsize=item, blocksize=block_bytes // item)
    )


def _bitshuffled_blocks(data: memoryview, total: int, block: int, item: int, codec: int) -> bytearray:
    """Decompress block by block; the last one is cut to 8 items, and what is left over is stored as it is."""
    if block < 8 * item:
        raise ValueError(f"its header says blocks of {block} bytes")
    decode = _codecs.lz4_decode if codec == 2 else _codecs.zstd_decode
    in_blocks, out, at = total // (8 * item) * (8 * item), bytearray(), 12
    for begin in range(0, in_blocks, block):
        (packed,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 4 + packed]
        at += 4 + packed
        if len(body) != packed or not packed:
            raise ValueError("it ends too early")
        out += decode(body, out=min(block, in_blocks - begin))
    return out + data[at : at + total - in_blocks]


def blosc_lengths(header: bytes) -> tuple[int, int]:
    """Return the decoded and the encoded length that the first 16 bytes of a blosc stream say."""
    decoded, _, encoded = struct.unpack_from("<III", header, 4)
    return decoded, encoded


def blosc_decoded(data: Bytes, size: int | None) -> bytes:
    """Decode a blosc stream with or without bytes behind it. Blosc itself reads as far as the header says, also behind the end."""
    decoded, encoded = blosc_lengths(bytes(data[:16])) if len(data) >= 16 else (0, 0)
    if not 16 <= encoded <= len(data) or decoded != (min(decoded, 2**31 - 1) if size is None else size):
        raise ValueError("its header does not fit")
    return bytes(_codecs.blosc_decode(data[:encoded], numthreads=1))


class _Known(NamedTuple):
    name: str = ""
    decode: Callable[[Bytes, tuple[int, ...], int | None], Bytes] | None = None
    codec: str = ""  # which is the same in `CODECS`


_KNOWN = {
    _DEFLATE: _Known("gzip", _inflate, "zlib"),
    _SHUFFLE: _Known("shuffle", _unshuffle),
    _FLETCHER32: _Known("fletcher32", _check_fletcher32, "fletcher32"),
    _BZIP2: _Known("bzip2", lambda data, _, size: _codecs.bz2_decode(data, out=size), "bz2"),
    _LZF: _Known("lzf", lambda data, values, size: _codecs.lzf_decode(data, out=size or values[2])),
    _BLOSC: _Known("blosc", lambda data, _, size: blosc_decoded(data, size), "blosc"),
    _LZ4: _Known("lz4", lambda data, _, size: _codecs.lz4h5_decode(data, out=size)),
    _BITSHUFFLE: _Known("bitshuffle", _from_bitshuffle),
    _ZSTD: _Known("zstd", lambda data, _, size: _codecs.zstd_decode(data, out=size), "zstd"),
    4: _Known("szip"),
    5: _Known("nbit"),
    6: _Known("scaleoffset"),
    32013: _Known("zfp"),
    32017: _Known("sz"),
    32026: _Known("blosc2"),
}
"""Filters by their registered numbers, those without a decoder for their names only."""


def _known(used: Filter) -> _Known:
    return _KNOWN.get(used.number, _Known())


def gzip_level_to_encode(filters: tuple[Filter, ...]) -> int | None:
    """Return the gzip level of a dataset whose chunks are gzip, or shuffle and gzip, and nothing else; else None."""
    numbers = tuple(f.number for f in filters)
    return filters[-1].values[0] if numbers in ((_DEFLATE,), (_SHUFFLE, _DEFLATE)) else None


def encode_gzip(chunk: AnyArray, level: int, *, shuffled: bool) -> bytes:
    """Return a whole chunk as HDF5's gzip filter stores it, shuffled before or not."""
    data = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8)
    item = chunk.dtype.itemsize
    if shuffled and item > 1:
        planes = np.empty((item, chunk.size), np.uint8)
        for k in range(item):
            planes[k] = data[k::item]
        data = planes.reshape(-1)
    return cast("bytes", _codecs.deflate_encode(data.data, level))
