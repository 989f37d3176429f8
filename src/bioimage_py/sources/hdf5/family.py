"""What HDF5 answers for itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bioimage_py.chunks import ChunkEncoding, EncodedReader, StoredChunks
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.base import FileSource, SourceSpec
from bioimage_py.sources.family import Family
from bioimage_py.sources.hdf5 import array
from bioimage_py.sources.hdf5.read import Hdf5Chunks, stored_chunks
from bioimage_py.storage import Identity


class Hdf5Family(Family):
    """HDF5: chunks are read by us and written by h5py, by one process."""

    chunked = True
    open_path = staticmethod(array.open_path)

    def open_spec(self, spec: SourceSpec) -> FileSource:
        return array.open_spec(spec)

    def from_handle(self, handle: Any) -> FileSource | None:
        return array.from_handle(handle)

    def list_arrays(self, path: str, **options: Any) -> list[str]:
        return array.list_arrays(path, **options)

    def stored_chunks(self, source: FileSource) -> StoredChunks:
        return stored_chunks(source)

    def encoded_reader(self, source: FileSource) -> EncodedReader:
        return Hdf5Chunks(source)

    def check_create(self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> None:
        array.check_create(path, key, spec, overwrite)

    def create(self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False, *args: Any, **options: Any) -> FileSource:  # fmt: skip
        return array.create(path, key, spec, overwrite, *args, **options)

    def create_unfinished(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False
    ) -> FileSource:
        return array.create_unfinished(path, key, spec, overwrite)

    def identities_at(self, path: str, key: str | None) -> frozenset[Identity]:
        return array.identities_at(path, key)

    def keeping(self, spec: ArraySpec, encoding: ChunkEncoding, *, grid: bool, codec: bool) -> ArraySpec:
        del grid
        if codec and ("fletcher32",) in encoding.codecs:
            return replace(spec, codec=Codec("gzip", options={"fletcher32": True}))
        return spec
