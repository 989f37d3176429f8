"""Whose chunks a source shows, and which of them are stored, found from their names without reading a voxel."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from bioimage_py.chunks import ChunkEncoding, ChunkFiles, ChunkObjects, UnknownEncoding
from bioimage_py.geometry import Box
from bioimage_py.kernels.cells import cells_of
from bioimage_py.sources import OverriddenSource, Source, stored_chunks, stored_files
from bioimage_py.wrapper import WrapperSource
from bioimage_py.wrapper.shape import RoiSource

_MOST_CELLS = 2**16


class StoredParts:
    """The chunks, or shards, that a source stores; all other voxels are `fill_value`. The source begins at `offset` in the array."""

    def __init__(
        self, files: ChunkFiles | ChunkObjects, encoding: ChunkEncoding, offset: tuple[int, ...]
    ) -> None:
        self._files = files
        self._extents = encoding.shards or encoding.chunks
        self._offset = offset
        self.fill_value: Any = np.frombuffer(encoding.fill, np.dtype(encoding.dtype).newbyteorder("<"))[0]
        # Only folders, and stores, can be listed; for other names each has to be looked up.
        self._looks_up = isinstance(files, ChunkFiles) and files.keys.separator != "/"

    @classmethod
    def of(cls, source: Source) -> StoredParts | None:
        """Return None where chunks have no names to go by."""
        origin = moving_origin(source)
        if origin is None or not origin.source.ndim:
            return None
        found = stored_files(origin.source)
        if found is None:
            return None
        return cls(*found, origin.offset or (0,) * source.ndim)

    def within(self, box: Box, *, most: bool = False) -> list[Box] | None:
        """Return the stored parts of a box; None where that is not known and, unless `most`, where they are most of it."""
        cells = cells_of(box.shift(self._offset), self._extents)
        if cells.size > _MOST_CELLS or (cells.size <= 1 and not most):
            return None
        found = [self._voxels(at).intersect(box) for at in self._stored(cells)]
        return None if 2 * len(found) > cells.size and not most else found

    def _stored(self, cells: Box) -> Iterator[tuple[int, ...]]:
        for at in self._files.candidates(cells):
            if not self._looks_up or os.path.exists(self._files.path(at)):  # noqa: PTH110 - a text stays a text
                yield at

    def _voxels(self, at: tuple[int, ...]) -> Box:
        begin = tuple(a * e - o for a, e, o in zip(at, self._extents, self._offset, strict=True))
        end = tuple(b + e for b, e in zip(begin, self._extents, strict=True))
        return Box(tuple(max(0, b) for b in begin), end)


class MovingOrigin(NamedTuple):
    """A stored array, and where in it a source begins; None for the array itself."""

    source: Source
    offset: tuple[int, ...] | None


def moving_origin(source: Source) -> MovingOrigin | None:
    """Return the stored array whose encoded chunks hold the voxels of a source; None if they are computed."""
    if isinstance(source, OverriddenSource):
        return moving_origin(source.inputs[0])
    if isinstance(source, RoiSource):
        inner = source.inputs[0]
        if len(source.kept) != inner.ndim or isinstance(inner, WrapperSource):
            return None
        return MovingOrigin(inner, source.box.begin)
    return None if isinstance(source, WrapperSource) else MovingOrigin(source, None)


def encoding_to_move(source: Source) -> ChunkEncoding | UnknownEncoding:
    """Return how a stored array encodes its chunks, or why they cannot be moved."""
    if str(getattr(source, "path", "")).startswith("memory:"):
        return UnknownEncoding("chunks that are held in memory are not moved")
    found = stored_chunks(source)
    return found if isinstance(found, UnknownEncoding) else found.encoding
