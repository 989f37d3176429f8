"""Which stored array a source leads to, so that two names for one array are seen to be one."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bioimage_py.sources.base import AnyArray, Source
from bioimage_py.sources.location import is_url

__all__ = ["Identity", "file_identity", "leaves", "same_voxels"]

Identity = tuple[Any, ...]


def file_identity(path: str, key: str | None = None, *, key_is_folder: bool = False) -> Identity:
    """Return a token that is equal for every path that leads to one stored array.

    Parameters
    ----------
    path
        File, folder or URL.
    key
        Name of the array in the container.
    key_is_folder
        Whether the key is a folder below the path, as in Zarr and N5; then the folder's own identity is taken.
    """
    if is_url(path):
        parts = urlsplit(path)
        whole = posixpath.normpath(posixpath.join(parts.path or "/", key or "")) if key_is_folder else parts.path
        return ("url", parts.scheme.lower(), parts.netloc.lower(), whole, None if key_is_folder else key)
    place = Path(path, key) if key and key_is_folder else Path(path)
    rest = None if key_is_folder else key
    try:
        found = place.stat()
    except OSError:
        return ("path", str(place.absolute()), rest)
    return ("file", found.st_dev, found.st_ino, rest)


def leaves(source: Source) -> Iterator[Source]:
    """Yield the sources that a source reads from in the end: the inputs of wrappers, all the way down."""
    inputs: tuple[Source, ...] = getattr(source, "inputs", ())
    if not inputs:
        yield source
    for inner in inputs:
        yield from leaves(inner)


def same_voxels(a: Source, b: Source) -> bool:
    """Whether reading `a` and writing `b` can meet in one stored voxel, or in one byte of memory."""
    for one, other in itertools.product(leaves(a), leaves(b)):
        if one is other or one.identities() & other.identities():
            return True
        arrays = [getattr(leaf, "array", None) for leaf in (one, other)]
        if all(isinstance(array, np.ndarray) for array in arrays) and _share_memory(*arrays):
            return True
    return False


def _share_memory(a: AnyArray, b: AnyArray) -> bool:
    try:
        return np.shares_memory(a, b, max_work=10_000)
    except np.exceptions.TooHardError:
        return True
