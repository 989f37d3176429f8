"""Reading datasets by path: nothing is held open through HDF5, and bytes are read as they are where possible."""

from __future__ import annotations

import math
import os
import threading
import weakref
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import h5py
import numpy as np

from bioimage_py.chunks import (
    AnyArray,
    ArrayInFile,
    ChunkEncoding,
    EncodedReader,
    StoredChunks,
    byte_order_of,
    fill_bytes,
    number_in,
    read_region,
)
from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.base import FileSource, Source, StoredSize
from bioimage_py.sources.chunked import ChunkedFileSource, DecodedChunks
from bioimage_py.sources.hdf5.dataset import DatasetDescription, describe, need_filters
from bioimage_py.sources.hdf5.files import FOREIGN_ERRORS, WRITERS, file_key, hdf5_errors, hdf5_words, reading
from bioimage_py.sources.hdf5.links import Companions, OtherFiles, companions
from bioimage_py.storage import FileBytes, Identity, PartStamps, StoredBytes

_FILES: weakref.WeakValueDictionary[int, FileBytes] = weakref.WeakValueDictionary()
"""The files that datasets are read from, by their stamps: thousands of datasets of one file share a descriptor."""


class ChunkPlace(NamedTuple):
    """Where one chunk is stored, and which filters were skipped for it (bit i for filter i)."""

    offset: int
    n_bytes: int
    mask: int


class ChunkIndex:
    """The places of all chunks that were ever written, sorted by their number in the grid: 28 bytes each."""

    def __init__(self, dataset: h5py.Dataset, described: DatasetDescription) -> None:
        corners, places, masks = array("q"), array("q"), array("Q")

        def note(info: Any) -> None:
            corners.extend(info.chunk_offset)
            places.extend((info.byte_offset, info.size))
            masks.append(info.filter_mask)

        if dataset.size and hasattr(dataset.id, "chunk_iter"):
            dataset.id.chunk_iter(note)
        elif dataset.size:
            for i in range(dataset.id.get_num_chunks()):
                note(dataset.id.get_chunk_info(i))
        chunks = described.chunks or described.shape
        self._grid = tuple(-(-n // c) for n, c in zip(described.shape, chunks, strict=True))
        strides = [math.prod(self._grid[axis + 1 :]) for axis in range(len(self._grid))]
        positions = np.array(corners, np.int64).reshape(-1, len(strides)) // np.array(chunks)
        numbers = positions @ np.array(strides, np.int64)
        order = np.argsort(numbers, kind="stable")
        self._numbers = numbers[order]
        self._places = np.array(places, np.int64).reshape(-1, 2)[order]
        self._masks = np.array(masks).astype(np.uint32)[order]

    def find(self, position: tuple[int, ...]) -> ChunkPlace | None:
        """Return the place of a chunk, None where it was never written."""
        number = number_in(self._grid, position)
        at = int(self._numbers.searchsorted(number))
        if at == len(self._numbers) or self._numbers[at] != number:
            return None
        offset, n_bytes = self._places[at].tolist()
        return ChunkPlace(offset, n_bytes, int(self._masks[at]))


@dataclass(frozen=True)
class Placement:
    """The bytes of a dataset as they lay in the file at one time."""

    file: FileBytes
    stamp: tuple[Any, ...]  # differs when the bytes may have moved since
    chunks: ChunkIndex | None = None  # of a chunked dataset
    offset: int | None = None  # of a contiguous dataset, None where nothing was ever written


class DatasetOnDisk:
    """Finds the bytes of a dataset, and finds them again when the file has been written.

    Twins of a source share one, so the index is collected once.
    """

    def __init__(self, described: DatasetDescription, companions: Companions) -> None:
        self.described = described
        self.companions = companions
        self.latest: Placement | None = None  # what `current` returned last
        self._lock = threading.Lock()

    def current(self) -> Placement | None:
        """Return where the bytes are, or None while voxels can be read through HDF5 only.

        That is while this process may hold voxels that are not in the file yet.
        """
        placed = self.latest
        if placed is not None:
            stamp = self._stamp(placed.file)
            if stamp in (None, placed.stamp):
                return None if stamp is None else placed
        with self._lock:
            placed = self.latest
            if placed is None or placed.stamp != self._stamp(placed.file):
                placed = self.latest = self._locate()
            return placed

    def _stamp(self, file: FileBytes) -> tuple[Any, ...] | None:
        """Return what stays equal while nothing is written into the dataset, None while a source of ours writes it."""
        found = os.fstat(file.number)
        writer = WRITERS.get((found.st_dev, found.st_ino))
        if writer is None:
            return ("file", found.st_mtime_ns, found.st_size)
        address = self.described.address
        return None if writer.written[address] else ("written by us", writer.number, writer.versions[address])

    def _locate(self) -> Placement | None:
        described = self.described
        with reading(described.path) as file:
            dataset = self.reopen(file)
            writer = WRITERS.get(described.file or (0, 0))
            if file.mode != "r" and (writer is None or writer.file != file):
                return None
            bytes_of_file = FileBytes.open(described.path)
            bytes_of_file = _FILES.setdefault(bytes_of_file.stamp, bytes_of_file)
            stamp = self._stamp(bytes_of_file)
            if stamp is None or file_key(bytes_of_file.number) != described.file:
                return None
            if not described.bytes_readable:
                return Placement(bytes_of_file, stamp)
            with hdf5_errors(f"reading the chunk index of {described.name!r} failed"):
                if described.layout == "chunked":
                    return Placement(bytes_of_file, stamp, ChunkIndex(dataset, described))
                return Placement(bytes_of_file, stamp, None, dataset.id.get_offset())

    def reopen(self, file: h5py.File) -> h5py.Dataset:
        """Return the dataset in its opened file; raises StorageError if it is not the one that was described."""
        try:
            access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
            if self.companions.folder is not None:
                access.set_efile_prefix(os.fsencode(self.companions.folder))
            name = self.described.key.encode("utf-8", "surrogateescape")
            dataset = h5py.Dataset(h5py.h5d.open(file.id, name, access))
        except FOREIGN_ERRORS as error:
            raise StorageError(f"{self.described.name!r} no longer exists: {hdf5_words(error)}") from error
        now = describe(dataset, attributes=False, path=self.described.path)
        if not now.is_still(self.described):
            raise StorageError(
                f"{self.described.name!r} was replaced or resized since it was opened: open it again"
            )
        return dataset


class Hdf5Dataset(FileSource):
    """A dataset as its file describes it."""

    kind = "hdf5"
    format = "hdf5"
    one_file = True

    def __init__(
        self, described: DatasetDescription, companions: Companions, path: str | None, key: str | None
    ) -> None:
        super().__init__()
        self.described, self.companions = described, companions
        self.path, self.key = path or described.path, key or described.key or None
        self.shape, self.dtype = described.shape, described.dtype
        if described.chunks is not None:
            self.chunks = described.chunks
        self.codec, self.fill_value = described.codec, described.fill_value

    @property
    def metadata(self) -> ImageMetadata:
        return self.described.metadata

    def part_stamps(self, *, cheap: bool = False) -> PartStamps | None:
        # What it shows of other files may have been written.
        return None if self.companions.identities or self.path is None else super().part_stamps(cheap=cheap)

    def identities(self) -> frozenset[Identity]:
        file = self.described.file
        where = ("hdf5 handle", self.described.open_file) if file is None else ("file", *file)
        return self.companions.identities | {(*where, self.described.address)}


class _StoredDataset(Hdf5Dataset):
    """A dataset on disk, and reading it through HDF5."""

    def __init__(self, on_disk: DatasetOnDisk, path: str, key: str | None, others: OtherFiles) -> None:
        super().__init__(on_disk.described, on_disk.companions, path, key)
        self._others = others
        self._on_disk: DatasetOnDisk | None = on_disk

    @property
    def on_disk(self) -> DatasetOnDisk:
        """The dataset in its file; raises StorageError when the source is closed."""
        if self._on_disk is None:
            raise StorageError(f"{self.name} is closed; open it again to read from it")
        return self._on_disk

    def _spec_options(self) -> dict[str, Any]:
        return self._others.spec()

    def check_present(self) -> None:
        """Raise StorageError if a file of which the dataset shows voxels has gone: HDF5 would read its fill value."""
        if self._others.missing_files == "error":
            for path in self.companions.files:
                if not os.path.isfile(path):  # noqa: PTH113 - a text stays a text
                    raise StorageError(f"{path!r}, of which {self.name!r} shows voxels, no longer exists")

    def stored_size(self) -> StoredSize | None:
        if self.described.layout in ("virtual", "external"):
            return None
        with self._through_hdf5("asking for the size") as dataset:
            return StoredSize(int(dataset.id.get_storage_size()), 1)

    def close(self) -> None:
        super().close()
        self._on_disk = None

    @contextmanager
    def _through_hdf5(self, doing: str) -> Iterator[h5py.Dataset]:
        with reading(self.described.path) as file:
            dataset = self.on_disk.reopen(file)
            with hdf5_errors(f"{doing} of {self.name!r} failed"):
                yield dataset

    def _read_through_hdf5(self, box: Box) -> AnyArray:
        need_filters(self.described)
        with self._through_hdf5(f"reading {box}") as dataset:
            return np.asarray(dataset[box.slices]).astype(self.dtype, copy=False)


class Hdf5Source(_StoredDataset, ChunkedFileSource):
    """A chunked dataset in an HDF5 file, for reading."""

    _cached_of: Placement | None = None

    def _gathered(self, box: Box, buffer: AnyArray | None) -> AnyArray:
        placed = self.on_disk.current()
        if placed is None:
            return self._read_through_hdf5(box)
        if placed is not self._cached_of:
            # The file was written: chunks that were decoded before may be outdated.
            self._decoded = DecodedChunks(self._decoded.max_bytes)
            self._cached_of = placed
        whole_chunks = box.snap(self.chunks, self.shape) == box
        if placed.chunks is None and (whole_chunks or not self._decoded.max_bytes):
            return self._read_through_hdf5(box)
        return super()._gathered(box, buffer)

    def _decode_chunk(self, position: tuple[int, ...], box: Box) -> AnyArray | None:
        described, placed = self.described, self.on_disk.latest
        if placed is None or placed.chunks is None:
            return self._read_through_hdf5(box)
        place = placed.chunks.find(position)
        if place is None:
            return None
        if not place.mask and _perhaps_unfiltered(described, position, place):
            return self._read_through_hdf5(box)
        try:
            data = described.pipeline.decode(placed.file.read(place.offset, place.n_bytes), place.mask)
        except StorageError as error:
            raise StorageError(
                f"chunk {position} of {self.name!r} cannot be read ({place.n_bytes} bytes at {place.offset} of the "
                f"file): {error}"
            ) from error
        whole = _as_native(np.frombuffer(data, described.stored_dtype).reshape(self.chunks))
        return whole[tuple(slice(n) for n in box.shape)]


def _perhaps_unfiltered(described: DatasetDescription, position: tuple[int, ...], place: ChunkPlace) -> bool:
    """Whether a chunk may be written with the option not to filter chunks at the far faces: only HDF5 knows."""
    if not described.filters or place.n_bytes != described.pipeline.chunk_bytes:
        return False
    return any(
        (p + 1) * c > n for p, c, n in zip(position, described.chunks or (), described.shape, strict=True)
    )


class Hdf5RegionSource(_StoredDataset):
    """A dataset without chunks in an HDF5 file, for reading: contiguous, compact, external or virtual."""

    def _read(self, box: Box) -> AnyArray:
        placed = self.on_disk.current() if self.described.bytes_readable else None
        if placed is None:
            return self._read_through_hdf5(box)
        if placed.offset is None:
            return np.full(box.shape, self.fill_value, self.dtype)
        voxels = np.empty(box.shape, self.described.stored_dtype)
        try:
            read_region(placed.file, ArrayInFile(placed.offset, self.shape, voxels.dtype), box, voxels)
        except StorageError as error:
            raise StorageError(f"{box} of {self.name!r} cannot be read: {error}") from error
        return _as_native(voxels)


def stored_source(
    dataset: h5py.Dataset, described: DatasetDescription, path: str, key: str | None, others: OtherFiles
) -> FileSource:
    on_disk = DatasetOnDisk(described, companions(dataset, described, others))
    kind = Hdf5Source if described.layout == "chunked" else Hdf5RegionSource
    return kind(on_disk, path, key, others)


def _as_native(voxels: AnyArray) -> AnyArray:
    if voxels.dtype.kind == "b":
        # Any byte but 0 is true; numpy would go on computing with the byte itself.
        return np.not_equal(voxels.view(np.uint8), 0)
    return voxels if voxels.dtype.isnative else voxels.astype(voxels.dtype.newbyteorder("="))


class Hdf5Chunks(EncodedReader):
    """The encoded chunks of a dataset that is open for reading, without HDF5's lock."""

    def __init__(self, source: Source) -> None:
        self._on_disk = _chunked(source).on_disk
        self._described = self._on_disk.described
        self._placed: Placement | None = None

    def path(self, position: tuple[int, ...]) -> str:
        del position
        return self._described.path

    def piece(self, position: tuple[int, ...]) -> StoredBytes | None:
        placed, place = self._find(position)
        return None if place is None else StoredBytes(placed.file, place.offset, place.n_bytes)

    def movable(self, position: tuple[int, ...]) -> bool:
        """Whether all filters were applied to a chunk."""
        _, place = self._find(position)
        if place is None or not self._described.filters:
            return True
        return not place.mask and not _perhaps_unfiltered(self._described, position, place)

    def _find(self, position: tuple[int, ...]) -> tuple[Placement, ChunkPlace | None]:
        placed = self._on_disk.current()
        if placed is None or placed.chunks is None or self._placed not in (None, placed):
            raise StorageError(f"{self._described.name!r} is, or was, written while it is copied")
        self._placed = placed
        return placed, placed.chunks.find(position)


def _chunked(source: Source) -> Hdf5Source:
    if not isinstance(source, Hdf5Source):
        raise UnsupportedFormatError(f"{source.name} has no chunks in an HDF5 file that is open for reading")
    return source


def stored_chunks(source: Source) -> StoredChunks:
    """Return how the chunks of a dataset that is open for reading are stored."""
    described = _chunked(source).described
    if not described.bytes_readable or described.dtype.kind == "b":
        # Any byte but 0 is true in HDF5, which other formats do not promise.
        raise UnsupportedFormatError(f"the chunks of {source.name} have to be read through HDF5")
    chunks = described.chunks
    assert chunks is not None
    found = [used.step for used in described.filters if used.step[0] != ("shuffle", 1)]
    encoding = ChunkEncoding(
        format="hdf5",
        shape=described.shape,
        dtype=described.dtype.name,
        byte_order=byte_order_of(described.stored_dtype),
        chunks=chunks,
        axis_order=tuple(axis for axis, extent in enumerate(chunks) if extent > 1),
        codecs=tuple(step for step, _ in found),
        settings=tuple(settings for _, settings in found),
        fill=fill_bytes(described.fill_value, described.dtype),
        one_file=True,
    )
    return StoredChunks(encoding, described.path)
