"""Chunks that TensorStore does not decode, but zarr-python and others do: of several streams, or with bytes behind their stream."""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np

from bioimage_py.chunks import (
    AnyArray,
    ChunkEncoding,
    EncodedReader,
    blosc_decoded,
    crc32c_bytes,
    read_n5_header,
)
from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.sources.base import Source
from bioimage_py.sources.chunk_access import encoded_reader, encoding_of
from bioimage_py.storage import StoredBytes

_codecs: Any = imagecodecs  # its stubs ask for bytes, but any buffer is taken


class UnusualChunks:
    """The chunks of a local array, decoded with more patience; each is read once, as it is asked for."""

    def __init__(self, reader: EncodedReader, encoding: ChunkEncoding) -> None:
        self._reader, self._encoding = reader, encoding
        self.shape = encoding.chunks

    @classmethod
    def of(cls, source: Source) -> UnusualChunks | None:
        try:
            encoding = encoding_of(source)
            return cls(encoded_reader(source), encoding) if isinstance(encoding, ChunkEncoding) else None
        except (StorageError, UnsupportedFormatError):
            return None

    def read(self, position: tuple[int, ...]) -> AnyArray | None:
        """Return the voxels of a chunk, None where it is not stored or is not a sequence of whole streams."""
        try:
            data = self._reader.read(position)
            return None if data is None else self._decoded(data)
        except (StorageError, RuntimeError, LookupError, ValueError, OSError, EOFError, zlib.error):
            return None

    def _decoded(self, data: bytes) -> AnyArray:
        encoding, shape = self._encoding, self._encoding.chunks
        if encoding.wrapping == "n5":
            shape = read_n5_header(StoredBytes(None, 0, len(data), data)) or ()
            data = data[4 + 4 * len(shape) :]
            if len(shape) != len(encoding.chunks):
                raise ValueError("its header does not fit")
        order, names = encoding.axis_order, [str(step[0]) for step in encoding.codecs]
        dtype = np.dtype(encoding.dtype).newbyteorder(">" if encoding.byte_order == "big" else "<")
        n_bytes = int(np.prod(shape, dtype=object)) * dtype.itemsize
        while names and names[-1] == "crc32c":
            names.pop()
            data, checksum = data[:-4], data[-4:]
            if crc32c_bytes(data) != checksum:
                raise ValueError("its checksum is wrong")
        (name,) = names
        decoded = _DECODERS[name](data, n_bytes)
        voxels = np.frombuffer(decoded, dtype).reshape([shape[axis] for axis in order])
        return voxels.transpose(np.argsort(order)).reshape(shape).astype(encoding.dtype, copy=False)


def _streams(begin: Callable[[], Any]) -> Callable[[bytes, int], bytes]:
    """Return what decodes streams one after the other, with zeros behind the last."""

    def decode(data: bytes, n_bytes: int) -> bytes:
        found = b""
        while data.strip(b"\0") or not found:
            stream = begin()
            found += stream.decompress(data, n_bytes + 1 - len(found))
            if not stream.eof or len(found) > n_bytes:
                raise ValueError("a stream is cut, or too long")
            data = stream.unused_data
        return found

    return decode


def _zstd(data: bytes, n_bytes: int) -> bytes:
    return bytes(_codecs.zstd_decode(data, out=n_bytes))


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _streams(lambda: zlib.decompressobj(31)),
    "zlib": _streams(lambda: zlib.decompressobj(15)),
    "bz2": _streams(bz2.BZ2Decompressor),
    "zstd": _zstd,
    "blosc": blosc_decoded,
}
