"""Where the bytes of a dataset are in its file: the chunk index, and keeping it true while the file is written."""

from __future__ import annotations

import os
import threading
from array import array
from dataclasses import dataclass
from functools import cache
from typing import Any

import h5py
import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import StorageError
from bioimage_py.sources.hdf5.dataset import DatasetDescription, describe
from bioimage_py.sources.hdf5.errors import FOREIGN_ERRORS, hdf5_errors, hdf5_words
from bioimage_py.sources.hdf5.files import file_key, reading, writer_of
from bioimage_py.sources.hdf5.links import Companions, open_dataset
from bioimage_py.storage import FileBytes


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
