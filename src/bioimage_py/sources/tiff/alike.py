"""TIFF files that are alike: each is opened by a few of its tags, after tifffile has read one of them."""

from __future__ import annotations

import math
import threading
import warnings
from dataclasses import replace
from operator import add

import numpy as np

from bioimage_py.errors import BioimagePyWarning
from bioimage_py.sources.tiff.array import TiffSource
from bioimage_py.sources.tiff.ifd import FirstPage, first_page
from bioimage_py.sources.tiff.layout import in_one_piece, settled_segments
from bioimage_py.sources.tiff.ome import companion_set
from bioimage_py.sources.tiff.parsing import ParsedTiff, check_extent, check_set, opened_tiff, parse_tiff
from bioimage_py.storage import OpenFiles


class TiffSlices:
    """TIFF slices: tifffile is asked once for each distinct way to encode a page."""

    def __init__(self, files: OpenFiles, missing_planes: str) -> None:
        self._missing_planes = missing_planes
        self._files = files
        self._lock = threading.Lock()
        self._like: dict[object, ParsedTiff] = {}
        self._white_is_zero: bool | None = None

    def open(self, path: str) -> TiffSource:
        """Open a slice: its page, or all its pages as a volume if it has several."""
        parsed = self._parse(path)
        return TiffSource(path, parsed, missing_planes=self._missing_planes, cache_bytes=0, files=self._files)

    def _parse(self, path: str) -> ParsedTiff:
        file = self._files.get(path)
        page = first_page(file)
        if page is not None:
            with self._lock:
                like = self._like.get(page.signature)
                if like is None:
                    like = self._like[page.signature] = parse_tiff(path, alone=True)
                    self._compare(like.layout.coding.white_is_zero, path)
            if like.is_page and (like.layout.raw_offsets is None or like.layout.coding.stored is not None):
                return _moved(like, page, path, file.size)
        return parse_tiff(path, alone=True)

    def _compare(self, white: bool, path: str) -> None:
        if self._white_is_zero not in (None, white):
            warnings.warn(
                f"in {path!r} 0 is {'white' if white else 'black'}, in slices before it is not (PhotometricInterpretation); values are "
                "read as they are stored",
                BioimagePyWarning,
                stacklevel=2,
            )
        self._white_is_zero = white


def set_names(path: str, *, fill: bool) -> frozenset[str]:
    """Return the names of the files of the set that an OME-TIFF, or its companion file, describes; none if it is not part of a set."""
    if not path.lower().endswith((".tif", ".tiff", ".btf", ".tf2", ".tf8")):
        return frozenset()
    with opened_tiff(path, alone=True) as opened:
        ome = opened.ome
    if ome is None:
        return frozenset()
    ome = companion_set(ome.root, path)
    check_set(ome, (), path, fill=fill)
    names = ome.file_names()
    return names if len(names) > 1 else frozenset()


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
        byte_counts = settled_segments(offsets, byte_counts, layout.coding, {}, ends, path)
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
