"""New TIFFs: tifffile writes all pages first, without voxels; tiles are then appended in any order, from any thread.

Where a tile is, the tables of its page say, which are at known places. The voxels of an ImageJ hyperstack are not encoded, and have places from the beginning.
"""

from __future__ import annotations

import itertools
import math
import os
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import imagecodecs
import numpy as np

from bioimage_py.chunks import AnyArray, ArrayInFile, Scratch, write_region
from bioimage_py.errors import (
    ReadOnlyError,
    StorageError,
)
from bioimage_py.geometry import Box
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import Source, StoredSize
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.tiff.array import TiffSource
from bioimage_py.sources.tiff.new_file import (
    SOFTWARE,
    compression_level,
    hyperstack,
    hyperstack_order,
    make_pages,
    warn_of_lost,
)
from bioimage_py.sources.tiff.parsing import parse_tiff
from bioimage_py.storage import FileBytes, UnfinishedFile
from bioimage_py.system import RENAMES_OPEN_FILES

_OFFSETS, _COUNTS, _SUB_PAGES, _MADE_BY = 324, 325, 330, 305
_TYPES = {3: "<u2", 4: "<u4", 13: "<u4", 16: "<u8", 18: "<u8"}
_codecs: Any = imagecodecs


class _Tables(NamedTuple):
    """Where a page says where its tiles are, and how long: positions in the file and numpy types."""

    offsets: int
    offset_type: str
    counts: int
    count_type: str
    n: int


class GrowingTiff:
    """An open TIFF that tiles are appended to, shared by its levels."""

    def __init__(self, path: str, file: FileBytes) -> None:
        self.path = path
        self.file: FileBytes | None = file
        self.is_unfinished = False
        self._is_locked = False
        self._lock = threading.Lock()
        self._end = os.fstat(file.number).st_size
        self._big = file.read(2, 1) == b"+"

    def opened(self) -> FileBytes:
        if self.file is None:
            raise StorageError(f"{self.path!r} was closed; open it again to go on")
        return self.file

    def reopen(self) -> None:
        """Open a file that has got its name; it is locked when it is written again."""
        self.file, self.is_unfinished = FileBytes.open(self.path, "r+"), False

    def append(self, data: AnyArray) -> int:
        """Append bytes, and return where they are; OutputExistsError if somebody else writes the file, StorageError if he has."""
        with self._lock:
            if not (self._is_locked or self.is_unfinished):
                number = self.opened().number
                UnfinishedFile(self.path, replaces=False).lock(number)
                if os.fstat(number).st_size != self._end:
                    raise StorageError(f"{self.path!r} was written since it was opened: open it again")
                self._is_locked = True
            at = self._end + self._end % 2
            end = at + len(data)
            if end >= 2**32 and not self._big:
                raise StorageError(
                    f"{self.path!r} is not a BigTIFF and would have more than 4 GiB: write a new file"
                )
            self._end = end
        self.opened().write(at, data.data)
        return at

    def pages(self) -> tuple[list[list[_Tables]], str]:
        """Return the tables of the pages of each level, full size first, and which program has made the file."""
        file, word, at = self.opened(), "Q" if self._big else "I", 8 if self._big else 4
        (at,) = struct.unpack(f"<{word}", file.read(at, struct.calcsize(word)))
        levels: list[list[_Tables]] = []
        made_by = ""
        while at:
            tags, following = _tags(file, at, self._big)
            if not levels and _MADE_BY in tags:
                _, n, place = tags[_MADE_BY]
                made_by = file.read(place, n).rstrip(b"\0").decode("latin-1")
            below = []
            if _SUB_PAGES in tags:
                kind, n, place = tags[_SUB_PAGES]
                below = np.frombuffer(file.read(place, n * np.dtype(kind).itemsize), kind).tolist()
            for number, found in enumerate([tags, *(_tags(file, one, self._big)[0] for one in below)]):
                if number == len(levels):
                    levels.append([])
                if _OFFSETS in found and _COUNTS in found:
                    (kind, n, place), (count_kind, _, count_place) = found[_OFFSETS], found[_COUNTS]
                    levels[number].append(_Tables(place, kind, count_place, count_kind, n))
            at = following
        return levels, made_by


def _tags(file: FileBytes, at: int, big: bool) -> tuple[dict[int, tuple[str, int, int]], int]:
    """Return the tags of a page, each with type, count and where its values are, and where the next page is."""
    word, size, room = ("Q", 20, 8) if big else ("I", 12, 4)
    head = "<Q" if big else "<H"
    first = at + struct.calcsize(head)
    (n_tags,) = struct.unpack(head, file.read(at, first - at))
    data = file.read(first, n_tags * size + room)
    found = {}
    for begin in range(0, n_tags * size, size):
        code, kind, n = struct.unpack_from(f"<HH{word}", data, begin)
        name = _TYPES.get(kind, "u1")
        place = first + begin + size - room
        if n * np.dtype(name).itemsize > room:
            (place,) = struct.unpack_from(f"<{word}", data, begin + size - room)
        found[code] = name, n, place
    (following,) = struct.unpack_from(f"<{word}", data, n_tags * size)
    return found, following


class WrittenTiff(TiffSource):
    """A level of a TIFF that this package has made, written by the threads of one process.

    A tile that is written again is appended again: the space of the old one is not used any more.
    """

    writable = True
    below: Sequence[WrittenTiff] = ()
    """The smaller levels of a new file, which are finished with the full-size one."""

    def __init__(
        self,
        growing: GrowingTiff,
        path: str,
        place: str,
        level: int,
        spec: ArraySpec | None = None,
        hyperstack_at: int = 0,
    ) -> None:
        super().__init__(path, parse_tiff(place, level=level), missing_planes="fill", cache_bytes=0)
        self._missing_planes = "error"
        self.mode = "r+"
        self.fill_value = 0
        self._growing: GrowingTiff | None = growing
        self._tables: list[_Tables] = []
        self._own = Scratch()
        layout = replace(self._layout, paths=(os.path.abspath(path),))  # noqa: PTH100 - follows no links
        if spec is not None:  # tifffile leaves out axes of one voxel
            split = len(spec.shape) - 2
            inner = tuple(
                None if n == 1 else axis for axis, n in zip((2, 3), spec.shape[split:], strict=True)
            )
            layout = replace(layout, shape=spec.shape, split=split, page_axes=inner)
            self.__dict__["metadata"] = spec.metadata
            self.fill_value = spec.fill_value or 0
        n_pages = math.prod(layout.shape[: layout.split])
        if hyperstack_at and spec is not None:
            order = np.arange(n_pages).reshape([n for _, n in hyperstack(spec)])
            turned = (
                order.transpose(hyperstack_order(spec)).ravel()
                * math.prod(spec.shape[-2:])
                * spec.dtype.itemsize
            )
            layout = replace(layout, raw_offsets=hyperstack_at + turned.astype(np.int64))
        if layout.raw_offsets is not None and layout.kind == "imagej":
            if len(layout.raw_offsets) > 1:
                layout = replace(layout, page_file=np.zeros(n_pages, np.int32))
        else:
            self._tables = growing.pages()[0][level]
            if len(self._tables) != n_pages:
                raise StorageError(
                    f"{path!r} has {len(self._tables)} pages of tiles, its shape {layout.shape} needs {n_pages}"
                )
            file = growing.opened()
            layout = replace(
                layout,
                coding=replace(layout.coding, group=(1, 1)),
                raw_offsets=None,
                offsets=_read_tables(file, [(one.offsets, one.offset_type, one.n) for one in self._tables]),
                byte_counts=_read_tables(file, [(one.counts, one.count_type, one.n) for one in self._tables]),
                page_file=np.zeros(n_pages, np.int32),
            )  # fmt: skip
            layout.offsets[layout.byte_counts == 0] = 0
        self._layout = layout
        self.shape, self.chunks = layout.shape, layout.chunks  # type: ignore[assignment]
        self._encode = _encoder(self.codec, spec)

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        del cache_bytes  # chunks that are kept would be old ones
        return super().for_run(threads, 0)

    def stored_size(self) -> StoredSize:
        return StoredSize(os.fstat(self._descriptor(0).number).st_size, 1)

    def _descriptor(self, number: int) -> FileBytes:
        del number
        return self._opened().opened()

    def _opened(self) -> GrowingTiff:
        growing = self._growing
        if growing is None:
            raise StorageError(f"{self.name} is closed; open it again to go on")
        return growing

    def close(self) -> None:
        super().close()
        self._growing = None

    def _write(self, box: Box, values: AnyArray) -> None:
        if self._layout.raw_offsets is not None:
            self._write_raw(box, cast_values(values, self._layout.coding.file_dtype))
            return
        super()._write(box, values)
        if not self._opened().is_unfinished:
            split = self._layout.split
            for place in itertools.product(*map(range, box.begin[:split], box.end[:split])):
                self._write_tables(self._page_number(place))

    def _write_raw(self, box: Box, values: AnyArray) -> None:
        offsets, split, dtype = self._layout.raw_offsets, self._layout.split, self._layout.coding.file_dtype
        assert offsets is not None
        if len(offsets) == 1:
            in_file = ArrayInFile(int(offsets[0]), self.shape, dtype)
            write_region(self._descriptor(0), in_file, box, np.ascontiguousarray(values))
            return
        inner = Box(box.begin[split:], box.end[split:])
        for place in itertools.product(*map(range, box.shape[:split])):
            page = self._page_number(tuple(b + p for b, p in zip(box.begin, place, strict=False)))
            in_file = ArrayInFile(int(offsets[page]), self.shape[split:], dtype)
            write_region(self._descriptor(0), in_file, inner, np.ascontiguousarray(values[place]))

    def _encode_chunk(self, position: tuple[int, ...], box: Box, values: AnyArray) -> None:
        layout = self._layout
        page = self._page_number(position[: layout.split])
        segment = position[-2] * layout.coding.grid[3] + position[-1]
        self._place(page, segment, self._encoded_tile(values.reshape(box.shape[-2:])))

    def _encoded_tile(self, values: AnyArray) -> AnyArray:
        """Return a tile as it is stored; it stays until the thread encodes the next one."""
        _, *tile = self._layout.coding.segment
        if list(values.shape) != tile or values.dtype != self._layout.coding.file_dtype:
            whole = self._own.array("tile", tuple(tile), self._layout.coding.file_dtype)
            whole[...] = 0
            whole[tuple(map(slice, values.shape))] = values
            values = whole
        return self._encode(values, self._own)

    def _place(self, page: int, segment: int, data: AnyArray) -> None:
        layout, at = self._layout, self._opened().append(data)
        layout.byte_counts[page, segment] = len(data)
        layout.offsets[page, segment] = at

    def _write_tables(self, page: int) -> None:
        layout, tables, file = self._layout, self._tables[page], self._descriptor(0)
        file.write(tables.counts, memoryview(layout.byte_counts[page].astype(tables.count_type).tobytes()))
        file.write(tables.offsets, memoryview(layout.offsets[page].astype(tables.offset_type).tobytes()))

    def complete(self) -> None:
        """Let all tiles that were not written be one that holds the fill value, and write the tables of all pages."""
        missing = self._layout.offsets == 0 if self._tables else np.zeros((0, 0), bool)
        if missing.any():
            _, *tile = self._layout.coding.segment
            data = self._encoded_tile(np.full(tile, self.fill_value, self._layout.coding.file_dtype))
            self._layout.byte_counts[missing] = len(data)
            self._layout.offsets[missing] = self._opened().append(data)
        for page in range(len(self._tables)):
            self._write_tables(page)

    def finish(self) -> None:
        if self.unfinished is not None:
            for level in (self, *self.below):
                level.complete()
        super().finish()

    @contextmanager
    def _renaming(self) -> Iterator[None]:
        if not RENAMES_OPEN_FILES:
            self._opened().file = None
        yield
        self._opened().reopen()


def _read_tables(file: FileBytes, places: Sequence[tuple[int, str, int]]) -> Any:
    rows = [np.frombuffer(file.read(at, n * np.dtype(kind).itemsize), kind) for at, kind, n in places]
    return np.array(rows, np.int64).reshape(len(rows), -1)


def _encoder(codec: str, spec: ArraySpec | None) -> Callable[[AnyArray, Scratch], AnyArray]:
    """Return what encodes a tile; `codec` is the text of `PageCoding`, and a level is known of new files only."""
    name, _, predictor = codec.partition(" + predictor ")
    level = None if spec is None or spec.codec is None else spec.codec.level
    compress: Mapping[str, Any] = {
        "deflate": _codecs.deflate_encode,
        "lzw": _codecs.lzw_encode,
        "zstd": _codecs.zstd_encode,
    }
    options = {} if name in ("", "lzw") else {"level": compression_level(name, level)}

    def encode(tile: AnyArray, own: Scratch) -> AnyArray:
        if predictor:
            out = own.array("differences", tile.shape, tile.dtype)
            tile = (_codecs.delta_encode if predictor == "2" else _codecs.floatpred_encode)(
                tile, axis=-1, out=out
            )
        data = np.ascontiguousarray(tile).reshape(-1).view(np.uint8)
        if not name:
            return data
        # LZW of noise takes half as much again.
        out = own.bytes("encoded", 2 * len(data) + 2**12)
        found: AnyArray = np.frombuffer(compress[name](data, out=out, **options), np.uint8)
        return found

    return encode


def made_file(
    path: str, spec: ArraySpec, coarser: Sequence[ArraySpec], *, overwrite: bool
) -> list[WrittenTiff]:
    """Make a file under its temporary name, and return its levels; it gets its name by `finish` of the first."""
    warn_of_lost(path, spec)
    unfinished = UnfinishedFile(path, replaces=overwrite)
    unfinished.make_free()
    try:
        with unfinished.errors():
            at = make_pages(unfinished.partial, path, spec, [one.shape for one in coarser])
        file = FileBytes.open(unfinished.partial, "r+")
        unfinished.lock(file.number)
        growing = GrowingTiff(path, file)
        levels = []
        for number, mine in enumerate((spec, *coarser)):
            levels.append(WrittenTiff(growing, path, unfinished.partial, number, mine, at))
    except BaseException:
        unfinished.drop()
        raise
    levels[0].unfinished, levels[0].below, growing.is_unfinished = unfinished, levels[1:], True
    return levels


def opened_file(path: str, level: int) -> WrittenTiff:
    """Open a file that was made here for writing; ReadOnlyError for others."""
    file = FileBytes.open(path, "r+")
    if file.size >= 8 and file.read(0, 2) == b"II":
        growing = GrowingTiff(path, file)
        if growing.pages()[1] == SOFTWARE:
            return WrittenTiff(growing, path, path, level)
    raise ReadOnlyError(
        f"TIFF {path!r} was made by another program and can only be read; open it with mode='r' and copy it to write"
    )
