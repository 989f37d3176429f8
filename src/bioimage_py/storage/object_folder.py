"""The objects of an array in a store behind a URL, as its chunk files would be in a folder: read, listed, put in place."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.storage.azure_objects import AzureObjects
from bioimage_py.storage.chunk_keys import ChunkKeys
from bioimage_py.storage.compressed import ZipObjects
from bioimage_py.storage.file_bytes import Piece, StoredBytes
from bioimage_py.storage.store_errors import apart, asking, awaited, plain_message, storage_errors
from bioimage_py.storage.store_place import StorePlace, open_bucket

# A listing has to save so many requests before it is worth one.
_WORTH = 4


class StoredObject(NamedTuple):
    """Bytes of an object; `generation` changes when it is stored again."""

    data: bytes
    generation: bytes


class ObjectFolder:
    """The objects below the place of an array, from any thread; `lists` if the store can list names (a web server cannot)."""

    def __init__(self, store: Any, folder: str, *, lists: bool) -> None:
        self.folder = folder
        self._store = store
        self._lists = lists

    @property
    def place(self) -> StorePlace | None:
        if isinstance(self._store, AzureObjects):
            return self._store.place
        if isinstance(self._store, ZipObjects):
            return None
        return StorePlace.of_spec(self._store.spec(retain_context=True).to_json())

    def path(self, key: str) -> str:
        return f"{self.folder}/{key}"

    def read(self, key: str, begin: int | None = None, end: int | None = None) -> StoredObject | None:
        """Return an object or a range of its bytes, None if there is none; a negative `begin` counts from the end."""
        part = None if begin is None else slice(begin, end)
        with storage_errors(f"{self.path(key)} cannot be read"):
            found = awaited(lambda: self._store.read(key, byte_range=part), self.folder)
        if found.state != "value":
            return None
        data = bytes(found.value)
        if begin is not None and end is not None and len(data) != end - begin:
            raise StorageError(f"{self.path(key)} ends before byte {end}: it was cut")
        return StoredObject(data, bytes(found.stamp.generation))

    def new(self, key: str) -> NewObject:
        return NewObject(self, key)

    def write(self, key: str, *pieces: Piece) -> int:
        data = b"".join(_bytes_of(piece) for piece in pieces)
        with storage_errors(f"{self.path(key)} cannot be written", writing=True):
            awaited(lambda: self._store.write(key, data), self.folder)
        return len(data)

    def remove(self, key: str) -> bool:
        """Remove an object; stores do not say whether there was one."""
        with storage_errors(f"{self.path(key)} cannot be removed", writing=True):
            awaited(lambda: self._store.write(key, None), self.folder)
        return True

    def candidates(
        self, keys: ChunkKeys, cells: Box, names: Callable[[str], list[str]] | None = None
    ) -> Iterator[tuple[int, ...]]:
        """Yield the positions in a box of the grid at which there may be an object.

        Names are listed by their longest shared prefixes where that takes fewer requests than asking for each.
        """
        if cells.is_empty():
            return
        axes = tuple(range(len(keys.grid)))
        order = axes[::-1] if keys.fastest_first else axes
        n_named = _named_axes(keys, cells, order)
        if n_named is None or not self._lists:
            yield from itertools.product(*map(range, *cells))
            return
        for numbers in itertools.product(*(range(cells.begin[a], cells.end[a]) for a in order[:n_named])):
            begin = keys.separator.join([*([keys.prefix] if keys.prefix else []), *map(str, numbers), ""])
            for at in sorted(at for at in map(keys.position, (names or self.names)(begin)) if at is not None):
                if all(b <= p < e for b, p, e in zip(cells.begin, at, cells.end, strict=True)):
                    yield at

    def names(self, begin: str) -> list[str]:
        """Return the names of all objects that begin with a text; raises StorageError if they cannot be listed."""
        import tensorstore as ts

        names = ts.KvStore.KeyRange(begin, begin[:-1] + chr(ord(begin[-1]) + 1)) if begin else None
        with storage_errors(f"{self.path(begin)}* cannot be listed"):
            found = awaited(lambda: self._store.list(names), self.folder)
            return [name.decode("utf-8", "replace") for name in found]

    def etags(self) -> dict[str, str] | None:
        """Return etag and size of all objects by their names, one request for a thousand; None where obstore cannot list them."""
        try:
            import obstore
        except ImportError:
            return None
        place = self.place
        bucket = None if place is None else open_bucket(place)
        if place is None or bucket is None or isinstance(bucket, str):
            return None
        try:
            with asking(self.folder):
                pages = apart(lambda: list(obstore.list(bucket, place.begin)))
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise StorageError(f"{self.path('*')} cannot be listed: {plain_message(error)}") from error
        found = (each for page in pages for each in page)
        return {each["path"].removeprefix(place.begin): f"{each['e_tag']} {each['size']}" for each in found}


class NewObject:
    """An object that is put together in memory: a store takes it whole or not at all."""

    def __init__(self, folder: ObjectFolder, key: str) -> None:
        self._folder, self._key = folder, key
        self._data = bytearray()
        self._abandoned = False
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._abandoned:
            self._folder.write(self._key, bytes(self._data))

    def append(self, piece: Piece) -> None:
        """Append bytes; those of a file must not change meanwhile."""
        self._data += _bytes_of(piece)
        self.size = len(self._data)

    def write_at(self, offset: int, data: bytes) -> None:
        self._data[offset : offset + len(data)] = data

    def abandon(self) -> None:
        self._abandoned = True


def _bytes_of(piece: Piece) -> bytes | memoryview:
    if not isinstance(piece, StoredBytes):
        return piece
    data = piece.read()
    piece.check_unchanged()
    return data


def _named_axes(keys: ChunkKeys, cells: Box, order: tuple[int, ...]) -> int | None:
    n_lists = 1
    for n_named, axis in enumerate(order):
        if all(_WORTH * (cells.end[a] - cells.begin[a]) >= keys.grid[a] for a in order[n_named:]):
            return n_named if _WORTH * n_lists <= cells.size else None
        n_lists *= cells.end[axis] - cells.begin[axis]
    return None


# A request costs the same for a few bytes more, and headers follow each other; so many are kept.
_AT_LEAST = 64


class OpenObject:
    """Fetches ranges of an object, keeps the last short one, and fails if the object is stored again meanwhile."""

    def __init__(self, objects: ObjectFolder, key: str, generation: bytes | None = None) -> None:
        self._objects, self._key, self._generation = objects, key, generation
        self._run = 0, b""

    def read(self, begin: int, end: int, last: int) -> bytes:
        """Return a range of bytes; a short one is fetched with what follows, up to `last`."""
        at, data = self._run
        if at <= begin and end <= at + len(data):
            return data[begin - at : end - at]
        found = self._objects.read(self._key, begin, max(end, min(begin + _AT_LEAST, last)))
        if found is None or self._generation not in (None, found.generation):
            raise StorageError(f"{self._objects.path(self._key)} was written while it was read")
        self._generation = found.generation
        if len(found.data) <= _AT_LEAST:
            self._run = begin, found.data
        return found.data[: end - begin]


class ObjectBytes(StoredBytes):
    __slots__ = ("_object",)

    def __init__(self, object: OpenObject, offset: int, length: int) -> None:
        super().__init__(None, offset, length)
        self._object = object

    def read(self) -> bytes:
        """Fetch all bytes; they are not kept."""
        return self._fetched(0, self.length)

    def at(self, begin: int, count: int) -> bytes:
        if begin < 0:
            begin = max(0, begin + self.length)
        return self._fetched(begin, min(begin + count, self.length))

    def part(self, begin: int, end: int) -> ObjectBytes:
        end = max(begin, end + self.length) if end < 0 else end
        return ObjectBytes(self._object, self.offset + begin, end - begin)

    def _fetched(self, begin: int, end: int) -> bytes:
        if end <= begin:
            return b""
        return self._object.read(self.offset + begin, self.offset + end, self.offset + self.length)
