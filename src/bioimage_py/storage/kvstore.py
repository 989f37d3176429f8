"""Folders of a store, on a local disk or behind a URL: reading their metadata files, and TensorStore's name for them."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import netrc
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from bioimage_py.errors import (
    Hint,
    InvalidArgumentError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.storage.azure_objects import AzureObjects
from bioimage_py.storage.compressed import ZipObjects
from bioimage_py.storage.crash_safety import SIDE_FOLDER, tried_again
from bioimage_py.storage.names import inner_name, is_unicode, is_url, unknown_options, url_decoded, url_text
from bioimage_py.storage.new_files import FileFolder
from bioimage_py.storage.object_folder import ObjectFolder
from bioimage_py.storage.store_errors import (
    ENGINE_ERRORS,
    answer,
    server_answered,
    storage_error,
    storage_errors,
)
from bioimage_py.storage.store_place import StorePlace, checked_access, s3_access, url_options
from bioimage_py.system import forward_slashes

_MOST_SEEN = 20_000
"""Files and folders of an array that are looked at for links, the outer ones first."""

MOST_JSON = 2**26
"""Bytes of a metadata file that are read; larger ones are something else, or would take all memory."""

_USUAL = 2**16
"""Bytes that most metadata files have at most."""

_SCHEMES = ("http", "https", "s3", "gs", "az", "memory", "file")

_ZIPPED = re.compile(r"\.(ozx|zip|zarr)(?=/|$)", re.IGNORECASE)
_ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")

_MOST_REMEMBERED = 4096
_remembered: ContextVar[dict[tuple[Any, ...], Any] | None] = ContextVar(
    "what servers were asked for", default=None
)


@contextlib.contextmanager
def reads_remembered() -> Iterator[None]:
    """Ask a server for each metadata file once, meanwhile in this thread; what is written is asked for again."""
    token = _remembered.set({})
    try:
        yield
    finally:
        _remembered.reset(token)


def forget_reads(begin: str | None = None) -> None:
    """Ask again for files whose URLs begin so; without that ask for all again, and each time."""
    known = _remembered.get()
    if begin is None:
        _remembered.set(None)
    elif known:
        for key in [key for key in known if f"{key[0]}/{key[1]}".startswith(begin)]:
            del known[key]


def _plain_path(path: str) -> str:
    """Return an absolute path without '..', which TensorStore refuses, going through links as the system does."""
    return _checked_text(str(Path(path).resolve() if ".." in Path(path).parts else Path(path).absolute()))


def _below(path: str, top: str) -> bool:
    real = os.path.realpath(path)
    return real == top or real.startswith(top.rstrip("/") + "/")


def _first_bytes(path: str, most: int | None) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - called for each file of a plate
        # Room for all of `most` would be taken at once.
        data = file.read(_USUAL)
        if len(data) < _USUAL:
            return data
        return data + (file.read() if most is None else file.read(max(0, most + 1 - _USUAL)))


def _checked_text(path: str) -> str:
    path = forward_slashes(path)
    if not is_unicode(path):
        raise InvalidArgumentError(f"the path {path!r} is not UTF-8, which this format needs: rename it")
    if "\\" in path:
        raise InvalidArgumentError(
            f"the path {path!r} holds a backslash, which would be taken for '/': rename it"
        )
    return path


@dataclass(frozen=True)
class StoreFolder:
    """A folder that holds an array, a group, or nothing yet."""

    path: str  # local path or URL, without credentials
    options: Mapping[str, Any] = field(default_factory=dict)  # they go into specs, so they hold no secrets
    # User and password of an http URL, kept in this process only.
    credentials: tuple[str, str] | None = field(default=None, repr=False, compare=False)
    # TensorStore's key-value store, where it is open already, with the credentials that opened it.
    opened: Any = field(default=None, repr=False, compare=False)
    file: str = field(default="", compare=False)  # the one that it is beside, see `beside`
    # The zip file that it is in, and its place there, which ends with a slash unless it is empty.
    archive: StoreFolder | None = None
    inner: str = ""

    @classmethod
    def beside(cls, file: str) -> StoreFolder | None:
        """Return the folder for what is kept beside a local file; None for names that are too long, or that folders cannot have."""
        file = os.path.abspath(file)  # noqa: PTH100 - follows no links
        above, name = os.path.split(file)
        with contextlib.suppress(InvalidArgumentError):
            return cls(cls(above).child(f"{name}{SIDE_FOLDER}").path, file=file)
        return None

    @classmethod
    def at(cls, path: str, options: Mapping[str, Any] | None = None) -> StoreFolder:
        """Return the folder at a path or URL as a user wrote it; InvalidArgumentError for what it cannot be."""
        if not is_url(path):
            if given := sorted(name for name, value in (options or {}).items() if value is not None):
                raise unknown_options(repr(path), given, ())
            return _in_archive(cls(_checked_text(path)))
        path = url_text(path)
        parts = urlsplit(path)
        if not {".", ".."}.isdisjoint(url_decoded(parts.path).split("/")):
            raise InvalidArgumentError(f"the URL {path!r} has '.' or '..' in it: write it without")
        scheme = parts.scheme.lower()
        if scheme not in _SCHEMES:
            raise InvalidArgumentError(
                f"URLs can be {', '.join(s + '://' for s in _SCHEMES)}; got {scheme}://"
            )
        if scheme == "file":
            return _in_archive(cls(unquote(parts.path)))
        user, at, host = parts.netloc.rpartition("@")
        if at and scheme not in ("http", "https"):
            raise InvalidArgumentError(
                f"{scheme}:// URLs must not hold credentials: set them in the environment (AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS, or AZURE_STORAGE_ACCOUNT_KEY)"
            )
        name, _, password = user.partition(":")
        clean = urlunsplit((scheme, host, parts.path.rstrip("/"), parts.query, ""))
        credentials = (unquote(name), unquote(password)) if at else None
        return _in_archive(cls(clean, checked_access(clean, scheme, options), credentials))

    @property
    def name(self) -> str:
        if not is_url(self.path):
            return Path(_plain_path(self.path)).name
        return url_decoded(urlsplit(self.path).path.rpartition("/")[2])

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of the file system, neither behind a URL nor in a zip file."""
        return self.archive is None and not is_url(self.path)

    @property
    def read_only(self) -> bool:
        """Whether nothing can ever be written here, as behind http, or into a zip file."""
        return self.archive is not None or self.path.startswith(("http://", "https://"))

    @property
    def on_azure(self) -> bool:
        """Whether TensorStore does not get there."""
        return self.archive is None and self.path.startswith("az://")

    @classmethod
    def of_spec(cls, spec: Mapping[str, Any]) -> StoreFolder:
        """Return the folder of the array that the spec of a source leads to."""
        return cls.at(spec["path"], url_options(spec)).child(spec.get("key"))

    def child(self, key: str | None) -> StoreFolder:
        """Return the folder of a key below this one; keys come from metadata too, so they are checked (see `inner_name`)."""
        if not key:
            return self
        key = inner_name(key, self.path)
        if self.is_local:
            return StoreFolder(f"{self.path.rstrip('/')}/{key}")
        inner = "" if self.archive is None else f"{self.inner}{key}/"
        if not is_url(self.path):
            return replace(self, path=f"{self.path}/{key}", opened=None, inner=inner)
        parts = urlsplit(self.path)
        # A '%' in a name stays one where the URL is decoded.
        path = f"{parts.path}/{key.replace('%', '%25').replace('#', '%23').replace('?', '%3F')}"
        return replace(self, path=urlunsplit(parts._replace(path=path)), opened=None, inner=inner)

    def inside(self, key: str | None) -> StoreFolder:
        """As `child`, for writing or removing: a link on the way that leads out of this folder is an error."""
        place = self.child(key)
        if self.is_local and place is not self and not _below(place.path, os.path.realpath(self.path)):
            raise InvalidArgumentError(
                f"{place.path!r} leads to {os.path.realpath(place.path)!r} by a link, which is outside of {self.path!r}: nothing is written "
                "or removed there. Name that place itself"
            )
        return place

    def link_out(self, key: str | None) -> str | None:
        """Return a link in the array of a key that leads out of this folder; None if a look at the outer entries finds none."""
        if not self.is_local:
            return None
        top = os.path.realpath(self.path)
        place = self.child(key).path
        if key and not _below(place, top):
            return place
        waiting, seen = [place], 0
        while waiting and seen < _MOST_SEEN:
            with contextlib.suppress(OSError), os.scandir(waiting.pop(0)) as entries:
                for entry in itertools.islice(entries, _MOST_SEEN - seen):
                    seen += 1
                    if entry.is_symlink() and not _below(entry.path, top):
                        return entry.path
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        return None

    def check_writable(self, key: str | None) -> None:
        """Raise ReadOnlyError if the array of a key cannot be written, or writing it could go through a link out of this folder."""
        self._check_no_archive()
        if self.read_only:
            raise ReadOnlyError(f"{self.path} cannot be opened for writing: http only reads")
        link = self.link_out(key)
        if link is not None:
            raise ReadOnlyError(
                f"{self.child(key).path!r} cannot be opened for writing: {link!r} is a link to {os.path.realpath(link)!r}, outside of "
                f"{self.path!r}. Copy the array to another path, and write there"
            )

    def _check_no_archive(self) -> None:
        if self.archive is not None:
            raise ReadOnlyError(
                f"{self.archive.path} cannot be written into: nothing in a zip file is replaced"
            )

    def parent(self) -> StoreFolder | None:
        """Return the folder around this one; None at the root of a disk, of a server, and of a zip file."""
        if self.is_local:
            place = Path(_plain_path(self.path))
            return StoreFolder(str(place.parent)) if place.parent != place else None
        parts = urlsplit(self.path)
        above, _, last = parts.path.rpartition("/")
        if not last or (self.archive is not None and self.path == self.archive.path):
            return None
        inner = "".join(self.inner.rstrip("/").rpartition("/")[:2])
        return replace(self, path=urlunsplit(parts._replace(path=above)), opened=None, inner=inner)

    def parents(self, most: int) -> Iterator[StoreFolder]:
        """Yield the folders around this one, the nearest first, at most so many."""
        folder = self.parent()
        while folder is not None and most:
            yield folder
            folder, most = folder.parent(), most - 1

    def spec(self) -> dict[str, Any]:
        if self.archive is not None:
            if self.archive.on_azure:
                raise UnsupportedFormatError(
                    f"{self.path}: zip files at az:// are not read, download it first"
                )
            file = self.archive.spec()
            file["path"] = file["path"].removesuffix("/")
            return {"driver": "zip", "base": file, "path": self.inner}
        if self.is_local:
            return {"driver": "file", "path": _plain_path(self.path) + "/"}
        parts = urlsplit(self.path)
        path = url_decoded(parts.path).strip("/")
        path = path + "/" if path else ""
        if parts.scheme == "memory":
            return {"driver": "memory", "path": "/".join(p for p in (parts.netloc, path) if p)}
        if parts.scheme == "gs":
            return {"driver": "gcs", "bucket": parts.netloc, "path": path}
        if parts.scheme == "s3":
            return {"driver": "s3", "bucket": parts.netloc, "path": path, **s3_access(self.options)}
        if self.on_azure:
            raise UnsupportedFormatError(
                f"{self.path}: at az:// only Zarr is read and written, because TensorStore does not reach Azure",
                hints=[Hint("use Zarr there, or copy to a disk or to s3:// first")],
            )
        base = urlunsplit((parts.scheme, parts.netloc, "/", parts.query, ""))
        return {"driver": "http", "base_url": base, "path": path, **self._http_headers()}

    def _http_headers(self) -> dict[str, Any]:
        found = self.credentials
        if found is None:
            with contextlib.suppress(FileNotFoundError, netrc.NetrcParseError):
                entry = netrc.netrc(os.environ.get("NETRC")).hosts.get(urlsplit(self.path).hostname or "")
                found = (entry[0], entry[2]) if entry else None
        if found is None:
            return {}
        return {"headers": [f"Authorization: Basic {base64.b64encode(':'.join(found).encode()).decode()}"]}

    @property
    def place(self) -> StorePlace | None:
        """Where in an object store this is, None on a disk, on a web server and in memory."""
        if self.on_azure:
            return StorePlace.at(self.path, self.options)
        spec = self.spec() if self.opened is None else self.opened.spec(retain_context=True).to_json()
        return StorePlace.of_spec(spec)

    def check_bucket(self) -> None:
        """Raise SourceNotFoundError if this is in a bucket that does not exist.

        TensorStore would go on trying to write into one: it takes the server's answer for a competing writer.
        """
        if not self.path.startswith(("s3://", "gs://", "az://")):
            return
        import tensorstore as ts

        name = "does-this-bucket-exist"
        try:
            self._kvstore().list(ts.KvStore.KeyRange(name, name + "\0")).result()
        except ENGINE_ERRORS as error:
            if "NOT_FOUND" in str(error):
                raise SourceNotFoundError(
                    f"{self.path}: there is no bucket of that name; create it first"
                ) from error
            raise storage_error(error, f"{self.path} cannot be reached") from error

    def read(self, name: str, most: int | None = None) -> bytes | None:
        """Return the bytes of a file, None if there is none; of a local one at most one more than `most`."""
        what = f"{self.path}/{name} cannot be read"
        if self.archive is not None:
            what = f"{self.archive.path} cannot be read as a zip file"
        with storage_errors(what):
            if self.is_local:
                try:
                    return tried_again(lambda: _first_bytes(f"{self.path}/{name}", most))
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    return None
            found = self._asked_for(name)
        server_answered(self.path)
        return bytes(found.value) if found.state == "value" else None

    def _asked_for(self, name: str) -> Any:
        known = _remembered.get()
        if known is None or not is_url(self.path):
            return answer(self._kvstore().read(name))
        self.ask_ahead([name])
        key = self._request(name)
        try:
            return answer(known[key])
        except ENGINE_ERRORS:
            del known[key]
            raise

    def ask_ahead(self, names: Iterable[str]) -> None:
        """Ask a server for files that will be read, all at the same time, where answers are remembered."""
        known = _remembered.get()
        if known is None or not is_url(self.path):
            return
        if len(known) > _MOST_REMEMBERED:
            known.clear()
        for name in names:
            if (key := self._request(name)) not in known:
                known[key] = self._kvstore().read(name)

    def _request(self, name: str) -> tuple[Any, ...]:
        return self.path, name, self.inner, *sorted(self.options.items())

    def has(self, name: str) -> bool:
        """Whether there is an object of a name behind a URL; True where the store does not say."""
        try:
            # A request for no byte would be HEAD, which simple servers answer wrongly.
            return bool(self._kvstore().read(name, byte_range=slice(0, 1)).result().state == "value")
        except ENGINE_ERRORS:
            return True

    def write(self, name: str, data: bytes) -> None:
        """Write a file, and the folder if need be; readers see the old file or the new one, never a part."""
        self._check_no_archive()
        with storage_errors(f"{self.path}/{name} cannot be written", writing=True):
            if self.is_local:
                # Whole or not at all, and never through a link: others may be reading it.
                Path(self.path).mkdir(parents=True, exist_ok=True)
                tried_again(lambda: FileFolder(self.path).write(name, data))
            else:
                answer(self._kvstore().write(name, data))
                forget_reads(f"{self.path}/{name}")

    def delete(self, name: str) -> None:
        self._check_no_archive()
        if self.is_local:
            Path(self.path, name).unlink(missing_ok=True)
        else:
            answer(self._kvstore().write(name, None))
            forget_reads(f"{self.path}/{name}")

    def delete_objects(self) -> None:
        """Delete all objects below a URL; it is no error if there are none."""
        import tensorstore as ts

        self._check_no_archive()
        with storage_errors(f"{self.path} cannot be removed", writing=True):
            self._kvstore().delete_range(ts.KvStore.KeyRange()).result()
            forget_reads(self.path)

    def objects(self) -> ObjectFolder | None:
        if self.is_local:
            return None
        return ObjectFolder(self._kvstore(), self.path, lists=self.archive is not None or not self.read_only)

    def zarr_in_zip(self) -> list[str]:
        """Return the keys of all groups and arrays of Zarr below a folder of a zip file, `""` for the folder itself."""
        objects = self.objects()
        parts = (name.rpartition("/") for name in (objects.names("") if objects is not None else ()))
        return list(dict.fromkeys(above for above, _, last in parts if last in _ZARR_FILES))

    def _kvstore(self) -> Any:
        if self.opened is not None:
            return self.opened
        if self.archive is not None and not is_url(self.path):
            return ZipObjects(self.archive.path, self.inner)
        if self.on_azure:
            return AzureObjects(StorePlace.at(self.path, self.options))
        import tensorstore as ts

        from bioimage_py.storage.engine_context import metadata_context

        return ts.KvStore.open(self.spec(), context=metadata_context()).result()

    def read_json(self, name: str) -> dict[str, Any] | None:
        if (data := self.read(name, MOST_JSON)) is None:
            return None
        if len(data) > MOST_JSON:
            raise StorageError(
                f"{self.path}/{name} has more than {MOST_JSON} bytes, which is too many for metadata"
            )
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            what = "is nested too deep" if isinstance(error, RecursionError) else f"is not JSON: {error}"
            raise StorageError(f"{self.path}/{name} {what}") from error
        if not isinstance(found, dict):
            raise StorageError(f"{self.path}/{name} is a JSON {type(found).__name__}, and not an object")
        return found

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.write(name, json.dumps(value, indent=2).encode())

    def folders(self) -> list[os.DirEntry[str]]:
        """Return the folders in a local folder, sorted by name; of links, those that do not lead to a folder around it."""
        here = os.path.realpath(self.path) + "/"
        return [entry for entry in self.entries() if _is_folder(entry, here)]

    def has_folders(self) -> bool:
        """Whether there are any `folders`, as far as it has to be listed to tell: folders can hold very many files."""
        here = os.path.realpath(self.path) + "/"
        with self._listing() as found:
            return any(_is_folder(entry, here) for entry in found)

    def entries_if_local(self) -> list[os.DirEntry[str]]:
        return self.entries() if self.is_local else []

    def entries(self) -> list[os.DirEntry[str]]:
        """Return what is in a local folder, sorted by name. A URL is refused: object stores would list every chunk."""
        if not self.is_local:
            raise SourceNotFoundError(
                f"the arrays at {self.path} cannot be listed",
                hints=[Hint.of("give the key of one, such as {}", key="0")],
            )
        with self._listing() as found:
            return sorted(found, key=lambda entry: entry.name)

    @contextlib.contextmanager
    def _listing(self) -> Iterator[Iterator[os.DirEntry[str]]]:
        try:
            listing = os.scandir(self.path)
        except (FileNotFoundError, NotADirectoryError):
            yield iter(())
            return
        except PermissionError as error:
            raise StorageError(f"folder {self.path} cannot be listed: {error.strerror}") from error
        with listing:
            yield listing

    def folders_beginning(self) -> list[str]:
        """Return the URLs, sorted, of the folders beside this one whose names begin with its name."""
        above = self.parent()
        objects = None if above is None else above.objects()
        assert objects is not None
        names = {key.partition("/")[0] for key in objects.names(self.path.rpartition("/")[2])}
        return sorted(f"{objects.folder.rstrip('/')}/{name}" for name in names)


def _in_archive(folder: StoreFolder) -> StoreFolder:
    """Return a folder as one of a zip file, where its path leads to one, or into one."""
    local, parts = folder.is_local, urlsplit(folder.path)
    path = folder.path if local else parts.path
    for found in _ZIPPED.finditer(path):
        begin, inner = path[: found.end()], path[found.end() :].strip("/")
        named = found[1].lower() != "zarr"
        if os.path.isfile(begin) and (named or _first_bytes(begin, 2)[:2] == b"PK") if local else named:  # noqa: PTH113 - a text stays a text
            archive = replace(folder, path=begin if local else urlunsplit(parts._replace(path=begin)))
            return replace(folder, archive=archive, inner=_top_of(archive) + (f"{inner}/" if inner else ""))
    return folder


def _top_of(archive: StoreFolder) -> str:
    """Return the folder in a zip file that holds all of its Zarr; empty for the top, where that of an .ozx has to be."""
    whole = replace(archive, archive=archive)
    if archive.path.lower().endswith(".ozx") or any(whole.read(name) is not None for name in _ZARR_FILES):
        return ""
    found = [key for key in whole.zarr_in_zip() if not key.startswith("__MACOSX")]
    top = f"{min(found, key=len, default='')}/"
    return top if top != "/" and all(f"{key}/".startswith(top) for key in found) else ""


def _is_folder(entry: os.DirEntry[str], here: str) -> bool:
    with contextlib.suppress(OSError):  # a link to itself
        return entry.is_dir() and not (
            entry.is_symlink() and here.startswith(os.path.realpath(entry.path) + "/")
        )
    return False
