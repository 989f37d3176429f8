"""Reading datasets by path: nothing is held open through HDF5, and bytes are read as they are where possible."""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import h5py
import numpy as np

from bioimage_py.chunks import (
    AnyArray,
    ArrayInFile,
    ChunkEncoding,
    EncodedReader,
    Filter,
    StoredChunks,
    byte_order_of,
    codec_step,
    fill_bytes,
    number_in,
    read_region,
)
from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import FileSource, Source, StoredSize
from bioimage_py.sources.chunked import ChunkedFileSource, DecodedChunks
from bioimage_py.sources.hdf5.dataset import DatasetDescription, describe, need_filters
from bioimage_py.sources.hdf5.files import (
    FOREIGN_ERRORS,
    file_key,
    hdf5_errors,
    hdf5_words,
    reading,
    writer_of,
)
from bioimage_py.sources.hdf5.links import HERE_ONLY, Companions, OtherFiles, companions, open_dataset
from bioimage_py.storage import FileBytes, StoredBytes


@dataclass(frozen=True)
class ChunkPlace:
    """Where one chunk is stored, and which filters were skipped for it (bit i for filter i)."""

    offset: int
    n_bytes: int
    mask: int


class ChunkIndex:
    """The places of all chunks that were ever written, sorted by their number in the grid: 28 bytes each."""

    def __init__(self, numbers: AnyArray, offsets: AnyArray, sizes: AnyArray, masks: AnyArray) -> None:
        order = np.argsort(numbers, kind="stable")
        self._numbers = numbers[order]
        self._offsets = offsets[order]
        self._sizes = sizes[order]
        self._masks = masks[order]

    def __len__(self) -> int:
        return len(self._numbers)

    def find(self, number: int) -> ChunkPlace | None:
        """Return the place of a chunk by its number in C order, None where it was never written."""
        at = int(self._numbers.searchsorted(number))
        if at == len(self._numbers) or self._numbers[at] != number:
            return None
        return ChunkPlace(int(self._offsets[at]), int(self._sizes[at]), int(self._masks[at]))


def collect_index(dataset: h5py.Dataset, described: DatasetDescription, base: int) -> ChunkIndex:
    """Ask HDF5 once where all chunks of a dataset are."""
    assert described.chunks is not None
    corners, places, masks = array("q"), array("q"), array("Q")

    def note(info: Any) -> None:
        corners.extend(info.chunk_offset)
        places.append(info.byte_offset)
        places.append(info.size)
        masks.append(info.filter_mask)

    if dataset.size:
        if hasattr(dataset.id, "chunk_iter"):
            dataset.id.chunk_iter(note)
        else:
            for i in range(dataset.id.get_num_chunks()):
                note(dataset.id.get_chunk_info(i))
    grid = tuple(-(-n // c) for n, c in zip(described.shape, described.chunks, strict=True))
    positions = np.array(corners, np.int64).reshape(-1, len(grid)) // np.array(described.chunks)
    offset_and_size = np.array(places, np.int64).reshape(-1, 2)
    return ChunkIndex(
        positions @ np.array(_strides(grid), np.int64),
        offset_and_size[:, 0] + base,
        offset_and_size[:, 1],
        np.array(masks).astype(np.uint32),
    )


def _strides(grid: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for extent in reversed(grid):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Placement:
    """The bytes of a dataset as they lay in the file at one time."""

    file: FileBytes  # where to read
    stamp: tuple[Any, ...]  # differs when the bytes may have moved since
    chunks: ChunkIndex | None = None  # the chunk index of a chunked dataset
    offset: int | None = None  # the beginning of a contiguous dataset, None where nothing was ever written


class DatasetOnDisk:
    """Finds the bytes of a dataset, and finds them again when the file has been written since.

    Twins of a source share one, so the index is collected once.
    """

    def __init__(self, described: DatasetDescription, companions: Companions | None = None) -> None:
        self.described = described
        self.companions = companions or Companions()
        self._placed: Placement | None = None
        self._lock = threading.Lock()

    def current(self) -> Placement | None:
        """Return where the bytes are, or None while voxels can only be had through HDF5.

        That is while this process may have voxels of the dataset that are not in the file yet.
        """
        placed = self._placed
        stamp = None if placed is None else self._stamp(placed.file)
        if placed is not None and placed.stamp == stamp:
            return placed
        if placed is not None and stamp is None:
            return None
        with self._lock:
            placed = self._placed
            if placed is None or placed.stamp != self._stamp(placed.file):
                placed = self._placed = self._locate()
            return placed

    @property
    def latest(self) -> Placement | None:
        """What `current` returned last, without asking again."""
        return self._placed

    def _stamp(self, file: FileBytes) -> tuple[Any, ...] | None:
        """Return what stays equal while nothing is written into the dataset, None while a source of ours writes it."""
        found = os.fstat(file.number)
        writer = writer_of((found.st_dev, found.st_ino))
        if writer is None:
            return ("file", found.st_mtime_ns, found.st_size)
        if writer.is_written(self.described.address):
            return None
        return ("written by us", writer.number, writer.version(self.described.address))

    def _locate(self) -> Placement | None:
        described = self.described
        with reading(described.path) as file:
            dataset = self.reopen(file)
            writer = None if described.file is None else writer_of(described.file)
            if file.mode != "r" and (writer is None or writer.file != file):
                return None
            bytes_of_file = FileBytes.open(described.path)
            stamp = self._stamp(bytes_of_file)
            if stamp is None or file_key(bytes_of_file.number) != described.file:
                return None
            if not described.bytes_readable:
                return Placement(bytes_of_file, stamp)
            with hdf5_errors(f"reading the chunk index of {described.name!r} failed"):
                base = _missing_base(file)
                if described.layout == "chunked":
                    chunks = collect_index(dataset, described, base[0])
                    return Placement(bytes_of_file, stamp, chunks=chunks)
                offset = dataset.id.get_offset()
                return Placement(
                    bytes_of_file, stamp, offset=None if offset is None else int(offset) + base[1]
                )

    def reopen(self, file: h5py.File) -> h5py.Dataset:
        """Return the dataset in its opened file; raises StorageError if it is not the one that was described."""
        try:
            dataset = open_dataset(file, self.described.key, self.companions.folder)
        except FOREIGN_ERRORS as error:
            raise StorageError(
                f"{self.described.name!r} is not there any more: {hdf5_words(error)}"
            ) from error
        # Asked for every region that is read through HDF5.
        if not isinstance(dataset, h5py.Dataset) or not describe(
            dataset, attributes=False, path=self.described.path
        ).is_still(self.described):
            raise StorageError(
                f"{self.described.name!r} was replaced or resized since it was opened: open it again"
            )
        return dataset


def _missing_base(file: h5py.File) -> tuple[int, int]:
    """Return what HDF5's offsets of chunks and of contiguous datasets lack to be positions in the file."""
    user_block = int(file.id.get_create_plist().get_userblock())
    if not user_block:
        return (0, 0)
    chunks, contiguous = _counts_user_block()
    return (0 if chunks else user_block, 0 if contiguous else user_block)


@cache
def _counts_user_block() -> tuple[bool, bool]:
    """Try out whether this version of HDF5 counts a user block in the offsets of chunks, and of contiguous datasets."""
    voxels = np.frombuffer(b"where is this in the file?".ljust(64), np.uint8)
    with h5py.File("probe", "w", driver="core", backing_store=False, userblock_size=1024) as file:
        chunked = file.create_dataset("chunked", data=voxels, chunks=(64,))
        contiguous = file.create_dataset("contiguous", data=voxels[::-1])
        file.flush()
        image = file.id.get_file_image()
        # The image of a file in memory begins with the user block, or behind it: the signature tells.
        shift = image.find(b"\x89HDF\r\n\x1a\n")
        at_chunk = image.find(voxels.tobytes()) + 1024 - shift
        at_contiguous = image.find(voxels[::-1].tobytes()) + 1024 - shift
        return (
            chunked.id.get_chunk_info(0).byte_offset == at_chunk,
            contiguous.id.get_offset() == at_contiguous,
        )


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


_TWINS = {1: "zlib", 3: "fletcher32", 307: "bz2", 32001: "blosc", 32015: "zstd"}

_SHUFFLE = 2


def stored_chunks(source: Source) -> StoredChunks:
    """Return how the chunks of a dataset that is open for reading are stored."""
    if not isinstance(source, Hdf5Source):
        raise UnsupportedFormatError(f"{source.name} has no chunks in an HDF5 file that is open for reading")
    described = source.described
    if not described.bytes_readable or described.dtype.kind == "b":
        # Any byte but 0 is true in HDF5, which other formats do not promise.
        raise UnsupportedFormatError(f"the chunks of {source.name} have to be read through HDF5")
    return StoredChunks(_encoding(described), described.path)


def planned_encoding(spec: ArraySpec) -> ChunkEncoding:
    """Raise: chunks are written into HDF5 files by HDF5 only."""
    raise UnsupportedFormatError(f"chunks of {spec.shape} voxels are written into HDF5 files by HDF5 only")


def _encoding(described: DatasetDescription) -> ChunkEncoding:
    chunks = described.chunks
    assert chunks is not None
    found = [_step(used) for used in described.filters]
    return ChunkEncoding(
        format="hdf5",
        shape=described.shape,
        dtype=described.dtype.name,
        byte_order=byte_order_of(described.stored_dtype),
        chunks=chunks,
        axis_order=tuple(axis for axis, extent in enumerate(chunks) if extent > 1),
        codecs=tuple(step for step, _ in found if step != ("shuffle", 1)),
        settings=tuple(settings for step, settings in found if step != ("shuffle", 1)),
        fill=fill_bytes(described.fill_value, described.dtype),
    )


def _step(used: Filter) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    options: Mapping[str, Any] = {}
    if used.number == _SHUFFLE:
        return codec_step("shuffle", {"elementsize": used.values[0]})
    if used.number in (1, 307, 32015) and used.values:
        options = {"level": used.values[0]}
    if used.number in _TWINS:
        return codec_step(_TWINS[used.number], options)
    return codec_step(f"hdf5 {used.text.partition(':')[0]}", {"values": list(used.values)})
