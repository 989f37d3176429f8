"""Pixels that are gathered from the pieces of a plane: means, maxima, or the voxels themselves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray

Span = tuple[int, int]


def gathering(way: str, shape: Span, n_channels: int, dtype: np.dtype[Any], extents: Span) -> Gathering:
    """Return what gathers pieces into pixels.

    Parameters
    ----------
    way
        `"mean"`, `"max"`, or `"sample"` and `"nearest"`: one voxel per pixel, shown as a float or kept as it is.
    shape
        Height and width in pixels.
    n_channels
        How many channels each piece has.
    dtype
        Of the voxels.
    extents
        Height and width of the plane in voxels.
    """
    if way == "mean":
        return _Means((*shape, n_channels), extents)
    if way == "max":
        return _Maxima((*shape, n_channels), extents)
    return _Voxels((*shape, n_channels), extents, dtype if way == "nearest" else np.dtype(np.float64))


class Gathering(ABC):
    """Gathers pieces of rows, columns, depth and channels.

    Parameters
    ----------
    shape
        Of the result: rows, columns, channels.
    extents
        Height and width of the plane in voxels.
    """

    def __init__(self, shape: tuple[int, int, int], extents: Span) -> None:
        self.shape = shape
        self._extents = extents

    @abstractmethod
    def add(self, piece: AnyArray, rows: Span, columns: Span) -> None:
        """Take in the voxels between two rows and two columns of the plane."""

    @abstractmethod
    def result(self) -> AnyArray:
        """Return the pixels; where there was no number, NaN."""

    def _windows(self, axis: int, span: Span) -> tuple[slice, AnyArray]:
        """Return the pixels that voxels of a span belong to, and where in the span each begins."""
        pixel_of = np.arange(*span) * self.shape[axis] // self._extents[axis]
        begins = np.flatnonzero(np.diff(pixel_of, prepend=pixel_of[0] - 1))
        return slice(int(pixel_of[0]), int(pixel_of[-1]) + 1), begins


class _Means(Gathering):
    def __init__(self, shape: tuple[int, int, int], extents: Span) -> None:
        super().__init__(shape, extents)
        self._sums = np.zeros(shape)
        self._counts = np.zeros(shape)

    def add(self, piece: AnyArray, rows: Span, columns: Span) -> None:
        values = _as_float(piece)
        numbers = np.isfinite(values)
        at_rows, row_begins = self._windows(0, rows)
        at_columns, column_begins = self._windows(1, columns)
        with np.errstate(over="ignore"):
            for target, added in (
                (self._sums, np.where(numbers, values, 0).sum(axis=2, dtype=np.float64)),
                (self._counts, numbers.sum(axis=2, dtype=np.float64)),
            ):
                by_row = np.add.reduceat(added, row_begins, axis=0)
                target[at_rows, at_columns] += np.add.reduceat(by_row, column_begins, axis=1)

    def result(self) -> AnyArray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._sums / self._counts


class _Maxima(Gathering):
    def __init__(self, shape: tuple[int, int, int], extents: Span) -> None:
        super().__init__(shape, extents)
        self._most = np.full(shape, -np.inf)

    def add(self, piece: AnyArray, rows: Span, columns: Span) -> None:
        values = _as_float(piece)
        deepest = np.where(np.isnan(values), -np.inf, values).max(axis=2)
        at_rows, row_begins = self._windows(0, rows)
        at_columns, column_begins = self._windows(1, columns)
        by_row = np.maximum.reduceat(deepest, row_begins, axis=0)
        target = self._most[at_rows, at_columns]
        np.maximum(target, np.maximum.reduceat(by_row, column_begins, axis=1), out=target)

    def result(self) -> AnyArray:
        return np.where(np.isneginf(self._most), np.nan, self._most)


class _Voxels(Gathering):
    """Takes the voxels in the middle of the pixels; pieces hold no others. Of several in depth, the greatest."""

    def __init__(self, shape: tuple[int, int, int], extents: Span, dtype: np.dtype[Any]) -> None:
        super().__init__(shape, extents)
        self._pixels = np.zeros(shape, dtype.newbyteorder("="))
        self._seen = np.zeros(shape[:2], bool)

    def add(self, piece: AnyArray, rows: Span, columns: Span) -> None:
        values = _as_float(piece) if self._pixels.dtype.kind == "f" else piece
        deepest = values.max(axis=2)
        at = (self._inside(0, rows), self._inside(1, columns))
        seen = self._seen[at][..., None]
        self._pixels[at] = np.where(seen, np.maximum(self._pixels[at], deepest), deepest)
        self._seen[at] = True

    def result(self) -> AnyArray:
        return self._pixels

    def _inside(self, axis: int, span: Span) -> slice:
        """Return the pixels whose middles lie in a span."""
        n, extent = self.shape[axis], self._extents[axis]
        first = next(i for i in range(n) if (2 * i + 1) * extent // (2 * n) >= span[0])
        last = next(i for i in reversed(range(n)) if (2 * i + 1) * extent // (2 * n) < span[1])
        return slice(first, last + 1)


def _as_float(piece: AnyArray) -> AnyArray:
    """Return numbers that can be summed; of complex ones the magnitude."""
    if piece.dtype.kind == "c":
        piece = np.abs(piece)
    wide = piece.dtype.kind in "iu" and piece.dtype.itemsize > 2
    return piece.astype(np.float64 if wide or piece.dtype.itemsize > 4 else np.float32)
