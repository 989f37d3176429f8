"""The first page of a TIFF in some tens of microseconds: enough to read the next slice like the one before.

tifffile takes over a millisecond for a file, with the interpreter lock held. A folder of slices is thousands of files with
the same tags but for where their voxels are; so only the tags that decide how a page is decoded are compared, and tifffile
is asked once for each distinct set of them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from bioimage_py.sources.file_bytes import FileBytes

__all__ = ["FirstPage", "first_page"]

_HEAD = 4096
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_DECIDE = frozenset(
    {
        256,
        257,
        258,
        259,
        262,
        266,
        277,
        278,
        284,
        292,
        293,
        317,
        320,
        322,
        323,
        338,
        339,
        512,
        513,
        514,
        529,
        530,
        531,
        532,
    }
    | {28672, 32997, 32998, 33421, 33422, 34892, 42113, 50674, 65007, 65008, 65009}
)
"""Tags on which decoding depends: extents, samples, compression and its options, predictor, tiles, colour, fill value."""
_IN_ITSELF = frozenset({6, 7, 33007, 34892})
"""Compressions (JPEG) of which the segments say how they are decoded, so that no page stands for another."""
_COUNTED = frozenset({33628, 33629, 33630, 33631, 34361, 34412})
"""Tags of MetaMorph, FluoView and LSM, which hold many planes in one page."""
_OFFSETS, _COUNTS, _JPEG_TABLES, _DESCRIPTION = (273, 324), (279, 325), 347, 270
_WANTED = _DECIDE | _COUNTED | {*_OFFSETS, *_COUNTS, _JPEG_TABLES, _DESCRIPTION}


class FirstPage(NamedTuple):
    """The first page of a file.

    Attributes
    ----------
    signature
        Equal for pages that are decoded in the same way.
    offsets, byte_counts
        Per segment.
    jpeg_tables
        Tables that the segments share, or None.
    """

    signature: tuple[object, ...]
    offsets: tuple[int, ...]
    byte_counts: tuple[int, ...]
    jpeg_tables: bytes | None


def first_page(file: FileBytes) -> FirstPage | None:
    """Read the first page's tags; None if the file is anything out of the ordinary, for tifffile to judge."""
    try:
        return _first_page(file)
    except (struct.error, KeyError, IndexError):
        return None


def _first_page(file: FileBytes) -> FirstPage | None:
    tags = _Tags(file)
    signature: list[object] = [tags.order, tags.big, tags.further_pages]
    segments: dict[int, tuple[int, ...]] = {}
    jpeg_tables = None
    for code, kind, count, value in tags:
        if code in _DECIDE:
            signature.append((code, kind, value))
            if (
                code == 259
                and int.from_bytes(value[:2], "little" if tags.order == "<" else "big") in _IN_ITSELF
            ):
                return None
        elif code in _COUNTED:
            signature.append((code, count))
        elif code == _DESCRIPTION:
            signature.append(_described_pages(value))
        elif code == _JPEG_TABLES:
            jpeg_tables = value
        else:
            segments[code] = struct.unpack(f"{tags.order}{count}{_INTEGERS[kind]}", value)
    offsets = segments.get(273, segments.get(324))
    counts = segments.get(279, segments.get(325))
    if offsets is None or counts is None or len(offsets) != len(counts):
        return None
    signature.append((len(offsets), jpeg_tables is not None))
    return FirstPage(tuple(signature), offsets, counts, jpeg_tables)


class _Tags:
    """The wanted tags of the first page, as (code, kind, count, bytes of the value).

    Raises
    ------
    struct.error, KeyError
        If the file is not as it should be.
    """

    def __init__(self, file: FileBytes) -> None:
        self._file = file
        self._head = head = file.read(0, min(_HEAD, file.size))
        self.order = {b"II": "<", b"MM": ">"}[head[:2]]
        self.big = {42: False, 43: True}[struct.unpack_from(self.order + "H", head, 2)[0]]
        self._offset = self.order + ("Q" if self.big else "I")
        self._entry, self._inline = (20, 8) if self.big else (12, 4)
        start = struct.unpack_from(self._offset, head, self._inline)[0]
        size = 8 if self.big else 2
        self._n = struct.unpack(self.order + ("Q" if self.big else "H"), self._at(start, size))[0]
        if self._n > 4096:
            raise KeyError(self._n)
        self._table = self._at(start + size, self._n * self._entry + self._inline)
        self.further_pages = struct.unpack_from(self._offset, self._table, self._n * self._entry)[0] > 0

    def _at(self, offset: int, count: int) -> bytes:
        if offset + count <= len(self._head):
            return self._head[offset : offset + count]
        if offset + count > self._file.size:
            raise KeyError(offset)
        return self._file.read(offset, count)

    def __iter__(self) -> Iterator[tuple[int, int, int, bytes]]:
        table, header = self._table, struct.Struct(self._offset.replace(self.order, self.order + "HH"))
        for place in range(0, self._n * self._entry, self._entry):
            code, kind, count = header.unpack_from(table, place)
            if code not in _WANTED:
                continue
            size = count * _SIZES[kind]
            at = place + self._entry - self._inline
            if size > self._inline:
                yield code, kind, count, self._at(struct.unpack_from(self._offset, table, at)[0], size)
            else:
                yield code, kind, count, table[at : at + size]


def _described_pages(description: bytes) -> object:
    """Return what in a description can make more of the page than one image: ImageJ's count, tifffile's shape."""
    if description.startswith(b"ImageJ="):
        return tuple(re.findall(rb"(?:images|slices|frames|channels)=\d+", description))
    return description if description.startswith(b'{"shape"') else None
