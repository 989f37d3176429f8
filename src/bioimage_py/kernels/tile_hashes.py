"""Digests: hashes of the tiles of an array, what computes those of a block, and where they are kept. docs/digest.md is the specification."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray, Scratch, copy_rows
from bioimage_py.errors import InvalidArgumentError, StorageError, UnsupportedFormatError
from bioimage_py.geometry import Blocking, Box, tile_shape
from bioimage_py.kernels.cells import boxes_of, cells_of, cells_under
from bioimage_py.sources import DIGEST_FILES, Source, digest_is_kept

VERSION = "b3t1"
TILE_BYTES = 32
"""Of the hash of a tile."""
_IN_CACHE = 2**22
"""Bytes of voxels that are read and hashed at once where chunks can be decoded one by one."""
_MOST_KEPT = 2**26
"""Bytes of a buffer that a thread keeps."""
_KEPT, _TILES = DIGEST_FILES
_SCRATCH = Scratch()


def tile_hashes(values: AnyArray) -> bytes:
    """Return the hashes, one behind the other in C order, of the tiles of voxels that begin at a tile."""
    little = values.dtype.newbyteorder("<")
    tiles = _tiles_of(values.shape)
    if values.size and not any(values.strides):
        return b"".join(
            _hash_of_filled(tile.shape, np.asarray(values.flat[0], little).tobytes())
            for tile in map(values.__getitem__, tiles)
        )
    found = (
        _small_tiles(values, little)
        if 0 < values.ndim < 3
        else (_bytes_of(values[tile], little) for tile in tiles)
    )
    from blake3 import blake3  # here and below: not for copies without a digest

    return b"".join([blake3(tile.data).digest() for tile in found])


def _small_tiles(values: AnyArray, little: np.dtype[Any]) -> Iterator[AnyArray]:
    """Yield the bytes of the tiles of an array of one or two axes; a row of tiles is gathered at once, as each of them is small."""
    (side, *_), extent = tile_shape(1), values.shape[-1]
    n_whole = extent // side
    for row in (
        [values] if values.ndim == 1 else (values[at : at + side] for at in range(0, len(values), side))
    ):
        whole = row[..., : n_whole * side].reshape(*row.shape[:-1], n_whole, side)
        own = _SCRATCH.array("tile", (n_whole, *row.shape[:-1], side), little)
        copy_rows(own, np.moveaxis(whole, -2, 0))
        yield from own.reshape(n_whole, math.prod(own.shape[1:])).view(np.uint8)
        if n_whole * side < extent:
            yield _bytes_of(row[..., n_whole * side :], little)


def _bytes_of(tile: AnyArray, little: np.dtype[Any]) -> AnyArray:
    if tile.dtype != little or not tile.flags.c_contiguous:
        own = _SCRATCH.array("tile", tile.shape, little)
        copy_rows(own, tile)
        tile = own
    return tile.reshape(-1).view(np.uint8)


def _tiles_of(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    sides = zip(shape, tile_shape(len(shape)), strict=True)
    return itertools.product(
        *([slice(at, at + side) for at in range(0, extent, side)] for extent, side in sides)
    )


@lru_cache(maxsize=1024)
def _hash_of_filled(shape: tuple[int, ...], value: bytes) -> bytes:
    return bytes(_hashed(value * math.prod(shape)).digest())


def _hashed(data: Any) -> Any:
    from blake3 import blake3

    return blake3(data)


@dataclass(frozen=True)
class TileDigest:
    """The digest of an array: the hashes of its tiles, and the root over these, its shape and its data type."""

    shape: tuple[int, ...]
    dtype: str
    hashes: bytes

    @cached_property
    def root(self) -> str:
        head = f"{VERSION}\n{self.dtype}\n{','.join(map(str, self.shape))}\n"
        return f"{VERSION}:{_hashed(head.encode() + self.hashes).hexdigest()}"

    def differing(self, other: TileDigest) -> tuple[int, tuple[int, ...] | None]:
        """Return how many tiles of two arrays of one shape differ, and where the first of them begins."""
        mine, theirs = (np.frombuffer(one.hashes, "u8").reshape(-1, TILE_BYTES // 8) for one in (self, other))
        differs = (mine != theirs).any(axis=1)
        if not differs.any():
            return 0, None
        begin = Blocking(self.shape, tile_shape(len(self.shape)))[int(differs.argmax())].begin
        return int(differs.sum()), begin

    @property
    def n_tiles(self) -> int:
        return len(self.hashes) // TILE_BYTES

    def store(self, source: Source) -> None:
        """Keep the digest in the side folder of an array; raises InvalidArgumentError where there is none."""
        place = source.side_folder()
        if place is None:
            raise InvalidArgumentError(
                f"no digest can be kept for {source.name}: it has no place of its own on a disk or in a bucket"
            )
        told = {"digest": self.root, "shape": list(self.shape), "dtype": self.dtype}
        place.write(_TILES, self.hashes)
        place.write_json(_KEPT, told)
        digest_is_kept()

    @classmethod
    def kept_root(cls, source: Source) -> str | None:
        """Return the root that is kept for an array, as it stands there; None if there is none, or it cannot be read."""
        place = source.side_folder()
        with suppress(StorageError):
            told = None if place is None else place.read_json(_KEPT)
            return None if told is None else str(told.get("digest"))
        return None

    @classmethod
    def stored(cls, source: Source) -> Self | None:
        """Return the digest that is kept for an array, None if there is none; raises StorageError for a damaged one."""
        place = source.side_folder()
        try:
            told = None if place is None else place.read_json(_KEPT)
        except StorageError as error:
            again = "copy again with digest=True, or remove the file"
            raise StorageError(f"the digest of {source.name} is damaged: {error.message}; {again}") from error
        if place is None or told is None:
            return None
        path, root = f"{place.path}/{_KEPT}", str(told.get("digest"))
        if not root.startswith(f"{VERSION}:"):
            raise UnsupportedFormatError(
                f"{path} holds a digest of another version, {root[:40]!r}: this release knows {VERSION!r}. Use the release that made it, or copy again"
            )
        hashes = place.read(_TILES)
        try:
            found = cls(tuple(map(int, told["shape"])), str(told["dtype"]), hashes or b"")
        except (LookupError, TypeError, ValueError) as error:
            raise StorageError(f"{path} is damaged: shape or dtype is missing") from error
        if found.root != root:
            raise StorageError(
                f"{place.path}/{_TILES} is {'missing' if hashes is None else 'damaged'}: its hashes do not give {root}, the digest in {_KEPT}. "
                "Copy again with digest=True, or remove both files"
            )
        return found


class TileTable:
    """The hashes of an array while they arrive, block by block and from any thread."""

    def __init__(self, source: Source) -> None:
        self.shape, self.dtype = source.shape, source.dtype
        if self.dtype.kind not in "biufc" or self.dtype.name not in _DTYPES:
            raise UnsupportedFormatError(
                f"{VERSION} defines no digest of {self.dtype} voxels ({source.name})"
            )
        grid = cells_of(Box.whole(self.shape), tile_shape(len(self.shape))).shape
        self._hashes: npt.NDArray[np.uint8] = np.zeros((*grid, TILE_BYTES), np.uint8)

    def put(self, box: Box, hashes: bytes) -> None:
        cells = cells_of(box, tile_shape(len(self.shape)))
        self._hashes[cells.slices or ...] = _as_array(hashes, cells)

    def digest(self) -> TileDigest:
        return TileDigest(self.shape, self.dtype.name, self._hashes.tobytes())


_DTYPES = frozenset(
    ["bool", "float16", "float32", "float64", "complex64", "complex128"]
    + [f"{sign}int{8 << n}" for sign in ("", "u") for n in range(4)]
)


class BoxHashes:
    """The hashes of the tiles of a box while parts of it, whole tiles, are at hand."""

    def __init__(self, box: Box) -> None:
        self._tile = tile_shape(box.ndim)
        self._cells = cells_of(box, self._tile)
        self._hashes: npt.NDArray[np.uint8] = np.empty((*self._cells.shape, TILE_BYTES), np.uint8)

    def add(self, area: Box, values: AnyArray) -> None:
        cells = cells_of(area, self._tile)
        self._hashes[cells.relative_to(self._cells.begin).slices or ...] = _as_array(
            tile_hashes(values), cells
        )

    def joined(self) -> bytes:
        return self._hashes.tobytes()


def _as_array(hashes: bytes, cells: Box) -> npt.NDArray[np.uint8]:
    return np.frombuffer(hashes, np.uint8).reshape(*cells.shape, TILE_BYTES)


def areas_in_cache(box: Box, source: Source) -> Iterable[Box]:
    """Return boxes of whole tiles and chunks to read one after the other, where chunks can be decoded one by one; else the box."""
    grid = tuple(map(math.lcm, tile_shape(box.ndim), source.chunks or tile_shape(box.ndim)))
    n_bytes = math.prod(map(min, grid, source.shape)) * source.dtype.itemsize
    return Blocking(source.shape, grid, roi=box) if source.codes_chunks and n_bytes <= _IN_CACHE else (box,)


class TileKernel:
    """Hashes the tiles of blocks of a source. What the source does not store is not read, and hashed once."""

    def __init__(self, source: Source) -> None:
        from bioimage_py.kernels.stored_parts import StoredParts  # not for what looks at a kept digest only

        self.source = source
        self._parts = StoredParts.of(source)
        self._scratch = Scratch()

    def hashes(self, box: Box) -> bytes:
        """Return the hashes of the tiles of a box of whole tiles, in C order."""
        found = BoxHashes(box)
        for area, values in self._areas(box):
            found.add(area, values)
        return found.joined()

    def _areas(self, box: Box) -> Iterator[tuple[Box, AnyArray]]:
        """Yield boxes of whole tiles and their voxels, valid until the next one."""
        source, boxes = self.source, [box]
        if self._parts is not None and (stored := self._parts.within(box)) is not None:
            grid = tuple(map(math.lcm, tile_shape(box.ndim), source.chunks or (1,) * box.ndim))
            cells = cells_under(stored, box, grid)
            boxes = list(boxes_of(cells, box, grid))
            filled = np.asarray(self._parts.fill_value).astype(source.dtype)
            for area in boxes_of(~cells, box, grid):
                yield area, np.broadcast_to(filled, area.shape)
        for whole in boxes:
            for area in areas_in_cache(whole, source):
                n_bytes = area.size * source.dtype.itemsize
                reuses = source.fills_buffers and n_bytes <= _MOST_KEPT
                yield (
                    area,
                    source.read(
                        area, self._scratch.array("tiles", area.shape, source.dtype) if reuses else None
                    ),
                )
