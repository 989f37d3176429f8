"""How one page of a TIFF is cut into segments, and how a segment is decoded."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile

from bioimage_py.errors import UnsupportedFormatError
from bioimage_py.sources.base import AnyArray

__all__ = ["PageCoding"]

_NAMES = {"adobe_deflate": "deflate", "none": ""}
_GROUP_STRIPS, _GROUP_TILES = (256 * 2**10, 2**20), (16 * 2**10, 64 * 2**10)
"""Segments smaller than the first number of bytes are decoded in groups of about the second."""


@dataclass(frozen=True)
class PageCoding:
    """How one page is cut into segments (tiles or strips) and how a segment is decoded.

    Attributes
    ----------
    shape
        Extent of a page as (separate samples, depth, length, width, contiguous samples).
    segment
        Extent of a segment as (depth, length, width), not cut at the page.
    grid
        Segments per page as (separate samples, depth, length, width).
    group
        Segments that are decoded together, as (length, width).
    decode
        tifffile's function from encoded bytes and segment number to voxels.
    arguments
        Keyword arguments of `decode` that all pages share.
    dtype
        dtype of decoded voxels, in native byte order.
    file_dtype
        dtype as stored, for pages that are not encoded.
    fill
        What a missing segment reads as.
    codec
        Compression and predictor, for people.
    """

    shape: tuple[int, int, int, int, int]
    segment: tuple[int, int, int]
    grid: tuple[int, int, int, int]
    group: tuple[int, int]
    decode: Callable[..., tuple[AnyArray | None, Any, Any]]
    arguments: dict[str, Any]
    dtype: np.dtype[Any]
    file_dtype: np.dtype[Any]
    fill: Any
    codec: str

    @classmethod
    def of(cls, page: tifffile.TiffPage) -> PageCoding:
        """Return the coding of a page; raises UnsupportedFormatError if it cannot be decoded."""
        if page.dtype is None:
            raise UnsupportedFormatError(f"samples of {page.bitspersample} bits have no numpy dtype")
        samples, depth, length, width, contiguous = (int(n) for n in page.shaped)
        tiled = page.is_tiled
        cut = (page.tiledepth, page.tilelength, page.tilewidth) if tiled else (1, page.rowsperstrip, width)
        segment = (
            int(cut[0]),
            max(1, min(int(cut[1]), max(1, length)) if not tiled else int(cut[1])),
            int(cut[2]),
        )
        extents = (depth, length, width)
        grid = (samples, *(-(-n // max(1, s)) for n, s in zip(extents, segment, strict=True)))
        n_bytes = math.prod(segment) * contiguous * np.dtype(page.dtype).itemsize
        try:
            page.decode(None, 0)
        except (ValueError, NotImplementedError, ImportError) as error:
            if math.prod(page.shaped):
                raise UnsupportedFormatError(f"its pages cannot be decoded: {error}") from error
        arguments = {}
        if page.compression in {6, 7, 33007, 34892} and page.jpegheader is not None:
            arguments["jpegheader"] = page.jpegheader
        return cls(
            shape=(samples, depth, length, width, contiguous),
            segment=segment,
            grid=grid,  # type: ignore[arg-type]
            group=_group(n_bytes, grid, tiled=tiled),
            decode=page.decode,
            arguments=arguments,
            dtype=np.dtype(page.dtype),
            file_dtype=np.dtype(page.dtype).newbyteorder(page.parent.byteorder),
            fill=page.nodata,
            codec=_codec(page),
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
