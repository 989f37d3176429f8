"""How one page of a TIFF is cut into segments, and how a segment is decoded."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import UnsupportedFormatError

_NAMES = {"adobe_deflate": "deflate", "none": ""}
_GROUP_STRIPS, _GROUP_TILES = (256 * 2**10, 2**20), (16 * 2**10, 64 * 2**10)
"""Segments smaller than the first number of bytes are decoded in groups of about the second."""
_JPEG, _JPEG_XR, _CCITT = frozenset({6, 7, 33007, 34892}), frozenset({22610, 34934}), frozenset({2, 3, 4})
_END_OF_FAX = "000000000001" * 2


def _packed(bits: str) -> bytes:
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


_BLACK = "00110101010" * 40  # runs of no white and one black voxel, 55 bytes
_BEHIND = (
    bytes(64),
    _packed(("0" * 20 + "1" + _BLACK + "000") * 8),
    _packed(_BLACK * 5),
    _packed("1" + _BLACK * 5 + "0" * 7),
)
"""Bytes that are appended to a CCITT stream to see whether its decoder reads beyond its end."""

Decode = Callable[..., tuple[AnyArray | None, Any, Any]]


@dataclass(frozen=True)
class PageCoding:
    """How one page is cut into segments (tiles or strips) and how a segment is decoded."""

    # extent of a page as (separate samples, depth, length, width, contiguous samples)
    shape: tuple[int, int, int, int, int]
    segment: tuple[int, int, int]  # extent of a segment as (depth, length, width), not cut at the page
    grid: tuple[int, int, int, int]  # segments per page as (separate samples, depth, length, width)
    group: tuple[int, int]  # segments that are decoded together, as (length, width)
    decode: Decode  # tifffile's function from encoded bytes and segment number to voxels
    arguments: dict[str, Any]  # keyword arguments of decode that all pages share
    dtype: np.dtype[Any]  # dtype of decoded voxels, in native byte order
    file_dtype: np.dtype[Any]  # dtype as stored, for pages that are not encoded
    fill: Any  # what a missing segment reads as
    codec: str  # compression and predictor, as text
    # Bytes of each segment of a page where nothing is compressed and each segment has a place, else None
    stored: npt.NDArray[np.int64] | None = None
    # whether the values are to be shown inverted; they are read as they are stored
    white_is_zero: bool = False

    @property
    def cut(self) -> tuple[object, ...]:
        """What pages must share that are read together: how they are cut, and into what they are decoded."""
        return self.shape, self.segment, self.grid, self.dtype

    @classmethod
    def of(cls, page: tifffile.TiffPage) -> PageCoding:
        """Return the coding of a page; raises UnsupportedFormatError if it cannot be decoded."""
        if page.dtype is None:
            raise UnsupportedFormatError(f"samples of {page.bitspersample} bits have no numpy dtype")
        samples, depth, length, width, contiguous = (int(n) for n in page.shaped)
        tiled = page.is_tiled
        segment = 1, max(1, min(int(page.rowsperstrip), length)), width
        if tiled:
            segment = int(page.tiledepth), max(1, int(page.tilelength)), int(page.tilewidth)
        extents = (depth, length, width)
        grid = (samples, *(-(-n // max(1, s)) for n, s in zip(extents, segment, strict=True)))
        n_bytes = math.prod(segment) * contiguous * np.dtype(page.dtype).itemsize
        try:
            page.decode(None, 0)
        except (ValueError, NotImplementedError, ImportError) as error:
            if math.prod(page.shaped):
                raise UnsupportedFormatError(f"its pages cannot be decoded: {error}") from error
        arguments = {}
        decode: Decode = page.decode
        if page.compression in _JPEG and page.jpegheader is not None:
            arguments["jpegheader"] = page.jpegheader  # its segments are parts of one stream
        elif page.compression in _JPEG:
            decode = _checking(check_jpeg_end, decode)
        elif page.compression in _JPEG_XR:
            decode = _checking(_check_jpeg_xr_end, decode)
        elif page.compression in _CCITT:
            decode = _whole_fax(decode)
        return cls(
            shape=(samples, depth, length, width, contiguous),
            segment=segment,
            grid=grid,  # type: ignore[arg-type]
            group=_group(n_bytes, grid, tiled=tiled),
            decode=decode,
            arguments=arguments,
            dtype=np.dtype(page.dtype),
            file_dtype=np.dtype(page.dtype).newbyteorder(page.parent.byteorder),
            fill=page.nodata,
            codec=_codec(page),
            stored=_stored(page, grid, segment) if page.compression == 1 else None,
            white_is_zero=page.photometric == 0,
        )


def _group(n_bytes: int, grid: tuple[int, ...], *, tiled: bool) -> tuple[int, int]:
    small, target = _GROUP_TILES if tiled else _GROUP_STRIPS
    if n_bytes >= small:
        return 1, 1
    together = max(1, target // max(1, n_bytes))
    columns = max(1, min(grid[3], together))
    return max(1, min(grid[2], together // columns)), columns


def _codec(page: tifffile.TiffPage) -> str:
    try:
        name = tifffile.COMPRESSION(page.compression).name.lower()
    except ValueError:
        name = f"compression {int(page.compression)}"
    name = _NAMES.get(name, name)
    return f"{name} + predictor {int(page.predictor)}" if name and page.predictor != 1 else name


def _stored(
    page: tifffile.TiffPage, grid: tuple[int, ...], segment: tuple[int, int, int]
) -> npt.NDArray[np.int64] | None:
    """Return how many bytes each segment of a page has where nothing is compressed."""
    bits = page.bitspersample
    if not isinstance(bits, int) or 0 in page.shaped or math.prod(grid) > len(page.dataoffsets):
        return None
    rows = np.full(grid, segment[1], np.int64)
    if not page.is_tiled:
        rows[:, :, -1] = page.shaped[2] - (grid[2] - 1) * segment[1]
    row = -(-segment[2] * int(page.shaped[4]) * bits // 8)
    found: npt.NDArray[np.int64] = rows.ravel() * (segment[0] * row)
    return found


def _checking(check: Callable[[bytes | memoryview], None], decode: Decode) -> Decode:
    def checked(data: bytes | memoryview, segment: int, **arguments: Any) -> tuple[AnyArray | None, Any, Any]:
        check(data)
        return decode(data, segment, **arguments)

    return checked


def _whole_fax(decode: Decode) -> Decode:
    """Decode CCITT streams, which have no length, and which the decoder fills up with white where they end early."""

    def whole(data: bytes | memoryview, segment: int, **arguments: Any) -> tuple[AnyArray | None, Any, Any]:
        if _END_OF_FAX in f"{int.from_bytes(data[-5:], 'big'):040b}":
            return decode(data, segment, **arguments)
        found, *others = (decode(bytes(data) + behind, segment, **arguments) for behind in _BEHIND)
        for other in others:
            if not np.array_equal(found[0], other[0]):  # type: ignore[arg-type]  # never None for bytes
                raise ValueError(f"its {len(data)} bytes of CCITT fax are truncated")
        return found

    return whole


def check_jpeg_end(data: bytes | memoryview) -> None:
    """Raise ValueError if a JPEG stream ends before its end marker, which decoders pass over and fill up with grey."""
    if bytes(data[-2:]) == b"\xff\xd9":
        return
    # Bytes may follow, and a thumbnail in the header has an end marker of its own, before the image's scans.
    whole = bytes(data)
    if whole.rfind(b"\xff\xd9") <= whole.rfind(b"\xff\xda"):
        raise ValueError(f"its {len(whole)} bytes of JPEG are truncated: they have no end marker")


def _check_jpeg_xr_end(data: bytes | memoryview) -> None:
    """Raise ValueError if a JPEG XR file ends before its image does, which the decoder passes over."""
    head = bytes(data[:4096])
    if head[:3] != b"II\xbc" or len(head) < 8:
        return
    (at,) = struct.unpack_from("<I", head, 4)
    (n_tags,) = struct.unpack_from("<H", head, at)
    tags = {}
    for n in range(n_tags):
        code, kind, _, value = struct.unpack_from("<HHII", head, at + 2 + 12 * n)
        tags[code] = value & 0xFFFF if kind == 3 else value
    end = tags.get(0xBCC0, 0) + tags.get(0xBCC1, 0)
    if end > len(data):
        raise ValueError(f"its {len(data)} bytes of JPEG XR are truncated: the image ends at byte {end}")
