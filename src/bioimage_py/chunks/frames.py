"""Taking headers and checksums off an encoded chunk and putting others on, without encoding it anew."""

from __future__ import annotations

import math
import struct
from typing import Any

import imagecodecs

from bioimage_py.chunks.encoding import ChunkEncoding
from bioimage_py.chunks.encoding_match import EncodingMatch
from bioimage_py.chunks.payload_check import PayloadCheck, crc32c_bytes, inflated
from bioimage_py.errors import StorageError
from bioimage_py.storage import Piece, StoredBytes

_codecs: Any = imagecodecs  # its stubs ask for bytes, but any buffer is taken
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_ZLIB_HEADER = b"\x78\x9c"


class ChunkFrames:
    """Checks the stored chunks of one array and gives them the headers and checksums of another, as a match says."""

    def __init__(
        self, input: ChunkEncoding, output: ChunkEncoding, match: EncodingMatch, *, sums: bool = True
    ) -> None:
        self._input, self._output = input, output
        self._steps = tuple(step for step in match.unwrap if step != "n5")
        self._wraps = tuple(step for step in match.wrap if step != "n5")
        self._swaps_deflate = any(step in ("gzip", "zlib") for step in self._steps)
        self._chunk_bytes = input.chunk_bytes
        self._check = PayloadCheck(input.codecs, inflate=not self._swaps_deflate, sums=sums)
        self._header = n5_header(output.chunks) if "n5" in match.wrap else b""
        self._keeps_header = input.wrapping == output.wrapping == "n5"

    @property
    def leaves_chunks(self) -> bool:
        """Whether chunks that are whole are stored in the other array as they are."""
        plain = self._input.wrapping == self._output.wrapping == "bare"
        return plain and not self._steps and not self._wraps

    def is_whole(self, stored: StoredBytes) -> bool:
        """Whether a chunk without the header of N5 is whole; raises StorageError as `moved` does."""
        return self._check.check(stored, self._chunk_bytes) == "whole"

    def moved(self, stored: StoredBytes) -> tuple[tuple[Piece, ...] | None, bool]:
        """Return what the other array stores for a chunk, and whether the chunk was found to be whole.

        None: it cannot be moved as it is. False: only decoding can tell. StorageError: it is cut, corrupt or was written meanwhile.
        """
        body, decoded_bytes = stored, self._chunk_bytes
        if self._input.wrapping == "n5":
            opened = self._without_header(stored)
            if opened is None:
                return None, False
            body, decoded_bytes = opened
        found = self._check.check(body, decoded_bytes)
        if found == "odd":
            return None, False
        whole = found == "whole"
        if not self._steps and not self._wraps:
            if self._keeps_header:
                return (stored,), whole
            return ((self._header, body) if self._header else (body,)), whole
        data = self._rewrapped(body, decoded_bytes)
        if data is None:
            return None, False
        stored.check_unchanged()
        header = stored.at(0, stored.length - body.length) if self._keeps_header else self._header
        return (header, *data), whole or self._swaps_deflate

    def _without_header(self, stored: StoredBytes) -> tuple[StoredBytes, int] | None:
        extents = read_n5_header(stored)
        if extents is None or (extents != self._input.chunks and not self._keeps_header):
            return None
        size = self._input.itemsize * math.prod(extents)
        return stored.part(4 + 4 * len(extents), stored.length), size

    def _rewrapped(self, body: StoredBytes, decoded_bytes: int) -> list[bytes | memoryview] | None:
        """Return the pieces of a chunk with other headers and checksums; what is between them is not copied."""
        data, decoded = memoryview(body.read()), b""
        for step in self._steps:
            if step in ("crc32c", "fletcher32"):
                data = data[:-4]
                continue
            found = _raw_deflate(data, step, decoded_bytes)
            if found is None:
                return None
            data, decoded = found
        pieces: list[bytes | memoryview] = [data]
        for step in self._wraps:
            if step == "crc32c":
                pieces.append(crc32c_bytes(b"".join(pieces)))
            elif step == "gzip":
                tail = struct.pack("<II", _codecs.deflate_crc32(decoded), len(decoded))
                pieces = [_GZIP_HEADER, *pieces, tail]
            else:
                pieces = [_ZLIB_HEADER, *pieces, struct.pack(">I", _codecs.deflate_adler32(decoded))]
        return pieces


def n5_header(extents: tuple[int, ...]) -> bytes:
    """Return the header of an N5 chunk of these extents, slowest axis first."""
    return struct.pack(f">HH{len(extents)}I", 0, len(extents), *extents[::-1])


def read_n5_header(stored: StoredBytes) -> tuple[int, ...] | None:
    """Return the extents of an N5 chunk, slowest axis first; None for a chunk of variable length or of objects."""
    head = stored.at(0, 4)
    if len(head) < 4:
        raise StorageError(f"it has {len(head)} bytes, which is too few for the header of an N5 chunk")
    mode, ndim = struct.unpack(">HH", head)
    if mode != 0:
        return None
    extents = stored.at(4, 4 * ndim)
    if len(extents) < 4 * ndim:
        raise StorageError(f"its header says {ndim} axes, but it has only {stored.length} bytes")
    return tuple(struct.unpack(f">{ndim}I", extents))[::-1]


def _raw_deflate(data: memoryview, kind: str, decoded_bytes: int) -> tuple[memoryview, bytes] | None:
    """Return the deflate stream in a gzip or zlib stream, and what it decodes to; None for several streams."""
    if kind == "gzip":
        begin = _end_of_gzip_header(data)
        (told,) = struct.unpack("<I", data[-4:])
        if told != decoded_bytes & 0xFFFFFFFF:
            return None
        decoded = inflated(data, "gzip", decoded_bytes)
        if data[-8:-4].tobytes() != struct.pack("<I", _codecs.deflate_crc32(decoded)):
            return None
        return data[begin:-8], decoded
    decoded = inflated(data, "zlib", decoded_bytes)
    if data[-4:].tobytes() != struct.pack(">I", _codecs.deflate_adler32(decoded)):
        return None
    return data[2:-4], decoded


def _end_of_gzip_header(stream: memoryview) -> int:
    if stream[:3].tobytes() != b"\x1f\x8b\x08" or len(stream) < 18:
        raise StorageError("it is no gzip stream")
    flags, at = stream[3], 10
    # Few streams have a name or a comment, which has to be looked for.
    data = bytes(stream) if flags & 24 else stream[:18].tobytes()
    if flags & 4:
        at += 2 + int(struct.unpack_from("<H", data, at)[0])
    for flag in (8, 16):  # a name and a comment end with a zero byte
        if flags & flag:
            at = data.index(b"\0", at) + 1
    return at + (2 if flags & 2 else 0)
