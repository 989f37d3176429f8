"""From a path or URL as a user writes it to the container, the key in it, and the storage family."""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from bioimage_py.errors import InvalidArgumentError, SourceNotFoundError, UnsupportedFormatError
from bioimage_py.sources.registry import OWN_FAMILIES, FamilyEntry, families, family_entry
from bioimage_py.storage import (
    _LONGEST,
    COMPRESSED_SUFFIXES,
    FileBytes,
    check_key,
    first_bytes,
    inner_name,
    is_url,
    local_text,
    path_text,
    url_decoded,
    without_compression,
)

_COMPRESSED = (*COMPRESSED_SUFFIXES, ".zst", ".zip")
_HEAD = 1024
_FIELD = re.compile(r"\{[^{}/]*\}[^/]*$")
"""A number in the name of a slice, such as `{z:04}`."""


class Location(NamedTuple):
    """Where an array is: `path` of the file, folder or container, `key` in it, and the family, if it can be told."""

    path: str
    key: str | None
    family: FamilyEntry | None


def locate(path: str | os.PathLike[str], key: str | None = None) -> Location:
    """Split `"data.n5/raw"` and `"file.h5:/volumes/raw"` into container and key, and name the family by its suffix.

    A key given separately is joined to one in the path. The file system is only asked whether a path is there; where it is
    not, a file on the way to it is asked whether it is a container, so that `"file.nwb:/raw"` is found as well.
    """
    check_key(key)
    text = local_text(path_text(path))
    container, inner = _split_container(text, OWN_FAMILIES)
    if inner is None and family_by_suffix(container) not in OWN_FAMILIES:
        container, inner = _split_container(text, families())
    if is_url(container):
        inner = None if inner is None else url_decoded(inner)
    else:
        _check_length(container)
        if ".." in Path(container).parts:
            # Libraries drop '..' with the name before it, which is wrong where that name is a link.
            container = str(Path(container).resolve())
    family = family_by_suffix(container)
    if family is not None and family.slices and _FIELD.search(container) and not os.path.lexists(container):
        family = next(found for found in OWN_FAMILIES if found.patterns)
    # What a user writes is read as the system reads paths: '//' and '/./' are '/'.
    parts = [part for given in (inner, key) if given for part in given.split("/") if part not in ("", ".")]
    if inner is not None and key is None and ".." in parts and not is_url(text):
        raise InvalidArgumentError(
            f"{text!r} has '..' after {container!r}, which ends as a container of arrays: write {os.path.normpath(text)!r} if that is meant"
        )
    joined = inner_name("/".join(parts), container, folders=family is not None and family.in_folders) or None
    return Location(container, joined, family)


def _check_length(path: str) -> None:
    for part in path.split("/"):
        if len(os.fsencode(part)) > _LONGEST:
            raise InvalidArgumentError(
                f"{part[:60] + '…'!r} in the path has {len(os.fsencode(part))} bytes, and names of files and folders have at most "
                f"{_LONGEST}: choose a shorter one"
            )


def _split_container(text: str, known: Iterable[FamilyEntry]) -> tuple[str, str | None]:
    """Return a path as that of a container of one of the families, and the key in it, None if there is none."""
    if not is_url(text) and os.path.isfile(text):  # noqa: PTH113 - a file is not an array in a folder above it
        return text, None
    suffixes = tuple(suffix for found in known if found.container for suffix in found.suffixes)
    for suffix in suffixes if ":" in text else ():
        match = re.match(rf"^(.*?{re.escape(suffix)}):(?!//)(.*)$", text, re.IGNORECASE | re.DOTALL)
        if match and not os.path.lexists(text):
            return match[1], match[2]
    file = None if is_url(text) or os.path.lexists(text) else _file_above(text)
    if file is not None:
        found = family_by_content(file)
        if found is not None and found.container:
            return file, text[len(file) + 1 :]
    parts = text.rstrip("/").split("/")
    for n in range(1, len(parts)):
        head = "/".join(parts[:n])
        if parts[n - 1].lower().endswith(suffixes) and _is_container(head):
            return head, "/".join(parts[n:])
    return (text.rstrip("/") if len(text) > 1 else text), None


def _file_above(text: str) -> str | None:
    """Return the file that a text begins with, before `":"` or `"/"`; None if there is none."""
    ends = (match.start() for match in re.finditer("[:/]", text))
    return next((text[:n] for n in ends if os.path.isfile(text[:n])), None)  # noqa: PTH113 - a text stays a text


def _is_container(path: str) -> bool:
    """Whether what ends like a container can be one: a folder called `raw.h5` is none."""
    found = family_by_suffix(path)
    if found is None or is_url(path) or not os.path.lexists(path):
        return True
    in_folders = found.in_folders and not path.lower().endswith((".zip", ".ozx"))
    return Path(path).is_dir() if in_folders else Path(path).is_file()


def may_be_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether a path, by its ending or for want of one, could lead to a Zarr; nothing is opened."""
    place = locate(path)
    if place.family is not None:
        return place.family is family_entry("zarr")
    return is_url(place.path) or os.path.isdir(place.path)  # noqa: PTH112 - links and odd names count as for the system


def family_by_suffix(path: str) -> FamilyEntry | None:
    lowered = (urlsplit(path).path if is_url(path) else path).lower().rstrip("/")
    unpacked = without_compression(lowered)
    for found in families():
        if (unpacked if found.zipped else lowered).endswith(found.suffixes) and found.suffixes:
            return found
    return None


def family_by_content(path: str) -> FamilyEntry | None:
    """Return the family whose marker file or leading bytes are found at a local path, that of its ending if several have them, or None."""
    place = Path(path)
    if not place.exists():
        raise SourceNotFoundError(_not_there(place))
    if place.is_dir():
        return next((f for f in families() if any((place / m).is_file() for m in f.markers)), None)
    file = FileBytes.open(path)
    if not file.size:
        return None
    head, compression = first_bytes(file, path, _HEAD)
    found = None
    for f in families():
        if (f.zipped or not compression) and any(head[o : o + len(b)] == b for o, b in f.magic):
            # Several formats are HDF5 files.
            if path.lower().endswith(f.suffixes):
                return f
            found = found or f
    return found


def _not_there(place: Path) -> str:
    parent = place.parent
    if parent.is_file():
        return f"there is no {str(place)!r}: {str(parent)!r} is a file, not a folder, and holds no arrays by name"
    if not parent.exists():
        return f"there is no file or folder {str(place)!r}: its folder {str(parent)!r} does not exist either"
    if place.is_symlink():
        return f"{str(place)!r} is a link to {os.readlink(place)!r}, and nothing is there"  # noqa: PTH115 - as it was written
    with os.scandir(parent) as entries:
        names = [entry.name for entry in itertools.islice(entries, 10_000)]
    near = sorted(n for n in names if n.lower().startswith(place.stem.lower()))
    near += [n for n in difflib.get_close_matches(place.name, names, 5) if n not in near]
    hint = f"; there is {', '.join(near[:5])}" if near else ""
    return f"there is no file or folder {str(place)!r}{hint}"


def unsupported(path: str) -> UnsupportedFormatError:
    if path.lower().endswith(_COMPRESSED):
        zipped = ", ".join(f"{f.title} ({' '.join(COMPRESSED_SUFFIXES)})" for f in families() if f.zipped)
        return UnsupportedFormatError(
            f"{path!r} is compressed as a whole, which is supported for {zipped} only: decompress it first, for example with gunzip, "
            "bunzip2, unxz, unzstd or unzip"
        )
    if os.path.isdir(path):  # noqa: PTH112
        names = sorted(
            entry.name + "/" * entry.is_dir() for entry in itertools.islice(os.scandir(path), 10_000)
        )
        there = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        return UnsupportedFormatError(
            f"folder {path!r} holds neither an array nor slices, but {there or 'nothing'}: name a file or a folder in it, or give a "
            "pattern for slices, such as '*.tif'"
        )
    known = ", ".join(f"{f.title} ({' '.join(f.suffixes)})" for f in families() if f.suffixes)
    return UnsupportedFormatError(
        f"{path!r} is not in a format that can be read: neither its ending nor its content is known. Known: {known}"
    )
