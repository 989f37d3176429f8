"""What is stored of an array: each chunk is decoded, and those that are not stored are told apart."""

from __future__ import annotations

import bisect
import itertools
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bioimage_py.chunks import (
    ChunkCodec,
    ChunkEncoding,
    EncodedReader,
    PayloadCheck,
    Scratch,
    ShardedChunks,
    StoredChunks,
    number_in,
    read_n5_header,
)
from bioimage_py.errors import Hint, InvalidArgumentError, StorageError, UnsupportedFormatError
from bioimage_py.geometry import Blocking, Box, IdSet, tile_shape
from bioimage_py.kernels import TILE_BYTES, TileDigest, TileKernel, cells_of, differing
from bioimage_py.operations.options import RunOptions
from bioimage_py.planning import default_memory_limit, format_bytes
from bioimage_py.runner import BlockJournal
from bioimage_py.runner.work import Work
from bioimage_py.sources import FileSource, Source, encoded_reader, family_of, stored_chunks
from bioimage_py.storage import ChunkKeys, StoredBytes

_PIECE_BYTES = 2**24
_WHOLE_OBJECT = 2**26
_MOST_HOLES = 1_000
_FEW = 0.01
_NEAR = 4
_COMPARED = 16


@dataclass(frozen=True)
class Finding:
    """One thing that a check has found.

    Attributes
    ----------
    kind
        `"corrupt"`, `"missing"`, `"not stored"`, `"unreadable"`, `"foreign"`, `"unfinished"`, `"metadata"`, `"consolidated"`, `"scale"` or
        `"not checked"`.
    array
        Key, below the path that was checked, of the array, group or image; empty for the path itself.
    chunk
        Position of the chunk in the grid of chunks, for a whole shard that of its first one; None for what is not about a chunk.
    path
        The file, object or folder.
    text
        What is wrong.
    """

    kind: str
    array: str
    chunk: tuple[int, ...] | None
    path: str
    text: str

    def __str__(self) -> str:
        where = self.array if self.chunk is None else f"{self.array} chunk {self.chunk}".strip()
        return f"{self.kind}: {where}{': ' if where else ''}{self.text} ({self.path})"


class ArrayCheck:
    """The stored chunks of an array, looked at one write unit after the other, from any thread."""

    def __init__(
        self, key: str, source: Source, names: Iterable[str] | None = None, unfinished: str = ""
    ) -> None:
        """Take the names of all files in the folder of the chunks; None where they cannot be listed."""
        self.key, self.source, self.unfinished = key, source, unfinished
        self._encoding: ChunkEncoding | None = None
        self._reader: EncodedReader | None = None
        if isinstance(found := stored_chunks(source), StoredChunks):
            self._encoding, self._reader, self._keys = (
                found.encoding,
                encoded_reader(source, found),
                found.keys,
            )
        else:
            self._keys = (
                family_of(source.kind).chunk_names(source) if isinstance(source, FileSource) else None
            )
        self._codec = None if self._encoding is None else ChunkCodec.of(self._encoding)
        self._payload = PayloadCheck(() if self._encoding is None else self._encoding.codecs)
        self._scratch, self._lock = Scratch(), threading.Lock()
        self.chunks, self.unit = self._extents()
        self.blocking = Blocking(source.shape, self.unit)
        self.n_chunks = math.prod(-(-n // c) for n, c in zip(source.shape, self.chunks, strict=True))
        self.stored: IdSet | None = None  # units
        self.others: list[str] = []  # files that are no chunks
        if self._keys is not None and names is not None:
            self.stored = self._sorted_out(self._keys, names)
        self.looked_at = IdSet()
        self.is_whole = False  # whether all that is not stored is known to be fill value
        self.findings: list[Finding] = []
        self.right = self.wrong = self._lost = 0
        self.doubtful: set[int] = set()  # units of tiles that differ, of which some may be right
        self._absent: list[int] = []  # units that were looked for in vain
        self.tiles = self._kept_digest()

    def _extents(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the extents of a chunk, and of what is written together."""
        if self._encoding is not None:
            return self._encoding.chunks, self._encoding.shards or self._encoding.chunks
        if self.source.chunks is not None:
            return self.source.chunks, self.source.chunks
        piece, left = [1] * self.source.ndim, max(1, _PIECE_BYTES // self.source.dtype.itemsize)
        for axis in reversed(range(self.source.ndim)):
            piece[axis] = max(1, min(self.source.shape[axis], left))
            left = max(1, left // piece[axis])
        return tuple(piece), tuple(piece)

    def _sorted_out(self, keys: ChunkKeys, names: Iterable[str]) -> IdSet:
        numbers = []
        for name in names:
            at = keys.position(name) if keys.grid else () if name == keys.key(()) else None
            if at is not None and all(p < n for p, n in zip(at, keys.grid, strict=True)):
                numbers.append(number_in(keys.grid, at))
            else:
                self.others.append(name)
        return IdSet.from_ids(numbers)

    @property
    def bytes_at_once(self) -> int:
        """What a thread holds: a chunk encoded, decoded here, and decoded by a library; the voxels that are hashed."""
        hashed = 0 if self.tiles is None else math.prod(self.tiles.unit)
        return (3 * math.prod(self.chunks) + hashed) * self.source.dtype.itemsize

    def _kept_digest(self) -> TilesCheck | None:
        try:
            kept = TileDigest.stored(self.source)
            return None if kept is None else TilesCheck(self.source, self.chunks, kept)
        except (StorageError, UnsupportedFormatError) as error:
            kind = "metadata" if isinstance(error, StorageError) else "not checked"
            self.findings.append(Finding(kind, self.key, None, self.source.name, error.message))
            return None

    def choose(self, share: float) -> IdSet:
        """Return the numbers of the units to look at: all that may be stored, or a share of them."""
        every = IdSet.from_range(self.blocking.n_blocks) if self.stored is None else self.stored
        self.looked_at = _share_of(every, share)
        return self.looked_at

    def look(self, number: int) -> int:
        """Decode what is stored in a unit and keep what is found; return the bytes of its voxels."""
        box = self.blocking[number]
        cells = cells_of(box, self.chunks)
        if isinstance(self._reader, ShardedChunks):
            stored = self._look_in_shard(self._reader, self.blocking.position(number), cells)
        else:
            stored = self._look_at(cells.begin)
        if not stored:
            with self._lock:
                self._absent.append(number)
        return box.size * self.source.dtype.itemsize if stored else 0

    def _look_in_shard(self, reader: ShardedChunks, position: tuple[int, ...], cells: Box) -> bool:
        try:
            if reader.remote and math.prod(self.unit) * self.source.dtype.itemsize > _WHOLE_OBJECT:
                reader.piece(cells.begin)
            elif reader.shard(position) is None:
                return False
            for at in itertools.product(*map(range, *cells)):
                self._look_at(at)
        except StorageError as error:
            last = tuple(e - 1 for e in cells.end)
            text = f"the shard of the chunks up to {last} cannot be read: {error.message}"
            self._tell(_kind_of(error), cells.begin, text, cells.size)
        finally:
            reader.forget(position)
        return True

    def _look_at(self, at: tuple[int, ...]) -> bool:
        """Decode a chunk; False if it is not stored."""
        kind = "corrupt"
        try:
            piece = None if self._reader is None else self._reader.piece(at)
            if piece is None and self._reader is not None:
                return False
            why = self._why_not(at, None if piece is None else piece.read())
        except StorageError as error:
            why, kind = error.message, _kind_of(error)
        if why:
            self._tell(kind, at, why, 1)
        else:
            with self._lock:
                self.right += 1
        return True

    def _why_not(self, at: tuple[int, ...], data: bytes | None) -> str:
        """Return why a chunk does not decode to just its voxels; empty if it does. Without encoded bytes it is read as voxels."""
        encoding = self._encoding
        if data is not None and encoding is not None and self._reader is not None:
            if self._codec is not None:
                target = self._scratch.array("chunk", encoding.chunks, self._codec.dtype)
                if self._codec.decode(np.frombuffer(data, np.uint8), target):
                    return ""
            if self._reader.movable(at):
                stored, n_bytes = StoredBytes(None, 0, len(data), data), encoding.chunk_bytes
                if encoding.wrapping == "n5":
                    extents = read_n5_header(stored) or ()
                    if extents not in (encoding.chunks, self._box(at).shape):
                        return f"its header says {extents} voxels where {encoding.chunks} are expected"
                    stored, n_bytes = (
                        stored.part(4 + 4 * len(extents), stored.length),
                        math.prod(extents) * encoding.itemsize,
                    )
                try:
                    self._payload.check(stored, n_bytes)
                except StorageError as error:
                    return error.message
        try:
            self.source.read(self._box(at))
        except StorageError as error:
            return error.message
        return ""

    def _box(self, at: tuple[int, ...]) -> Box:
        begin = tuple(a * c for a, c in zip(at, self.chunks, strict=True))
        end = tuple(b + c for b, c in zip(begin, self.chunks, strict=True))
        return Box(begin, end).intersect(Box.whole(self.source.shape))

    def _tell(self, kind: str, at: tuple[int, ...], text: str, n_chunks: int) -> None:
        path = self.source.name if self._reader is None else self._reader.path(at)
        if self._reader is None and self._keys is not None:
            path = f"{path}/{self._keys.key(at)}"
        with self._lock:
            self.wrong += n_chunks if kind in ("corrupt", "unreadable") else 0
            self.findings.append(Finding(kind, self.key, at, path, text))

    # -- what is not stored

    def counts(self) -> dict[str, int]:
        """Look for what is missing, and return how many chunks are what; the last step of a check."""
        absent = self._not_stored()
        missing, holes = self._differing(absent), list[int]()
        # A digest leaves no doubt.
        in_doubt = not (self.unfinished or self.is_whole)
        if self._keys is not None and in_doubt and not (self.tiles and self.tiles.is_complete):
            missing, holes = self._holes(absent)
        self._lost = len(holes)
        self.findings.sort(key=lambda finding: finding.chunk or ())
        every = IdSet.from_range(self.blocking.n_blocks)
        found = {
            "right": self.right,
            "corrupt": self.wrong,
            "missing": self._n_chunks(missing),
            "not stored": self._n_chunks(holes),
            "not looked at": self._n_chunks(every - self.looked_at - absent),
        }
        return {**found, "empty": self.n_chunks - sum(found.values())}

    def _not_stored(self) -> IdSet:
        absent = IdSet.from_ids(self._absent)
        return (
            absent
            if self.stored is None
            else absent | (IdSet.from_range(self.blocking.n_blocks) - self.stored)
        )

    def _n_chunks(self, units: Iterable[int]) -> int:
        if self.unit == self.chunks:
            return len(units) if isinstance(units, Sequence) else sum(1 for _ in units)
        return sum(cells_of(self.blocking[number], self.chunks).size for number in units)

    def _differing(self, absent: IdSet) -> list[int]:
        """Tell of chunks that decode to other voxels than those of the digest; return the units of these that are not stored."""
        told = {finding.chunk for finding in self.findings}
        missing: dict[int, str] = {}
        for tile in self.tiles.differing if self.tiles else ():
            chunks = list(itertools.product(*map(range, *cells_of(tile, self.chunks))))
            among = (
                "its voxels"
                if len(chunks) == 1
                else f"voxels of the tile from {tile.begin} on, in which it lies,"
            )
            text = f"{among} are not those of the digest that is kept"
            units = set(map(self._unit_of, chunks))
            lost = {number for number in units if number in absent}
            self.doubtful |= units if len(chunks) > 1 else set()
            if not self.unfinished:
                missing |= dict.fromkeys(lost, f"not stored, and {text}")
            if not lost and told.isdisjoint(chunks):
                for at in chunks:
                    self._tell("corrupt", at, text, 1)
                    self.right -= 1
                told.update(chunks)
        for number, text in missing.items():
            self._tell("missing", cells_of(self.blocking[number], self.chunks).begin, text, 0)
        return list(missing)

    def _unit_of(self, at: tuple[int, ...]) -> int:
        position = (a * c // u for a, c, u in zip(at, self.chunks, self.unit, strict=True))
        return self.blocking.block_id(tuple(position))

    @property
    def is_empty(self) -> bool:
        """Whether it has chunks, and none is stored."""
        return 0 < self.blocking.n_blocks == len(self._not_stored())

    # -- what a repair writes again

    def damaged(self) -> IdSet:
        """Return the units that are corrupt, missing or perhaps missing; of an unfinished array also those never written."""
        broken = (f.chunk for f in self.findings if f.chunk is not None and f.kind != "unreadable")
        known = IdSet.from_ids([*map(self._unit_of, broken), *self.doubtful])
        return known | self._not_stored() if self.unfinished or self._lost > _MOST_HOLES else known

    def some_right(self, damaged: IdSet) -> tuple[Box, ...]:
        """Return a few chunks, the first ones of units that are right."""
        right = self.looked_at - damaged - self._not_stored()
        ranks = {(len(right) - 1) * n // (_COMPARED - 1) for n in range(_COMPARED)} if right else set()
        return tuple(
            self._box(cells_of(self.blocking[right[rank]], self.chunks).begin) for rank in sorted(ranks)
        )

    def _holes(self, absent: IdSet) -> tuple[list[int], list[int]]:
        """Tell, and return, the units that are lost, and those that may be: most others are stored, and most around them."""
        missing: list[int] = []
        holes: list[int] = []
        if 2 * len(absent) > self.blocking.n_blocks:
            return missing, holes
        for number in absent:
            sides = list(self._sides(number, absent))
            planes = [plane for plane in sides if plane is not None]
            if 2 * len(planes) <= len(sides):
                continue
            box = self.blocking[number]
            if len(sides) == 1 and not planes[0].grow((1,) * box.ndim, self.source.shape).intersect(box).size:
                continue
            # What is at the end of a row may just not have been written yet, and a corner may belong to a region that was left out.
            enclosed = len(planes) == len(sides) > 1
            why = self._why_lost(planes) if enclosed and len(holes) < _MOST_HOLES else ""
            (missing if why else holes).append(number)
            at = cells_of(self.blocking[number], self.chunks).begin
            if why:
                self._tell("missing", at, why, 0)
            elif len(holes) <= _MOST_HOLES:
                self._tell("not stored", at, "its neighbours are stored: it is all fill value, or lost", 0)
        return missing, holes

    def _sides(self, number: int, absent: IdSet) -> Iterator[Box | None]:
        """Yield, for each side on which a unit has others, the voxels of the nearest one that is stored, at the face towards it; else None.

        Only the next few are looked at.
        """
        position, box = self.blocking.position(number), self.blocking[number]
        for axis, (p, n) in enumerate(zip(position, self.blocking.grid_shape, strict=True)):
            for side in (range(p - 1, max(-1, p - 1 - _NEAR), -1), range(p + 1, min(n, p + 1 + _NEAR))):
                if not side:
                    continue
                ids = (
                    (near, self.blocking.block_id((*position[:axis], near, *position[axis + 1 :])))
                    for near in side
                )
                found = next((near for near, number in ids if number not in absent), None)
                if found is None:
                    yield None
                else:
                    at = (found + 1) * self.unit[axis] - 1 if found < p else found * self.unit[axis]
                    yield box.with_axis(axis, at, at + 1)

    def _why_lost(self, planes: list[Box]) -> str:
        """Return why a unit that is not stored cannot be one of fill values only; empty if it can."""
        source, around = self.source, "not stored, though chunks around it are"
        if source.stores_fill:
            return f"{around}: {source.format} stores all chunks"
        always_zero = isinstance(source, FileSource) and family_of(source.kind).only_zero_fill
        if not always_zero and not getattr(source, "names_fill_value", True):
            return f"{around}, and its metadata name no fill value to read instead"
        n_voxels = n_fill = 0
        for plane in planes:
            try:
                values = source.read(plane)
            except StorageError:
                continue  # that chunk is told of by itself
            n_voxels += values.size
            n_fill += values.size - int(
                np.count_nonzero(differing(values, np.full_like(values, source.fill_value)))
            )
        if not n_voxels or n_fill > _FEW * n_voxels:
            return ""
        return f"{around}, with hardly a voxel of the fill value {source.fill_value} beside it"


def _kind_of(error: StorageError) -> str:
    """Return whether bytes that were read are wrong, or none could be read."""
    return "corrupt" if error.errno is None and error.__cause__ is None else "unreadable"


def _share_of(every: IdSet, share: float) -> IdSet:
    """Return a share of numbers, always the same ones: in steps of the golden ratio, evenly spread and in step with no grid."""
    if share == 1 or not every:
        return every
    ranks = {int(len(every) * (n * 0.6180339887498949 % 1)) for n in range(max(1, round(share * len(every))))}
    return IdSet.from_ids(every[rank] for rank in sorted(ranks))


class TilesCheck:
    """The voxels of an array held against the digest that is kept for it, in blocks of whole tiles."""

    def __init__(self, source: Source, chunks: tuple[int, ...], kept: TileDigest) -> None:
        if (kept.shape, kept.dtype) != (source.shape, source.dtype.name):
            raise StorageError(f"the digest that is kept for it is of {kept.dtype} of shape {kept.shape}")
        self.source, self._tiles = source, Blocking(source.shape, tile_shape(source.ndim))
        extents = zip(chunks, source.shape, self._tiles.block_shape, strict=True)
        self.unit = tuple(max(1, -(-min(c, n) // t)) * t for c, n, t in extents)
        self.blocking = Blocking(source.shape, self.unit)
        self._hashes = np.frombuffer(kept.hashes, np.uint64).reshape(*self._tiles.grid_shape, TILE_BYTES // 8)
        self._kernel = TileKernel(source)
        self.differing: list[Box] = []  # tiles
        self.is_complete = False

    def choose(self, share: float) -> IdSet:
        self.is_complete = share == 1
        return _share_of(IdSet.from_range(self.blocking.n_blocks), share)

    def look(self, number: int) -> int:
        box = self.blocking[number]
        cells = cells_of(box, self._tiles.block_shape)
        try:
            found = np.frombuffer(self._kernel.hashes(box), np.uint64).reshape(*cells.shape, -1)
        except StorageError:
            return 0  # the chunk that does not decode is told of
        here: Any = (*cells.slices, ...)
        for inside in np.argwhere((found != self._hashes[here]).any(axis=-1)):
            at = tuple(int(b + i) for b, i in zip(cells.begin, inside, strict=True))
            self.differing.append(self._tiles.block_at(at))
        return box.size * self.source.dtype.itemsize


class CheckWork(Work):
    """Looks at units of several arrays, numbered one array after the other."""

    outputs = ()
    how_to_finish = Hint("nothing was written: check again")

    def __init__(self, arrays: Sequence[ArrayCheck], share: float) -> None:
        self._arrays = [one for array in arrays for one in (array, array.tiles) if one is not None]
        self._begins = [0]
        for array in self._arrays:
            self._begins.append(self._begins[-1] + array.blocking.n_blocks)
        chosen = [(array, array.choose(share)) for array in self._arrays]
        self._ids = IdSet.union(
            ids.shifted(begin) for (_, ids), begin in zip(chosen, self._begins, strict=False)
        )
        self.n_bytes = sum(len(ids) * math.prod(a.unit) * a.source.dtype.itemsize for a, ids in chosen)

    @property
    def block_ids(self) -> IdSet:
        return self._ids

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        number = bisect.bisect_right(self._begins, blocks[0]) - 1
        journal.done(blocks, self._arrays[number].look(blocks[0] - self._begins[number]))


def threads_for(n_bytes: int, what: str, options: RunOptions) -> int:
    """Return how many threads that hold so many bytes each keep to the memory limit; InvalidArgumentError if none does."""
    limit = options.memory_bytes or default_memory_limit()
    if n_bytes > limit:
        raise InvalidArgumentError(
            f"{what} takes {format_bytes(n_bytes)} of memory, and the limit is {format_bytes(limit)}: give a higher memory_limit"
        )
    return min(options.num_workers, limit // max(1, n_bytes))
