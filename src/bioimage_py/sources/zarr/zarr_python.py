"""Zarr arrays that TensorStore cannot open, read and written through zarr-python."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import (
    InvalidArgumentError,
    ReadOnlyError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, from_attributes
from bioimage_py.sources.base import FileSource, SourceSpec, StoredSize
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.chunk_access import chunk_stamps
from bioimage_py.sources.stores import StoredArray, metadata_stamp, stored_size_of
from bioimage_py.sources.zarr.registered import codecs_of_numcodecs
from bioimage_py.storage import (
    Identity,
    PartStamps,
    StoreFolder,
    asking,
    awaited,
    file_identity,
    in_thread,
    is_url,
    opened_bucket,
    plain_message,
    remove_leftovers,
    storage_error,
    url_options,
)

_METADATA_FILES = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")


def _concerns_users(record: logging.LogRecord) -> bool:
    """Whether a line of asyncio is not about tasks that zarr-python left behind after an error, which is told already."""
    text = record.getMessage()
    return not ("Task was destroyed" in text and "zarr" in text)


logging.getLogger("asyncio").addFilter(_concerns_users)


class ZarrPythonSource(FileSource):
    """An array decoded and encoded by zarr-python, of any codec, dtype and store that it knows."""

    kind = "zarr"
    engine = "zarr-python"

    def __init__(self, array: Any, stored: StoredArray, *, live: bool = False) -> None:
        names = [
            getattr(codec, "codec_id", getattr(codec, "codec_name", ""))
            for codec in (*array.filters, *array.compressors)
        ]
        if "pickle" in names:
            raise UnsupportedFormatError(
                f"{stored.path} is not read: its codec pickle runs what the file says"
            )
        self._rounds = "bitround" in (name.removeprefix("numcodecs.") for name in names)
        self.array = array
        self._stored = stored
        self._live = live
        self.path, self.key, self.mode = stored.path, stored.key, stored.mode
        self.format = f"{stored.format} (zarr-python)"
        self.codec = stored.codec
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self.chunks = tuple(max(1, int(n)) for n in array.chunks)
        self.shards = None if array.shards is None else tuple(int(n) for n in array.shards)
        self.writable = stored.mode == "r+"
        self.concurrent_writes = not live
        self.fill_value = array.fill_value
        # In an object store, by its URL.
        self._remote = not live and is_url(self.path)

    @property
    def metadata(self) -> ImageMetadata:
        return self._stored.metadata

    def _read(self, box: Box) -> AnyArray:
        try:
            found = np.asarray(self._asked(lambda: self.array[box.slices or ...]))
        except StorageError:
            raise
        except Exception as error:  # codecs raise whatever they like
            raise self._failed("read", box, error) from error
        return found.astype(self.dtype, copy=False).reshape(box.shape)

    def _write(self, box: Box, values: AnyArray) -> None:
        cast = cast_values(values, self.dtype)
        if self._rounds:
            # Rounding carries out of a NaN with all bits set, which becomes -0.0.
            cast = np.where(np.isnan(cast), self.dtype.type(np.nan), cast)
        try:
            self._asked(lambda: self.array.__setitem__(box.slices or ..., cast))
        except StorageError:
            raise
        except PermissionError as error:
            raise ReadOnlyError(f"{self.name}: cannot write the region {box.text}: {error}") from error
        except Exception as error:  # codecs raise whatever they like
            raise self._failed("write", box, error) from error

    def _asked(self, call: Callable[[], Any]) -> Any:
        return awaited(lambda: in_thread(call), self.path) if self._remote else call()

    def _failed(self, what: str, box: Box, error: Exception) -> StorageError:
        why = f"{type(error).__name__}: {plain_message(error)}"
        return StorageError(f"{self.name}: cannot {what} the region {box.text}: {why}")

    def identities(self) -> frozenset[Identity]:
        if not self._live:
            in_folder = self._remote or self._stored.folder is not None
            return frozenset({file_identity(self.path, self.key, key_is_folder=in_folder)})
        store = self.array.store
        held = getattr(store, "_store_dict", store)
        tokens: set[Identity] = {("zarr store", id(held), self.array.path)}
        protocols = getattr(getattr(store, "fs", None), "protocol", ())
        if protocols:
            protocol = protocols if isinstance(protocols, str) else protocols[0]
            place = store.path if protocol in ("file", "local") else f"{protocol}://{store.path}"
            tokens.add(file_identity(place, self.array.path, key_is_folder=True))
        return frozenset(tokens)

    def mark_place(self) -> StoreFolder | None:
        if self._remote:
            return StoreFolder.at(self.path, url_options(self._stored.options)).child(self.key)
        return None if self._stored.folder is None else StoreFolder(self._stored.folder)

    def stored_stamp(self) -> str | None:
        place = self.mark_place()
        return super().stored_stamp() if place is None else metadata_stamp(place)

    def part_stamps(self, *, cheap: bool = False) -> PartStamps | None:
        if self._stored.folder is None and not self._remote:
            return None if self._live else super().part_stamps()
        return None if cheap and not self._remote else chunk_stamps(self, cheap=cheap)

    def remove_leftovers(self) -> int:
        return 0 if self._stored.folder is None else remove_leftovers(self._stored.folder)

    def stored_size(self) -> StoredSize | None:
        return None if self._stored.folder is None else stored_size_of(self._stored.folder)

    def to_spec(self) -> SourceSpec:
        if self._live:
            raise InvalidArgumentError(
                f"{self.name} is a live handle that another process could not open: it can be used in local runs only"
            )
        return super().to_spec()

    def _spec_options(self) -> Mapping[str, Any]:
        return self._stored.options


class _ZipStore(Store):  # type: ignore[misc]  # to mypy it is Any
    """The metadata of an array as they were read, and its chunks in a zip file."""

    supports_writes = supports_deletes = supports_listing = False

    def __init__(self, folder: StoreFolder, array: Mapping[str, Any]) -> None:
        super().__init__(read_only=True)
        self._name = "zarr.json" if array.get("zarr_format") == 3 else ".zarray"
        self._objects, self._waits = folder.objects(), is_url(folder.path)
        self._metadata = json.dumps(array).encode()

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        if key.rpartition("/")[2] in (*_METADATA_FILES, self._name):
            return prototype.buffer.from_bytes(self._metadata) if key == self._name else None
        begin, end = None, None
        if isinstance(byte_range, RangeByteRequest):
            begin, end = byte_range.start, byte_range.end
        elif isinstance(byte_range, OffsetByteRequest):
            begin = byte_range.offset
        elif byte_range is not None:
            begin = -byte_range.suffix
        assert self._objects is not None
        if self._waits:
            found = await asyncio.to_thread(self._objects.read, key, begin, end)
        else:
            found = self._objects.read(key, begin, end)
        return None if found is None else prototype.buffer.from_bytes(found.data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        return await self.get(key, default_buffer_prototype()) is not None

    async def set(self, key: str, value: Buffer) -> None:  # noqa: ARG002 - it refuses
        self._check_writable()

    async def delete(self, key: str) -> None:  # noqa: ARG002 - it refuses
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        yield self._name

    list_prefix = list_dir = lambda self, prefix: self.list()  # noqa: ARG005 - not asked for: it does not list

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = Store.__hash__


def open_folder(
    folder: StoreFolder, stored: StoredArray, metadata: Mapping[str, Any] | None = None
) -> ZarrPythonSource:
    """Open an array in a local folder or zip file, or in an object store; zarr-python's errors pass."""
    where: dict[str, Any] = {"store": folder.path}
    if folder.archive is not None:
        where = {"store": _ZipStore(folder, metadata or {})}
    elif not folder.is_local:
        place = folder.place
        if place is None or place.scheme not in ("s3", "az"):
            raise UnsupportedFormatError("zarr-python reaches local disks, s3:// and az:// only")
        bucket = opened_bucket(place, "an array that zarr-python reads", patient=True)
        store = zarr.storage.ObjectStore(bucket, read_only=stored.mode == "r")
        where = {"store": store, "path": place.begin.rstrip("/")}
    with codecs_of_numcodecs(), asking(folder.path):
        try:
            array = zarr.open_array(**where, mode=stored.mode)
        except Exception as error:
            if not is_url(folder.path) or not isinstance(error, _store_errors()):
                raise
            raise storage_error(error, f"{folder.path} cannot be opened") from error
    return ZarrPythonSource(array, stored)


def _store_errors() -> type[Exception]:
    try:
        from obstore.exceptions import BaseError
    except ImportError:
        return OSError
    found: type[Exception] = BaseError
    return found


def wrap(array: Any) -> ZarrPythonSource:
    stored = _describe(array, str(array.store_path), None, "r" if array.read_only else "r+")
    return ZarrPythonSource(array, stored, live=True)


def _describe(array: Any, path: str, key: str | None, mode: str) -> StoredArray:
    version = array.metadata.zarr_format
    codecs = [*array.filters, *array.compressors]
    return StoredArray(
        kind="zarr",
        path=path,
        key=key,
        mode=mode,
        format=f"zarr v{version}",
        codec=" ".join(type(codec).__name__.lower() for codec in codecs),
        metadata=from_attributes(dict(array.attrs), array.ndim),
    )
