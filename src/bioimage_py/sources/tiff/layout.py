"""Where the voxels of a TIFF series are and how they are encoded, as tifffile reads it, in arrays of integers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.sources.tiff.coding import PageCoding
from bioimage_py.sources.tiff.ifd import FirstPage, PageReader

_OWN_PAGES = frozenset({"lsm", "stk", "ndtiff", "mmstack", "fluoview", "eer"})
"""Kinds of files whose pages are not what their tags say, so that tifffile's word for them stands."""

PageAxes = tuple[int | None, ...]
"""Axes of a page as `PageCoding.shape` has them, None for one of one voxel."""


@dataclass(frozen=True)
class TiffLayout:
    """A series of pages as one array."""

    shape: tuple[int, ...]  # of the series; axes are tifffile's letters
    dtype: np.dtype[Any]
    axes: str
    kind: str  # what wrote the file, as far as tifffile can tell: "ome", "imagej", "shaped", "uniform", …
    coding: PageCoding  # how a page is encoded
    split: int  # how many leading axes number the pages; the others are axes of a page
    page_axes: PageAxes  # of the axes behind the split
    paths: tuple[str, ...]  # the files that hold the pages
    page_file: npt.NDArray[np.int32]  # for each page its file
    # of pages that are not encoded; one entry: of all, one after the other
    raw_offsets: npt.NDArray[np.int64] | None
    offsets: npt.NDArray[np.int64]  # per page and segment, otherwise; 0 where a segment is missing
    byte_counts: npt.NDArray[np.int64]
    jpeg_tables: dict[int, bytes]  # tables of pages that have them
    transform: Callable[[AnyArray], AnyArray] | None  # what is applied to decoded voxels, or None
    other_codings: Mapping[int, PageCoding]  # of pages not encoded like the first

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


def check_page(page: tifffile.TiffPage, path: str) -> None:
    """Raise StorageError if a page lacks its width or length, which tifffile takes for 0."""
    for number, name in ((256, "width"), (257, "length")):
        if number not in page.tags:
            raise StorageError(f"TIFF {path!r} is damaged: page {page.index} has no {name} (tag {number})")


def layout_of(series: tifffile.TiffPageSeries, path: str, reader: PageReader) -> TiffLayout:
    """Return where the voxels of a series are."""
    check_page(series.keyframe, path)
    coding = PageCoding.of(series.keyframe)
    shape, axes = tuple(int(n) for n in series.shape), series.axes
    if min(shape, default=0) < 0 or math.prod(shape) * coding.dtype.itemsize > 2**63 - 1:
        raise StorageError(f"TIFF {path!r} is damaged: it gives shape {shape}, which no array has")
    has_voxels = Box.whole(shape).size > 0
    found = _page_axes(shape, coding.shape) if has_voxels else (0, (None,) * len(shape))
    if found is None:  # the metadata describe pages of another shape: fall back to the pages as they are
        page = series.keyframe
        shape, axes = (len(series), *(int(n) for n in page.shape)), "I" + page.axes
        found = _page_axes(shape, coding.shape)
        assert found is not None
    split, page_axes = found
    raw, pages = _raw_offset(series), []
    others: dict[int, tuple[PageCoding, FirstPage]] = {}
    # ImageJ and tifffile describe by the first page alone where the voxels of all are.
    if has_voxels and (raw is None or (len(series) > 1 and series.kind not in ("imagej", "shaped"))):
        pages = list(series)
        others = _other_codings(pages, coding, series, path, reader)
        raw = None if others else raw
    if raw is not None:
        pages = []
    elif has_voxels and len(pages) != math.prod(shape[:split]):
        raise StorageError(
            f"TIFF {path!r} is truncated or its metadata are wrong: they give {math.prod(shape[:split])} pages for shape {shape}, "
            f"the file has {len(pages)}"
        )
    offsets, byte_counts = _segment_table(pages, others, math.prod(coding.grid), series.keyframe)
    paths, page_file = _files(pages, path)
    codings = {n: other for n, (other, _) in others.items()}
    if pages:
        ends = np.array([os.stat(p).st_size for p in paths], np.int64)[page_file]  # noqa: PTH116
        byte_counts = settled_segments(offsets, byte_counts, coding, codings, ends, path)
    raw_offsets = None
    if raw is not None:
        raw_offsets = np.array([raw], np.int64)
    elif not others and offsets.size and all(page is not None and page.is_final for page in pages):
        raw_offsets = offsets[:, 0].copy() if in_one_piece(offsets, byte_counts) else None
    tables = {n: None if page is None else page.jpegtables for n, page in enumerate(pages)}
    tables |= {n: found.jpeg_tables for n, (_, found) in others.items()}
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
        raw_offsets=raw_offsets,
        offsets=offsets,
        byte_counts=byte_counts,
        jpeg_tables={n: table for n, table in tables.items() if table is not None},
        transform=series.transform,
        other_codings=codings,
    )


def _other_codings(
    pages: Sequence[Any], coding: PageCoding, series: tifffile.TiffPageSeries, path: str, reader: PageReader
) -> dict[int, tuple[PageCoding, FirstPage]]:
    """Return how pages are encoded whose tags differ from those of the first one, by which tifffile would decode them."""
    if series.kind in _OWN_PAGES:
        return {}
    first = reader.look(series.keyframe.parent.filehandle.path, series.keyframe.offset)
    codings: dict[tuple[object, ...], PageCoding] = {}
    others = {}
    for n, page in enumerate(pages):
        if page is None or page is series.keyframe or page.offset <= 0:
            continue
        name = page.parent.filehandle.path
        looks = reader.look(name, page.offset)
        alike = looks is None or first is None or looks[0] == first[0]
        found = None if alike else reader.get(name, page.offset)
        if found is None:
            continue
        if found.signature not in codings:
            codings[found.signature] = _coding_at(name, page.offset)
        mine = codings[found.signature]
        if mine.cut != coding.cut:
            raise UnsupportedFormatError(
                f"page {n} of a series of {path!r} is {mine.dtype} of shape {mine.shape} in segments of "
                f"{mine.segment}, the first one is {coding.dtype} of shape {coding.shape} in segments of "
                f"{coding.segment}; pages that differ in this cannot be read as one array"
            )
        others[n] = mine, found
    return others


def _coding_at(path: str, offset: int) -> PageCoding:
    # In a file of its own: tifffile keeps decoders by some of the tags only.
    with tifffile.TiffFile(path) as file:
        file.filehandle.seek(offset)
        return PageCoding.of(tifffile.TiffPage(file, 0))


def _page_axes(shape: tuple[int, ...], page: tuple[int, ...]) -> tuple[int, PageAxes] | None:
    """Match the trailing axes of a series to the axes of a page; None if they do not fit."""
    splits = reversed(range(len(shape)))
    split = next((n for n in splits if math.prod(shape[n:]) == math.prod(page)), None)
    if split is None:
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
    decoded = series.transform is not None or not series.keyframe.is_final
    if decoded or series.is_multifile or not math.prod(series.shape):
        return None
    # tifffile returns 0, which is the file's header, for pages that are not stored.
    return int(series.dataoffset or 0) or None


def in_one_piece(offsets: npt.NDArray[np.int64], byte_counts: npt.NDArray[np.int64]) -> bool:
    """Whether each page is stored, and its segments stand one after the other; an offset of 0 says "not stored"."""
    if offsets.shape[1] > 1 and not (offsets[:, :-1] + byte_counts[:, :-1] == offsets[:, 1:]).all():
        return False
    return bool((offsets[:, 0] > 0).all())


def _segment_table(
    pages: Sequence[Any],
    others: Mapping[int, tuple[PageCoding, FirstPage]],
    n_segments: int,
    keyframe: tifffile.TiffPage,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the offsets and lengths of segments as the pages' tags have them, 0 for lengths that they do not have."""
    counted = any(code in keyframe.tags for code in (279, 325, 514))
    n_columns = min(n_segments, max((len(page.dataoffsets) for page in pages if page is not None), default=0))
    offsets = np.zeros((len(pages), n_columns), np.int64)
    byte_counts = np.zeros((len(pages), n_columns), np.int64)
    for n, page in enumerate(pages):
        if page is None:
            continue
        places, lengths = page.dataoffsets, page.databytecounts if counted or page.is_frame else ()
        if n in others:
            places, lengths = others[n][1].offsets, others[n][1].byte_counts
        elif len(places) < n_segments:
            raise StorageError(
                f"page {n} of TIFF {page.parent.filehandle.path!r} has {len(places)} strips or tiles, its shape needs {n_segments}"
            )
        for table, values in ((offsets, places), (byte_counts, lengths)):
            kept = values[:n_columns]
            table[n, : len(kept)] = kept
    return offsets, byte_counts


def settled_segments(
    offsets: npt.NDArray[np.int64],
    byte_counts: npt.NDArray[np.int64],
    coding: PageCoding,
    other_codings: Mapping[int, PageCoding],
    ends: npt.NDArray[np.int64],
    path: str,
) -> npt.NDArray[np.int64]:
    """Return the lengths of segments, put right where the file does not state them, or states them wrongly, and they are certain.

    A segment is missing, and reads as the fill value, only if both its offset and its length are 0.
    """
    lost = (offsets == 0) & (byte_counts > 0)
    if lost.any():
        page, segment = (int(i) for i in np.argwhere(lost)[0])
        raise StorageError(
            f"TIFF {path!r} is damaged: segment {segment} of page {page} has {byte_counts[page, segment]} bytes at byte 0, "
            "which is the header of the file"
        )
    unstated = (offsets > 0) & (byte_counts <= 0)
    settled = byte_counts
    plain = np.full(len(offsets), coding.stored is not None)
    for page, other in other_codings.items():
        plain[page] = other.stored is not None
    stored = next((c.stored for c in (coding, *other_codings.values()) if c.stored is not None), None)
    if stored is not None and plain.any():
        # What is not compressed has the length that its shape has, if nothing else is there.
        wanted = np.broadcast_to(stored[: offsets.shape[1]], offsets.shape)
        differs = plain[:, None] & (offsets > 0) & (byte_counts != wanted)
        if differs.any():
            fits = (offsets + wanted <= ends.reshape(-1, 1)) & (offsets + wanted <= _next_offsets(offsets))
            settled = np.where(differs & (fits | (byte_counts > wanted)), wanted, settled)
            unstated &= ~plain[:, None]
    if unstated.any():
        # Decoders find the end of a compressed segment by themselves; what they need not is not read for long.
        room = np.minimum(_next_offsets(offsets), ends.reshape(-1, 1)) - offsets
        n_bytes = math.prod(coding.segment) * coding.shape[4] * coding.dtype.itemsize
        settled = np.where(unstated, np.clip(room, 0, 2 * n_bytes + 4096), settled)
    return settled


def _next_offsets(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each segment where the next one in the file begins."""
    ordered = np.unique(offsets)
    after = np.append(ordered[1:], np.iinfo(np.int64).max)
    return after[np.searchsorted(ordered, offsets)]


def _files(pages: Sequence[Any], path: str) -> tuple[tuple[str, ...], npt.NDArray[np.int32]]:
    """Return the files of pages, and the number of the file of each."""
    paths: dict[str, int] = {}
    numbers = [
        0 if page is None else paths.setdefault(page.parent.filehandle.path, len(paths)) for page in pages
    ]
    return tuple(paths) or (path,), np.array(numbers or [0], np.int32)
