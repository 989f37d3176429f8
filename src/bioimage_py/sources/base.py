"""The contract that every source keeps: shape, dtype, region reads, region writes, and what it can do."""

from __future__ import annotations

import importlib
import math
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError, ReadOnlyError
from bioimage_py.geometry import Box, basic_index
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.casting import cast_values
from bioimage_py.storage import (
    SIDE_FOLDER,
    PartStamps,
    ReadAhead,
    SlowReads,
    file_identity,
    file_stamp,
    text_stamp,
)
from bioimage_py.system import sync_file_system

if TYPE_CHECKING:
    from bioimage_py.storage import StoreFolder, UnfinishedFile

SourceSpec = dict[str, Any]
"""Plain JSON that `from_spec` turns into a source again, in any process that sees the same files."""

DIGEST_FILES = ("digest.json", "digest.tiles")
"""What a digest is kept in, in a side folder; the first one says what it is of."""
_LOOKS_EVERY = 1.0
"""Seconds between two looks of a writer at whether another process has kept a digest of what it changes."""


@dataclass(frozen=True)
class StoredSize:
    """What a source takes up in its store."""

    n_bytes: int
    n_files: int


class Source(ABC):
    """Anything array-like that can be read by region, and perhaps written.

    A subclass sets the attributes below and implements `_read`; a writable one also `_write`. Both are given a
    box that lies inside the array and is not empty, and both are called from several threads at once.

    Attributes
    ----------
    shape
        Extent per axis in voxels, slowest axis first (C order).
    dtype
        The numpy dtype of what reading returns.
    chunks
        The store's unit of encoding per axis, or None where any region can be read at the cost of its voxels.
    shards
        The store's file that holds many chunks, or None.
    writable
        Whether `source[...] = values` works.
    concurrent_writes
        Whether several processes may write different write units (shards, else chunks) at once.
    format
        Short name of the format for people, such as `"zarr v3"`.
    codec
        How chunks are encoded, for people, such as `"blosc zstd:1 bitshuffle"`; empty where they are not.
    one_file
        Whether all chunks are in one file.
    storage_order
        `"C"` where the last axis is contiguous in the store, `"F"` where the first one is.
    fill_value
        What voxels of chunks that were never written read as, or None where the store has no such notion.
    stores_fill
        Whether chunks that equal the fill value are stored all the same, because other readers miss them.
    shows_labels
        Whether the store says that voxels are the names of objects.
    reads_others
        Whether its voxels come from other sources: the time of reading is then counted there.
    read_only_because
        Why it cannot be written in any mode, where that has a reason of its own.
    at_once_because
        Why it must be written by one call and not block by block, where that is so.
    fills_buffers
        Whether reading makes use of a buffer that it is given.
    codes_chunks
        Whether whole chunks are decoded and encoded in few steps, so that a copy does best to go chunk by chunk.
    grows
        Whether an array that is there can get larger extents.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None = None
    shards: tuple[int, ...] | None = None
    writable: bool = False
    concurrent_writes: bool = False
    format: str = "array"
    codec: str = ""
    one_file: bool = False
    storage_order: str = "C"
    fill_value: Any = None
    stores_fill: bool = False
    shows_labels: bool = False
    reads_others: bool = False
    read_only_because: str = ""
    at_once_because: str = ""
    fills_buffers: bool = False
    codes_chunks: bool = False
    grows: bool = False

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return Box.whole(self.shape).size

    @property
    def nbytes(self) -> int:
        """Bytes of all voxels, decoded."""
        return self.size * self.dtype.itemsize

    @property
    def write_unit(self) -> tuple[int, ...] | None:
        """What must be written by one writer at a time: the shard if there is one, else the chunk."""
        return self.shards or self.chunks

    @property
    def name(self) -> str:
        """What the source is called in messages: its path and key, or a description."""
        return f"{self.format} of shape {self.shape}"

    @property
    def metadata(self) -> ImageMetadata:
        """Axes, voxel size, units and attributes, as far as the source knows them."""
        return ImageMetadata()

    def read(self, box: Box, buffer: AnyArray | None = None) -> AnyArray:
        """Return the voxels in a box.

        The array has shape `box.shape` and this source's dtype. It may be a view of memory that the source goes on
        using: treat it as read-only.

        Parameters
        ----------
        box
            The region, inside the array.
        buffer
            Memory of that shape and dtype, in C order, to read into where the source `fills_buffers`: memory that was written
            before takes less time than new one. A source that has the voxels in memory of its own does not copy them there.
        """
        if box.is_empty():
            return np.empty(box.shape, self.dtype)
        if self.reads_others:
            return self._checked(self._read(box), box)
        # Set, not added to: a stack counts, not the slices that it reads by the same way.
        seconds, n_bytes, began = READ.seconds, READ.n_bytes, perf_counter()
        values = self._read(box) if buffer is None else self._read_into(box, buffer)
        READ.seconds, READ.n_bytes = (
            seconds + perf_counter() - began,
            n_bytes + box.size * self.dtype.itemsize,
        )
        return self._checked(values, box)

    def _checked(self, values: Any, box: Box) -> AnyArray:
        """Return what `_read` returned; raises InvalidArgumentError unless it is an array of the box's shape and this dtype."""
        if isinstance(values, np.ndarray) and values.shape == box.shape and values.dtype == self.dtype:
            return values
        found = np.asarray(values)
        native = self.dtype.newbyteorder("=")
        if found.shape != box.shape or found.dtype.newbyteorder("=") != native:
            got = f"{found.dtype} of shape {found.shape}"
            if not isinstance(values, np.ndarray):
                got = f"{type(values).__name__} ({got})"
            raise InvalidArgumentError(
                f"{type(self).__name__} {self.name} must return {native} of shape {box.shape} for the region {box.text}, but its _read "
                f"returned {got}: mend the class, or set its shape and dtype to those of what it returns"
            )
        return found

    def write(self, box: Box, values: AnyArray) -> None:
        """Write `values`, an array of shape `box.shape` and any dtype, with numpy's unsafe cast.

        It returns when the voxels are in the store; the array may be changed afterwards.

        Raises
        ------
        ReadOnlyError
            If the source is not writable.
        StorageError
            If the store fails.
        """
        if not self.writable:
            why = self.read_only_because or "open it with mode='r+' to write into it"
            raise ReadOnlyError(f"{self.name} is read-only; {why}")
        if not box.is_empty():
            self.forget_digest()
            self._write(box, values)

    @abstractmethod
    def _read(self, box: Box) -> AnyArray: ...

    def _read_into(self, box: Box, buffer: AnyArray) -> AnyArray:
        """Return the voxels in a box, in the buffer where the source fills it."""
        del buffer
        return self._read(box)

    def _write(self, box: Box, values: AnyArray) -> None:
        raise ReadOnlyError(f"{self.name} cannot be written: {values.shape} voxels for {box.text}")

    def __getitem__(self, index: Any) -> Any:
        selection = basic_index(index, self.shape)
        return self.read(selection.box)[selection.squeeze]

    def __setitem__(self, index: Any, values: Any) -> None:
        selection = basic_index(index, self.shape)
        try:
            full = np.broadcast_to(np.asarray(values), selection.shape)
        except ValueError:
            raise InvalidArgumentError(
                f"cannot write values of shape {np.shape(values)} into a region of shape {selection.shape}"
            ) from None
        self.write(selection.box, full.reshape(selection.box.shape))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> AnyArray:
        if copy is False:
            raise ValueError(f"{self.name} is read from a store: it cannot become an array without a copy")
        values = self.read(Box.whole(self.shape))
        return np.array(values if dtype is None else cast_values(values, np.dtype(dtype)))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of a source with no axes")
        return self.shape[0]

    def __repr__(self) -> str:
        chunks = "" if self.chunks is None else f", chunks={self.chunks}"
        shards = "" if self.shards is None else f", shards={self.shards}"
        return f"<{type(self).__name__} {self.name}: shape={self.shape}, dtype={self.dtype}{chunks}{shards}>"

    def _repr_html_(self) -> str:
        # Named by a string, because it is above the sources.
        return str(importlib.import_module("bioimage_py.report.preview.notebook").source_html(self))

    def to_spec(self) -> SourceSpec:
        """Return plain JSON from which `from_spec` reopens the source in another process.

        Raises
        ------
        InvalidArgumentError
            For in-memory arrays: they exist in this process only, so they are for local runs.
        """
        raise InvalidArgumentError(
            f"{self.name} is held in memory and has no spec: it can be used in local runs only. "
            "For distributed runs write it to a file first, for example with copy(array, 'array.zarr')"
        )

    def identities(self) -> frozenset[tuple[Any, ...]]:
        """Return tokens of the stored arrays that reading this source leads to; equal tokens mean the same array."""
        return frozenset({("object", id(self))})

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        """Return a twin of this source tuned for a run.

        Parameters
        ----------
        threads
            How many threads the twin may use inside one process for decoding and encoding, whoever calls it.
        cache_bytes
            How many bytes of decoded chunks it may keep between reads. 0 keeps none.
        """
        del threads, cache_bytes
        return self

    def writer_from(self, source: Source) -> Callable[[Box], None] | None:
        """Return what writes the voxels of another source's same box without this process's memory between the two, or None."""
        del source
        return None

    def ahead(self, box: Box) -> ReadAhead:
        """Return what announces the chunks of a box that are about to be read, each by a call of its own."""
        del box
        return ReadAhead((), SlowReads())

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        """Return the most bytes that reading a region of this shape holds besides its voxels, chunks that are decoded apart."""
        del shape
        return 0

    def chunk_bytes(self) -> int:
        """Return the bytes of the largest chunk that is decoded to read anything; 0 where there are none."""
        if self.chunks is None:
            return 0
        inside = (min(c, max(1, n)) for c, n in zip(self.chunks, self.shape, strict=True))
        return math.prod(inside) * self.dtype.itemsize

    def decoded_bytes(self, box: Box) -> int:
        """Return the bytes of the chunks that are decoded to read a box; where there are none, of its voxels."""
        decoded = box if self.chunks is None or box.is_empty() else box.snap(self.chunks, self.shape)
        return decoded.size * self.dtype.itemsize

    def kept_bytes(self) -> int:
        """Return the bytes that are kept during a run whatever its cache, see `for_run`."""
        return 0

    def stored_size(self) -> StoredSize | None:
        """Return bytes and files in the store, or None where that has no meaning."""
        return None

    def ome_xml(self) -> str | None:
        """Return the OME-XML of the image that these voxels are, all of them and unchanged, without where a file has them."""
        return None

    def check_present(self) -> None:  # noqa: B027 - what is held open, or in memory, cannot go away
        """Raise StorageError if what is stored has gone away, where its chunks would then be taken for empty ones."""

    def check_blockwise(self, n_blocks: int) -> None:
        """Raise InvalidArgumentError if so many blocks cannot be written here, because two could meet in one write unit."""
        if n_blocks > 1 and self.at_once_because:
            raise InvalidArgumentError(
                f"output {self.name} cannot be written in {n_blocks} blocks: {self.at_once_because}, or write it at once, "
                "without block_shape, by one worker"
            )

    def flush(self) -> None:  # noqa: B027 - most stores keep nothing back
        """Hand to the operating system whatever `write` left in buffers of a library."""

    def force_to_disk(self) -> None:
        """Return when everything that was written survives a crash of the machine, as far as its disk keeps its word."""
        self.flush()

    def remove_leftovers(self) -> int:
        """Remove the half-written files that killed writers left in the store; return how many there were."""
        return 0

    def mark_place(self) -> StoreFolder | None:
        """Return the folder of a stored array that marks can be put into, see `unfinished`; None where they cannot."""
        return None

    def side_folder(self) -> StoreFolder | None:
        """Return the folder, which may not exist yet, for what is kept beside the stored voxels; None where nothing can be kept.

        That of a Zarr, N5 or precomputed array is in its own folder, that of `data.h5` is `data.h5.bioimage-py` and, for an array in it, the
        folder of its key there.
        """
        place = self.mark_place()
        return None if place is None else place.child(SIDE_FOLDER)

    def forget_digest(self) -> None:  # noqa: B027 - most have none
        """Remove the digest that is kept for the stored array: its voxels are about to change."""

    def stored_stamp(self) -> str | None:
        """Return what changes when the stored voxels are replaced, such as the size and time of a file; None if that is not known."""
        return None

    def part_stamps(self, *, cheap: bool = False) -> PartStamps | None:
        """Return what tells of each file or object that holds voxels whether it was written since; None if that is not known.

        `cheap` is for copies that only may be updated later: None where it takes more than some parts in a hundred of a copy's time.
        """
        del cheap
        return None

    def grown(self, shape: tuple[int, ...]) -> Source:
        """Return the array after its metadata were given larger extents, where it `grows`; what is new reads as the fill value."""
        raise InvalidArgumentError(
            f"{self.name} cannot get the shape {shape}: {self.format} keeps its extents"
        )

    def close(self) -> None:  # noqa: B027 - most sources hold nothing open
        """Release file handles; reading afterwards is an error for sources that hold one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FileSource(Source):
    """A source stored under a path or URL, with a key where the container holds several arrays.

    Attributes
    ----------
    path
        Path or URL of the file, folder or container.
    key
        Name of the array in its container, or None.
    mode
        `"r"` or `"r+"`.
    kind
        The storage family in the registry that reopens it.
    unfinished
        The file under its temporary name, where a run that makes it has not ended; see `finish`.
    """

    kind: str
    path: str
    key: str | None = None
    mode: str = "r"
    unfinished: UnfinishedFile | None = None
    _looked = -math.inf

    @property
    def name(self) -> str:
        """Path, and key where there is one."""
        return self.path if not self.key else f"{self.path}:{self.key}"

    def to_spec(self) -> SourceSpec:
        """Return the family, path, key and mode; options of a family are added by its class."""
        # Another process may work in another folder.
        path = self.path if "://" in self.path else os.path.abspath(self.path)  # noqa: PTH100 - a text stays a text
        spec: SourceSpec = {"kind": self.kind, "path": path, "mode": self.mode}
        if self.key is not None:
            spec["key"] = self.key
        return {**spec, **self._spec_options()}

    def __reduce__(self) -> tuple[Any, ...]:
        # An open file cannot go elsewhere: what is unpickled is opened again.
        from bioimage_py.sources.registry import from_spec

        return from_spec, (self.to_spec(),)

    def __copy__(self) -> Self:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin

    def _spec_options(self) -> Mapping[str, Any]:
        return {}

    def identities(self) -> frozenset[tuple[Any, ...]]:
        """Return the file or folder, whatever path or link leads to it."""
        return frozenset({file_identity(self.path, self.key)})

    def files(self) -> list[str]:
        """Return the files that hold the voxels, none if that is the one at `path`, or all in the folder."""
        return []

    def side_folder(self) -> StoreFolder | None:
        """Return the folder in that of the array, or beside the file."""
        place = self.mark_place()
        if place is not None and not place.file:
            return place.child(SIDE_FOLDER)
        if self.unfinished is None and not os.path.isfile(self.path):  # noqa: PTH113 - a text stays a text
            return None
        # It needs a library that is slow to load.
        from bioimage_py.storage import StoreFolder

        beside = StoreFolder.beside(self.path)
        with suppress(InvalidArgumentError):  # keys that folders cannot have
            return None if beside is None else beside.child(self.key)
        return None

    def forget_digest(self) -> None:
        """Remove the digest beside the voxels; called before each write, it looks for one now and then."""
        if self._looked > max(_Kept.at, monotonic() - (math.inf if "://" in self.path else _LOOKS_EVERY)):
            return
        place = self.side_folder()
        if place is not None:
            kept = DIGEST_FILES[0]
            there = os.path.exists(f"{place.path}/{kept}") if place.is_local else place.has(kept)  # noqa: PTH110 - a text stays a text
            for name in DIGEST_FILES if there else ():
                place.delete(name)
            if there and place.is_local:
                with suppress(OSError):  # up to the first folder that holds something
                    os.removedirs(place.path)
        self._looked = monotonic()

    def stored_stamp(self) -> str | None:
        """Return size and time of the file."""
        return file_stamp(self.path)

    def part_stamps(self, *, cheap: bool = False) -> PartStamps | None:
        """Return the stamp of the whole file: what in it was written cannot be told."""
        del cheap
        stamp = None if "://" in self.path else self.stored_stamp()
        if stamp is None or not os.path.isfile(self.path):  # noqa: PTH113 - a text stays a text
            return None
        number = text_stamp(f"{stamp} {os.stat(self.path).st_ctime_ns}")  # noqa: PTH116 - a text
        extents = tuple(max(1, n) for n in self.shape)
        return PartStamps("file", extents, np.full((1,) * self.ndim, number, np.uint64))

    def force_to_disk(self) -> None:
        """Flush, and force the file system that holds the file or folder to its disk; behind a URL, written is stored."""
        self.flush()
        if "://" not in self.path:
            sync_file_system(self.path if self.unfinished is None else self.unfinished.partial)

    def finish(self) -> None:
        """Flush, and give a file that was made under a temporary name its own."""
        if self.unfinished is not None:
            self.flush()
            with self._renaming():
                self.unfinished.finish()
            self.unfinished = None

    def _renaming(self) -> AbstractContextManager[None]:
        """Return a block in which the file gets its name: it is not open meanwhile where open files cannot be renamed."""
        return nullcontext()

    def abandon(self) -> None:
        """Close, and remove a file that has not got its name."""
        unfinished, self.unfinished = self.unfinished, None
        self.close()
        if unfinished is not None:
            unfinished.drop()


class _Kept:
    """When this process has kept a digest last: writers that looked before look again."""

    at = 0.0


def digest_is_kept() -> None:
    _Kept.at = monotonic()


def _asked_of_the_other(name: str) -> Any:
    return lambda self: getattr(self.stands_for, name)()


class StandIn(Source):
    """A source in place of another one, `stands_for`, which answers what is asked of the stored array."""

    stands_for: Source

    @property
    def metadata(self) -> ImageMetadata:
        return self.stands_for.metadata

    def decoded_bytes(self, box: Box) -> int:
        return self.stands_for.decoded_bytes(box)

    identities = _asked_of_the_other("identities")
    stored_size = _asked_of_the_other("stored_size")
    mark_place = _asked_of_the_other("mark_place")
    side_folder = _asked_of_the_other("side_folder")
    forget_digest = _asked_of_the_other("forget_digest")
    stored_stamp = _asked_of_the_other("stored_stamp")
    check_present = _asked_of_the_other("check_present")
    ome_xml = _asked_of_the_other("ome_xml")
    flush = _asked_of_the_other("flush")
    force_to_disk = _asked_of_the_other("force_to_disk")
    remove_leftovers = _asked_of_the_other("remove_leftovers")


class _ReadClock(threading.local):
    """Of the calling thread."""

    seconds = 0.0
    n_bytes = 0


READ = _ReadClock()
