"""The HDF5 family: opens, lists and makes datasets."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import h5py

from bioimage_py.chunks import ChunkEncoding, EncodedReader, StoredChunks
from bioimage_py.errors import BioimagePyError, StorageError, UnsupportedFormatError
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.base import FileSource
from bioimage_py.sources.family import Family
from bioimage_py.sources.hdf5.dataset import dataset_key, describe, find_dataset, list_datasets
from bioimage_py.sources.hdf5.files import hdf5_errors, open_for_writing, reading
from bioimage_py.sources.hdf5.links import OtherFiles, follow, refuse_leaving
from bioimage_py.sources.hdf5.read import Hdf5Chunks, stored_chunks, stored_source
from bioimage_py.sources.hdf5.write import AS_GIVEN, Hdf5LiveSource, check_dataset, create_dataset
from bioimage_py.storage import Identity, is_url


class Hdf5Family(Family):
    """HDF5: chunks are decoded outside of HDF5's lock if their filters allow it, and written through h5py by one process."""

    chunked = True

    def open_path(
        self,
        path: str,
        key: str | None = None,
        mode: str = "r",
        *,
        external_files: bool = False,
        missing_files: str = "error",
    ) -> FileSource:
        """Open a dataset; with mode `"r"` the file is not held open through HDF5, with `"r+"` until the source is closed.

        Files that the file names (by external links, external storage or virtual datasets) and that lie outside of its folder
        are read with `external_files` only. With `missing_files="fill"`, voxels of files that are gone read as the fill value.
        """
        _check_local(path)
        others = OtherFiles(external_files, missing_files)
        if mode == "r":
            place, inner = follow(path, key, others)
            with reading(place) as file:
                dataset = find_dataset(file, place, inner)
                return stored_source(dataset, describe(dataset, path=place), _shown(path), key, others)
        writer = open_for_writing(path)
        try:
            refuse_leaving(writer.file, path, key or "")
            dataset = find_dataset(writer.file, path, key)
            described = describe(dataset, path=path)
            return Hdf5LiveSource(dataset, described, writer=writer, path=_shown(path), key=key)
        except BaseException:
            writer.let_go()
            raise

    def list_arrays(self, path: str, **options: Any) -> list[str]:
        """Return the names of all datasets of numbers in a file, each once even if several links lead to it."""
        del options
        _check_local(path)
        with reading(path) as file:
            return [dataset_key(dataset) for dataset in list_datasets(file)]

    def from_handle(self, handle: Any) -> FileSource | None:
        """Wrap a live h5py dataset, or the only dataset in a live group or file; None for other objects of h5py.

        A dataset in a file that is open for reading is read by its path, and outlives the handle. One that is open for
        writing, or in memory, is read and written through the handle, so voxels are as the handle sees them.
        """
        if not isinstance(handle, (h5py.Dataset, h5py.Group)):
            return None
        if not handle:
            raise StorageError(
                "the h5py handle is closed, so nothing can be read from it; give an open one, or the path"
            )
        file = handle.file
        dataset = find_dataset(handle, file.filename, None)
        described = describe(dataset)
        with hdf5_errors(f"asking {file.filename!r} how it is open failed"):
            by_path = file.mode == "r" and described.file is not None and described.key and not file.swmr_mode
        if by_path:
            return stored_source(dataset, described, described.path, described.key, AS_GIVEN)
        return Hdf5LiveSource(dataset, described)

    def stored_chunks(self, source: FileSource) -> StoredChunks:
        return stored_chunks(source)

    def encoded_reader(self, source: FileSource) -> EncodedReader:
        return Hdf5Chunks(source)

    def check_create(self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> None:
        check_dataset(*_new_place(path, key), spec, overwrite=overwrite)

    def create(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False, *args: Any, **options: Any
    ) -> FileSource:
        """Make a new dataset; the file and groups on the way are made where they are not there, all else in the file stays."""
        del args, options
        return create_dataset(*_new_place(path, key), spec, overwrite=overwrite)

    def create_unfinished(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False
    ) -> FileSource:
        return create_dataset(*_new_place(path, key), spec, overwrite=overwrite, unfinished=True)

    def identities_at(self, path: str, key: str | None) -> frozenset[Identity]:
        """Return the identities of the dataset that a new one at this place would replace, and of what it shows."""
        try:
            with self.open_path(*_new_place(path, key), external_files=True, missing_files="fill") as there:
                return there.identities()
        except BioimagePyError:
            return frozenset()

    def keeping(self, spec: ArraySpec, encoding: ChunkEncoding, *, grid: bool, codec: bool) -> ArraySpec:
        del grid
        if codec and ("fletcher32",) in encoding.codecs:
            return replace(spec, codec=Codec("gzip", options={"fletcher32": True}))
        return spec


def _shown(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - symlinks stay as the user wrote them


def _check_local(path: str) -> None:
    if is_url(path):
        raise UnsupportedFormatError(
            f"HDF5 is read from local files only, got {path!r}: download the file first"
        )


def _new_place(path: str, key: str | None) -> tuple[str, str]:
    _check_local(path)
    return _shown(path), (key or "").strip("/") or "data"
