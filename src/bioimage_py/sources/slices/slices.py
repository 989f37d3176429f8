"""Opening one slice of a stack: a page of a TIFF, or a PNG or JPEG picture."""

from __future__ import annotations

import math
import threading
import warnings
from dataclasses import replace
from operator import add
from typing import Any

import imagecodecs
import numpy as np
import tifffile

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import BioimagePyWarning, StorageError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.base import StoredSize
from bioimage_py.sources.chunked import ChunkedFileSource
from bioimage_py.sources.location import family_by_content
from bioimage_py.sources.tiff import (
    FirstPage,
    ParsedTiff,
    TiffSource,
    TiffTexts,
    check_extent,
    check_jpeg_end,
    check_set,
    companion_set,
    first_page,
    in_one_piece,
    layout_of,
    opened_tiff,
    parse_tiff,
    settled_segments,
)
from bioimage_py.storage import OpenFiles, file_identity


def slice_opener(path: str, files: OpenFiles, missing_planes: str) -> TiffSlices | Pictures:
    """Return what opens slices like this one; raises UnsupportedFormatError if it is neither TIFF, PNG nor JPEG."""
    found = family_by_content(path)
    if found is None or found.kind not in ("tiff", "stack"):
        size = files.get(path).size
        what = "is empty" if size == 0 else f"is not a TIFF, PNG or JPEG file ({size} bytes)"
        raise UnsupportedFormatError(
            f"slice {path!r} {what}; give a pattern that matches the image files only"
        )
    return TiffSlices(files, missing_planes) if found.kind == "tiff" else Pictures(files)


class TiffSlices:
    """TIFF slices: tifffile is asked once for each distinct way to encode a page."""

    def __init__(self, files: OpenFiles, missing_planes: str) -> None:
        self._missing_planes = missing_planes
        self._files = files
        self._lock = threading.Lock()
        self._like: dict[object, ParsedTiff | None] = {}
        self._white_is_zero: bool | None = None

    def open(self, path: str) -> TiffSource:
        """Open a slice: its page, or all its pages as a volume if it has several."""
        parsed = self._parse(path)
        return TiffSource(path, parsed, missing_planes=self._missing_planes, cache_bytes=0, files=self._files)

    def _parse(self, path: str) -> ParsedTiff:
        file = self._files.get(path)
        page = first_page(file)
        if page is None:
            return _parse_slice(path) or parse_tiff(path, None, None, 0, alone=True)
        with self._lock:
            if page.signature not in self._like:
                self._like[page.signature] = _parse_slice(path)
                self._compare(self._like[page.signature], path)
            like = self._like[page.signature]
        if like is None or (like.layout.raw_offsets is not None and like.layout.coding.stored is None):
            return parse_tiff(path, None, None, 0, alone=True)
        return _moved(like, page, path, file.size)

    def _compare(self, parsed: ParsedTiff | None, path: str) -> None:
        white = None if parsed is None else parsed.layout.coding.white_is_zero
        if None not in (white, self._white_is_zero) and white != self._white_is_zero:
            warnings.warn(
                f"in {path!r} 0 is {'white' if white else 'black'}, in slices before it is not (PhotometricInterpretation); values are "
                "read as they are stored",
                BioimagePyWarning,
                stacklevel=2,
            )
        self._white_is_zero = white


def ome_set(path: str, *, fill: bool) -> frozenset[str]:
    """Return the names of the files of the set that an OME-TIFF, or its companion file, describes; none if it is not part of a set."""
    if not path.lower().endswith((".tif", ".tiff", ".btf", ".tf2", ".tf8")):
        return frozenset()
    with opened_tiff(path, alone=True) as opened:
        ome = opened.ome
    if ome is None:
        return frozenset()
    ome = companion_set(ome, path)
    check_set(ome, (), path, fill=fill)
    names = ome.names()
    return frozenset(names.values()) if len(names) > 1 else frozenset()


def _parse_slice(path: str) -> ParsedTiff | None:
    """Parse the one page of a slice; None if the slice is a volume."""
    with opened_tiff(path, alone=True) as opened:
        file, ome = opened.file, opened.ome
        page = file.pages.first
        if file.pages.is_multipage or (not file.is_ome and [s.size for s in file.series] != [page.size]):
            return None
        # A page of a set of OME-TIFFs is a series of its own here; the description of the set still applies.
        kinds = {"ome": file.is_ome, "imagej": file.is_imagej, "shaped": file.is_shaped}
        kind = next((name for name, found in kinds.items() if found), "uniform")
        series = tifffile.TiffPageSeries([page], page.shape, page.dtype, page.axes, kind=kind)
        layout = replace(layout_of(series, path, opened.reader), paths=(path,))
        check_extent(layout)
        return ParsedTiff(layout, TiffTexts.of(file, series, 0, ome, 0), 0, 0, 1, bool(file.is_bigtiff))


def _moved(like: ParsedTiff, page: FirstPage, path: str, size: int) -> ParsedTiff:
    """Return the structure of a slice that differs from another one only in the place of its voxels."""
    layout = like.layout
    stored = None if layout.coding.stored is None else tuple(layout.coding.stored.tolist())
    wanted = math.prod(layout.coding.grid)
    offsets = np.array([page.offsets[:wanted]], np.int64)
    byte_counts = np.array([page.byte_counts[:wanted]], np.int64)
    as_stored = page.byte_counts[:wanted] == stored
    if not (all(page.offsets) and all(page.byte_counts)) or (stored is not None and not as_stored):
        ends = np.array([size], np.int64)
        offsets, byte_counts = settled_segments(offsets, byte_counts, layout.coding, {}, ends, path)
        as_stored = tuple(byte_counts[0].tolist()) == stored
    raw = None
    if layout.raw_offsets is not None and as_stored and in_one_piece(offsets, byte_counts):
        raw = offsets[:, 0]
    moved = replace(
        layout,
        paths=(path,),
        raw_offsets=raw,
        offsets=offsets,
        byte_counts=byte_counts,
        jpeg_tables={} if page.jpeg_tables is None else {0: page.jpeg_tables},
    )
    voxels = math.prod(layout.shape) * layout.coding.file_dtype.itemsize
    end = max(map(add, page.offsets, page.byte_counts)) if raw is None else page.offsets[0] + voxels
    if end > size:
        check_extent(moved)
    return like._replace(layout=moved)


class Pictures:
    """PNG and JPEG slices: the first one is decoded to learn its shape, the headers of others are compared with it."""

    def __init__(self, files: OpenFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._like: dict[object, tuple[tuple[int, ...], np.dtype[Any]]] = {}

    def open(self, path: str) -> PictureSource:
        signature = _picture_signature(path, self._files)
        with self._lock:
            if signature not in self._like:
                decoded = _decode_picture(path, self._files)
                self._like[signature] = decoded.shape, decoded.dtype
            shape, dtype = self._like[signature]
        return PictureSource(path, shape, dtype, self._files)


class PictureSource(ChunkedFileSource):
    """A PNG or JPEG picture as an array `(y, x)` or `(y, x, c)`."""

    kind = "stack"
    chunks: tuple[int, ...]

    def __init__(self, path: str, shape: tuple[int, ...], dtype: np.dtype[Any], files: OpenFiles) -> None:
        super().__init__()
        self.path = path
        self.shape = shape
        self.dtype = dtype
        self.chunks = shape
        self._files: OpenFiles | None = files
        self.format = "png" if path.lower().endswith("png") else "jpeg"
        self.codec = self.format

    @property
    def metadata(self) -> ImageMetadata:
        found = ImageMetadata(axes=("y", "x", "c")[: len(self.shape)])
        return found.as_rgb(self.dtype) if self.shape[2:] == (3,) else found

    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray:
        del position, box
        if self._files is None:
            raise StorageError(f"{self.name} is closed; open it again to read")
        decoded = _decode_picture(self.path, self._files)
        if decoded.shape != self.shape or decoded.dtype != self.dtype:
            raise StorageError(
                f"{self.name} has changed: expected shape {self.shape} and dtype {self.dtype}, "
                f"found {decoded.shape} and {decoded.dtype}"
            )
        return decoded

    def identities(self) -> frozenset[tuple[Any, ...]]:
        return frozenset({file_identity(self.path)})

    def stored_size(self) -> StoredSize:
        return StoredSize((self._files or OpenFiles()).get(self.path).size, 1)

    def close(self) -> None:
        super().close()
        self._files = None


def _decode_picture(path: str, files: OpenFiles) -> AnyArray:
    file = files.get(path)
    data = file.read(0, file.size)
    try:
        if data.startswith(b"\x89PNG"):
            return imagecodecs.png_decode(data)
        check_jpeg_end(data)
        return imagecodecs.jpeg_decode(data)
    except (RuntimeError, ValueError, TypeError, ImportError) as error:
        raise StorageError(f"picture {path!r} ({file.size} bytes) cannot be decoded: {error}") from error


def _picture_signature(path: str, files: OpenFiles) -> object:
    """Return what decides shape and dtype of a picture: extents, samples and bits from its header."""
    file = files.get(path)
    head = file.read(0, min(file.size, 2**16))
    if head.startswith(b"\x89PNG"):
        return head[16:29], b"tRNS" in head.partition(b"IDAT")[0]
    if not head.startswith(b"\xff\xd8"):
        raise UnsupportedFormatError(f"slice {path!r} is neither PNG nor JPEG ({file.size} bytes)")
    at = 2
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return marker, head[at + 4 : at + 10]
        at += 2 + length
    return path
