"""HDF5: chunks read raw and decoded outside HDF5's lock where the filters allow; written through h5py."""

from __future__ import annotations

import os
from typing import Any

import h5py

from bioimage_py.errors import (
    BioimagePyError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import FileSource, SourceSpec
from bioimage_py.sources.hdf5.dataset import (
    DatasetDescription,
    dataset_key,
    describe,
    find_dataset,
    list_datasets,
)
from bioimage_py.sources.hdf5.files import hdf5_errors, open_for_writing, reading
from bioimage_py.sources.hdf5.links import OtherFiles, follow, leaving_link, why_not_written, why_read_only
from bioimage_py.sources.hdf5.read import stored_source
from bioimage_py.sources.hdf5.write import Hdf5LiveSource, check_dataset, create_dataset
from bioimage_py.storage import Identity, is_url


def open_path(
    path: str,
    key: str | None = None,
    mode: str = "r",
    *,
    external_files: bool = False,
    missing_files: str = "error",
) -> FileSource:
    """Open a dataset; with mode `"r"` the file is not held open through HDF5, with `"r+"` until the source is closed."""
    _check_local(path)
    others = OtherFiles(external_files, missing_files)
    if mode == "r":
        place, inner = follow(path, key, others)
        with reading(place) as file:
            dataset = find_dataset(file, place, inner)
            return stored_source(dataset, describe(dataset, path=place), _shown(path), key, others)
    writer = open_for_writing(path)
    try:
        dataset, described = _for_writing(writer.file, path, key)
        return Hdf5LiveSource(dataset, described, writer=writer, path=_shown(path), key=key)
    except BaseException:
        writer.let_go()
        raise


def _for_writing(file: h5py.File, path: str, key: str | None) -> tuple[h5py.Dataset, DatasetDescription]:
    if key and (link := leaving_link(file, key)) is not None:
        raise why_not_written(path, link)
    dataset = find_dataset(file, path, key)
    described = describe(dataset, path=path)
    if why := why_read_only(described):
        raise ReadOnlyError(f"{described.name!r} cannot be written: {why}")
    return dataset, described


def _shown(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - symlinks stay as the user wrote them


def _check_local(path: str) -> None:
    if is_url(path):
        raise UnsupportedFormatError(
            f"HDF5 is read from local files only, got {path!r}: download the file first"
        )


def open_spec(spec: SourceSpec) -> FileSource:
    """Reopen a dataset from its spec."""
    return open_path(
        spec["path"],
        spec.get("key"),
        spec.get("mode", "r"),
        external_files=spec.get("external_files", False),
        missing_files=spec.get("missing_files", "error"),
    )


def list_arrays(path: str) -> list[str]:
    """Return the names of all datasets of numbers in a file, each once however many links lead to it."""
    _check_local(path)
    with reading(path) as file:
        return [dataset_key(dataset) for dataset in list_datasets(file)]


def from_handle(handle: Any) -> FileSource | None:
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
    dataset = handle if isinstance(handle, h5py.Dataset) else _only_dataset(handle)
    described = describe(dataset)
    file = dataset.file
    if file.mode == "r" and described.file is not None and described.key and not _is_swmr(file):
        return stored_source(
            dataset, described, described.path, described.key, OtherFiles(external_files=True)
        )
    return Hdf5LiveSource(dataset, described)


def _only_dataset(group: h5py.Group) -> h5py.Dataset:
    try:
        return find_dataset(group, group.file.filename, None)
    except SourceNotFoundError as error:
        raise SourceNotFoundError(f"group {group.name!r}: {error}") from error


def _is_swmr(file: h5py.File) -> bool:
    with hdf5_errors(f"asking {file.filename!r} how it is open failed"):
        return bool(file.swmr_mode)


def identities_at(path: str, key: str | None) -> frozenset[Identity]:
    """Return the identities of the dataset that a new one at this place would replace, and of what it shows."""
    try:
        with open_path(path, _new_key(key), external_files=True, missing_files="fill") as there:
            return there.identities()
    except BioimagePyError:
        return frozenset()


def _new_key(key: str | None) -> str:
    return (key or "").strip("/") or "data"


def check_create(path: str, key: str | None, spec: ArraySpec, overwrite: bool) -> None:
    """Raise what `create` would raise before it makes anything."""
    _check_local(path)
    check_dataset(_shown(path), (key or "").strip("/") or "data", spec, overwrite=overwrite)


def create(path: str, key: str | None, spec: ArraySpec, overwrite: bool) -> FileSource:
    """Make a new dataset, opened for writing; the file and groups on the way are made where they are not there."""
    _check_local(path)
    return create_dataset(_shown(path), _new_key(key), spec, overwrite=overwrite)


def create_unfinished(path: str, key: str | None, spec: ArraySpec, overwrite: bool) -> FileSource:
    """Make a new dataset as `create` does; a file that is new gets its name by the source's `finish`."""
    _check_local(path)
    return create_dataset(_shown(path), _new_key(key), spec, overwrite=overwrite, unfinished=True)
