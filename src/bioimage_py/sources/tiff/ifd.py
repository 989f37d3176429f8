"""The tags of a TIFF's pages in some tens of microseconds each: enough to see which pages are decoded alike.

tifffile takes over a millisecond for a file, with the interpreter lock held. A folder of slices is thousands of files with
the same tags but for where their voxels are; so only the tags that decide how a page is decoded are compared, and tifffile
is asked once for each distinct set of them. Of the further pages of one file tifffile reads only where they are, and takes
them to be encoded like the first; the same comparison finds those that are not.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import tifffile

from bioimage_py.storage import FileBytes, OpenFiles

_HEAD, _PAGE = 4096, 512
"""Bytes that are read at once of a file, and of a page."""
_SIZES = {kind: struct.calcsize(f"={text}") for kind, text in tifffile.TIFF.DATA_FORMATS.items()}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_DECIDE = frozenset(
    {256, 257, 258, 259, 262, 266, 277, 278, 284, 292, 293, 317, 320, 322, 323, 338, 339, *range(512, 522), 529, 530, 531, 532}
    | {28672, 32997, 32998, 33421, 33422, 34892, 42113, 50674, 65007, 65008, 65009}
)  # fmt: skip
"""Tags on which decoding depends: extents, samples, compression and its options, bit order, predictor, tiles, colour, fill value."""
_IN_ITSELF = frozenset({6, 7, 33007, 34892})
"""Compressions (JPEG) of which the segments say how they are decoded, so that no slice stands for another."""
_COUNTED = frozenset({33628, 33629, 33630, 33631, 34361, 34412})
"""Tags of MetaMorph, FluoView and LSM, which hold many planes in one page."""
_OFFSETS, _COUNTS, _JPEG_TABLES, _DESCRIPTION = (273, 324), (279, 325), 347, 270
_ROLES = frozenset({254, 255})
"""NewSubfileType and SubfileType: whether a page is an image, a smaller copy of one, or its mask."""
_WANTED = _DECIDE | _COUNTED | _ROLES | {*_OFFSETS, *_COUNTS, _JPEG_TABLES, _DESCRIPTION}


_UNUSUAL = (struct.error, KeyError, IndexError, ValueError)


class FirstPage(NamedTuple):
    """A page of a file."""

    signature: tuple[object, ...]  # equal for pages that are decoded in the same way
    offsets: tuple[int, ...]  # per segment
    byte_counts: tuple[int, ...]
    jpeg_tables: bytes | None  # tables that the segments share, or None
    role: int = 0  # NewSubfileType: 1 for a smaller copy of another page, 4 for a mask of another page


class PageChain(NamedTuple):
    """Where the pages of a file are, each once, and what the pointer behind the last one says.

    That is 0 in a file that is whole; the place of a page before in a list that loops; else where another page should be, behind
    the end of the file.
    """

    offsets: list[int]
    end: int  # where the pointer behind the last page is
    following: int  # what it says
    pointer_size: int

    @property
    def loops(self) -> bool:
        """Whether the list leads back to one of its own pages."""
        return self.following in self.offsets


def first_page(file: FileBytes) -> FirstPage | None:
    """Read the first page's tags; None if the file is anything out of the ordinary, for tifffile to judge."""
    try:
        return _page(_Tags(file), alone=True)
    except _UNUSUAL:
        return None


class PageReader:
    """Reads tags of any pages of any files."""

    def __init__(self) -> None:
        self._files = OpenFiles()
        self._heads: dict[str, _Tags] = {}
        self._known: dict[tuple[str, int], tuple[object, int] | None] = {}
        self._like: dict[str, tuple[int, int, tuple[object, int]]] = {}

    def get(self, path: str, offset: int) -> FirstPage | None:
        """Read the tags of the page at an offset; None if it is out of the ordinary. The signature is that of the page alone."""
        try:
            return _page(self._tags(path, offset), alone=False)
        except _UNUSUAL:
            return None

    def look(self, path: str, offset: int) -> tuple[object, int] | None:
        """Return signature and role of the page at an offset, read once."""
        if (path, offset) not in self._known:
            try:
                self._known[path, offset] = self._look(path, offset)
            except _UNUSUAL:
                self._known[path, offset] = None
        return self._known[path, offset]

    def _look(self, path: str, offset: int) -> tuple[object, int] | None:
        tags = self._tags(path, offset)
        table = int.from_bytes(tags.table(), "little")
        if path in self._like:
            # Most pages of a file have the same tags, but for where their segments are.
            like, mask, known = self._like[path]
            if (table ^ like) & mask == 0:
                return known
        page = _page(tags, alone=False)
        if page is None:
            return None
        mask = tags.decisive()
        if mask and path not in self._like:
            self._like[path] = table, mask, (page.signature, page.role)
        return page.signature, page.role

    def _tags(self, path: str, offset: int) -> _Tags:
        tags = self._heads.get(path) or self._heads.setdefault(path, _Tags(self._files.get(path)))
        tags.move_to(offset)
        return tags


def walk_chain(file: FileBytes) -> PageChain | None:
    """Follow the list of pages to its end; None if there is no first page."""
    try:
        tags = _Tags(file)
    except _UNUSUAL:
        return None
    seen = {tags.start: None}
    while tags.following and tags.following not in seen:
        here = tags.following
        try:
            tags.move_to(here)
        except _UNUSUAL:
            break
        seen[here] = None
    return PageChain(list(seen), tags.end, tags.following, tags.pointer_size)


def _page(tags: _Tags, *, alone: bool) -> FirstPage | None:
    signature: list[object] = [tags.order]
    if alone:
        # A page that leads to itself is one page, and not like one that leads to another.
        signature += [tags.big, tags.following > 0, tags.following == tags.start]
    numbers: dict[int, tuple[int, ...]] = {}
    jpeg_tables, in_itself = None, False
    for code, kind, count, value in tags.wanted():
        if code in _DECIDE:
            signature.append((code, kind, value))
            if code == 259:
                in_itself = tags.value_of(value) in _IN_ITSELF
        elif code in _COUNTED:
            signature.append((code, count))
        elif code == _DESCRIPTION:
            signature += [_described_pages(value)] if alone else []
        elif code == _JPEG_TABLES:
            jpeg_tables = value
        else:
            numbers[code] = struct.unpack(f"{tags.order}{count}{_INTEGERS[kind]}", value)
    offsets = numbers.get(273, numbers.get(324))
    counts = numbers.get(279, numbers.get(325))
    if not offsets or counts is None or len(offsets) != len(counts) or (in_itself and alone):
        return None
    signature.append((len(offsets), jpeg_tables is not None))
    if in_itself and offsets[0] > 0:
        signature.append(tags.bytes_at(offsets[0] + 6, 4))  # JFIF, which tells the colours
    (role,) = numbers.get(254, (0,))
    (old_role,) = numbers.get(255, (0,))
    return FirstPage(tuple(signature), offsets, counts, jpeg_tables, role or {2: 1, 3: 2}.get(old_role, 0))


class _Tags:
    """The tags of a page, the first one until another is moved to; raises one of `_UNUSUAL` if the file is not as it should be."""

    def __init__(self, file: FileBytes) -> None:
        self._file = file
        self._head = head = file.read(0, min(_HEAD, file.size))
        self._head_at = 0
        self.order = {b"II": "<", b"MM": ">"}[head[:2]]
        self.big = {42: False, 43: True}[struct.unpack_from(self.order + "H", head, 2)[0]]
        count, pointer, self.pointer_size = ("Q", "Q", 8) if self.big else ("H", "I", 4)
        self._count = struct.Struct(self.order + count)
        self._pointer = struct.Struct(self.order + pointer)
        self._entry = struct.Struct(f"{self.order}HH{pointer}{self.pointer_size}s")
        self.start: int = self._pointer.unpack_from(head, self.pointer_size)[0]
        self.move_to(self.start)

    def move_to(self, page: int) -> None:
        """Turn to the page at an offset, and see what follows it."""
        here = page - self._head_at
        if page >= self._file.size:
            raise KeyError(page)
        if here < 0 or here + _PAGE > len(self._head):
            self._head_at, here = page, 0
            self._head = self._file.read(page, min(_PAGE, self._file.size - page))
        (n,) = self._count.unpack_from(self._head, here)
        if n > 4096:
            raise KeyError(n)
        self._table, size = page + self._count.size, n * self._entry.size
        end = self._table + size
        following = self._pointer.unpack(self.bytes_at(end, self.pointer_size))[0]
        self._table_size, self.end, self.following = size, end, int(following)

    def bytes_at(self, offset: int, count: int) -> bytes:
        """Read a part of the file; raises KeyError if it ends before."""
        here = offset - self._head_at
        if here >= 0 and here + count <= len(self._head):
            return self._head[here : here + count]
        if offset + count > self._file.size:
            raise KeyError(offset)
        return self._file.read(offset, count)

    def table(self) -> bytes:
        """Return the page's list of tags as it is in the file."""
        return self.bytes_at(self._table, self._table_size)

    def decisive(self) -> int:
        """Return a mask of the bits of the table that decide how the page is decoded; 0 if other bytes of the file do so too."""
        mask = b""
        for code, kind, count, inline in self._entry.iter_unpack(self.table()):
            if code == _JPEG_TABLES or (code == 259 and self.value_of(inline) in _IN_ITSELF):
                return 0
            decides = code in _WANTED and code not in (*_OFFSETS, *_COUNTS, _DESCRIPTION)
            if decides and count * _SIZES[kind] > self.pointer_size:
                return 0
            mask += b"\xff" * self._entry.size if decides else b"\xff\xff" + bytes(self._entry.size - 2)
        # All bits beyond the table decide too: a page with more tags is another one.
        return int.from_bytes(mask, "little") | -1 << 8 * len(mask)

    def value_of(self, inline: bytes) -> int:
        """Return a value of two bytes."""
        return int(struct.unpack_from(self.order + "H", inline)[0])

    def wanted(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield code, kind, count and bytes of the value of each tag that is wanted."""
        for code, kind, count, inline in self._entry.iter_unpack(self.table()):
            if code not in _WANTED:
                continue
            size = count * _SIZES[kind]
            if size <= self.pointer_size:
                yield code, kind, count, inline[:size]
            else:
                yield code, kind, count, self.bytes_at(self._pointer.unpack(inline)[0], size)


def _described_pages(description: bytes) -> object:
    """Return what in a description can make more of the page than one image: ImageJ's count, tifffile's shape."""
    if description.startswith(b"ImageJ="):
        return tuple(re.findall(rb"(?:images|slices|frames|channels)=\d+", description))
    return description if description.startswith(b'{"shape"') else None
