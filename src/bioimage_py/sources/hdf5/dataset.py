"""The description of a dataset: shape, dtype, chunks, filters, where it is, and whether its bytes can be read without HDF5."""

from __future__ import annotations

import importlib
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import h5py
import numpy as np

from bioimage_py.chunks import Filter, FilterPipeline, codec_text
from bioimage_py.errors import AmbiguousSourceError, Hint, SourceNotFoundError, UnsupportedFormatError
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.hdf5.attributes import read_metadata
from bioimage_py.sources.hdf5.files import FOREIGN_ERRORS, FileKey, file_key, hdf5_errors, hdf5_words

_LAYOUTS = {
    h5py.h5d.COMPACT: "compact",
    h5py.h5d.CONTIGUOUS: "contiguous",
    h5py.h5d.CHUNKED: "chunked",
    h5py.h5d.VIRTUAL: "virtual",
}

_DRIVERS_OF_ONE_FILE = ("sec2", "stdio")
_LISTED = 20


@dataclass(frozen=True)
class DatasetDescription:
    """A dataset as its file describes it, without an open file."""

    path: str  # of the file that holds it, which for external links is not the one that was opened
    key: str
    file: FileKey | None  # None where it is not a file on disk
    open_file: int  # HDF5's number of the file while it is open
    address: int  # of the dataset's header in the file: equal for all links to it
    shape: tuple[int, ...]
    stored_dtype: np.dtype[Any]
    layout: str  # "chunked", "contiguous", "compact", "virtual" or "external"
    chunks: tuple[int, ...] | None
    filters: tuple[Filter, ...]
    fill_value: Any
    plain_bytes: bool  # whether numpy and HDF5 mean the same by a voxel's bytes, and by where they are
    metadata: ImageMetadata

    @property
    def name(self) -> str:
        return f"{self.path}:{self.key}"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in native byte order."""
        native: np.dtype[Any] = self.stored_dtype.newbyteorder("=")
        return native

    @property
    def codec(self) -> str:
        return codec_text(self.filters)

    @cached_property
    def pipeline(self) -> FilterPipeline:
        """The filters, ready to decode."""
        voxels = math.prod(self.chunks) if self.chunks is not None else 0
        return FilterPipeline(self.filters, voxels * self.stored_dtype.itemsize)

    @property
    def bytes_readable(self) -> bool:
        """Whether voxels can be read from the file's bytes, without HDF5."""
        if not self.plain_bytes or self.file is None:
            return False
        return self.layout == "contiguous" or (self.layout == "chunked" and self.pipeline.decodable)

    def is_still(self, other: DatasetDescription) -> bool:
        """Whether another description is one of the same object with the same shape, dtype and encoding."""
        return all(
            getattr(self, n) == getattr(other, n)
            for n in ("file", "address", "shape", "stored_dtype", "layout", "chunks", "filters")
        )


def dataset_key(dataset: h5py.HLObject) -> str:
    """Return the name of an object in its file, `""` if it has none."""
    name = dataset.name or ""
    # h5py returns what is not UTF-8 as bytes.
    return (name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else str(name)).strip("/")


def describe(
    dataset: h5py.Dataset, *, attributes: bool = True, path: str | None = None
) -> DatasetDescription:
    """Read the description of an open dataset.

    Its attributes take longer than all else; without `attributes` its metadata are empty. Give the `path` of its file where that
    may have changed since HDF5 opened it.
    """
    file = dataset.file
    path, key = os.path.abspath(path or file.filename), dataset_key(dataset)  # noqa: PTH100 - symlinks stay
    with hdf5_errors(f"reading the description of '{path}:{key}' failed"):
        shape = dataset.shape
        if shape is None:
            raise UnsupportedFormatError(
                f"'{path}:{key}' is an empty dataset: it has no shape and holds no voxels"
            )
        dtype = _voxel_dtype(dataset, f"{path}:{key}")
        (open_file, address), created = place_of(dataset), dataset.id.get_create_plist()
        layout = _LAYOUTS.get(created.get_layout(), "unknown")
        if layout == "contiguous" and created.get_external_count():
            layout = "external"
        chunked = layout == "chunked"
        return DatasetDescription(
            path=path,
            key=key,
            file=_file_on_disk(file, path),
            open_file=open_file,
            address=address,
            shape=tuple(int(n) for n in shape),
            stored_dtype=dtype,
            layout=layout,
            chunks=tuple(int(n) for n in dataset.chunks) if chunked else None,
            filters=_filters(created) if chunked else (),
            fill_value=np.asarray(dataset.fillvalue, dtype.newbyteorder("="))[()],
            plain_bytes=_means_the_same(dataset, dtype),
            metadata=read_metadata(dataset, len(shape)) if attributes else ImageMetadata(),
        )


def _voxel_dtype(dataset: h5py.Dataset, name: str) -> np.dtype[Any]:
    try:
        dtype = dataset.dtype
    except TypeError as error:
        raise UnsupportedFormatError(f"{name!r} has a type that numpy cannot hold: {error}") from error
    if dtype.kind not in "biufc":
        what = "strings" if h5py.check_string_dtype(dtype) else f"values of dtype {dtype}"
        raise UnsupportedFormatError(
            f"{name!r} holds {what}, not voxels: integers, floats, complex numbers or booleans"
        )
    plain: np.dtype[Any] = np.dtype(dtype.str)
    return plain


def _means_the_same(dataset: h5py.Dataset, dtype: np.dtype[Any]) -> bool:
    if dataset.file.userblock_size:
        return False  # some versions of HDF5 count it in offsets, others do not
    stored = dataset.id.get_type()
    if isinstance(stored, h5py.h5t.TypeEnumID) and dtype.kind in "iu":
        stored = stored.get_super()
    return bool(h5py.h5t.py_create(dtype, logical=True).equal(stored))


def _filters(created: h5py.h5p.PropDCID) -> tuple[Filter, ...]:
    found = (created.get_filter(i) for i in range(created.get_nfilters()))
    return tuple(
        Filter(int(number), tuple(int(v) for v in values), name.decode("utf-8", "replace").rstrip("\0"))
        for number, _, values, name in found
    )


def _file_on_disk(file: h5py.File, path: str) -> FileKey | None:
    """Return the identity of the file behind a handle, None if it is in memory or no longer at its path."""
    if file.driver not in _DRIVERS_OF_ONE_FILE:
        return None
    try:
        key = file_key(path)
    except OSError:
        return None
    return key if file.driver == "stdio" or file_key(file.id.get_vfd_handle()) == key else None


def place_of(item: h5py.HLObject) -> tuple[int, int]:
    """Return HDF5's number of an object's file, and the object's address in it.

    Not by `h5o.get_info`, nor by `visititems`: they measure the index of chunks as well, and HDF5 2.0 ends the process if that is a
    damaged B-tree.
    """
    found = h5py.h5g.get_objinfo(item.id)
    file, address = ((low | high << 32) for low, high in (found.fileno, found.objno))
    return file, address


def list_datasets(group: h5py.Group) -> list[h5py.Dataset]:
    """Return the datasets below a group that hold voxels, each once even if several links lead to it."""
    names: list[bytes] = []
    found: dict[tuple[int, int], h5py.Dataset] = {}

    def visit(name: bytes, link: h5py.h5l.LinkInfo) -> None:
        # What is raised in here, h5py does not hand on.
        if link.type == h5py.h5l.TYPE_HARD:
            names.append(name)

    with hdf5_errors(f"listing {group.file.filename!r} failed"):
        group.id.links.visit(visit, info=True)
        for name in names:
            # A type that numpy cannot hold is a TypeError.
            with suppress(TypeError):
                item = group[name]
                if isinstance(item, h5py.Dataset) and item.shape is not None and item.dtype.kind in "biufc":
                    found.setdefault(place_of(item), item)
    return list(found.values())


def find_dataset(start: h5py.HLObject, path: str, key: str | None) -> h5py.Dataset:
    """Return the dataset at a key below an object; for a group or no key, the only one below it."""
    item: Any = start
    if key:
        try:
            item = start[key]
        except FOREIGN_ERRORS as error:
            there = _listing(list_datasets(start))
            hint = f"there is\n{there}" if there else "the file holds no image data"
            raise SourceNotFoundError(f"{path!r} has no {key!r} ({hdf5_words(error)}); {hint}") from error
    if isinstance(item, h5py.Dataset):
        return item
    if not isinstance(item, h5py.Group):
        raise UnsupportedFormatError(f"{key!r} in {path!r} is a named type, not image data")
    below = list_datasets(item)
    name = dataset_key(item)
    where = f"{name!r} in {path!r}" if name else f"{path!r}"
    if not below:
        raise SourceNotFoundError(f"{where} holds no image data (no dataset of numbers)")
    if len(below) > 1:
        example = dataset_key(below[0])
        raise AmbiguousSourceError(
            f"{where} holds {len(below)} arrays:\n{_listing(below)}",
            hints=[Hint.of("name one, for example with {}", "open_source", path, example)],
        )
    return below[0]


def _listing(datasets: list[h5py.Dataset]) -> str:
    lines = [f"  {dataset_key(d)}  {tuple(d.shape)} {d.dtype}" for d in datasets[:_LISTED]]
    if len(datasets) > _LISTED:
        lines.append("  and more")
    return "\n".join(lines)


def need_filters(described: DatasetDescription) -> None:
    """Load the filters of a dataset into HDF5, from hdf5plugin if it is installed."""

    def missing() -> list[str]:
        unknown = [used for used in described.filters if not h5py.h5z.filter_avail(used.number)]
        return [f"{used.text} (filter {used.number})" for used in unknown]

    if missing():
        with suppress(ImportError):
            importlib.import_module("hdf5plugin")
    if unknown := missing():
        raise UnsupportedFormatError(
            f"{described.name!r} is encoded with {', '.join(unknown)}, which this HDF5 library does not know; "
            "many more come with: pip install hdf5plugin"
        )
