"""A plane of an array, read piece by piece into few pixels, so that the array may be of any size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.planning import format_bytes
from bioimage_py.report.preview.gathering import gathering
from bioimage_py.sources import Source

_PIECE = 8 * 2**20
"""Bytes that are read at once, where the store's chunks allow it."""
_LARGEST_CHUNK = 512 * 2**20
_ALL_VOXELS = 256 * 2**20
"""Up to so many bytes, every voxel counts; of larger planes, one per pixel is taken."""


@dataclass(frozen=True)
class Plane:
    """What is to be read, and into how many pixels.

    Attributes
    ----------
    source
        The array, or a level of it.
    rows, columns
        The axes that become the height and the width of the pixels.
    at
        For all other axes the index, but for those of `channel_axis` and `depth`.
    channel_axis
        The axis of the channels, or None.
    channels
        Which of them.
    depth
        The axis that is projected, or None.
    size
        Height and width to be had, where the array has so many voxels.
    how
        `"mean"` or `"max"` of the voxels of a pixel, or `"nearest"`, the one in its middle, which makes up no value.
    """

    source: Source
    rows: int
    columns: int
    at: Mapping[int, int]
    channel_axis: int | None
    channels: tuple[int, ...]
    depth: int | None
    size: tuple[int, int]
    how: str

    @property
    def n_bytes(self) -> int:
        """How many bytes are decoded to read it."""
        return self._touched(self._way())

    def read(self) -> AnyArray:
        """Return the pixels as an array of rows, columns and channels; floats, but for labels, which keep their dtype.

        Floats that stand for no value are NaN.

        Raises
        ------
        InvalidArgumentError
            If a single chunk is larger than what is ever held at once.
        """
        self._check_chunk()
        way = self._way()
        shape = self._pixels(way)
        extents = self._n(self.rows), self._n(self.columns)
        gathered = gathering(way, shape, len(self.channels), self.source.dtype, extents)
        for rows, columns, depth in itertools.product(
            self._pieces(self.rows, shape[0], way),
            self._pieces(self.columns, shape[1], way),
            self._depth_pieces(),
        ):
            gathered.add(self._voxels(rows, columns, depth, way, shape), rows, columns)
        return gathered.result()

    def _n(self, axis: int | None) -> int:
        return 1 if axis is None else self.source.shape[axis]

    def _way(self) -> str:
        """Return how voxels become pixels: of a plane that takes long, one voxel each."""
        if self.how == "mean" and self.depth is None and self._touched("mean") > _ALL_VOXELS:
            return "sample"
        return self.how

    def _pixels(self, way: str) -> tuple[int, int]:
        """Return height and width as they are gathered: what is averaged is left a little finer, to be shrunk evenly."""
        extents = self._n(self.rows), self._n(self.columns)
        if way in ("mean", "max"):
            return tuple(-(-n // max(1, n // p)) for n, p in zip(extents, self.size, strict=True))  # type: ignore[return-value]
        return min(extents[0], self.size[0]), min(extents[1], self.size[1])

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

    def _check_chunk(self) -> None:
        chunks = self.source.chunks
        n_bytes = 0 if chunks is None else math.prod(chunks) * self.source.dtype.itemsize
        n_bytes = min(n_bytes, self.source.nbytes)
        if n_bytes > _LARGEST_CHUNK:
            raise InvalidArgumentError(
                f"a chunk of {self.source.name} is {format_bytes(n_bytes)} large, and a picture is made with "
                f"{format_bytes(_LARGEST_CHUNK)} at most: copy it into smaller chunks first"
            )

    def _pieces(self, axis: int, n_pixels: int, way: str) -> Iterator[tuple[int, int]]:
        """Yield begins and ends along an axis: whole chunks, as many as are read at once, and only those that are needed."""
        extent = self._n(axis)
        length = self._piece_length(axis)
        if way not in ("sample", "nearest"):
            yield from ((begin, min(begin + length, extent)) for begin in range(0, extent, length))
            return
        chunk = self._chunk(axis)
        one_run = self.source.chunks is None and axis == self.columns
        if extent > n_pixels * chunk and not one_run:
            length = chunk  # pixels are further apart than chunks: those between are not read
        middles = _middles(extent, n_pixels)
        for _, group in itertools.groupby(middles, key=lambda index: index // length):
            taken = list(group)
            yield taken[0], taken[-1] + 1

    def _piece_length(self, axis: int) -> int:
        """Return how many voxels along rows or columns are read at once: a row of chunks, then as many rows as fit."""
        itemsize = self.source.dtype.itemsize * self._channel_extent()
        itemsize *= 1 if self.depth is None else self._chunk(self.depth)
        least = itemsize * self._chunk(self.rows)
        width = _fitting(self._n(self.columns), self._chunk(self.columns), _PIECE // least)
        if axis == self.columns:
            return width
        return _fitting(self._n(self.rows), self._chunk(self.rows), _PIECE // (itemsize * width))

    def _depth_pieces(self) -> Iterator[tuple[int, int]]:
        if self.depth is None:
            yield 0, 1
            return
        extent, chunk = self._n(self.depth), self._chunk(self.depth)
        yield from ((begin, min(begin + chunk, extent)) for begin in range(0, extent, chunk))

    def _channel_extent(self) -> int:
        return max(self.channels) - min(self.channels) + 1

    def _voxels(
        self,
        rows: tuple[int, int],
        columns: tuple[int, int],
        depth: tuple[int, int],
        way: str,
        shape: tuple[int, int],
    ) -> AnyArray:
        """Read a piece, with its axes in the order rows, columns, depth, channels; only the middles where those are wanted."""
        begin = [self.at.get(axis, 0) for axis in range(self.source.ndim)]
        end = [index + 1 for index in begin]
        for axis, span in ((self.rows, rows), (self.columns, columns), (self.depth, depth)):
            if axis is not None:
                begin[axis], end[axis] = span
        if self.channel_axis is not None:
            begin[self.channel_axis], end[self.channel_axis] = min(self.channels), max(self.channels) + 1
        voxels = self.source.read(Box(tuple(begin), tuple(end)))
        order = [
            axis for axis in (self.rows, self.columns, self.depth, self.channel_axis) if axis is not None
        ]
        rest = [axis for axis in range(self.source.ndim) if axis not in order]
        piece = voxels.transpose([*order, *rest]).reshape([voxels.shape[axis] for axis in order])
        piece = piece if self.depth is not None else piece[:, :, None]
        if self.channel_axis is None:
            piece = piece[..., None]
        else:
            piece = piece[..., [c - min(self.channels) for c in self.channels]]
        if way in ("sample", "nearest"):
            for axis, span, pixels, extent in (
                (0, rows, shape[0], self._n(self.rows)),
                (1, columns, shape[1], self._n(self.columns)),
            ):
                inside = [index - span[0] for index in _middles(extent, pixels) if span[0] <= index < span[1]]
                piece = np.take(piece, inside, axis=axis)
        return piece


def _middles(extent: int, pixels: int) -> list[int]:
    """Return the voxel in the middle of each pixel."""
    return [(2 * n + 1) * extent // (2 * pixels) for n in range(pixels)]


def _fitting(extent: int, chunk: int, voxels: int) -> int:
    """Return whole chunks, as many as hold so many voxels, one at least."""
    return min(extent, chunk * max(1, voxels // chunk))
