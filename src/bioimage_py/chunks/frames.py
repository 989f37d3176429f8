"""Whether an encoded chunk is whole, by its own header, length and checksum; and giving it others without encoding it again."""

from __future__ import annotations

import bz2
import math
import struct
from collections.abc import Callable
from typing import Any, Literal, cast

import google_crc32c
import imagecodecs
import numpy as np

from bioimage_py.chunks.encoding import AnyArray, ChunkEncoding, CodecStep, traits_of
from bioimage_py.chunks.encoding_match import EncodingMatch
from bioimage_py.chunks.filters import Filter, FilterPipeline, blosc_lengths
from bioimage_py.errors import StorageError
from bioimage_py.storage import Piece, StoredBytes

_codecs: Any = imagecodecs  # its stubs ask for bytes, but any buffer is taken

_ZSTD_MAGIC = 0xFD2FB528

_SKIPPABLE = range(0x184D2A50, 0x184D2A60)

Finding = Literal["whole", "unknown", "odd"]


class PayloadCheck:
    """Checks chunks by their length, header and checksum; `by_few_bytes` if only a few bytes of each are looked at.

    `inflate=False` leaves out zlib streams, which do not say their length; `sums=False` leaves out crc32c, which takes all bytes.
    """

    def __init__(self, codecs: tuple[CodecStep, ...], *, inflate: bool = True, sums: bool = True) -> None:
        steps = list(codecs)
        self._checksums: list[str] = []
        while steps and traits_of(steps[-1]).sums:
            self._checksums.append(steps.pop()[0])
        last = steps.pop() if steps and not traits_of(steps[-1]).keeps_length else None
        name, self._sums = "" if last is None else str(last[0]), sums
        known = all(traits_of(step).keeps_length for step in steps)
        tells_length = known and (last is None or traits_of(last).tells_length)
        self.inflates = (name == "zlib" and inflate) or name == "bz2"
        few = tells_length and (last is None or traits_of(last).few_bytes)
        self.by_few_bytes = few and (not self._checksums or (not sums and self._checksums == ["crc32c"]))
        self._check: Callable[[StoredBytes, int], Finding] | None = None
        if tells_length or (name == "bz2" and not steps):
            self._check = _CHECKS[name] if inflate or name != "zlib" else lambda *_: "whole"

    def check(self, stored: StoredBytes, decoded_bytes: int) -> Finding:
        """Check a chunk that decodes to so many bytes; StorageError if it is cut or corrupt.

        `"unknown"`: only decoding can tell. `"odd"`: it is cut or more than one stream; encode it again if it can be decoded.
        """
        for name in self._checksums:
            stored = _without_checksum(name, stored, self._sums)
        return "unknown" if self._check is None else self._check(stored, decoded_bytes)


def why_all_bytes(codecs: tuple[CodecStep, ...]) -> str | None:
    """Return why chunks of these codecs are checked by all their bytes (follows "because"); None if a few are enough."""
    if PayloadCheck(codecs, sums=False).by_few_bytes:
        return None
    return f"only all bytes of a chunk of {' and '.join(str(step[0]) for step in codecs)} tell whether it is whole"


def crc32c_bytes(data: bytes | memoryview | AnyArray) -> bytes:
    # It takes no memoryview, and a slice of bytes would be a copy.
    return struct.pack("<I", google_crc32c.value(np.frombuffer(data, np.uint8)))


def _without_checksum(name: str, stored: StoredBytes, sums: bool) -> StoredBytes:
    if stored.length < 4:
        raise StorageError(f"it has {stored.length} bytes, which is too few for a checksum")
    if name == "crc32c" and not sums:
        return stored.part(0, -4)
    data = stored.read()
    if name == "fletcher32":
        FilterPipeline((Filter(3, ()),), len(data) - 4).decode(data, 0)
    elif (found := crc32c_bytes(memoryview(data)[:-4])) != data[-4:]:
        raise StorageError(f"its crc32c is {found.hex()}, but {data[-4:].hex()} was stored")
    return stored.part(0, -4)


def inflated(data: bytes | memoryview, kind: str, decoded_bytes: int) -> bytes:
    """Return what is in a gzip or zlib stream; StorageError if its checksum or length is wrong."""
    decode = _codecs.deflate_decode if kind == "zlib" else _codecs.gzip_decode
    try:
        found = cast("bytes", decode(data, out=decoded_bytes))
    except (RuntimeError, ValueError) as error:
        raise StorageError(f"{kind} cannot decode it: {error}") from error
    if len(found) != decoded_bytes:
        raise StorageError(f"it holds {len(found)} bytes where {decoded_bytes} are expected")
    return found


def _deflate_frame(kind: str, decoded: bytes) -> tuple[bytes, bytes]:
    """Return what is before and behind the deflate stream in a gzip or zlib stream."""
    if kind == "zlib":
        return b"\x78\x9c", struct.pack(">I", _codecs.deflate_adler32(decoded))
    tail = struct.pack("<II", _codecs.deflate_crc32(decoded), len(decoded) & 0xFFFFFFFF)
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", tail


def _check_length(stored: StoredBytes, decoded_bytes: int) -> Finding:
    if stored.length != decoded_bytes:
        raise StorageError(f"it has {stored.length} bytes where {decoded_bytes} are expected")
    return "whole"


def _check_gzip(stored: StoredBytes, decoded_bytes: int) -> Finding:
    if stored.at(0, 3) != b"\x1f\x8b\x08" or stored.length < 18:
        raise StorageError("it is not a gzip stream")
    # Otherwise it is cut, something follows it, or it has several members, of which this is the length of the last.
    return "whole" if stored.at(-4, 4) == struct.pack("<I", decoded_bytes & 0xFFFFFFFF) else "odd"


def _check_zlib(stored: StoredBytes, decoded_bytes: int) -> Finding:
    decoded = inflated(stored.read(), "zlib", decoded_bytes)
    # Otherwise something follows the stream.
    return "whole" if stored.at(-4, 4) == _deflate_frame("zlib", decoded)[1] else "odd"


def _check_bz2(stored: StoredBytes, decoded_bytes: int) -> Finding:
    stream = bz2.BZ2Decompressor()
    try:
        decoded = stream.decompress(stored.read(), decoded_bytes + 1)
    except (OSError, ValueError) as error:
        raise StorageError(f"bz2 cannot decode it: {error}") from error
    if stream.eof and stream.unused_data:
        return "odd"
    if not stream.eof or len(decoded) != decoded_bytes:
        raise StorageError(f"it does not hold just the {decoded_bytes} bytes that are expected")
    return "whole"


def _check_blosc(stored: StoredBytes, decoded_bytes: int) -> Finding:
    header = stored.at(0, 16)
    if len(header) < 16:
        raise StorageError(f"it has {len(header)} bytes, which is too few for blosc")
    decoded, encoded = blosc_lengths(header)
    if encoded > stored.length:
        raise StorageError(f"it has {stored.length} bytes, but its blosc header says {encoded}")
    if decoded != decoded_bytes:
        raise StorageError(
            f"its blosc header says {decoded} bytes decoded where {decoded_bytes} are expected"
        )
    # Otherwise something follows the stream.
    return "whole" if encoded == stored.length else "odd"


def _check_zstd(stored: StoredBytes, decoded_bytes: int) -> Finding:
    """Follow frames and their blocks to the end; not all readers go on behind the first frame."""
    at, total, told, frames = 0, 0, True, 0
    while at < stored.length:
        head = stored.at(at, 18)
        magic = int.from_bytes(head[:4], "little")
        if magic != _ZSTD_MAGIC or len(head) < 6:
            if magic in _SKIPPABLE and len(head) >= 8:
                at += 8 + int.from_bytes(head[4:8], "little")
                frames += 1
                continue
            raise StorageError(f"there is no zstd frame at byte {at} of it")
        frames += 1
        flags = head[4]
        single, checksum = flags >> 5 & 1, flags >> 2 & 1
        begin = 6 - single + (0, 1, 2, 4)[flags & 3]
        n_size = (single, 2, 4, 8)[flags >> 6]
        told = told and n_size > 0
        total += int.from_bytes(head[begin : begin + n_size], "little") + (256 if n_size == 2 else 0)
        at = _end_of_blocks(stored, at + begin + n_size, head[begin + n_size :]) + 4 * checksum
    if at != stored.length:
        raise StorageError(f"it ends at byte {stored.length}, but its zstd frames at {at}")
    if told and total != decoded_bytes:
        raise StorageError(f"its zstd frames say {total} bytes decoded where {decoded_bytes} are expected")
    if frames != 1:
        return "odd"
    return "whole" if told else "unknown"


def _end_of_blocks(stored: StoredBytes, at: int, head: bytes) -> int:
    """Follow blocks from a place whose first bytes are known already; return where the last one ends."""
    while True:
        head = head[:3] if len(head) >= 3 else stored.at(at, 3)
        if len(head) < 3:
            raise StorageError(f"it ends at byte {stored.length}, in the middle of a zstd frame")
        block = int.from_bytes(head, "little")
        kind = block >> 1 & 3
        if kind == 3:
            raise StorageError(f"there is no zstd block at byte {at} of it")
        at += 3 + (1 if kind == 1 else block >> 3)
        if block & 1:
            return at
        head = b""


_CHECKS = {
    "": _check_length, "gzip": _check_gzip, "zlib": _check_zlib, "bz2": _check_bz2, "blosc": _check_blosc, "zstd": _check_zstd,
}  # fmt: skip


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

    @property
    def inflates(self) -> bool:
        """Whether chunks are decoded to be moved."""
        return self._swaps_deflate or self._check.inflates

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
                pieces.append(crc32c_bytes(pieces[0] if len(pieces) == 1 else b"".join(pieces)))
            else:
                head, tail = _deflate_frame(step, decoded)
                pieces = [head, *pieces, tail]
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
    """Return the deflate stream in a gzip or zlib stream that was checked, and what it decodes to; None for several streams."""
    if kind == "gzip" and data[3]:
        return None  # its header has a name or a comment
    decoded = inflated(data, kind, decoded_bytes)
    head, tail = _deflate_frame(kind, decoded)
    return (data[len(head) : -len(tail)], decoded) if data[-len(tail) :] == tail else None
