"""Arrays read and written through TensorStore: what Zarr, N5 and precomputed have in common."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import tensorstore as ts

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError, ReadOnlyError, StorageError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.base import FileSource, Source, StoredSize
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.chunk_access import chunk_stamps
from bioimage_py.sources.chunked import parts_of
from bioimage_py.sources.registry import from_spec
from bioimage_py.sources.stores.consolidated import update_consolidated
from bioimage_py.sources.stores.unfinished import MARK_FOLDER
from bioimage_py.storage import (
    ENGINE_ERRORS,
    PartStamps,
    StoreFolder,
    asking,
    awaited,
    credentials_of,
    file_identity,
    file_stamp,
    files_below,
    remove_leftovers,
    storage_error,
    storage_errors,
    store_context,
    tried_again,
    url_options,
)
from bioimage_py.system import most_memory

_METADATA_FILES = ("zarr.json", ".zarray", "attributes.json", "info")
_OPEN_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class StoredArray:
    """What a family knows about one of its arrays, beyond what TensorStore tells."""

    kind: str
    path: str
    key: str | None
    mode: str
    format: str
    codec: str = ""
    metadata: ImageMetadata = field(default_factory=ImageMetadata)
    options: Mapping[str, Any] = field(default_factory=dict)  # what the spec must hold besides
    folder: str | None = None  # the local folder that holds its files
    zipped: bool = False  # whether it is in a zip file on a disk
    view: Callable[[Any], Any] | None = None  # gives TensorStore's array the axis order of this package
    renamed: Mapping[str, Any] = field(default_factory=dict)  # replaces what its metadata say of chunk names
    whole_chunks: bool = False  # whether chunks at the far faces are stored with their whole extent
    array: Mapping[str, Any] | None = None  # its metadata, where they are not to be read again


def open_store(spec: dict[str, Any], mode: str, **how: Any) -> Any:
    """Open an array through TensorStore, with a modest number of threads and no cache; its own errors pass."""
    how.setdefault("context", store_context(_OPEN_THREADS, 0))
    return tried_again(
        lambda: ts.open(ts.Spec(spec), read=True, write=mode != "r", open=True, **how).result()
    )


class TensorStoreSource(FileSource):
    """An array in a chunked store, decoded and encoded by TensorStore's threads."""

    concurrent_writes = True
    grows = True

    def __init__(self, store: Any, stored: StoredArray) -> None:
        self._stored = stored
        self._raw = store
        # The process may work in another folder later on.
        self._folder = None if stored.folder is None else os.path.abspath(stored.folder)  # noqa: PTH100
        self._store = view = store if stored.view is None else stored.view(store)
        self.kind, self.path, self.key, self.mode = stored.kind, stored.path, stored.key, stored.mode
        self.format, self.codec, self.renamed = stored.format, stored.codec, stored.renamed
        self.writable = stored.mode == "r+"
        self.shape = tuple(int(n) for n in view.shape)
        self.dtype = np.dtype(view.dtype.numpy_dtype)
        self._whole = Box.whole(self.shape)
        self.fills_buffers = self.dtype.kind in "biufc" and self.ndim > 0
        self.chunks, self.shards = _grids(view, self.shape)
        self._check_chunk()
        fill = view.fill_value
        self.names_fill_value = fill is not None
        self.fill_value = self.dtype.type(0) if fill is None else np.asarray(fill, self.dtype)[()]

    def _check_chunk(self) -> None:
        """Raise StorageError for chunks that fit no memory, for which TensorStore would end the process."""
        extents = self.chunks or ()
        if not self._stored.whole_chunks:
            extents = tuple(map(min, extents, self.shape))
        n_bytes = math.prod(extents) * self.dtype.itemsize
        most = most_memory()
        if n_bytes > most:
            raise StorageError(
                f"{self.name} has chunks of shape {self.chunks}, of which one takes {n_bytes:.3g} bytes of memory, and this process can "
                f"have {most:.3g}: its metadata are wrong, or it takes a larger machine"
            )

    @property
    def engine(self) -> str:
        return "tensorstore"

    @property
    def metadata(self) -> ImageMetadata:
        return self._stored.metadata

    @property
    def known_metadata(self) -> Mapping[str, Any] | None:
        """What its metadata file holds, where it was opened with that; None: it is to be read."""
        return self._stored.array

    @property
    def kvstore(self) -> Any:
        return self._raw.kvstore

    def _read(self, box: Box) -> AnyArray:
        if math.prod(box.shape) * self.dtype.itemsize > IN_HAND_BYTES and self.fills_buffers:
            return self._read_into(box, np.empty(box.shape, self.dtype))
        store = self._store if box == self._whole else self._store[box.slices]
        try:
            return awaited(lambda: store.read(order="C"), self.path)  # type: ignore[no-any-return]
        except ENGINE_ERRORS as error:
            return self._read_apart(box, error)

    def _read_into(self, box: Box, buffer: AnyArray) -> AnyArray:
        target = ts.array(buffer, copy=False, write=True).translate_to[box.begin]
        try:
            for piece in pieces_of(self, self.chunks or box.shape, box):
                awaited(partial(_copy, self._store, target, piece), self.path)
        except ENGINE_ERRORS as error:
            buffer[...] = self._read_apart(box, error)
        return buffer

    def _read_apart(self, box: Box, error: Exception) -> AnyArray:
        """Return the voxels in a box that TensorStore could not read: others decode more kinds of streams."""
        from bioimage_py.sources.stores.unusual_chunks import UnusualChunks

        refused = storage_error(error, f"{self.name}: cannot read the region {box.text}")
        chunks = None if self._folder is None else UnusualChunks.of(self)
        if chunks is None:
            raise refused from error
        found = np.empty(box.shape, self.dtype)
        for part in parts_of(box, chunks.shape, self.shape):
            try:
                values: AnyArray | None = self._store[part.chunk.slices].read(order="C").result()
            except ENGINE_ERRORS:
                values = chunks.read(part.position)
            if values is None:
                raise refused from error
            found[part.target] = values[part.source]
        return found

    def _write(self, box: Box, values: AnyArray) -> None:
        try:
            # Encoding from the caller's memory is safe since we wait for the commit. But TensorStore (0.1.86) compares strided
            # memory of 4 axes or more wrongly with the fill value, and does not store chunks that it takes for equal: up to a
            # third of random writes lost one. None of 70,000 with up to 3 axes did, and none with any number of axes when
            # the voxels are copied first.
            for piece in pieces_of(self, self.write_unit or box.shape, box):
                part = values[piece.relative_to(box.begin).view]
                awaited(
                    partial(
                        self._store[piece.slices].write,
                        cast_values(part, self.dtype),
                        can_reference_source_data_indefinitely=self._raw.rank <= 3,
                    ),
                    self.path,
                )
        except ENGINE_ERRORS as error:
            raise storage_error(
                error, f"{self.name}: cannot write the region {box.text}", writing=True
            ) from error

    def writer_from(self, source: Source) -> Callable[[Box], None] | None:
        same = (source.chunks, source.dtype) == (self.chunks, self.dtype) and self.chunks is not None
        # Measured: other chunks gain nothing. What is said of 4 axes in `_write` is not known to be otherwise here.
        if not isinstance(source, TensorStoreSource) or not same or self.shards or not 0 < self.ndim <= 3:
            return None
        return partial(self.write_from, source=source)

    def write_from(self, box: Box, source: TensorStoreSource) -> None:
        """Write the voxels of another array's same box, without this process's memory between the two."""
        if not self.writable:
            raise ReadOnlyError(f"{self.name} is read-only; open it with mode='r+' to write into it")
        if box.is_empty():
            return
        try:
            with asking(source.path):
                awaited(partial(_copy, source._store, self._store, box), self.path)
        except ENGINE_ERRORS as error:
            raise storage_error(
                error, f"{source.name}: cannot copy the region {box.text} into {self.name}", writing=True
            ) from error

    def check_present(self) -> None:
        folder = self._folder or ""
        # Precomputed has one description above the folders of its scales.
        places = [f"{folder}/{name}" for name in _METADATA_FILES] + [f"{os.path.dirname(folder)}/info"]  # noqa: PTH120
        if folder and not any(map(os.path.exists, places)):
            raise StorageError(f"{self.name} no longer exists: {folder!r} holds no metadata of an array")

    def identities(self) -> frozenset[tuple[Any, ...]]:
        return frozenset({file_identity(self.path, self.key, key_is_folder=not self._stored.zipped)})

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        return self.reopened(threads, cache_bytes)

    def reopened(self, threads: int, cache_bytes: int) -> TensorStoreSource:
        """Return a twin as `for_run` does, that TensorStore decodes and encodes."""
        # Without its own context: what that says about threads and cache would win over the run's.
        spec = self._raw.spec(open=True, assume_metadata=True, retain_context=False, recheck_cached="open")
        credentials = credentials_of(self.kvstore) if self.path.startswith("s3://") else None
        context = store_context(threads, cache_bytes, patient=True, credentials=credentials)
        with storage_errors(f"{self.name} cannot be reopened for the run"):
            store = tried_again(
                lambda: ts.open(spec, read=True, write=self.writable, context=context).result()
            )
        return type(self)(store, self._stored)

    def plain(self) -> TensorStoreSource:
        return TensorStoreSource(self._raw, self._stored)

    def mark_place(self) -> StoreFolder | None:
        if self._folder is not None:
            return StoreFolder(self._folder)
        place = self.path.startswith(("s3://", "gs://"))
        return StoreFolder.at(self.path, url_options(self._stored.options)).child(self.key) if place else None

    def stored_stamp(self) -> str | None:
        if self.path.startswith("memory:"):
            return None
        if self._stored.zipped:
            return super().stored_stamp()
        spec = {**self._stored.options, "path": self.path, "key": self.key}
        return metadata_stamp(self.mark_place() or folder_of(self, spec))

    def part_stamps(self, *, cheap: bool = False) -> PartStamps | None:
        if self._stored.zipped:
            return super().part_stamps()
        known = (self._folder is None or not cheap) and not self.path.startswith("memory:")
        return chunk_stamps(self, cheap=cheap) if known else None

    def grown(self, shape: tuple[int, ...]) -> Source:
        # Without the metadata that it was opened with, which are of the old shape.
        spec = self._raw.spec(minimal_spec=True, retain_context=False).to_json()
        credentials = credentials_of(self.kvstore) if self.path.startswith("s3://") else None
        with storage_errors(f"{self.name} cannot get the shape {shape}", writing=True):
            store = open_store(spec, "r+", context=store_context(_OPEN_THREADS, 0, credentials=credentials))
            view = store if self._stored.view is None else self._stored.view(store)
            view.resize(exclusive_max=shape, expand_only=True, resize_metadata_only=True).result()
        place = self.mark_place()
        if place is not None:
            update_consolidated([place])
        return from_spec(self.to_spec())

    def remove_leftovers(self) -> int:
        return 0 if self._folder is None else remove_leftovers(self._folder)

    def stored_size(self) -> StoredSize | None:
        return None if self._folder is None else stored_size_of(self._folder)

    def to_spec(self) -> dict[str, Any]:
        if self.path.startswith("memory:"):
            raise InvalidArgumentError(
                f"{self.name} is held in memory and has no spec: it can be used in local runs only"
            )
        return super().to_spec()

    def _spec_options(self) -> Mapping[str, Any]:
        return self._stored.options

    def read_only(self) -> TensorStoreSource:
        return type(self)(self._raw, replace(self._stored, mode="r"))


def _copy(store: Any, target: Any, box: Box) -> Any:
    return target[box.slices].write(store[box.slices])


def _grids(store: Any, shape: tuple[int, ...]) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Return chunks and shards; shards are None where every chunk has a file of its own."""
    layout = store.chunk_layout
    chunks, outer = (
        tuple(int(c) if c else max(1, n) for c, n in zip(grid.shape or shape, shape, strict=True))
        for grid in (layout.read_chunk, layout.write_chunk)
    )
    if outer == chunks:
        return chunks, None
    # A precomputed shard can end with the volume in the middle of a chunk, which is then its last one.
    return chunks, tuple(-(-s // c) * c for s, c in zip(outer, chunks, strict=True))


def folder_of(source: Source, spec: Mapping[str, Any]) -> StoreFolder:
    """Return the folder of an array that a spec leads to; behind a URL it is reached as the source itself reaches it."""
    options = url_options(spec)
    folder = StoreFolder.at(spec["path"], options).child(spec.get("key"))
    if folder.is_local or not isinstance(source, TensorStoreSource):
        return folder
    return replace(folder, opened=source.kvstore)


def metadata_stamp(folder: StoreFolder) -> str | None:
    """Return time and size of the metadata of an array, their hash behind a URL; None where there are none."""
    for name in _METADATA_FILES:
        if folder.is_local:
            found = file_stamp(f"{folder.path}/{name}")
        else:
            data = folder.read(name)
            digest = hashlib.sha256(data or b"").hexdigest()[:16]
            found = None if data is None else f"{len(data)} bytes with the hash {digest}"
        if found is not None:
            return f"{name} of {found}"
    return None


def stored_size_of(folder: str) -> StoredSize:
    """Return the bytes and the number of the files below a folder, but for marks of a copy that is under way."""
    n_bytes = n_files = 0
    for entry in files_below(folder):
        # Another process may remove its temporary files meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if f"/{MARK_FOLDER}/" not in entry.path:
                n_bytes += entry.stat().st_size
                n_files += 1
    return StoredSize(n_bytes, n_files)


def options_of(source: Source) -> Mapping[str, Any] | None:
    """Return how the URL of a source is reached; None for a live handle, which knows that by itself."""
    try:
        spec = source.to_spec()
    except InvalidArgumentError:
        return None
    return None if "tensorstore" in spec else url_options(spec)


WRITTEN_BYTES = 2**24
"""What is written at a time where much else is held: enough for all threads of an engine."""

IN_HAND_BYTES = 2**26
"""What an engine is given at a time: enough for the threads of a large machine, and little beside the blocks that are worth it."""


def piece_shape(
    unit: tuple[int, ...], itemsize: int, box: Box, n_bytes: int = WRITTEN_BYTES
) -> tuple[int, ...]:
    """Return the extents, whole units, of pieces of a box that hold about so many bytes; one unit may be more."""
    piece = [-(-n // u) * u for n, u in zip(box.shape, unit, strict=True)]
    for axis, u in enumerate(unit):
        over = math.prod(piece) * itemsize / n_bytes
        if over > 1:
            piece[axis] = max(u, int(piece[axis] / over) // u * u)
    return tuple(piece)


def pieces_of(source: Source, unit: tuple[int, ...], box: Box) -> Iterator[Box]:
    """Yield the pieces, on the grid of the units, in which a box of a source is in an engine's hands."""
    if math.prod(box.shape) * source.dtype.itemsize <= IN_HAND_BYTES:
        yield box
        return
    piece = piece_shape(unit, source.dtype.itemsize, box, IN_HAND_BYTES)
    yield from Blocking(source.shape, piece, roi=box)
