"""Local files that hold one array of uncompressed voxels: what .npy, MRC and NIfTI have in common."""

from __future__ import annotations

import math
import os
import tempfile
import threading
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from bioimage_py.chunks import AnyArray, ArrayInFile, read_region, write_region
from bioimage_py.errors import InvalidArgumentError, ReadOnlyError, StorageError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.base import FileSource, StoredSize
from bioimage_py.sources.casting import cast_values
from bioimage_py.storage import (
    DAMAGED,
    FileBytes,
    Identity,
    damaged,
    decompressing,
    file_error,
    file_identity,
    is_url,
    unknown_options,
)

_PIECE = 2**20


class SingleFileSource(FileSource):
    """A source that is one local file and holds one array."""

    def identities(self) -> frozenset[Identity]:
        return frozenset({file_identity(self.path)})

    def stored_size(self) -> StoredSize | None:
        try:
            return StoredSize(os.stat(self.path).st_size, 1)  # noqa: PTH116 - the path is text as the user gave it
        except OSError:
            return None


def check_single_array(
    title: str, path: str, key: str | None, mode: str, *, writable: bool, options: Mapping[str, Any]
) -> None:
    """Refuse what a local file with one array does not have: keys, URLs, options, and writing if it is not supported."""
    if is_url(path):
        raise InvalidArgumentError(
            f"{title} files are read from local folders only, not from {path!r}: download it first"
        )
    if key:
        raise InvalidArgumentError(
            f"{path!r} is a {title} file, which holds one array: leave out the key {key!r}"
        )
    if options:
        raise unknown_options(title, sorted(options), ())
    if mode != "r" and not writable:
        raise ReadOnlyError(
            f"{title} files can only be read: open {path!r} with mode='r', and copy it to change it"
        )


def open_file(path: str, mode: str) -> FileBytes:
    """Open a local file for reading, in mode `"r+"` for writing too."""
    file = FileBytes.open(path, mode)
    if file.size == 0:
        raise StorageError(f"{path!r} is not an image: the file is empty (0 bytes)")
    file.read(0, 1)
    return file


class RawLayout(NamedTuple):
    """Where voxels lie in a file, and in which order."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"] = "C"

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class RawVoxels:
    """Reads and writes regions of voxels that lie contiguously in a file.

    It uses positioned reads and writes, not a memory map: pages of a map count as memory of the process, a map of a file
    that shrinks kills the process, and a full disk under a map does so too.
    """

    def __init__(self, file: FileBytes, layout: RawLayout) -> None:
        expected = layout.offset + layout.nbytes
        if file.size < expected:
            raise StorageError(
                f"{file.name} is truncated: voxels of shape {layout.shape} and dtype {layout.dtype} need "
                f"{expected} bytes with the header, the file has {file.size}; copy or download it again"
            )
        self.name = file.name
        self.layout, self.compression = layout, ""
        self._file: FileBytes | None = file
        # A file in Fortran order is read as one in C order with the axes reversed.
        stored = layout.shape if layout.order == "C" else layout.shape[::-1]
        self._stored = ArrayInFile(layout.offset, stored, layout.dtype)

    def close(self) -> None:
        self._file = None

    def read(self, box: Box) -> AnyArray:
        """Return the voxels of a box that lies in the array, in the stored dtype."""
        file = self._opened()
        turned = self.layout.order == "F"
        if turned:
            box = Box(box.begin[::-1], box.end[::-1])
        out: AnyArray = np.empty(box.shape, self.layout.dtype)
        read_region(file, self._stored, box, out)
        return out.T if turned else out

    def write(self, box: Box, values: AnyArray) -> None:
        """Write `values`, of the shape of the box, cast to the stored dtype.

        Voxels between the rows of the box are never read and written back, so threads may write disjoint boxes.
        """
        file = self._opened()
        if self.layout.order == "F":
            box, values = Box(box.begin[::-1], box.end[::-1]), values.T
        stored = cast_values(values, self.layout.dtype)
        write_region(file, self._stored, box, np.ascontiguousarray(stored))

    def _opened(self) -> FileBytes:
        file = self._file
        if file is None:
            raise StorageError(f"{self.name} was closed; open it again to go on")
        return file


class CompressedVoxels:
    """Voxels that are decompressed once, at the first read, into a temporary file without a name (in `TMPDIR`)."""

    def __init__(self, path: str, compression: str, layout: RawLayout) -> None:
        self.layout = layout
        self._path = path
        self.compression = compression
        # The working directory may be another one at the first read.
        self._place = os.path.abspath(path)  # noqa: PTH100 - follows no links
        self._lock = threading.Lock()
        self._voxels: RawVoxels | None = None
        self._closed = False

    def read(self, box: Box) -> AnyArray:
        with self._lock:
            if self._closed:
                raise StorageError(f"{self._path!r} was closed; open it again to go on")
            if self._voxels is None:
                self._voxels = self._decompressed()
            voxels = self._voxels
        return voxels.read(box)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._voxels is not None:
                self._voxels.close()

    def _decompressed(self) -> RawVoxels:
        """Decompress the file into one without a name, and open that."""
        path, needed = self._path, self.layout.offset + self.layout.nbytes
        found = 0
        with tempfile.TemporaryFile(prefix="bioimage-py-") as unpacked:
            try:
                with decompressing(self._place, self.compression) as stream:
                    # What follows the voxels is read for the checksum at the end, and dropped.
                    while piece := stream.read(_PIECE):
                        if found < needed:
                            _store(unpacked, piece[: needed - found], path)
                        found += len(piece)
            except DAMAGED as error:
                raise damaged(path, error, f" after {found} of {needed} bytes") from error
            except StorageError:
                raise
            except OSError as error:
                if error.errno is None:
                    raise damaged(path, error, f" after {found} of {needed} bytes") from error
                raise file_error(error, f"reading {path!r}") from error
            unpacked.flush()
            return RawVoxels(FileBytes(os.dup(unpacked.fileno()), f"{path!r} (decompressed)"), self.layout)


def _store(unpacked: Any, piece: bytes, path: str) -> None:
    try:
        unpacked.write(piece)
    except OSError as error:
        folder = tempfile.gettempdir()
        raise file_error(
            error, f"decompressing {path!r} into a temporary file in {folder!r} (TMPDIR)"
        ) from error


def voxels_in(
    path: str, file: FileBytes, layout: RawLayout, compression: str
) -> RawVoxels | CompressedVoxels:
    """Return the voxels of an open file, compressed or not."""
    return CompressedVoxels(path, compression, layout) if compression else RawVoxels(file, layout)


class RawFileSource(SingleFileSource):
    """A file that holds one array of uncompressed voxels in one piece.

    A file that is compressed as a whole cannot be entered in the middle: at the first read it is decompressed once into a temporary
    file without a name (in `TMPDIR`), which vanishes with the source.
    """

    def __init__(
        self,
        path: str,
        mode: str,
        voxels: RawVoxels | CompressedVoxels,
        metadata: ImageMetadata | None = None,
    ) -> None:
        self.path, self.mode, self.codec = path, mode, voxels.compression
        self.shape, self.dtype = voxels.layout.shape, voxels.layout.dtype
        self.storage_order: Literal["C", "F"] = voxels.layout.order
        self._voxels = voxels
        self._metadata = metadata or ImageMetadata()

    @property
    def metadata(self) -> ImageMetadata:
        return self._metadata

    def _read(self, box: Box) -> AnyArray:
        return self._voxels.read(box)

    def close(self) -> None:
        self._voxels.close()
