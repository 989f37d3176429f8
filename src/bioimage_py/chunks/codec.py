"""Decoding chunks into memory that is there, and encoding them into memory that is used again."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import imagecodecs
import numpy as np

from bioimage_py.chunks.encoding import BLOSC_SHUFFLES, AnyArray, ChunkEncoding, traits_of
from bioimage_py.chunks.filters import BLOSC_COMPRESSORS, blosc_lengths
from bioimage_py.chunks.frames import crc32c_bytes
from bioimage_py.chunks.scratch import Scratch

_codecs: Any = imagecodecs  # its stubs ask for bytes, but any buffer is taken


class ChunkCodec:
    """Codecs of chunks in C order: at most one that compresses, then at most a crc32c. `encodes` if it can encode as the metadata ask."""

    def __init__(self, encoding: ChunkEncoding) -> None:
        self.shape = encoding.chunks
        self.dtype = np.dtype(encoding.dtype).newbyteorder(">" if encoding.byte_order == "big" else "<")
        self._n_bytes = encoding.chunk_bytes
        names = [step[0] for step in encoding.codecs]
        self._checksum = names[-1:] == ["crc32c"]
        self._name = names[0] if names and names[0] != "crc32c" else ""
        settings: Mapping[str, Any] = dict(encoding.settings[0][1:]) if self._name else {}
        self._options = _encoder_options(self._name, settings, self.dtype.itemsize)
        self.encodes = self._options is not None
        # Whatever typesize it is told, imagecodecs shuffles by the size of the items that it is given.
        item = self._options[1].get("typesize", 1) if self._options is not None else 1
        self._items = np.dtype((np.void, item if self._n_bytes % item == 0 else 1))

    @classmethod
    def of(cls, encoding: ChunkEncoding) -> ChunkCodec | None:
        """Return None for other codecs, another order of axes, or a header around each chunk."""
        names = [step[0] for step in encoding.codecs]
        if names[-1:] == ["crc32c"]:
            names.pop()
        known = len(names) <= 1 and all(traits_of((name,)).tells_length for name in names)
        c_order = tuple(sorted(encoding.axis_order)) == encoding.axis_order
        return cls(encoding) if known and c_order and encoding.wrapping == "bare" else None

    def decode(self, data: AnyArray, target: AnyArray) -> bool:
        """Decode into contiguous memory; False where the bytes are not one plain stream of just this chunk: corrupt, or only unusual."""
        if self._checksum:
            data, stored = data[:-4], data[-4:].tobytes()
            if crc32c_bytes(data) != stored:
                return False
        out = target.reshape(-1).view(np.uint8)
        if not self._name:
            if len(data) != self._n_bytes:
                return False
            out[:] = data
            return True
        try:
            return self._decompress(data, out)
        except (RuntimeError, ValueError):
            return False

    def _decompress(self, data: AnyArray, out: AnyArray) -> bool:
        name, n_bytes = self._name, self._n_bytes
        if name == "zstd":
            return len(_codecs.zstd_decode(data, out=out)) == n_bytes
        if name == "blosc":
            # It trusts what its header says.
            if len(data) < 16 or blosc_lengths(data[:16].tobytes()) != (n_bytes, len(data)):
                return False
            return len(_codecs.blosc_decode(data, numthreads=1, out=out)) == n_bytes
        # Both end with the first stream; what the last bytes say shows whether others follow.
        tail = data[-4:].tobytes()
        if name == "gzip":
            found = _codecs.gzip_decode(data, out=out)
            return len(found) == n_bytes and tail == struct.pack("<I", n_bytes & 0xFFFFFFFF)
        found = _codecs.deflate_decode(data, out=out)
        return len(found) == n_bytes and tail == struct.pack(">I", _codecs.deflate_adler32(out))

    def encode(self, chunk: AnyArray, scratch: Scratch) -> AnyArray:
        """Return what is stored for a whole contiguous chunk; it stays until the thread encodes the next one."""
        data = chunk.reshape(-1).view(np.uint8)
        if not (self._name or self._checksum):
            return data
        # What does not compress takes a little more, and a few bytes are left for a checksum.
        out = scratch.bytes("encoded", self._n_bytes + self._n_bytes // 128 + 2**10)
        assert self._options is not None
        encode, options = self._options
        if encode is not None:
            data = encode(data.view(self._items), out=out[:-4], **options)
        if not self._checksum:
            return data
        n_bytes = len(data)
        if encode in (None, _zstd_with_checksum):
            out[:n_bytes] = data
        out[n_bytes : n_bytes + 4] = np.frombuffer(crc32c_bytes(out[:n_bytes]), np.uint8)
        return out[: n_bytes + 4]


def _encoder_options(
    name: str, settings: Mapping[str, Any], itemsize: int
) -> tuple[Any, dict[str, Any]] | None:
    """Return an encoder and its options; None where it cannot encode as the settings ask."""
    level = settings.get("level")
    if not name:
        return None, {}
    if name == "blosc":
        return _blosc_options(settings, itemsize)
    if name == "zstd":
        if not isinstance(level, int) or not 1 <= level <= 22:
            return None
        return _zstd_with_checksum if settings.get("checksum") else _codecs.zstd_encode, {"level": level}
    if not isinstance(level, int) or not 0 <= level <= 9:
        return None
    return _codecs.gzip_encode if name == "gzip" else _codecs.deflate_encode, {"level": level}


def _zstd_with_checksum(data: AnyArray, *, out: AnyArray, level: int) -> AnyArray:
    from numcodecs.zstd import compress  # imagecodecs has no checksum

    del out  # it makes memory of its own
    return np.frombuffer(compress(data.view(np.uint8), level, True), np.uint8)


def _blosc_options(settings: Mapping[str, Any], itemsize: int) -> tuple[Any, dict[str, Any]] | None:
    level, shuffle = settings.get("clevel"), settings.get("shuffle")
    if shuffle == -1:  # of v2: the codec chooses
        shuffle = 2 if itemsize == 1 else 1
    if shuffle in BLOSC_SHUFFLES:
        shuffle = BLOSC_SHUFFLES.index(shuffle)
    known = isinstance(level, int) and 0 <= level <= 9 and shuffle in (0, 1, 2)
    if not known or settings.get("cname") not in BLOSC_COMPRESSORS:
        return None
    options = {
        "level": level,
        "compressor": settings["cname"],
        "shuffle": shuffle,
        "typesize": settings.get("typesize") or itemsize,
        "blocksize": settings.get("blocksize") or 0,
        "numthreads": 1,
    }
    return _codecs.blosc_encode, options
