"""Local files that hold one array of uncompressed voxels: what .npy, MRC and NIfTI have in common."""

from __future__ import annotations

import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from bioimage_py.chunks import AnyArray, ArrayInFile, read_region, write_region
from bioimage_py.errors import InvalidArgumentError, ReadOnlyError, StorageError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import FileSource, Source, StoredSize
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.stores import remove_mark
from bioimage_py.storage import (
    DAMAGED,
    FileBytes,
    Identity,
    UnfinishedFile,
    damaged,
    decompressing,
    file_error,
    file_identity,
    is_url,
    unknown_options,
)
from bioimage_py.system import RENAMES_OPEN_FILES

if TYPE_CHECKING:
    from bioimage_py.storage import StoreFolder

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


class RawFileSource(SingleFileSource):
    """A file that holds one array of uncompressed voxels in one piece.

    It is read and written at positions, not mapped: pages of a map count as memory of the process, a map of a file that shrinks
    kills the process, and a full disk under a map does so too. A file that is compressed as a whole cannot be entered in the middle:
    at the first read it is decompressed once into a temporary file without a name (in `TMPDIR`), which vanishes with the source.
    """

    uncompressed: UnfinishedFile | None = None
    """The voxels of a new file that is compressed when it is complete, as `compress` does."""
    compress: Callable[[], None] | None = None
    threads = 1
    """With how many it is compressed."""
    marked: StoreFolder | None = None
    """Where the mark of a new file is that the same call can go on with."""

    def __init__(
        self,
        path: str,
        mode: str,
        file: FileBytes,
        layout: RawLayout,
        compression: str = "",
        metadata: ImageMetadata | None = None,
    ) -> None:
        self.path, self.mode, self.codec = path, "r" if compression else mode, compression
        self.writable = self.mode == "r+"
        self.shape, self.dtype = layout.shape, layout.dtype
        self.storage_order: Literal["C", "F"] = layout.order
        self._layout, self._metadata = layout, metadata or ImageMetadata()
        # A file in Fortran order is read as one in C order with the axes reversed.
        self._turned = layout.order == "F"
        stored = layout.shape[::-1] if self._turned else layout.shape
        self._stored = ArrayInFile(layout.offset, stored, layout.dtype)
        # The working directory may be another one at the first read.
        self._place = os.path.abspath(path)  # noqa: PTH100 - follows no links
        self._lock = threading.Lock()
        self._closed = False
        self._file = None if compression else _checked_length(file, layout)

    @property
    def metadata(self) -> ImageMetadata:
        return self._metadata

    def show_as(self, spec: ArraySpec) -> None:
        """Show a new file with the axes that were asked for, where its header needs more of one voxel."""
        self.shape, self._metadata = spec.shape, spec.metadata
        self._stored = self._stored._replace(shape=spec.shape[::-1] if self._turned else spec.shape)

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        del cache_bytes
        self.threads = max(self.threads, threads)
        return self

    def mark_place(self) -> StoreFolder | None:
        return self.marked

    def finish(self) -> None:
        if self.unfinished is not None and self.compress is not None:
            self.compress()
            with self._lock:
                self._file, self.compress = None, None
            self.codec, self.mode, self.writable = "gzip", "r", False
        super().finish()

    def abandon(self) -> None:
        super().abandon()
        if self.uncompressed is not None:
            self.uncompressed.drop()
        if self.marked is not None:
            remove_mark(self.marked)

    @contextmanager
    def _renaming(self) -> Iterator[None]:
        if not RENAMES_OPEN_FILES:
            self._file = None
        yield
        if self._file is None and not self.codec:
            self._file = open_file(self.path, "r+")

    def _read(self, box: Box) -> AnyArray:
        file = self._opened()
        if self._turned:
            box = Box(box.begin[::-1], box.end[::-1])
        out: AnyArray = np.empty(box.shape, self._layout.dtype)
        read_region(file, self._stored, box, out)
        return out.T if self._turned else out

    def _write(self, box: Box, values: AnyArray) -> None:
        file = self._opened()
        if self._turned:
            box, values = Box(box.begin[::-1], box.end[::-1]), values.T
        stored = cast_values(values, self._layout.dtype)
        write_region(file, self._stored, box, np.ascontiguousarray(stored))

    def close(self) -> None:
        with self._lock:
            self._file, self.compress, self._closed = None, None, True

    def _opened(self) -> FileBytes:
        with self._lock:
            if self._closed:
                raise StorageError(f"{self.path!r} was closed; open it again to go on")
            if self._file is None:
                self._file = self._decompressed()
            return self._file

    def _decompressed(self) -> FileBytes:
        """Decompress the file into one without a name, and open that."""
        path, needed = self.path, self._layout.offset + self._layout.nbytes
        found = 0
        with tempfile.TemporaryFile(prefix="bioimage-py-") as unpacked:
            try:
                with decompressing(self._place, self.codec) as stream:
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
            file = FileBytes(os.dup(unpacked.fileno()), f"{path!r} (decompressed)")
            return _checked_length(file, self._layout)


def _checked_length(file: FileBytes, layout: RawLayout) -> FileBytes:
    expected = layout.offset + layout.nbytes
    if file.size < expected:
        raise StorageError(
            f"{file.name} is truncated: voxels of shape {layout.shape} and dtype {layout.dtype} need "
            f"{expected} bytes with the header, the file has {file.size}; copy or download it again"
        )
    return file


def _store(unpacked: Any, piece: bytes, path: str) -> None:
    try:
        unpacked.write(piece)
    except OSError as error:
        folder = tempfile.gettempdir()
        raise file_error(
            error, f"decompressing {path!r} into a temporary file in {folder!r} (TMPDIR)"
        ) from error
