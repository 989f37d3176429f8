"""What the file of a chunk or shard is called: its key below the array's folder, from its position in the grid."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.storage.file_bytes import file_error

_LIKE_A_CHUNK = re.compile(r"(c[./]?)?\d+([./]\d+)*(\.(gz|br|zstd?|bz2|xz|lz4|blosc|bin|raw|dat))?")
_MOST_NAMES, _MOST_ENTRIES = 64, 4096


@dataclass(frozen=True)
class ChunkKeys:
    """What the files of a grid are called, such as `c/1/2`."""

    prefix: str  # what every key begins with: `"c"` in the default of Zarr v3
    separator: str  # `"/"` or `"."`
    fastest_first: bool  # whether the last axis comes first, as in N5
    grid: tuple[int, ...]  # number of files per axis

    def key(self, position: tuple[int, ...]) -> str:
        named = self.separator.join(map(str, position[::-1] if self.fastest_first else position))
        if not self.prefix:
            return named or "0"
        return f"{self.prefix}{self.separator}{named}" if named else self.prefix

    def position(self, key: str) -> tuple[int, ...] | None:
        parts = key.split(self.separator)
        if self.prefix:
            if parts[0] != self.prefix:
                return None
            del parts[0]
        if len(parts) != len(self.grid) or not all(
            part.isdecimal() and part == str(int(part)) for part in parts
        ):
            return None
        found = tuple(map(int, parts))
        return found[::-1] if self.fastest_first else found

    def candidates(self, folder: str, cells: Box) -> Iterator[tuple[int, ...]]:
        """Yield the positions in a box of the grid at which there may be a file, in the order of their keys.

        Folders are listed where the names allow it, so that a grid with few files is not asked for each one.
        """
        if self.separator != "/" or not self.grid or cells.is_empty():
            yield from itertools.product(*map(range, *cells))
            return
        axes = tuple(range(len(self.grid)))
        top = os.path.join(folder, self.prefix) if self.prefix else folder  # noqa: PTH118 - a text stays a text
        if self.fastest_first:
            yield from (found[::-1] for found in self._below(top, cells, axes[::-1], ()))
        else:
            yield from self._below(top, cells, axes, ())

    def _below(
        self, folder: str, cells: Box, axes: tuple[int, ...], known: tuple[int, ...]
    ) -> Iterator[tuple[int, ...]]:
        axis, deeper = axes[0], axes[1:]
        begin, end = cells.begin[axis], cells.end[axis]
        numbers: range | list[int] = range(begin, end)
        if 4 * len(numbers) >= self.grid[axis]:
            # Otherwise most of a listing would be of no use.
            try:
                names = os.listdir(folder)  # noqa: PTH208 - a text stays a text
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError as error:
                raise file_error(error, f"listing {folder!r}") from error
            numbers = sorted(n for n in (int(name) for name in names if name.isdecimal()) if begin <= n < end)
        if not deeper:
            yield from ((*known, number) for number in numbers)
            return
        for number in numbers:
            yield from self._below(f"{folder}/{number}", cells, deeper, (*known, number))


def names_like(pattern: re.Pattern[str], folder: str) -> Iterator[str]:
    """Yield the names of files below a folder that match, in no order, as far as a short look finds them.

    Only folders whose names begin as a match of chunks does are looked into.
    """
    left = _MOST_ENTRIES
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(f"{folder}/{below}") as entries:
                for entry in itertools.islice(entries, left):
                    left -= 1
                    name = below + entry.name
                    if entry.is_dir():
                        if entry.name == "c" or entry.name.isdecimal():
                            waiting.append(f"{name}/")
                    elif pattern.fullmatch(name):
                        yield name
        except OSError:
            continue  # whoever reads the chunks says so


def keys_in_use(
    keys: ChunkKeys,
    others: Sequence[ChunkKeys],
    folder: str | None,
    is_there: Callable[[str], bool] | None = None,
) -> ChunkKeys:
    """Return what the files of an array are called: as its metadata say, or else the one of `others` that fits all names found.

    Behind a URL and in a zip file (`folder` is None) `is_there` is asked for a few objects. Raises StorageError if there are files that look
    like chunks and no known naming fits them.
    """
    if 0 in keys.grid:
        return keys
    if not keys.grid and folder is not None:
        # The only file of an array without axes has too short a name to look like a chunk's.
        files = [name for name in ("c", "0") if Path(folder, name).is_file()]
        is_there = files.__contains__
    if folder is None or not keys.grid:
        places = {(0,) * len(keys.grid), tuple(n // 2 for n in keys.grid)}
        for each in (keys, *others):
            if is_there is None or any(is_there(each.key(at)) for at in sorted(places)):
                return each
        return keys
    found: list[str] = []
    for name in names_like(_LIKE_A_CHUNK, folder):
        if keys.position(name) is not None:
            return keys
        found.append(name)
        if len(found) == _MOST_NAMES:
            break
    fitting = [each for each in others if all(each.position(name) is not None for name in found)]
    if found and len(fitting) != 1:
        raise unused_chunks(folder, found, keys.key(tuple(n - 1 for n in keys.grid)))
    return fitting[0] if found else keys


def unused_chunks(folder: str, found: Sequence[str], expected: str) -> StorageError:
    """Return the error for files that look like chunks but are not named as the metadata say."""
    some = ", ".join(sorted(found)[:3])
    return StorageError(
        f"{folder} holds files that look like chunks ({some}), but none is called as its metadata say (such as {expected}), so that "
        "all voxels would read as the fill value. Correct the metadata, or rename the files"
    )
