"""Where the voxels of a TIFF series are and how they are encoded, as tifffile reads it, in arrays of integers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.sources.base import AnyArray
from bioimage_py.sources.tiff_coding import PageCoding

__all__ = ["TiffLayout", "in_one_piece", "layout_of"]


@dataclass(frozen=True)
class TiffLayout:
    """A series of pages as one array.

    Attributes
    ----------
    shape, dtype, axes
        Of the series; `axes` are tifffile's letters.
    kind
        What wrote the file, as far as tifffile can tell: `"ome"`, `"imagej"`, `"shaped"`, `"uniform"`, …
    coding
        How a page is encoded.
    split
        How many leading axes number the pages; the others are axes of a page.
    page_axes
        For each axis after `split`, its axis in `coding.shape`, or None where it has one voxel.
    paths
        The files that hold the pages.
    page_file
        For each page its file; None if there is one file.
    raw_offsets
        Where each page's voxels are if nothing is encoded, else None. One entry: all pages, one after the other.
    offsets, byte_counts
        Per page and segment, otherwise; 0 where a segment is missing.
    jpeg_tables
        Tables of pages that have them.
    transform
        What is applied to decoded voxels, or None.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    kind: str
    coding: PageCoding
    split: int
    page_axes: tuple[int | None, ...]
    paths: tuple[str, ...]
    page_file: npt.NDArray[np.int32] | None
    raw_offsets: npt.NDArray[np.int64] | None
    offsets: npt.NDArray[np.int64]
    byte_counts: npt.NDArray[np.int64]
    jpeg_tables: dict[int, bytes]
    transform: Callable[[AnyArray], AnyArray] | None

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """What is decoded at once, per axis; None where nothing is encoded."""
        if self.raw_offsets is not None:
            return None
        depth, length, width = self.coding.segment
        rows, columns = self.coding.group
        unit = (1, depth, length * rows, width * columns, self.coding.shape[4])
        cells = [1 if a is None else min(unit[a], self.coding.shape[a]) for a in self.page_axes]
        return (1,) * self.split + tuple(max(1, c) for c in cells)

    @property
    def has_missing(self) -> bool:
        """Whether a segment is not stored, so that it reads as fill."""
        return self.raw_offsets is None and not bool(self.offsets.all() and self.byte_counts.all())


def layout_of(series: tifffile.TiffPageSeries, path: str) -> TiffLayout:
    """Return where the voxels of a series are.

    Raises
    ------
    StorageError
        If pages are missing from the file.
    UnsupportedFormatError
        If the pages cannot be decoded.
    """
    coding = PageCoding.of(series.keyframe)
    shape = tuple(int(n) for n in series.shape)
    axes = series.axes
    found: tuple[int, tuple[int | None, ...]] | None = (0, (None,) * len(shape))
    has_voxels = Box.whole(shape).size > 0
    if has_voxels:
        found = _page_axes(shape, coding.shape)
    if found is None:  # the metadata describe pages of another shape: fall back to the pages as they are
        page = series.keyframe
        shape, axes = (len(series), *(int(n) for n in page.shape)), "I" + page.axes
        found = _page_axes(shape, coding.shape)
        assert found is not None
    split, page_axes = found
    n_pages = Box.whole(shape[:split]).size
    raw, pages = _raw_offset(series), []
    if raw is None and has_voxels:
        pages = list(series)
        if len(pages) != n_pages:
            raise StorageError(
                f"TIFF {path!r} is truncated or its metadata are wrong: they speak of {n_pages} pages for shape {shape}, "
                f"the file has {len(pages)}"
            )
    offsets, byte_counts = _segment_table(pages, math.prod(coding.grid))
    paths, page_file = _files(pages, path)
    return TiffLayout(
        shape=shape,
        dtype=coding.dtype if series.transform is None else np.dtype(series.dtype),
        axes=axes,
        kind=series.kind,
        coding=coding,
        split=split,
        page_axes=page_axes,
        paths=paths,
        page_file=page_file,
        raw_offsets=np.array([raw], np.int64) if raw is not None else _raw_pages(pages, offsets, byte_counts),
        offsets=offsets,
        byte_counts=byte_counts,
        jpeg_tables={
            n: page.jpegtables
            for n, page in enumerate(pages)
            if page is not None and page.jpegtables is not None
        },
        transform=series.transform,
    )


def _page_axes(shape: tuple[int, ...], page: tuple[int, ...]) -> tuple[int, tuple[int | None, ...]] | None:
    """Match the trailing axes of a series to the axes of a page; None if they do not fit."""
    size, split = 1, len(shape)
    while size != math.prod(page) or split == len(shape):
        if split == 0:
            break
        split -= 1
        size *= shape[split]
    if size != math.prod(page):
        return None
    matched: list[int | None] = []
    left = [axis for axis, n in enumerate(page) if n != 1]
    for n in reversed(shape[split:]):
        if n == 1:
            matched.append(None)
        elif left and page[left[-1]] == n:
            matched.append(left.pop())
        else:
            return None
    return None if left else (split, tuple(reversed(matched)))


def _raw_offset(series: tifffile.TiffPageSeries) -> int | None:
    """Return where the voxels begin if all of them stand one after the other, not encoded."""
    page = series.keyframe
    if (
        series.transform is not None
        or series.is_multifile
        or not page.is_final
        or not math.prod(series.shape)
    ):
        return None
    offset = series.dataoffset
    # tifffile returns 0, which is the file's header, for pages that are not stored.
    return int(offset) if offset else None


def _raw_pages(
    pages: Sequence[Any], offsets: npt.NDArray[np.int64], byte_counts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64] | None:
    """Return where each page begins if no page is encoded and each stands in one piece."""
    if not pages or any(page is None or not page.is_final for page in pages) or not offsets.size:
        return None
    return offsets[:, 0].copy() if in_one_piece(offsets, byte_counts) else None


def in_one_piece(offsets: npt.NDArray[np.int64], byte_counts: npt.NDArray[np.int64]) -> bool:
    """Whether each page is stored, and its segments stand one after the other; an offset of 0 says "not stored"."""
    joined = offsets[:, :-1] + byte_counts[:, :-1] == offsets[:, 1:]
    return bool(joined.all()) and bool((offsets[:, 0] > 0).all())


def _segment_table(
    pages: Sequence[Any], n_segments: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    offsets = np.zeros((len(pages), n_segments), np.int64)
    byte_counts = np.zeros((len(pages), n_segments), np.int64)
    for n, page in enumerate(pages):
        if page is not None:
            for table, values in ((offsets, page.dataoffsets), (byte_counts, page.databytecounts)):
                kept = values[:n_segments]
                table[n, : len(kept)] = kept
    return offsets, byte_counts


def _files(pages: Sequence[Any], path: str) -> tuple[tuple[str, ...], npt.NDArray[np.int32] | None]:
    paths: dict[str, int] = {}
    numbers = [
        0 if page is None else paths.setdefault(page.parent.filehandle.path, len(paths)) for page in pages
    ]
    if len(paths) < 2:
        return (next(iter(paths), path),), None
    return tuple(paths), np.array(numbers, np.int32)
