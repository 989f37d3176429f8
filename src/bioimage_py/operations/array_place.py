"""Where an array is, or will be: the folders on the way to it, for what must not lie in each other and what is made."""

from __future__ import annotations

import posixpath
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from bioimage_py.sources import Location
from bioimage_py.storage import absolute_path, is_url, url_decoded


def first_missing(location: Location) -> Path | None:
    """Return the topmost folder on the way to an array that is not there yet; None if all are, or behind a URL."""
    if is_url(location.path):
        return None
    found = None
    place = absolute_path(Path(location.path, (location.key or "").strip("/")))
    while not place.exists() and place != place.parent:
        found, place = place, place.parent
    return found


def place_parts(path: str, key: str | None) -> tuple[str, ...]:
    """Return where an array is, part by part from the root, links followed."""
    if is_url(path):
        url = urlsplit(path)
        inside = posixpath.normpath(
            posixpath.join("/", url_decoded(url.path).lstrip("/"), (key or "").strip("/"))
        )
        return (url.scheme.lower(), url.netloc.lower(), *PurePosixPath(inside).parts)
    return ("file", "", *absolute_path(Path(path, (key or "").strip("/"))).resolve().parts)
