"""Places in a bucket that hold small files as a folder does: each appears whole, and of those who make a name one wins."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from bioimage_py.errors import InvalidArgumentError, StorageError
from bioimage_py.storage.names import is_url, url_decoded, url_text

if TYPE_CHECKING:
    from bioimage_py.storage.store_place import StorePlace

_R = TypeVar("_R")
_PIECE = 2**20
"""Bytes of a log in one object: the last piece is stored again each time that something is appended."""
_PAUSES = (0.2, 1.0)
"""Seconds before a name that only one may make is asked for again, where the store gave no answer."""


_reached: set[StorePlace] = set()
"""Buckets that have answered this process: a person who named a wrong one waits for less than a run does."""


class ObjectStat(NamedTuple):
    st_size: int
    st_mtime: float
    """By the clock of the store, in whole seconds."""


class ObjectPath(os.PathLike[str]):
    """A place at s3:// or az:// with those methods of `pathlib.Path` that a run folder needs.

    A bucket has no folders: `mkdir` makes an object, which fails if there is one, and with `exist_ok` nothing. Raises as `Path` does where
    something is there or is not, and StorageError where the store fails. How it is reached, as far as the environment does not say it, is
    a query behind its URL, so that other processes and commands that are given the text reach it as well.
    """

    __slots__ = ("_key", "_query", "_url", "name")

    def __init__(self, url: str, query: str = "") -> None:
        self._url, self._query = url.rstrip("/"), query
        self._key = url_decoded(urlsplit(self._url).path)[1:]
        self.name = self._key.rpartition("/")[2]

    @classmethod
    def at(cls, url: str) -> ObjectPath:
        """Return the place at a URL that a user wrote; raises InvalidArgumentError for one that cannot hold such files."""
        from bioimage_py.storage.store_place import URL_OPTIONS, checked_access

        place, _, query = url.rpartition("?")
        options: dict[str, Any] = dict(parse_qsl(query))
        # Names can have a '?' too.
        place, options = (
            (place, options) if place and options and options.keys() <= set(URL_OPTIONS) else (url, {})
        )
        parts = urlsplit(url_text(place))
        if parts.scheme not in ("s3", "az"):
            raise InvalidArgumentError(
                f"run folders can be on a disk, at s3:// or at az://, not at {parts.scheme}://"
            )
        if "@" in parts.netloc:
            raise InvalidArgumentError(
                f"{parts.scheme}:// URLs must not hold credentials: set them in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        reached = checked_access(parts.geturl(), parts.scheme, options)
        found = cls(parts.geturl(), urlencode({name: value for name, value in reached.items() if value}))
        if found._key and not {"", ".", ".."}.isdisjoint(found._key.split("/")):
            raise InvalidArgumentError(
                f"the URL {found._url!r} has an empty name, '.' or '..' in it: write it without"
            )
        found._bucket()
        return found

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0] or self.name

    @property
    def suffix(self) -> str:
        begin, dot, end = self.name.rpartition(".")
        return dot + end if begin else ""

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(f"{self._url}/{name}", self._query)

    def __str__(self) -> str:
        return f"{self._url}?{self._query}" if self._query else self._url

    __fspath__ = __str__

    def __repr__(self) -> str:
        return f"ObjectPath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: ObjectPath) -> bool:
        return self._url < other._url

    # -- looking

    def exists(self) -> bool:
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    is_file = exists

    def stat(self) -> ObjectStat:
        return _stat_of(self._head())

    def tag(self) -> str | None:
        """Return what changes when the object is stored again, None if there is none."""
        try:
            return str(self._head()["e_tag"])
        except FileNotFoundError:
            return None

    def iterdir(self) -> Iterator[ObjectPath]:
        import obstore

        def listed() -> list[str]:
            found = obstore.list_with_delimiter(self._bucket(), self._key)
            return [*found["common_prefixes"], *(each["path"] for each in found["objects"])]

        for key in self._asked("listed", listed):
            yield self / key.rpartition("/")[2]

    def read_bytes(self) -> bytes:
        return self.read_with_time()[0]

    def read_text(self) -> str:
        return self.read_bytes().decode()

    def read_with_time(self) -> tuple[bytes, float]:
        import obstore

        def read() -> tuple[bytes, float]:
            found = obstore.get(self._bucket(), self._key)
            return bytes(found.bytes()), _stat_of(found.meta).st_mtime

        return self._asked("read", read)

    def read_range(self, begin: int, count: int) -> bytes:
        import obstore

        return self._asked(
            "read", lambda: bytes(obstore.get_range(self._bucket(), self._key, start=begin, length=count))
        )

    def read_from(self, begin: int) -> bytes:
        """Return what is behind a place in a log that `ObjectLog` writes, or in any other object."""
        number, at = divmod(begin, _PIECE)
        found: list[bytes] = []
        while True:
            try:
                data = self.piece(number).read_bytes()
            except FileNotFoundError:
                if not number:
                    raise
                break
            found.append(data[at:])
            if len(data) < _PIECE:
                break
            number, at = number + 1, 0
        return b"".join(found)

    def piece(self, number: int) -> ObjectPath:
        """Return where a piece of a log is: the first one under the name of the log itself."""
        return ObjectPath(f"{self._url}.{number:05d}", self._query) if number else self

    # -- making

    def write_bytes(self, data: bytes) -> int:
        self._put(data)
        return len(data)

    def write_text(self, text: str) -> int:
        return self.write_bytes(text.encode())

    def touch(self, mode: int = 0o666) -> None:
        del mode
        self.write_bytes(b"")

    def write_new(self, data: bytes, tag: str | None = None) -> str | None:
        """Store an object that none else has, in place of the one with a tag or of none, and return its tag; FileExistsError if another was quicker."""
        for pause in (*_PAUSES, None):
            try:
                return self._put(data, mode="create" if tag is None else {"e_tag": tag})
            except FileExistsError:
                # The answer to an earlier try may have been lost.
                try:
                    found = self.tag()
                    if self.read_bytes() == data:
                        return found
                except FileNotFoundError:
                    pass  # another made it, and has removed it since
                raise
            except StorageError:
                if pause is None:
                    raise
                time.sleep(pause)
        raise AssertionError  # the last try returns or raises

    def mkdir(self, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
        del mode, parents
        if not exist_ok:
            self.write_new(os.urandom(16))

    def unlink(self, *, missing_ok: bool = False) -> None:
        import obstore

        try:
            self._asked("removed", lambda: obstore.delete(self._bucket(), self._key))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_below(self, last: str = "") -> None:
        """Remove all objects below, one of that name after all others."""
        import obstore

        def remove() -> None:
            listed = obstore.list(self._bucket(), self._key, chunk_size=1000)
            for some in [[each["path"] for each in part] for part in listed]:
                obstore.delete(self._bucket(), [key for key in some if key != f"{self._key}/{last}"])
            if last:
                obstore.delete(self._bucket(), f"{self._key}/{last}")

        self._asked("removed", remove)

    # -- asking

    def _head(self) -> Any:
        import obstore

        return self._asked("looked at", lambda: obstore.head(self._bucket(), self._key))

    def _put(self, data: bytes, mode: Any = None) -> str | None:
        import obstore

        try:
            stored = self._asked("written", lambda: obstore.put(self._bucket(), self._key, data, mode=mode))
        except FileNotFoundError as error:
            if isinstance(mode, dict):
                raise FileExistsError(errno.EEXIST, "it was changed since", self._url) from error
            raise self._failed("written", "there is no such bucket") from error
        tag: str | None = stored["e_tag"]
        return tag

    def _bucket(self) -> Any:
        place = self._place()
        from bioimage_py.storage.store_place import opened_bucket

        return opened_bucket(place, "a run folder in an object store", patient=place in _reached)

    def _place(self) -> StorePlace:
        from bioimage_py.storage.store_place import StorePlace

        parts = urlsplit(self._url)
        return StorePlace.at(f"{parts.scheme}://{parts.netloc}", dict(parse_qsl(self._query)))

    def _asked(self, what: str, call: Callable[[], _R]) -> _R:
        """Make a request; `what` is what could not be done then."""
        # Workers whose run is on a disk need none of these.
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

        from bioimage_py.storage.store_errors import apart, asking, plain_message

        try:
            with asking(self._url):
                found: _R = apart(call)
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._url) from error
        except (AlreadyExistsError, PreconditionError) as error:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self._url) from error
        except (BaseError, OSError) as error:
            raise self._failed(what, plain_message(error)) from error
        _reached.add(self._place())
        return found

    def _failed(self, what: str, why: str) -> StorageError:
        error = StorageError(f"{self._url} cannot be {what}: {why}")
        error.strerror = why
        return error


AnyPath = Path | ObjectPath
"""A file or folder of a run: on a disk, or in a bucket."""


class ObjectLog:
    """A new log at a place in a bucket, which one writer writes.

    Objects cannot be changed: what is written is kept in memory until `store` puts the pieces that have changed. Only the last two
    of them can change.
    """

    def __init__(self, path: ObjectPath) -> None:
        self._path = path
        self._pieces = {0: bytearray()}
        self._changed: set[int] = set()
        self._failed: StorageError | None = None

    def write_at(self, data: bytes, place: int) -> None:
        """Write at a place in the log; raises StorageError while the store takes nothing."""
        if self._failed is not None:
            raise self._failed
        view = memoryview(data)
        while view:
            number, at = divmod(place, _PIECE)
            part = view[: _PIECE - at]
            self._pieces.setdefault(number, bytearray())[at : at + len(part)] = part
            self._changed.add(number)
            view, place = view[len(part) :], place + len(part)

    def store(self) -> None:
        """Return when all that was written is in the store."""
        try:
            for number in sorted(self._changed):
                self._path.piece(number).write_bytes(bytes(self._pieces[number]))
                self._changed.discard(number)
        except StorageError as error:
            self._failed = error
            raise
        self._failed = None
        for number in sorted(self._pieces)[:-2]:
            del self._pieces[number]

    @property
    def waits(self) -> bool:
        """Whether there is anything to be stored."""
        return bool(self._changed)


def any_path(path: str | os.PathLike[str]) -> AnyPath:
    """Return a place as a user named it, on a disk or behind a URL; raises as `ObjectPath.at` does."""
    if isinstance(path, ObjectPath):
        return path
    text = os.fspath(path)
    return ObjectPath.at(text) if is_url(text) else Path(text).expanduser()


def _stat_of(found: Any) -> ObjectStat:
    return ObjectStat(found["size"], found["last_modified"].timestamp())
