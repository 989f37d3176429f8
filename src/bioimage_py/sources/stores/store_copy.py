"""Copies that an object store makes by itself, so that the bytes do not come through this machine: S3, through obstore."""

from __future__ import annotations

import os
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.sources.base import FileSource, Source
from bioimage_py.sources.stores.tensorstore_array import folder_of
from bioimage_py.storage import (
    ObjectFolder,
    StorePlace,
    apart,
    asking,
    find_login,
    open_bucket,
    plain_message,
)

NO_STORE_COPY = "BIOIMAGE_PY_NO_STORE_COPY"
"""The environment variable that has objects fetched and put, also where the store could copy them."""
NOT_INSTALLED = "obstore is not installed"
"""The reason that a user can do something about by installing an extra."""
# A store answers when it is done, and that takes its time with an object of some gigabytes.
_TIMEOUT = 120.0


class ObjectState(NamedTuple):
    """What a store says of an object without giving its bytes."""

    size: int
    e_tag: str | None  # differs for other bytes; None where the store has no such thing
    written: datetime  # in whole seconds


def place_of(source: Source) -> StorePlace | None:
    if not isinstance(source, FileSource) or not source.path.startswith(("s3://", "gs://")):
        return None
    return folder_of(source, source.to_spec()).place


def why_fetched(source: StorePlace, output: StorePlace) -> str | None:
    """Return why a store cannot copy objects from one place to another by itself, in words that follow "because"; None if it can."""
    why = _kept_apart(source, output)
    if why is None and os.environ.get(NO_STORE_COPY, "0") not in ("", "0"):
        why = f"{NO_STORE_COPY} is set"
    if why is None:
        login = find_login(output.credentials)
        why = login if isinstance(login, str) else None
    if why is None and not _is_installed():
        why = NOT_INSTALLED
    return why


def _kept_apart(source: StorePlace, output: StorePlace) -> str | None:
    if source.scheme != "s3" or output.scheme != "s3":
        return "a store is asked for copies of its own at s3:// only"
    for what in ("endpoint", "bucket", "region", "credentials"):
        ours, theirs = getattr(source, what), getattr(output, what)
        if ours != theirs:
            return f"their {what} is not the same ({ours or 'unsaid'} and {theirs or 'unsaid'})"
    if output.region is None:
        return f"nobody said the region of bucket {output.bucket!r} (region=, or AWS_REGION)"
    odd = [b for b in (source.begin, output.begin) if b and {"", ".", ".."} & set(b.rstrip("/").split("/"))]
    return f"obstore takes no names like {odd[0]!r}" if odd else None


def _is_installed() -> bool:
    try:
        import obstore  # noqa: F401 - only whether it is there
    except ImportError:
        return False
    return True


class StoreCopier:
    """Has a store copy objects from one folder to another by itself, from any number of threads."""

    def __init__(self, source: ObjectFolder, output: ObjectFolder) -> None:
        ours, theirs = source.place, output.place
        if ours is None or theirs is None:
            raise UnsupportedFormatError(
                "objects are fetched and put, because one side is in no object store"
            )
        if (why := why_fetched(ours, theirs)) is not None:
            raise UnsupportedFormatError(f"objects are fetched and put, because {why}")
        self._source, self._output = source, output
        self._begin, self._new_begin = ours.begin, theirs.begin
        self._store = open_bucket(theirs, _TIMEOUT)

    def look(self, key: str) -> ObjectState | None:
        return self._state(self._begin + key, self._source.path(key))

    def copy(self, key: str, new_key: str) -> None:
        import obstore

        path = self._source.path(key)
        try:
            with asking(self._output.folder):
                apart(partial(obstore.copy, self._store, self._begin + key, self._new_begin + new_key))
        except _errors() as error:
            if self.look(key) is None:
                raise StorageError(f"{path} was removed while it was copied") from error
            raise _failed(error, f"the store did not copy {path} to {self._output.path(new_key)}") from error

    def check(self, key: str, seen: ObjectState, new_key: str, made: ObjectState | None = None) -> None:
        """Check that a copy is one of the bytes that were seen; another is removed again, with a StorageError. Without `made` the store is asked."""
        if made is None or not _same_bytes(made, seen):
            try:
                self._check_closely(key, seen, new_key)
            except StorageError:
                self._output.remove(new_key)
                raise

    def _check_closely(self, key: str, seen: ObjectState, new_key: str) -> None:
        made = self._state(self._new_begin + new_key, self._output.path(new_key))
        if made is not None and _same_bytes(made, seen):
            return
        # Objects that were uploaded in parts, or are encrypted with keys of their own, have another tag than their copies.
        if self.look(key) != seen:
            raise StorageError(f"{self._source.path(key)} was written while it was copied")
        if made is None or made.size != seen.size:
            found = "nothing" if made is None else f"{made.size} bytes"
            raise StorageError(
                f"{self._output.path(new_key)} holds {found} after {seen.size} bytes were copied"
            )

    def listed(self, states: dict[str, ObjectState], begin: str, *, copies: bool = False) -> list[str]:
        """Return the names of the objects that begin with a text, and put their states, if told, into `states`."""
        import obstore

        folder, place = (self._output, self._new_begin) if copies else (self._source, self._begin)
        # obstore lists what is below a name, and not what begins with a part of one.
        if not (place + begin).endswith("/"):
            return folder.names(begin)
        try:
            with asking(folder.folder):
                listed = apart(lambda: list(chain.from_iterable(obstore.list(self._store, place + begin))))
        except _errors() as error:
            raise _failed(error, f"{folder.path(begin)}* cannot be listed") from error
        found = {each["path"].removeprefix(place): _state_of(each) for each in listed}
        states.update(found)
        return list(found)

    def _state(self, name: str, path: str) -> ObjectState | None:
        import obstore

        try:
            with asking(path):
                return _state_of(apart(lambda: obstore.head(self._store, name)))
        except FileNotFoundError:
            return None
        except _errors() as error:
            raise _failed(error, f"{path} cannot be looked at") from error


def _state_of(found: Any) -> ObjectState:
    # A list says when in parts of a second, and the answer for one object does not.
    return ObjectState(found["size"], found["e_tag"], found["last_modified"].replace(microsecond=0))


def _same_bytes(made: ObjectState, seen: ObjectState) -> bool:
    return made.e_tag is not None and made[:2] == seen[:2]


def _errors() -> tuple[type[Exception], ...]:
    from obstore.exceptions import BaseError

    return (BaseError, OSError, ValueError)


def _failed(error: Exception, what: str) -> StorageError:
    return StorageError(
        f"{what}: {plain_message(error)}. With {NO_STORE_COPY}=1 objects are fetched and put instead"
    )
