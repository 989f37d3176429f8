"""Writing datasets through an open h5py file, and making new ones: complete or not at all."""

from __future__ import annotations

import itertools
import math
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil

from bioimage_py.chunks import AnyArray, encode_gzip, gzip_level_to_encode
from bioimage_py.errors import (
    Hint,
    InvalidArgumentError,
    OutputExistsError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Blocking, Box
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.base import SourceSpec, StoredSize
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.hdf5.attributes import write_metadata
from bioimage_py.sources.hdf5.dataset import (
    DatasetDescription,
    describe,
    list_datasets,
    need_filters,
    place_of,
)
from bioimage_py.sources.hdf5.files import OpenForWriting, RoomAhead, hdf5_errors, open_for_writing, reading
from bioimage_py.sources.hdf5.links import OtherFiles, companions, refuse_leaving
from bioimage_py.sources.hdf5.read import Hdf5Dataset
from bioimage_py.storage import UnfinishedFile, check_writable
from bioimage_py.system import RENAMES_OPEN_FILES

_GZIP_LEVEL = 1
_MOST_CHUNK_BYTES = 2**32 - 1
_CODECS = ("none", "gzip", "zlib", "lzf")
_MOST_HELD = 2**25
_VOXELS_ELSEWHERE = {"virtual": "a virtual dataset", "external": "a dataset with external storage"}
AS_GIVEN = OtherFiles(external_files=True)
"""An open handle was given: its user has chosen the files."""


class Hdf5LiveSource(Hdf5Dataset):
    """A dataset read and written through h5py, one call at a time; whole gzip chunks are encoded outside its lock."""

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
        super().__init__(described, companions(dataset, described, AS_GIVEN), path, key)
        self.mode = "r" if dataset.file.mode == "r" else "r+"
        if what := _VOXELS_ELSEWHERE.get(described.layout):
            self.read_only_because = (
                f"it is {what}, whose voxels are in other files or datasets: write into those themselves"
            )
        if writer is not None and self.read_only_because:
            raise ReadOnlyError(f"{described.name!r} cannot be written: {self.read_only_because}")
        self.writable = self.mode == "r+" and not self.read_only_because
        self._dataset: h5py.Dataset | None = dataset
        self._writer = writer
        self._gzip_level = gzip_level_to_encode(described.filters) if described.plain_bytes else None
        self._encode_cut_chunks = encode_cut_chunks
        self._room = RoomAhead(dataset.file) if writer is None else writer.room
        self._closing = threading.Lock()
        if writer is not None:
            writer.begin_writing(described.address)

    def to_spec(self) -> SourceSpec:
        if self.described.file is None or not self.described.key:
            raise InvalidArgumentError(
                f"{self.name} is not in an HDF5 file on disk that another process could open: it can be used in local "
                "runs only"
            )
        return super().to_spec()

    def stored_size(self) -> StoredSize | None:
        with hdf5_errors(f"asking for the size of {self.name!r} failed"):
            return StoredSize(int(self._opened().id.get_storage_size()), 1)

    def flush(self) -> None:
        if self.writable:
            self._opened()
            self._flush()

    def _flush(self) -> None:
        with hdf5_errors(f"writing what is left to {self.name!r} failed"), phil:
            self._room.flush()

    @contextmanager
    def _renaming(self) -> Iterator[None]:
        if RENAMES_OPEN_FILES or self._writer is None:
            yield
            return
        name = self._opened().name
        self.close()
        yield
        self._writer = writer = open_for_writing(self.path)
        self._dataset, self._room = writer.file[name], writer.room
        writer.begin_writing(self.described.address)

    def close(self) -> None:
        with self._closing:
            dataset, self._dataset = self._dataset, None
            writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.end_writing(self.described.address)
            finally:
                writer.let_go()
        elif dataset is not None and dataset and self.writable:
            self._flush()

    def _opened(self) -> h5py.Dataset:
        dataset = self._dataset
        if dataset is None or not dataset:
            whose = "this source was closed" if dataset is None else "its h5py file was closed"
            raise StorageError(f"{self.name} cannot be used any more: {whose}; open it again")
        return dataset

    def _read(self, box: Box) -> AnyArray:
        dataset = self._opened()
        need_filters(self.described)
        with hdf5_errors(f"reading {box.text} of {self.name!r} failed"):
            return np.asarray(dataset[box.slices]).astype(self.dtype, copy=False)

    def _write(self, box: Box, values: AnyArray) -> None:
        dataset = self._opened()
        need_filters(self.described)
        cast = np.ascontiguousarray(cast_values(values, self.described.stored_dtype)).reshape(box.shape)
        with hdf5_errors(f"writing {box.text} of {self.name!r} failed"):
            if self._gzip_level is None or self.chunks is None:
                self._assign(dataset, box, cast)
                return
            grid = Blocking(self.shape, self.chunks)
            for chunk_box in map(grid.block, grid.ids_in(box)):
                part_box = chunk_box.intersect(box)
                part = cast[part_box.relative_to(box.begin).slices]
                if part_box == chunk_box and (self._encode_cut_chunks or part.shape == self.chunks):
                    encoded = self._encode(part, self.chunks, self._gzip_level)
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
            # Data that does not compress may grow slightly.
            self._room.take(n_bytes * self.described.stored_dtype.itemsize * 33 // 32, later=True)
            dataset[box.slices] = values
            if self._room.owed > _MOST_HELD:
                self._room.flush()

    def _encode(self, part: AnyArray, chunks: tuple[int, ...], level: int) -> bytes:
        if part.shape != chunks:
            whole = np.full(chunks, self.fill_value, part.dtype)
            whole[tuple(slice(n) for n in part.shape)] = part
            part = whole
        return encode_gzip(part, level, shuffled=len(self.described.filters) > 1)


def create_dataset(
    path: str, key: str, spec: ArraySpec, *, overwrite: bool, unfinished: bool = False
) -> Hdf5LiveSource:
    """Make a dataset and return it opened for writing.

    With `unfinished` a new file gets its name by the source's `finish`. One that is there keeps its name, for all else in it.
    """
    options = _storage_options(spec, f"{path}:{key}")
    place, named_later = path, None
    is_new = _is_new(path)
    if is_new and unfinished:
        named_later = UnfinishedFile(path, replaces=False)
        named_later.make_free()
        place = named_later.partial
    with _adding(path):
        writer = open_for_writing(place, "x" if is_new else "r+", shown=path)
    try:
        with hdf5_errors(f"making '{path}:{key}' failed"):
            source = _add(writer, path, key, spec, options, overwrite=overwrite)
    except BaseException:
        writer.let_go()
        if is_new:
            Path(place).unlink(missing_ok=True)
        raise
    source.unfinished = named_later
    return source


def check_dataset(path: str, key: str, spec: ArraySpec, *, overwrite: bool) -> None:
    """Raise what `create_dataset` would raise before it makes anything."""
    _storage_options(spec, f"{path}:{key}")
    if _is_new(path):
        check_writable(path)
        return
    if not os.access(path, os.W_OK):
        raise ReadOnlyError(f"{path!r} cannot be written: check its permissions, or choose another path")
    with _adding(path), reading(path) as file, hdf5_errors(f"looking into '{path}:{key}' failed"):
        _replaced_address(file, path, key, overwrite=overwrite)


def _is_new(path: str) -> bool:
    """Whether a file does not exist yet; raises if its folder does not exist either."""
    if Path(path).exists():
        return False
    if os.path.lexists(path):
        raise OutputExistsError(f"{path!r} is a link to nothing: remove it, or choose another path")
    if not Path(path).parent.is_dir():
        raise SourceNotFoundError(
            f"cannot make {path!r}: there is no folder {str(Path(path).parent)!r}; make it first"
        )
    return True


@contextmanager
def _adding(path: str) -> Iterator[None]:
    try:
        yield
    except UnsupportedFormatError as error:
        raise OutputExistsError(
            f"{path!r} already exists and is not an HDF5 file, so nothing can be added to it; remove it or choose "
            f"another path ({error})"
        ) from error


def _add(
    writer: OpenForWriting, path: str, key: str, spec: ArraySpec, options: dict[str, Any], *, overwrite: bool
) -> Hdf5LiveSource:
    file = writer.file
    replaced = _replaced_address(file, path, key, overwrite=overwrite)
    if replaced is not None and writer.written[replaced]:
        raise InvalidArgumentError(
            f"'{path}:{key}' is open for writing in this process; close it before replacing it"
        )
    # Made under another name first, so that a failure leaves the old dataset unchanged.
    name = key if replaced is None else f"{key}.{uuid.uuid4().hex}"
    ways = itertools.accumulate(name.split("/"), "{}/{}".format)
    first_new = next((way for way in ways if way not in file), name)
    try:
        dataset = file.create_dataset(name, **options)
        write_metadata(dataset, spec.metadata)
        if replaced is not None:
            del file[key]
            file.move(name, key)
            writer.versions[replaced] += 1
        file.flush()
        dataset = file[key]
        return Hdf5LiveSource(
            dataset, describe(dataset), writer=writer, path=path, key=key, encode_cut_chunks=True
        )
    except BaseException:
        if first_new in file:
            del file[first_new]
        raise


def _replaced_address(file: h5py.File, path: str, key: str, *, overwrite: bool) -> int | None:
    """Return the object address of an existing dataset that may be replaced, None if there is none."""
    refuse_leaving(file, path, key)
    for parent in itertools.accumulate(key.split("/")[:-1], "{}/{}".format):
        if parent in file and not isinstance(file[parent], h5py.Group):
            raise InvalidArgumentError(
                f"cannot make {key!r} in {path!r}: {parent!r} is a dataset, not a group"
            )
    link = file.get(key, getlink=True, default=None)
    if link is None:
        return None
    there = file.get(key)
    if there is None:
        raise OutputExistsError(
            f"{key!r} in {path!r} is a link to {link.path!r}, and nothing is there: choose another key"
        )
    if isinstance(there, h5py.Group):
        below = len(list_datasets(there))
        raise OutputExistsError(
            f"{key!r} in {path!r} is a group with {below} arrays below it, which is never replaced; choose another key"
        )
    if not overwrite:
        raise OutputExistsError(
            f"{path!r} has a dataset {key!r} already, of shape {there.shape} and dtype {there.dtype}",
            hints=[
                Hint.of("to replace it, give {}", overwrite=True),
                Hint.of("to write into it, use {}", "open_source", path, key, mode="r+"),
            ],
        )
    return place_of(there)[1]


def _storage_options(spec: ArraySpec, name: str) -> dict[str, Any]:
    """Return the arguments of `create_dataset`, after checking that HDF5 can hold what is asked for."""
    if spec.shards is not None:
        raise InvalidArgumentError(
            f"HDF5 has no shards, got shards={spec.shards} for {name!r}; leave them out"
        )
    fits = spec.dtype.kind in "biufc"
    try:
        h5py.h5t.py_create(spec.dtype, logical=True)
    except TypeError:
        fits = False
    if not fits:
        raise UnsupportedFormatError(
            f"HDF5 cannot hold dtype {spec.dtype} for {name!r}: voxels are booleans, integers, floats or complex numbers"
        )
    encoded = _codec_options(spec.codec or Codec("gzip"), spec.dtype, name)
    options: dict[str, Any] = {"shape": spec.shape, "dtype": spec.dtype}
    if spec.fill_value is not None:
        options["fillvalue"] = np.asarray(spec.fill_value).astype(spec.dtype)[()]
    if not spec.shape or 0 in spec.shape:
        return options
    options |= encoded
    chunks = spec.chunks
    if chunks is None and encoded:
        chunks = tuple(64 if axis >= len(spec.shape) - 3 else 1 for axis in range(len(spec.shape)))
    if chunks is not None:
        options["chunks"] = tuple(min(int(c), n) for c, n in zip(chunks, spec.shape, strict=True))
        n_bytes = math.prod(options["chunks"]) * spec.dtype.itemsize
        if n_bytes > _MOST_CHUNK_BYTES:
            raise InvalidArgumentError(
                f"a chunk of HDF5 holds less than 4 GiB, but {chunks} of {spec.dtype} has more"
            )
    return options


def _codec_options(codec: Codec, dtype: np.dtype[Any], name: str) -> dict[str, Any]:
    options = dict(codec.options)
    shuffle = options.pop("shuffle", dtype.kind in "iu" and dtype.itemsize > 1)
    checksum = {"fletcher32": True} if options.pop("fletcher32", False) else {}
    if options or shuffle not in (True, False, "shuffle", "noshuffle"):
        given = ", ".join(f"{k}={v!r}" for k, v in codec.options.items())
        raise InvalidArgumentError(
            f"for HDF5 a codec has the options shuffle and fletcher32, True or False, only; got {given}"
        )
    if codec.name not in _CODECS:
        raise InvalidArgumentError(
            f"HDF5 cannot write codec {codec.name!r} for {name!r}: other programs could not read it; choose one of "
            f"{', '.join(_CODECS)}"
        )
    if codec.name == "none":
        return checksum
    found = {"compression": "lzf", "shuffle": shuffle in (True, "shuffle"), **checksum}
    if codec.name == "lzf":
        if codec.level is not None:
            raise InvalidArgumentError(f"codec 'lzf' has no level, got {codec.level}")
        return found
    level = _GZIP_LEVEL if codec.level is None else codec.level
    if not 0 <= level <= 9:
        raise InvalidArgumentError(f"the level of codec {codec.name!r} is 0 to 9, got {level}")
    return found | {"compression": "gzip", "compression_opts": level}
