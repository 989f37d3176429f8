"""Reading and writing through an open h5py dataset."""

from __future__ import annotations

import math
import threading
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil

from bioimage_py.chunks import AnyArray, encode_gzip, gzip_level_to_encode
from bioimage_py.errors import InvalidArgumentError, StorageError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.base import FileSource, SourceSpec, StoredSize
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.hdf5.dataset import DatasetDescription
from bioimage_py.sources.hdf5.errors import hdf5_errors
from bioimage_py.sources.hdf5.files import OpenForWriting, RoomAhead
from bioimage_py.sources.hdf5.links import OtherFiles, companions, why_read_only
from bioimage_py.sources.hdf5.plugins import need_filters

_MOST_HELD = 2**25
_AS_GIVEN = OtherFiles(external_files=True)
"""Whoever gives an open handle has chosen its files."""


class Hdf5LiveSource(FileSource):
    """A dataset read and written through h5py, one call at a time; whole gzip chunks are encoded outside its lock."""

    kind = "hdf5"
    format = "hdf5"

    def __init__(
        self,
        dataset: h5py.Dataset,
        described: DatasetDescription,
        *,
        writer: OpenForWriting | None = None,
        path: str | None = None,
        key: str | None = None,
        encode_cut_chunks: bool = False,
    ) -> None:
        self.path = path or described.path
        self.key = key or described.key or None
        self.shape, self.dtype, self.chunks = described.shape, described.dtype, described.chunks
        self.codec, self.fill_value = described.codec, described.fill_value
        self.mode = "r" if dataset.file.mode == "r" else "r+"
        self._companions = companions(dataset, described, _AS_GIVEN)
        self.read_only_because = why_read_only(described)
        self.writable = self.mode == "r+" and not self.read_only_because
        self._dataset: h5py.Dataset | None = dataset
        self._described = described
        self._writer = writer
        self._file_number = int(h5py.h5o.get_info(dataset.id).fileno)
        self._gzip_level = gzip_level_to_encode(described.filters) if described.plain_bytes else None
        self._encode_cut_chunks = encode_cut_chunks
        self._room = RoomAhead(dataset.file) if writer is None else writer.room
        self._closing = threading.Lock()
        if writer is not None:
            writer.begin_writing(described.address)

    @property
    def metadata(self) -> ImageMetadata:
        """What the dataset's attributes said when it was opened."""
        return self._described.metadata

    def to_spec(self) -> SourceSpec:
        """Return family, path, key and mode; InvalidArgumentError for files in memory and the like."""
        if self._described.file is None or not self._described.key:
            raise InvalidArgumentError(
                f"{self.name} is not in an HDF5 file on disk that another process could open: it can be used in local "
                "runs only"
            )
        return super().to_spec()

    def identities(self) -> frozenset[tuple[Any, ...]]:
        """Return the file and the dataset's address in it, and those of what it shows."""
        file = self._described.file
        where = ("file", *file) if file is not None else ("hdf5 handle", self._file_number)
        return frozenset({(*where, self._described.address)}) | self._companions.identities

    def stored_size(self) -> StoredSize | None:
        """Return the bytes that HDF5 has allocated."""
        with hdf5_errors(f"asking for the size of {self.name!r} failed"):
            return StoredSize(int(self._opened().id.get_storage_size()), 1)

    def flush(self) -> None:
        """Hand to the operating system what HDF5 keeps in its buffers."""
        if self.writable:
            with hdf5_errors(f"writing what is left to {self.name!r} failed"), phil:
                self._opened()
                self._room.flush()

    def close(self) -> None:
        """Flush, and close the file if it was opened by us and nobody else uses it."""
        with self._closing:
            dataset, self._dataset = self._dataset, None
            writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.end_writing(self._described.address)
            finally:
                writer.let_go()
        elif dataset is not None and dataset and self.writable:
            with hdf5_errors(f"writing what is left to {self.name!r} failed"), phil:
                self._room.flush()

    def _opened(self) -> h5py.Dataset:
        dataset = self._dataset
        if dataset is None or not dataset:
            whose = "this source was closed" if dataset is None else "its h5py file was closed"
            raise StorageError(f"{self.name} cannot be used any more: {whose}; open it again")
        return dataset

    def _read(self, box: Box) -> AnyArray:
        dataset = self._opened()
        need_filters(self._described)
        with hdf5_errors(f"reading {box.text} of {self.name!r} failed"):
            return np.asarray(dataset[box.slices]).astype(self.dtype, copy=False)

    def _write(self, box: Box, values: AnyArray) -> None:
        dataset = self._opened()
        need_filters(self._described)
        cast = np.ascontiguousarray(cast_values(values, self._described.stored_dtype)).reshape(box.shape)
        with hdf5_errors(f"writing {box.text} of {self.name!r} failed"):
            if self._gzip_level is None or self.chunks is None:
                self._assign(dataset, box, cast)
                return
            grid = Blocking(self.shape, self.chunks)
            for number in grid.ids_in(box):
                chunk_box = grid.block(number)
                part_box = chunk_box.intersect(box)
                part = cast[part_box.relative_to(box.begin).slices]
                if part_box == chunk_box and (self._encode_cut_chunks or part.shape == self.chunks):
                    encoded = self._encode(part, self._gzip_level)
                    with phil:
                        self._room.take(len(encoded))
                        dataset.id.write_direct_chunk(chunk_box.begin, encoded)
                else:
                    self._assign(dataset, part_box, part)

    def _assign(self, dataset: h5py.Dataset, box: Box, values: AnyArray) -> None:
        """Let HDF5 write voxels, which it may keep in memory."""
        if self.chunks is not None:
            touched = box.snap(self.chunks, self.shape)
            n_bytes = math.prod(-(-n // c) * c for n, c in zip(touched.shape, self.chunks, strict=True))
        else:
            n_bytes = 0 if dataset.id.get_offset() else self.size
        with phil:
            # What does not compress may grow by a little.
            self._room.take(n_bytes * self._described.stored_dtype.itemsize * 33 // 32, later=True)
            dataset[box.slices] = values
            if self._room.owed > _MOST_HELD:
                self._room.flush()

    def _encode(self, part: AnyArray, level: int) -> bytes:
        assert self.chunks is not None
        if part.shape != self.chunks:
            whole = np.full(self.chunks, self.fill_value, part.dtype)
            whole[tuple(slice(n) for n in part.shape)] = part
            part = whole
        shuffled = len(self._described.filters) > 1
        return encode_gzip(part, level, shuffled=shuffled)
