"""Runs of bytes in an object of a store, of which only what is asked for is fetched."""

from __future__ import annotations

from bioimage_py.errors import StorageError
from bioimage_py.sources.object_folder import ObjectFolder
from bioimage_py.sources.stored_bytes import StoredBytes

__all__ = ["ObjectBytes", "OpenObject"]

# A request costs the same for a few bytes more, and headers follow each other; so many are kept.
_AT_LEAST = 64


class OpenObject:
    """An object of which runs of bytes are fetched; the last short one is kept.

    Parameters
    ----------
    objects
        What holds it.
    key
        What it is called there.
    generation
        What differs when it is stored anew, None to take that of the first run.
    """

    def __init__(self, objects: ObjectFolder, key: str, generation: bytes | None = None) -> None:
        self._objects, self._key, self._generation = objects, key, generation
        self._run = 0, b""

    def read(self, begin: int, end: int, last: int) -> bytes:
        """Return the bytes from `begin` to `end`; if that is few, more are fetched, up to `last`.

        Raises
        ------
        StorageError
            If the store cannot be reached, or the object was cut, removed or written since the first run.
        """
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
    """Bytes `offset` to `offset + length` of an object."""

    __slots__ = ("_object",)

    def __init__(self, object: OpenObject, offset: int, length: int) -> None:
        super().__init__(None, offset, length)
        self._object = object

    def read(self) -> bytes:
        """Fetch all bytes; they are not kept."""
        return self._fetched(0, self.length)

    def at(self, begin: int, count: int) -> bytes:
        """Fetch up to `count` bytes from `begin` on, fewer where they end; a negative begin counts from the end."""
        if begin < 0:
            begin = max(0, begin + self.length)
        return self._fetched(begin, min(begin + count, self.length))

    def part(self, begin: int, end: int) -> ObjectBytes:
        """Return the bytes from `begin` to `end`, not fetched yet; a negative end counts from the end."""
        end = max(begin, end + self.length) if end < 0 else end
        return ObjectBytes(self._object, self.offset + begin, end - begin)

    def _fetched(self, begin: int, end: int) -> bytes:
        if end <= begin:
            return b""
        return self._object.read(self.offset + begin, self.offset + end, self.offset + self.length)
