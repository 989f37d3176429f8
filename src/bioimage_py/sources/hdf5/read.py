"""Reading datasets by path: nothing is held open through HDF5, and bytes are read as they are where possible."""

from __future__ import annotations

import os
from typing import Any

import h5py
import numpy as np

from bioimage_py.chunks import AnyArray, ArrayInFile, read_region
from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.base import FileSource, StoredSize
from bioimage_py.sources.chunked import ChunkedFileSource, DecodedChunks
from bioimage_py.sources.hdf5.dataset import DatasetDescription
from bioimage_py.sources.hdf5.errors import hdf5_errors
from bioimage_py.sources.hdf5.files import reading
from bioimage_py.sources.hdf5.index import ChunkPlace, DatasetOnDisk, Placement
from bioimage_py.sources.hdf5.links import HERE_ONLY, OtherFiles, companions
from bioimage_py.sources.hdf5.plugins import need_filters


class _StoredDataset(FileSource):
    """What the sources of datasets on disk have in common: the description, and reading through HDF5."""

    kind = "hdf5"
    format = "hdf5"
    _on_disk: DatasetOnDisk | None

    def _describe(self, on_disk: DatasetOnDisk, path: str, key: str, others: OtherFiles) -> None:
        self._others = others
        described = on_disk.described
        self.path, self.key = path, key
        self.shape, self.dtype = described.shape, described.dtype
        self.codec, self.fill_value = described.codec, described.fill_value
        self._on_disk = on_disk

    @property
    def described(self) -> DatasetDescription:
        """The dataset as the file describes it."""
        return self._opened().described

    def _spec_options(self) -> dict[str, Any]:
        return self._others.spec()

    @property
    def metadata(self) -> ImageMetadata:
        """What the dataset's attributes say."""
        return self.described.metadata

    def identities(self) -> frozenset[tuple[Any, ...]]:
        """Return the file and the dataset's address in it, and those of the files and datasets that it shows."""
        described = self.described
        assert described.file is not None
        return (
            frozenset({("file", *described.file, described.address)}) | self._opened().companions.identities
        )

    def check_present(self) -> None:
        """Raise StorageError if a file of which the dataset shows voxels has gone: HDF5 would read its fill value."""
        on_disk = self._on_disk
        if on_disk is not None and self._others.missing_files == "error":
            for path in on_disk.companions.files:
                if not os.path.isfile(path):  # noqa: PTH113 - a text stays a text
                    raise StorageError(
                        f"{path!r}, of which {self.name!r} shows voxels, is not there any more"
                    )

    def stored_size(self) -> StoredSize | None:
        """Return the bytes that HDF5 has allocated; None for voxels that are in other files."""
        described = self.described
        if described.layout in ("virtual", "external"):
            return None
        with reading(described.path) as file, hdf5_errors(f"asking for the size of {self.name!r} failed"):
            return StoredSize(int(self._opened().reopen(file).id.get_storage_size()), 1)

    def close(self) -> None:
        """Let go of the file; reading afterwards is an error."""
        super().close()
        self._on_disk = None

    def _opened(self) -> DatasetOnDisk:
        if self._on_disk is None:
            raise StorageError(f"{self.name} is closed; open it again to read from it")
        return self._on_disk

    def _read_through_hdf5(self, box: Box) -> AnyArray:
        on_disk = self._opened()
        need_filters(on_disk.described)
        with reading(on_disk.described.path) as file:
            dataset = on_disk.reopen(file)
            with hdf5_errors(f"reading {box} of {self.name!r} failed"):
                return np.asarray(dataset[box.slices]).astype(self.dtype, copy=False)


class Hdf5Source(_StoredDataset, ChunkedFileSource):
    """A chunked dataset in an HDF5 file, for reading."""

    def __init__(
        self,
        on_disk: DatasetOnDisk,
        path: str,
        key: str,
        others: OtherFiles,
        *,
        threads: int = 1,
        cache_bytes: int = 64 * 2**20,
    ) -> None:
        ChunkedFileSource.__init__(self, threads=threads, cache_bytes=cache_bytes)
        self._describe(on_disk, path, key, others)
        chunks = on_disk.described.chunks
        assert chunks is not None
        self.chunks = chunks
        grid = [-(-n // c) for n, c in zip(self.shape, chunks, strict=True)]
        self._strides = [int(np.prod(grid[axis + 1 :], dtype=np.int64)) for axis in range(len(grid))]
        self._cached_of: Placement | None = None

    def for_run(self, threads: int, cache_bytes: int) -> Hdf5Source:
        """Return a twin that shares the chunk index."""
        assert self.key is not None
        return Hdf5Source(
            self._opened(), self.path, self.key, self._others, threads=threads, cache_bytes=cache_bytes
        )

    def _gathered(self, box: Box, buffer: AnyArray | None) -> AnyArray:
        on_disk = self._opened()
        placed = on_disk.current()
        if placed is None:
            return self._read_through_hdf5(box)
        if placed is not self._cached_of:
            # The file was written since: what was decoded before may be of the past.
            self._decoded = DecodedChunks(self._decoded.max_bytes)
            self._cached_of = placed
        whole_chunks = box.snap(self.chunks, self.shape) == box
        if not on_disk.described.bytes_readable and (whole_chunks or not self._decoded.max_bytes):
            return self._read_through_hdf5(box)
        return super()._gathered(box, buffer)

    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray | None:
        on_disk = self._opened()
        placed = on_disk.latest
        if placed is None or placed.chunks is None:
            return self._read_through_hdf5(box)
        place = placed.chunks.find(sum(p * s for p, s in zip(position, self._strides, strict=True)))
        if place is None:
            return None
        pipeline = on_disk.described.pipeline
        cut = box.shape != self.chunks
        if cut and pipeline.compresses and not place.mask and place.n_bytes == pipeline.chunk_bytes:
            # Perhaps written with the option not to filter chunks at the far faces: the file says so to HDF5 only.
            return self._read_through_hdf5(box)
        return self._decoded_voxels(on_disk.described, placed, place, position)[
            tuple(slice(n) for n in box.shape)
        ]

    def _decoded_voxels(
        self, described: DatasetDescription, placed: Placement, place: ChunkPlace, position: tuple[int, ...]
    ) -> AnyArray:
        try:
            stored = placed.file.read(place.offset, place.n_bytes)
            data = described.pipeline.decode(stored, place.mask)
        except StorageError as error:
            raise StorageError(
                f"chunk {position} of {self.name!r} cannot be read ({place.n_bytes} bytes at {place.offset} of the "
                f"file): {error}"
            ) from error
        return _as_native(np.frombuffer(data, described.stored_dtype).reshape(self.chunks))


class Hdf5RegionSource(_StoredDataset):
    """A dataset without chunks in an HDF5 file, for reading: contiguous, compact, external or virtual."""

    def __init__(self, on_disk: DatasetOnDisk, path: str, key: str, others: OtherFiles) -> None:
        self._describe(on_disk, path, key, others)

    def _read(self, box: Box) -> AnyArray:
        on_disk = self._opened()
        described = on_disk.described
        placed = on_disk.current() if described.bytes_readable else None
        if placed is None:
            return self._read_through_hdf5(box)
        if placed.offset is None:
            return np.full(box.shape, self.fill_value, self.dtype)
        voxels = np.empty(box.shape, described.stored_dtype)
        try:
            read_region(
                placed.file, ArrayInFile(placed.offset, self.shape, described.stored_dtype), box, voxels
            )
        except StorageError as error:
            raise StorageError(f"{box} of {self.name!r} cannot be read: {error}") from error
        return _as_native(voxels)


def stored_source(
    dataset: h5py.Dataset,
    described: DatasetDescription,
    path: str,
    key: str | None,
    others: OtherFiles = HERE_ONLY,
) -> FileSource:
    """Return the source for a dataset on disk."""
    kind = Hdf5Source if described.layout == "chunked" else Hdf5RegionSource
    on_disk = DatasetOnDisk(described, companions(dataset, described, others))
    return kind(on_disk, path, key or described.key, others)


def _as_native(voxels: AnyArray) -> AnyArray:
    if voxels.dtype.kind == "b":
        # Any byte but 0 is true; numpy would go on computing with the byte itself.
        return np.not_equal(voxels.view(np.uint8), 0)
    return voxels if voxels.dtype.isnative else voxels.astype(voxels.dtype.newbyteorder("="))
