"""Encoded chunks of HDF5 datasets, from the chunk index, without HDF5's lock."""

from __future__ import annotations

from bioimage_py.chunks import EncodedReader, number_in
from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.sources.base import Source
from bioimage_py.sources.hdf5.index import ChunkPlace, DatasetOnDisk, Placement
from bioimage_py.sources.hdf5.read import Hdf5Source
from bioimage_py.storage import StoredBytes


class Hdf5Chunks(EncodedReader):
    """The chunks of a dataset that is open for reading."""

    def __init__(self, source: Source) -> None:
        if not isinstance(source, Hdf5Source):
            raise UnsupportedFormatError(
                f"{source.name} has no chunks in an HDF5 file that is open for reading"
            )
        self._on_disk = DatasetOnDisk(source.described)
        described = source.described
        assert described.chunks is not None
        self._grid = tuple(-(-n // c) for n, c in zip(described.shape, described.chunks, strict=True))
        self._last = tuple(n // c for n, c in zip(described.shape, described.chunks, strict=True))
        self._placed: Placement | None = None

    def path(self, position: tuple[int, ...]) -> str:
        """Return the path of the file."""
        del position
        return self._on_disk.described.path

    def piece(self, position: tuple[int, ...]) -> StoredBytes | None:
        """Return the bytes of a chunk; None if it was never written."""
        placed, place = self._find(position)
        return None if place is None else StoredBytes(placed.file, place.offset, place.n_bytes)

    def movable(self, position: tuple[int, ...]) -> bool:
        """Whether all filters were applied to a chunk."""
        _, place = self._find(position)
        pipeline = self._on_disk.described.pipeline
        if place is None or not pipeline.compresses:
            return True
        cut = any(p >= last for p, last in zip(position, self._last, strict=True))
        # Perhaps written with the option not to filter chunks at the far faces: the file says so to HDF5 only.
        return not place.mask and not (cut and place.n_bytes == pipeline.chunk_bytes)

    def _find(self, position: tuple[int, ...]) -> tuple[Placement, ChunkPlace | None]:
        placed = self._on_disk.current()
        if placed is None or placed.chunks is None or self._placed not in (None, placed):
            raise StorageError(f"{self._on_disk.described.name!r} is, or was, written while it is copied")
        self._placed = placed
        return placed, placed.chunks.find(number_in(self._grid, position))
