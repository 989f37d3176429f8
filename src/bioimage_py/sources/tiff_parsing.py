"""Opening a TIFF with tifffile once: choosing the series, and seeing whether the file is whole."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import tifffile

from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyError,
    InvalidArgumentError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.sources.tiff_layout import TiffLayout, layout_of
from bioimage_py.sources.tiff_metadata import TiffTexts

__all__ = ["ParsedTiff", "check_extent", "judged", "parse_tiff", "series_titles"]

_SIDE_IMAGES = ("thumbnail", "label", "macro", "overview", "preview")
"""Names of series that accompany the image; they do not make a file ambiguous."""


class ParsedTiff(NamedTuple):
    """A series of a TIFF: where its voxels are, what it says about itself, and how it was chosen."""

    layout: TiffLayout
    texts: TiffTexts
    series: int
    level: int
    n_series: int
    big: bool
    n_levels: int = 1


def parse_tiff(
    path: str, key: str | None, series: int | str | None, level: int, *, alone: bool = False
) -> ParsedTiff:
    """Read the structure of a TIFF and choose a series and a pyramid level in it; `alone` leaves out other files of its set.

    Raises
    ------
    SourceNotFoundError
        If there is no file, series or level like that.
    AmbiguousSourceError
        If there are several series and none is chosen.
    StorageError
        If the file is truncated.
    UnsupportedFormatError
        If it is no TIFF or has an encoding that cannot be decoded.
    """
    _check_size(path)
    with judged(path), tifffile.TiffFile(path, _multifile=not alone) as file:
        found = list(file.series)
        _check_promised(file, found, path)
        index = _choose(found, path, key, series)
        if not 0 <= level < len(found[index].levels):
            raise SourceNotFoundError(
                f"series {index} of {path!r} has {len(found[index].levels)} pyramid levels, numbered from 0; "
                f"there is no level {level}"
            )
        chosen = found[index].levels[level]
        try:
            layout = layout_of(chosen, os.path.abspath(path))  # noqa: PTH100 - follows no links
        except UnsupportedFormatError as error:
            raise UnsupportedFormatError(f"TIFF {path!r} cannot be read: {error}") from error
        texts = TiffTexts.of(file, found[index], index, level)
        _check_chain(file, layout, path)
        check_extent(layout)
        n_levels = len(found[index].levels)
        return ParsedTiff(layout, texts, index, level, len(found), bool(file.is_bigtiff), n_levels)


def series_titles(path: str) -> list[str]:
    """Return number, name, shape and dtype of each series in a file."""
    _check_size(path)
    with judged(path), tifffile.TiffFile(path) as file:
        return [_title(n, s) for n, s in enumerate(file.series)]


@contextmanager
def judged(path: str) -> Iterator[None]:
    """Turn whatever tifffile raises over a damaged file, which can be anything, into our errors."""
    try:
        yield
    except (BioimagePyError, MemoryError):
        raise
    except OSError as error:
        raise StorageError(f"TIFF {path!r} cannot be read: {error}") from error
    except Exception as error:
        raise UnsupportedFormatError(
            f"{path!r} is named like a TIFF but cannot be read as one ({type(error).__name__}: {error}); it may be "
            "damaged, or something else"
        ) from error


def _check_size(path: str) -> None:
    try:
        size = os.stat(path).st_size  # noqa: PTH116 - one call, and a folder is not worth its own message
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"there is no file {path!r}") from error
    except OSError as error:
        raise StorageError(f"file {path!r} cannot be reached: {error}") from error
    if size < 8:
        raise StorageError(
            f"TIFF {path!r} is truncated: expected a header of 8 bytes, found {size} bytes in the whole file"
        )


def _title(number: int, series: tifffile.TiffPageSeries) -> str:
    name = f" {series.name!r}" if series.name else ""
    return f"{number}{name} {tuple(series.shape)} {series.dtype}"


def _choose(
    found: Sequence[tifffile.TiffPageSeries], path: str, key: str | None, series: int | str | None
) -> int:
    if not found:
        raise UnsupportedFormatError(f"TIFF {path!r} holds no image")
    if key is not None and series is not None and str(series) != key:
        raise InvalidArgumentError(f"key {key!r} and series={series!r} name two series of {path!r}; give one")
    wanted = series if series is not None else key
    listed = "; ".join(_title(n, s) for n, s in enumerate(found))
    if wanted is None:
        main = [n for n, s in enumerate(found) if not s.name.strip().lower().startswith(_SIDE_IMAGES)]
        if len(found) > 1 and main != [0]:
            raise AmbiguousSourceError(
                f"TIFF {path!r} holds {len(found)} series; choose one with key= or series=, by number or name: {listed}"
            )
        return 0
    named = [n for n, s in enumerate(found) if s.name and s.name == wanted]
    if len(named) == 1:
        return named[0]
    if str(wanted).isdecimal() and int(wanted) < len(found):
        return int(wanted)
    raise SourceNotFoundError(f"TIFF {path!r} has no series {wanted!r}; it has: {listed}")


def _check_promised(file: tifffile.TiffFile, found: Sequence[tifffile.TiffPageSeries], path: str) -> None:
    """See whether the file holds what its description speaks of; tifffile settles for what is there."""
    if not found:
        return
    first = found[0]
    if file.is_shaped and first.kind == "shaped":
        for series, described in zip(found, file.shaped_metadata or (), strict=False):
            promised = tuple(described.get("shape", series.shape))
            if math.prod(promised) != math.prod(series.shape):
                raise StorageError(
                    f"TIFF {path!r} is truncated: its description speaks of shape {promised}, "
                    f"its pages hold {tuple(series.shape)}"
                )
    elif file.is_imagej and first.kind not in ("imagej", "ome"):
        described = file.imagej_metadata or {}
        images, page = int(described.get("images", 1)), file.pages.first
        expected = int(page.dataoffsets[0]) + images * page.nbytes
        if images > len(file.pages) and page.is_contiguous and expected > file.filehandle.size:
            raise StorageError(
                f"TIFF {path!r} is truncated: {images} images of {page.nbytes} bytes need {expected} bytes, "
                f"found {file.filehandle.size}"
            )


def _check_chain(file: tifffile.TiffFile, layout: TiffLayout, path: str) -> None:
    """See whether the list of pages ends where it says that it ends."""
    one_piece = layout.raw_offsets is not None and len(layout.raw_offsets) == 1
    if one_piece and layout.kind in ("imagej", "shaped", "stk", "lsm"):
        return  # all voxels are where the first page says, whatever the other pages are
    at = file.pages.next_page_offset
    if at is None:
        return
    file.filehandle.seek(at)
    data = file.filehandle.read(file.tiff.offsetsize)
    following = struct.unpack(file.tiff.offsetformat, data)[0] if len(data) == file.tiff.offsetsize else -1
    if following:
        raise StorageError(
            f"TIFF {path!r} is truncated: after {len(file.pages)} pages it points to another one at byte "
            f"{following if following > 0 else '(unreadable)'}, but the file has {file.filehandle.size} bytes"
        )


def check_extent(layout: TiffLayout) -> None:
    """Raise StorageError unless every segment lies inside its file."""
    if layout.raw_offsets is not None:
        in_one_piece = layout.shape if len(layout.raw_offsets) == 1 else layout.shape[layout.split :]
        ends = layout.raw_offsets + math.prod(in_one_piece) * layout.coding.file_dtype.itemsize
    elif layout.offsets.size:
        ends = np.where(layout.byte_counts > 0, layout.offsets + layout.byte_counts, 0).max(axis=1)
    else:
        return
    files = layout.page_file if layout.page_file is not None else np.zeros(len(ends), np.int32)
    for number, path in enumerate(layout.paths):
        mine = np.flatnonzero(files == number)
        worst = int(mine[np.argmax(ends[mine])])
        found = os.stat(path).st_size  # noqa: PTH116
        if ends[worst] > found:
            raise StorageError(
                f"TIFF {path!r} is truncated: page {worst} ends at byte {ends[worst]}, found {found} bytes. "
                "Copy it again from where it came from"
            )
