"""Names of files, keys in containers, and URLs: which are allowed, and how they are read."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bioimage_py.errors import (
    Hint,
    InvalidArgumentError,
    ReadOnlyError,
    SourceNotFoundError,
    UnsupportedFormatError,
)
from bioimage_py.system import RESERVES_NAMES, forward_slashes, reserved_name

_URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*://")

_DRIVE = re.compile(r"[a-zA-Z]:")

_WITH_QUERY = ("http", "https", "file")

_LONGEST = 255
"""Bytes in the name of one file or folder, on all file systems that are common."""


def absolute_path(path: str | os.PathLike[str]) -> Path:
    """As `Path.absolute`, with an error that says so where the working directory was removed."""
    try:
        return Path(path).absolute()
    except FileNotFoundError as error:
        raise SourceNotFoundError(
            f"the working directory was removed, so the relative path {os.fspath(path)!r} leads nowhere: give an absolute path, "
            "or change to another directory"
        ) from error


def folder_above(path: str | os.PathLike[str]) -> Path:
    above = absolute_path(path).parent
    while not above.is_dir() and above != above.parent:
        above = above.parent
    return above


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise ReadOnlyError if nothing can be made, or replaced, at a path."""
    above = folder_above(path)
    if not os.access(above, os.W_OK | os.X_OK):
        raise ReadOnlyError(
            f"{os.fspath(path)!r} cannot be made: the folder {str(above)!r} cannot be written. Check its permissions, or "
            "write somewhere else"
        )


def check_names(path: str, key: str | None) -> None:
    """Raise InvalidArgumentError for a new array that Windows cannot name so, if this is Windows."""
    if not RESERVES_NAMES or is_url(path):
        return
    parts = [part for part in f"{path}/{key or ''}".split("/") if part not in ("", ".", "..", "?")]
    for part in parts[1:] if _DRIVE.fullmatch(parts[0]) else parts:
        why = reserved_name(part)
        if why is not None:
            raise InvalidArgumentError(f"nothing can be made under the name {part!r}: {why}. Choose another")


def is_url(path: str) -> bool:
    """Whether a path is a URL; `file://` counts as one."""
    return "://" in path and bool(_URL.match(path))


_FIELD = re.compile(r"\{[A-Za-z][^{}/]*\}")


def looks_like_pattern(text: str) -> bool:
    return any(c in text for c in "*?[") or has_fields(text)


def has_fields(text: str) -> bool:
    """Whether a text has fields for numbers, such as `img_{z:04}.tif`."""
    return bool(_FIELD.search(text))


def path_text(path: object) -> str:
    """Return a path as text; InvalidArgumentError for what is not a path."""
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidArgumentError(f"a path is a text that is not empty, got {text!r}")
    if is_url(text):
        try:
            urlsplit(text)
        except ValueError as error:
            raise InvalidArgumentError(f"{text[:200]!r} is not a valid URL: {error}") from error
    return text


def check_key(key: object) -> None:
    """Raise InvalidArgumentError unless a key is None or a text that can name an array."""
    if key is not None and (not isinstance(key, str) or "\0" in key or not is_unicode(key)):
        raise InvalidArgumentError(f"key must be the name of an array in its container, got {key!r}")


def inner_name(name: object, container: str, *, folders: bool = True) -> str:
    """Return a name in a container without slashes around it: the one rule for keys and for names in metadata.

    Raises InvalidArgumentError if it leads out of the container or, with `folders` (Zarr, N5), cannot name a folder.
    """
    parts = name.strip("/").split("/") if isinstance(name, str) else []
    if ".." in parts:
        raise InvalidArgumentError(
            f"the name {name!r} leads out of {container!r}: names in a container hold no '..'"
        )
    why = None
    if not isinstance(name, str):
        why = "it is not a text"
    elif "." in parts or ("" in parts and len(parts) > 1):
        why = "one of its parts is '.' or empty"
    elif "\0" in name or not is_unicode(name):
        why = "it holds a null character or is not Unicode"
    elif folders and "\\" in name:
        why = "it holds a backslash, which some libraries take for '/'"
    elif folders and any(len(part.encode()) > _LONGEST for part in parts):
        why = f"a part of it is longer than {_LONGEST} bytes"
    if why is not None:
        shown = repr(name) if len(repr(name)) <= _LONGEST else f"{repr(name)[:60]}…"
        raise InvalidArgumentError(f"{container!r} cannot hold anything named {shown}: {why}")
    return "/".join(parts)


def is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def url_decoded(text: str) -> str:
    """Decode `%41` to `A` in a part of a URL; what would not be UTF-8 stays, so that it is not another's name."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def url_text(url: str) -> str:
    """Escape '#' and '?' in the URL of an object store: these have no queries, and names may hold both."""
    if url.partition("://")[0].lower() in _WITH_QUERY:
        return url
    return url.replace("#", "%23").replace("?", "%3F")


def local_text(path: str) -> str:
    """Strip `file://` and expand `~` in a path; URLs go through `url_text`."""
    if path.lower().startswith("file://"):
        host, slash, rest = path[len("file://") :].partition("/")
        if host not in ("", "localhost") or not slash:
            raise UnsupportedFormatError(
                f"{path!r} names the host {host!r}: write file:///folder/name with three slashes, or mount that host"
            )
        return forward_slashes(unquote("/" + rest))
    if is_url(path):
        return url_text(path)
    return forward_slashes(os.path.expanduser(path))  # noqa: PTH111 - keeps '//' and trailing text of keys as they are


def natural_key(name: str) -> tuple[object, ...]:
    """Return a sort key that counts numbers as numbers, so that `s2` comes before `s10`."""
    parts = re.split(r"([0-9]+)", name.lower())
    # The name, which tells equal keys apart, must never meet a number of a longer one: "img" and "img1".
    return tuple(int(part) if n % 2 else part for n, part in enumerate(parts)), name


def unknown_options(title: str, unknown: Iterable[str], known: Iterable[str]) -> InvalidArgumentError:
    """Return the error for options that something does not have to be opened with; it says which there are."""
    given, there = dict.fromkeys(unknown, ...), dict.fromkeys(known, ...)
    return InvalidArgumentError(
        f"{title} has no option {', '.join(given)}",
        hints=[
            Hint.of("leave out {}", **given),
            Hint.of("it takes {}", **there) if there else Hint("it takes none"),
        ],
    )
