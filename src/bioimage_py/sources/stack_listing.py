"""Which files of a folder are slices, and in which order."""

from __future__ import annotations

import fnmatch
import os
from collections import Counter

from bioimage_py.errors import SourceNotFoundError, StorageError
from bioimage_py.sources.natural_order import natural_key

__all__ = ["list_slices"]


def list_slices(folder: str, pattern: str) -> list[str]:
    """Return the names of the files in a folder that match a pattern, in natural order.

    Upper and lower case count as equal, folders below are not searched, and files whose name begins with a dot are
    left out as in a shell.

    Raises
    ------
    SourceNotFoundError
        If there is no such folder, or nothing in it matches; the message says what is there instead.
    """
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_file()]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceNotFoundError(f"there is no folder {folder!r} to look for {pattern!r} in") from error
    except PermissionError as error:
        raise StorageError(
            f"folder {folder!r} may not be read: {error.strerror}; ask its owner for access"
        ) from error
    visible = [n for n in names if not n.startswith(".") or pattern.startswith(".")]
    matching = [n for n in visible if fnmatch.fnmatchcase(n.lower(), pattern.lower())]
    if not matching:
        endings = Counter(os.path.splitext(n)[1] or "(none)" for n in visible)  # noqa: PTH122
        there = ", ".join(f"{n} x {ending}" for ending, n in endings.most_common(6)) or "no files"
        raise SourceNotFoundError(f"no file in folder {folder!r} matches {pattern!r}; there are: {there}")
    return sorted(matching, key=natural_key)
