"""A plane of an array, read piece by piece into few pixels, so that the array may be of any size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.planning import format_bytes
from bioimage_py.sources import Source

_PIECE = 8 * 2**20
"""Bytes that are read at once, where the store's chunks allow it."""
_LARGEST_CHUNK = 512 * 2**20
_ALL_VOXELS = 256 * 2**20
"""Up to so many bytes, every voxel counts; of larger planes, one per pixel is taken."""

Span = tuple[int, int]
_Shape = tuple[int, int, int]
_Piece = tuple[Span, Span, AnyArray]
"""Voxels between two rows and two columns of the plane, by rows, columns, depth and channels."""


@dataclass(frozen=True)
class Plane:
    """What is to be read, and into how many pixels."""

    source: Source
    rows: int  # the axis that becomes the height of the pixels
    columns: int
    at: Mapping[int, int]  # the index of all other axes
    channel_axis: int | None
    channels: tuple[int, ...]
    depth: int | None  # the axis that is projected
    size: Span  # height and width to reach, where the array has so many voxels
    how: str  # "mean" or "max" of the voxels of a pixel, or "nearest", the one in its middle

    @property
    def n_bytes(self) -> int:
        """How many bytes are decoded to read it."""
        return self._touched(self._way())

    def read(self) -> AnyArray:
        """Return the pixels as an array of rows, columns and channels: floats, NaN where there is no value; labels as they are."""
        chunks = self.source.chunks
        n_bytes = 0 if chunks is None else math.prod(chunks) * self.source.dtype.itemsize
        if min(n_bytes, self.source.nbytes) > _LARGEST_CHUNK:
            n_bytes = min(n_bytes, self.source.nbytes)
            raise InvalidArgumentError(
                f"a chunk of {self.source.name} is {format_bytes(n_bytes)} large, and a picture is made with "
                f"{format_bytes(_LARGEST_CHUNK)} at most: copy it into smaller chunks first"
            )
        way = self._way()
        shape = self._pixels(way)
        pieces = itertools.product(
            self._pieces(self.rows, shape[0], way),
            self._pieces(self.columns, shape[1], way),
            self._depth_pieces(),
        )
        read = ((rows, columns, self._voxels(rows, columns, depth)) for rows, columns, depth in pieces)
        whole = *shape, len(self.channels)
        if way == "mean":
            return _means(read, whole, self._extents())
        if way == "max":
            return _maxima(read, whole, self._extents())
        dtype = self.source.dtype.newbyteorder("=") if way == "nearest" else np.dtype(np.float64)
        return _middle_voxels(read, np.zeros(whole, dtype), self._extents())

    def _extents(self) -> Span:
        return self.source.shape[self.rows], self.source.shape[self.columns]

    def _way(self) -> str:
        """Return how voxels become pixels: of a plane that takes long, one voxel each."""
        if self.how == "mean" and self.depth is None and self._touched("mean") > _ALL_VOXELS:
            return "sample"
        return self.how

    def _pixels(self, way: str) -> Span:
        """Return height and width as they are gathered: what is averaged is left a little finer, to be shrunk evenly."""
        height, width = (
            -(-n // max(1, n // p)) if way in ("mean", "max") else min(n, p)
            for n, p in zip(self._extents(), self.size, strict=True)
        )
        return height, width

    def _chunk(self, axis: int) -> int:
        chunks = self.source.chunks
        return 1 if chunks is None else max(1, min(chunks[axis], self.source.shape[axis]))

    def _touched(self, way: str) -> int:
        """Return the bytes of all chunks, or voxels, that are read."""
        n_voxels = 1
        shape = dict(zip((self.rows, self.columns), self._pixels(way), strict=True))
        for axis, extent in enumerate(self.source.shape):
            chunk = self._chunk(axis)
            if axis in shape and way in ("sample", "nearest") and (self.source.chunks or axis == self.rows):
                cells = len({begin // chunk for begin in _middles(extent, shape[axis])})
                n_voxels *= min(extent, cells * chunk)
            elif axis in (self.rows, self.columns, self.depth):
                n_voxels *= extent
            elif axis == self.channel_axis:
                n_voxels *= min(extent, len({c // chunk for c in self.channels}) * chunk)
            else:
                n_voxels *= chunk
        return n_voxels * self.source.dtype.itemsize

    def _pieces(self, axis: int, n_pixels: int, way: str) -> Iterator[Span]:
        """Yield begins and ends along an axis: whole chunks, as many as are read at once, and only those that are needed."""
        extent, chunk, length = self.source.shape[axis], self._chunk(axis), self._piece_length(axis)
        if way not in ("sample", "nearest"):
            yield from ((begin, min(begin + length, extent)) for begin in range(0, extent, length))
            return
        one_run = self.source.chunks is None and axis == self.columns
        if extent > n_pixels * chunk and not one_run:
            length = chunk  # pixels are further apart than chunks: those between are not read
        for _, group in itertools.groupby(_middles(extent, n_pixels), key=lambda index: index // length):
            taken = list(group)
            yield taken[0], taken[-1] + 1

    def _piece_length(self, axis: int) -> int:
        """Return how many voxels along rows or columns are read at once: a row of chunks, then as many rows as fit."""
        itemsize = self.source.dtype.itemsize * (max(self.channels) - min(self.channels) + 1)
        itemsize *= 1 if self.depth is None else self._chunk(self.depth)

        def fitting(axis: int, voxels: int) -> int:
            chunk = self._chunk(axis)
            return min(self.source.shape[axis], chunk * max(1, voxels // chunk))

        width = fitting(self.columns, _PIECE // (itemsize * self._chunk(self.rows)))
        return width if axis == self.columns else fitting(self.rows, _PIECE // (itemsize * width))

    def _depth_pieces(self) -> Iterator[Span]:
        if self.depth is None:
            yield 0, 1
            return
        extent, chunk = self.source.shape[self.depth], self._chunk(self.depth)
        yield from ((begin, min(begin + chunk, extent)) for begin in range(0, extent, chunk))

    def _voxels(self, rows: Span, columns: Span, depth: Span) -> AnyArray:
        """Read a piece, with its axes in the order rows, columns, depth, channels."""
        spans = {axis: (index, index + 1) for axis, index in self.at.items()}
        spans |= {self.rows: rows, self.columns: columns}
        order = [self.rows, self.columns]
        if self.depth is not None:
            spans[self.depth] = depth
            order.append(self.depth)
        first = min(self.channels)
        if self.channel_axis is not None:
            spans[self.channel_axis] = first, max(self.channels) + 1
            order.append(self.channel_axis)
        begin, end = zip(*(spans.get(axis, (0, 1)) for axis in range(self.source.ndim)), strict=True)
        voxels = self.source.read(Box(begin, end))
        rest = [axis for axis in range(self.source.ndim) if axis not in order]
        piece = voxels.transpose([*order, *rest]).reshape([voxels.shape[axis] for axis in order])
        piece = piece if self.depth is not None else piece[:, :, None]
        if self.channel_axis is None:
            return piece[..., None]
        return piece[..., [channel - first for channel in self.channels]]


def _means(read: Iterable[_Piece], shape: _Shape, extents: Span) -> AnyArray:
    sums, counts = np.zeros(shape), np.zeros(shape)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for rows, columns, voxels in read:
            values = _as_float(voxels)
            numbers = np.isfinite(values)
            for target, added in ((sums, np.where(numbers, values, 0)), (counts, numbers)):
                along_depth = added.sum(axis=2, dtype=np.float64)
                at, combined = _combined(np.add, along_depth, rows, columns, shape, extents)
                target[at] += combined
        return sums / counts


def _maxima(read: Iterable[_Piece], shape: _Shape, extents: Span) -> AnyArray:
    most = np.full(shape, -np.inf)
    for rows, columns, voxels in read:
        values = _as_float(voxels)
        deepest = np.where(np.isnan(values), -np.inf, values).max(axis=2)
        at, combined = _combined(np.maximum, deepest, rows, columns, shape, extents)
        most[at] = np.maximum(most[at], combined)
    return np.where(np.isneginf(most), np.nan, most)


def _combined(
    combine: np.ufunc, values: AnyArray, rows: Span, columns: Span, shape: _Shape, extents: Span
) -> tuple[tuple[slice, ...], AnyArray]:
    """Return which pixels voxels belong to, and the voxels of each pixel combined."""
    at = []
    for axis, span in enumerate((rows, columns)):
        pixel_of = np.arange(*span) * shape[axis] // extents[axis]
        begins = np.flatnonzero(np.diff(pixel_of, prepend=pixel_of[0] - 1))
        values = combine.reduceat(values, begins, axis=axis)
        at.append(slice(int(pixel_of[0]), int(pixel_of[-1]) + 1))
    return tuple(at), values


def _middle_voxels(read: Iterable[_Piece], pixels: AnyArray, extents: Span) -> AnyArray:
    """Fill pixels with the voxels in their middle; of several in depth, the greatest."""
    seen = np.zeros(pixels.shape[:2], bool)
    for rows, columns, piece in read:
        at, voxels = [], piece
        for axis, (begin, end) in enumerate((rows, columns)):
            middles = enumerate(_middles(extents[axis], pixels.shape[axis]))
            inside = [(n, middle - begin) for n, middle in middles if begin <= middle < end]
            voxels = np.take(voxels, [middle for _, middle in inside], axis=axis)
            at.append(slice(inside[0][0], inside[-1][0] + 1))
        where = tuple(at)
        deepest = (_as_float(voxels) if pixels.dtype.kind == "f" else voxels).max(axis=2)
        before = seen[where][..., None]
        pixels[where] = np.where(before, np.maximum(pixels[where], deepest), deepest)
        seen[where] = True
    return pixels


def _middles(extent: int, pixels: int) -> list[int]:
    """Return the voxel in the middle of each pixel."""
    return [(2 * n + 1) * extent // (2 * pixels) for n in range(pixels)]


def _as_float(piece: AnyArray) -> AnyArray:
    """Return numbers that can be summed; of complex ones the magnitude."""
    if piece.dtype.kind == "c":
        piece = np.abs(piece)
    wide = piece.dtype.kind in "iu" and piece.dtype.itemsize > 2
    return piece.astype(np.float64 if wide or piece.dtype.itemsize > 4 else np.float32)
