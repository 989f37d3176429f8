"""Opening a TIFF with tifffile once: choosing the series, and checking that the file is complete."""

from __future__ import annotations

import logging
import math
import mmap
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import tifffile

from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyError,
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.family import ALL_IMAGES
from bioimage_py.sources.tiff.ifd import PageChain, PageReader, walk_chain
from bioimage_py.sources.tiff.layout import TiffLayout, check_page, layout_of
from bioimage_py.sources.tiff.metadata import metadata_of
from bioimage_py.sources.tiff.ome import OmeSet, all_in_xml, alone_in_xml, ome_set
from bioimage_py.storage import FileBytes

_SIDE_IMAGES = frozenset(
    f"{name}{suffix}"
    for name in ("thumbnail", "label", "macro", "overview", "preview")
    for suffix in ("", " image")
)
"""Names of images that accompany another one and do not make a file ambiguous."""
_SIDE_ROLES = 0b101
"""NewSubfileType: a page is a smaller copy of another one, or its mask."""
_NOT_NEWS = re.compile(
    "circular reference|corrupted tag list of page|invalid page offset|zeroed|failed to read|missing .*frames|index out of range|"
    "Strip(Offsets|ByteCounts) count|ByteCounts tag|estimating ByteCounts|NDTiff.index|Datetime"
)
"""What tifffile logs about things that are repaired here, or that are errors here."""


class OpenTiff(NamedTuple):
    """A TIFF that tifffile has open, what reads tags of its pages, its list of pages, and the files that its OME-XML refers to."""

    file: tifffile.TiffFile
    reader: PageReader
    chain: PageChain | None
    ome: OmeSet | None


class ParsedTiff(NamedTuple):
    """A series of a TIFF: where its voxels are, what it says about itself, and how it was chosen."""

    layout: TiffLayout
    metadata: ImageMetadata  # as the file says it, not checked
    series: int
    level: int
    n_series: int
    big: bool
    n_levels: int
    absent: Sequence[str]
    is_page: bool  # whether it is the only page of the file, read apart from the set that it may belong to


def parse_tiff(
    path: str,
    key: str | None = None,
    series: int | str | None = None,
    level: int = 0,
    *,
    alone: bool = False,
    fill: bool = False,
) -> ParsedTiff:
    """Read the structure of a TIFF and choose a series and a pyramid level in it.

    With `alone`, other files of its set of OME-TIFFs are left out, and a single page is a series, whatever else is said of it.
    With `fill`, a file whose set is not there is read as it is.
    """
    with opened_tiff(path, alone=alone) as opened:
        file, ome = opened.file, opened.ome
        page = _only_page(file) if alone else None
        found = _all_series(file, opened.reader) if page is None else [page]
        check_set(ome, found, path, fill=fill)
        _check_promised(file, found, path)
        index = _choose(found, path, key, series)
        levels = found[index].levels
        if not 0 <= level < len(levels):
            raise SourceNotFoundError(
                f"series {index} of {path!r} has {len(levels)} pyramid levels, numbered from 0; there is no level {level}"
            )
        try:
            layout = layout_of(levels[level], os.path.abspath(path), opened.reader)  # noqa: PTH100 - follows no links
        except UnsupportedFormatError as error:
            raise UnsupportedFormatError(f"TIFF {path!r} cannot be read: {error}") from error
        _check_folder(layout, path)
        if len({c.white_is_zero for c in (layout.coding, *layout.other_codings.values())}) > 1:
            warnings.warn(
                f"TIFF {path!r}: in some pages 0 is white, in others black (PhotometricInterpretation); values are read as they are stored",
                BioimagePyWarning,
                stacklevel=4,
            )
        _check_chain(opened.chain, layout, path)
        check_extent(layout)
        return ParsedTiff(
            layout,
            metadata_of(file, found[index], levels[level], ome, index, layout),
            index,
            level,
            len(found),
            bool(file.is_bigtiff),
            len(levels),
            () if ome is None else ome.absent,
            page is not None,
        )


def series_titles(path: str) -> list[str]:
    """Return number, name, shape and dtype of each series in a file."""
    with opened_tiff(path) as opened:
        return [_title(n, s) for n, s in enumerate(_all_series(opened.file, opened.reader))]


def several_series(path: str) -> list[tuple[str, str]]:
    """Return number and name of each series in a file, where none is meant if none is chosen; else none."""
    with _opened_again(path) as (found, _):
        if len(found) == 1 or len(_main_series(found)) == 1:
            return []
        return [(str(n), series.name.strip()) for n, series in enumerate(found)]


def file_xml(path: str) -> str | None:
    """Return the OME-XML of all images in a file, see `all_in_xml`; None where there is none, or it is of other images."""
    with _opened_again(path) as (found, ome):
        return None if ome is None else all_in_xml(ome, len(found))


def image_xml(path: str, series: int) -> str | None:
    """Return the OME-XML of the image that a series is, see `alone_in_xml`; None where there is none."""
    with _opened_again(path) as (found, ome):
        return None if ome is None or series >= len(found) else alone_in_xml(ome, found[series], series)


@contextmanager
def _opened_again(path: str) -> Iterator[tuple[list[tifffile.TiffPageSeries], OmeSet | None]]:
    """Yield all series and the OME-XML, without the warnings that are issued when a series is opened."""
    with warnings.catch_warnings(action="ignore"), opened_tiff(path) as opened:
        yield _all_series(opened.file, opened.reader), opened.ome


@contextmanager
def opened_tiff(path: str, *, alone: bool = False) -> Iterator[OpenTiff]:
    """Open a TIFF with tifffile; what tifffile raises, which can be anything, and what it logs become errors and warnings of this package.

    With `alone`, other files of its set of OME-TIFFs are not opened.

    A list of pages that leads back to one of its own pages is ended there for tifffile, which may not stop by itself.
    """
    whole = FileBytes.open(path)
    if whole.size < 8:
        raise StorageError(
            f"TIFF {path!r} is truncated: expected a header of 8 bytes, found {whole.size} bytes in the whole file"
        )
    said: list[str] = []
    token = _LOGGED.set(said)
    try:
        with _judged(path), ExitStack() as stack:
            chain = walk_chain(whole)
            source: Any = path
            if chain is not None and chain.loops:
                source = stack.enter_context(_ended(os.path.realpath(path), chain))
            file = stack.enter_context(tifffile.TiffFile(source, _multifile=not alone))
            xml = file.ome_metadata if file.is_ome else None
            ome = None if xml is None else ome_set(xml, path, alone=alone)
            if ome is not None and ome.changed_xml is not None:
                file = stack.enter_context(tifffile.TiffFile(source, omexml=ome.changed_xml))
            yield OpenTiff(file, PageReader(), chain, ome)
    finally:
        _LOGGED.reset(token)
    if chain is not None and chain.loops:
        warnings.warn(
            f"TIFF {path!r} is damaged: its list of pages is a loop, after page {len(chain.offsets) - 1} comes page "
            f"{chain.offsets.index(chain.following)} again; each of its {len(chain.offsets)} pages is read once",
            BioimagePyWarning,
            stacklevel=3,
        )
    news = list(dict.fromkeys(text for text in said if not _NOT_NEWS.search(text)))
    if news:
        more = f" (and {len(news) - 3} more)" if len(news) > 3 else ""
        warnings.warn(
            f"TIFF {path!r} is unusual or damaged; tifffile says: {'; '.join(news[:3])}{more}",
            BioimagePyWarning,
            stacklevel=3,
        )


_LOGGED: ContextVar[list[str] | None] = ContextVar("bioimage_py_tifffile_says", default=None)


def _kept(record: logging.LogRecord) -> bool:
    """Keep what tifffile logs while a file is opened here off stderr; it becomes a warning."""
    said = _LOGGED.get()
    if said is None:
        return True
    if record.levelno >= logging.WARNING:
        said.append(re.sub(r"^<tifffile\.[^>]*>\s*", "", record.getMessage()).strip())
    return False


logging.getLogger("tifffile").addFilter(_kept)


class _EndedFile(mmap.mmap):
    """A file, in memory that can be changed."""

    name: str


def _ended(path: str, chain: PageChain) -> _EndedFile:
    """Return a file with a list of pages that ends where it would lead back; all else is read as it is."""
    with open(path, "rb") as file:  # noqa: PTH123
        ended = _EndedFile(file.fileno(), 0, access=mmap.ACCESS_COPY)
    ended.name = path
    ended[chain.end : chain.end + chain.pointer_size] = bytes(chain.pointer_size)
    return ended


@contextmanager
def _judged(path: str) -> Iterator[None]:
    try:
        yield
    except BioimagePyError:
        raise
    except OSError as error:
        raise StorageError(f"TIFF {path!r} cannot be read: {error}") from error
    except MemoryError as error:
        raise StorageError(
            f"TIFF {path!r} cannot be read: its tags describe more than fits into memory; it may be damaged"
        ) from error
    except Exception as error:
        raise UnsupportedFormatError(
            f"{path!r} is named like a TIFF but cannot be read as one ({type(error).__name__}: {error}); it may be "
            "damaged, or something else"
        ) from error


def _title(number: int, series: tifffile.TiffPageSeries) -> str:
    name = f" {series.name!r}" if series.name else ""
    return f"{number}{name} {tuple(series.shape)} {series.dtype}"


def _only_page(file: tifffile.TiffFile) -> tifffile.TiffPageSeries | None:
    """Return the page of a file that has one as a series; None if the file is a volume."""
    page = file.pages.first
    if file.pages.is_multipage or (not file.is_ome and [s.size for s in file.series] != [page.size]):
        return None
    # A page of a set of OME-TIFFs is a series of its own here; the description of the set still applies.
    kinds = {"ome": file.is_ome, "imagej": file.is_imagej, "shaped": file.is_shaped}
    kind = next((name for name, found in kinds.items() if found), "uniform")
    return tifffile.TiffPageSeries([page], page.shape, page.dtype, page.axes, kind=kind)


def _all_series(file: tifffile.TiffFile, reader: PageReader) -> list[tifffile.TiffPageSeries]:
    """Return tifffile's series, but with all pages of one shape in one series, however they are encoded, and masks in another."""
    try:
        found = list(file.series)
    except RuntimeError as error:  # pages that are not like the first one
        if file.is_ome or file.is_imagej or file.is_shaped or file.is_lsm or file.is_mmstack:
            raise UnsupportedFormatError(
                f"TIFF {file.filename!r} has pages of one series that differ in how they are cut into strips or tiles, "
                f"which is not supported ({error})"
            ) from error
        found = []
    if not found:
        pages = [file.pages.get(n) for n in range(len(file.pages))]
    elif found[0].kind not in ("uniform", "generic") or any(len(s.levels) > 1 for s in found):
        return found
    else:
        pages = [page for series in found for page in series if page is not None]
        if len(pages) < len(file.pages):  # releases of tifffile from 2026 on leave out what has no extent
            for n in {*range(len(file.pages))} - {page.index for page in pages}:
                check_page(file.pages.get(n).aspage(), file.filehandle.path)
    if len(pages) < 2 or any(page.is_subifd for page in pages):
        return found
    pages.sort(key=lambda page: page.index)
    name = file.filehandle.path
    looks = [None if page.offset <= 0 else reader.look(name, page.offset) for page in pages]
    first = looks[0]
    roles = [0 if one is None else one[1] & _SIDE_ROLES for one in looks]
    odd = [one is not None and first is not None and one[0] != first[0] for one in looks]
    if len(found) == 1 and not any(roles) and not any(odd):
        return found
    pages = [page.aspage() if differs else page for page, differs in zip(pages, odd, strict=True)]
    groups: dict[tuple[object, ...], list[Any]] = {}
    for page, role in zip(pages, roles, strict=True):
        frame = page.keyframe
        colour = max(1, int(frame.photometric))  # white is 0, or black is 0
        cut = frame.rowsperstrip, frame.tilewidth, frame.tilelength, frame.tiledepth
        groups.setdefault((role, frame.shaped, frame.dtype, colour, cut), []).append(page)
    series: list[tifffile.TiffPageSeries] = []
    for group in groups.values():
        frame = group[0].keyframe
        shape, axes = frame.shape, frame.axes
        if len(group) > 1:
            shape, axes = (len(group), *shape), "I" + axes
        series.append(
            tifffile.TiffPageSeries(group, shape, frame.dtype, axes, kind="uniform", index=len(series))
        )
    return series


def _is_side_image(series: tifffile.TiffPageSeries, found: Sequence[tifffile.TiffPageSeries]) -> bool:
    """Whether a series is a smaller copy of another one, its mask, or a picture of the slide or its label."""
    if series.keyframe.subfiletype & _SIDE_ROLES:
        return True
    largest = max(s.keyframe.imagewidth * s.keyframe.imagelength for s in found)
    if series.kind in ("ndpi", "avs") and series.name.strip().lower() == "map":
        return True
    smaller = series.keyframe.imagewidth * series.keyframe.imagelength < largest
    return smaller and series.name.strip().lower() in _SIDE_IMAGES


def _main_series(found: Sequence[tifffile.TiffPageSeries]) -> list[int]:
    return [n for n, series in enumerate(found) if not _is_side_image(series, found)]


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
        if len(found) == 1:
            return 0
        main = _main_series(found)
        if len(main) != 1:
            for one in found:
                check_page(one.keyframe, path)
            raise AmbiguousSourceError(
                f"TIFF {path!r} holds {len(found)} series: {listed}",
                hints=[Hint.of("choose one by number or name, with {}", series=...), ALL_IMAGES],
            )
        return main[0]
    named = [n for n, s in enumerate(found) if s.name and s.name == wanted]
    if len(named) == 1:
        return named[0]
    if str(wanted).isdecimal() and int(wanted) < len(found):
        return int(wanted)
    raise SourceNotFoundError(f"TIFF {path!r} has no series {wanted!r}; it has: {listed}")


def check_set(ome: OmeSet | None, found: Sequence[tifffile.TiffPageSeries], path: str, *, fill: bool) -> None:
    """Raise StorageError if the file is part of a set that is not there, unless it is to be read as it is (`fill`)."""
    if ome is None or not ome.absent or (found and found[0].kind in ("ome", "mmstack")):
        return
    names = ", ".join(ome.absent[:5]) + (f" and {len(ome.absent) - 5} more" if len(ome.absent) > 5 else "")
    said = f"TIFF {path!r} is part of a set of files, and its OME-XML refers to {names}"
    if not fill:
        raise StorageError(
            said,
            hints=[
                Hint("put them beside it"),
                Hint.of(
                    "or, to read the pages of this file as they are, open it with {}", missing_planes="fill"
                ),
            ],
        )
    warnings.warn(f"{said}: the pages of this file are read as they are", BioimagePyWarning, stacklevel=5)


def _check_folder(layout: TiffLayout, path: str) -> None:
    """Raise StorageError if a file of a series is outside of the folder of the first; other texts than OME-XML name files too."""
    folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120
    for other in layout.paths if len(layout.paths) > 1 and layout.kind != "ome" else ():
        if os.path.commonpath([folder, os.path.realpath(other)]) != folder:
            raise StorageError(
                f"TIFF {path!r} refers to {other!r}, which is outside of its folder and is not read: put it beside it"
            )


def _check_promised(file: tifffile.TiffFile, found: Sequence[tifffile.TiffPageSeries], path: str) -> None:
    """Raise StorageError if the file holds less than its description says; tifffile reads what is there."""
    if not found:
        return
    first = found[0]
    if file.is_shaped and first.kind == "shaped":
        for series, described in zip(found, file.shaped_metadata or (), strict=False):
            promised = tuple(described.get("shape", series.shape))
            if math.prod(promised) != math.prod(series.shape):
                raise StorageError(
                    f"TIFF {path!r} is truncated: its description gives shape {promised}, "
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


def _check_chain(chain: PageChain | None, layout: TiffLayout, path: str) -> None:
    """Raise StorageError if the list of pages goes on behind the end of the file."""
    one_piece = layout.raw_offsets is not None and len(layout.raw_offsets) == 1
    if one_piece and layout.kind in ("imagej", "shaped", "stk", "lsm"):
        return  # all voxels are where the first page says, whatever the other pages are
    if chain is not None and chain.following and not chain.loops:
        raise StorageError(
            f"TIFF {path!r} is truncated: after {len(chain.offsets)} pages it points to another one at byte "
            f"{chain.following}, but the file has {os.stat(path).st_size} bytes"  # noqa: PTH116
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
    for number, path in enumerate(layout.paths):
        mine = np.flatnonzero(layout.page_file == number)
        worst = int(mine[np.argmax(ends[mine])])
        found = os.stat(path).st_size  # noqa: PTH116
        if ends[worst] > found:
            raise StorageError(
                f"TIFF {path!r} is truncated: page {worst} ends at byte {ends[worst]}, found {found} bytes. "
                "Copy it again from where it came from"
            )
