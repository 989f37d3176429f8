"""Digests: hashes of the tiles of an array, what computes those of a block, and where they are kept. docs/digest.md is the specification."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError, StorageError, UnsupportedFormatError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels.cells import boxes_of, cells_of, cells_under
from bioimage_py.kernels.copy_blocks import ReadBuffers
from bioimage_py.kernels.stored_parts import StoredParts
from bioimage_py.sources import DIGEST_FILES, Source, digest_is_kept

VERSION = "b3t1"
_SIDE = 64
_BYTES = 32
_IN_CACHE = 2**22
"""Voxels that are read and hashed at once where chunks can be decoded one by one."""
_KEPT, _TILES = DIGEST_FILES


def tile_shape(ndim: int) -> tuple[int, ...]:
    return (1,) * max(0, ndim - 3) + (_SIDE,) * min(3, ndim)


def tile_hashes(values: AnyArray) -> bytes:
    """Return the hashes, one behind the other in C order, of the tiles of voxels that begin at a tile."""
    little = values.dtype.newbyteorder("<")
    tiles = _tiles_of(values.shape)
    if values.size and not any(values.strides):
        return b"".join(
            _hash_of_filled(tile.shape, np.asarray(values.flat[0], little).tobytes())
            for tile in map(values.__getitem__, tiles)
        )
    return b"".join(
        _hashed(np.ascontiguousarray(values[tile], little).reshape(-1).view(np.uint8)).digest()
        for tile in tiles
    )


def _tiles_of(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    sides = zip(shape, tile_shape(len(shape)), strict=True)
    return itertools.product(
        *([slice(at, at + side) for at in range(0, extent, side)] for extent, side in sides)
    )


@lru_cache(maxsize=1024)
def _hash_of_filled(shape: tuple[int, ...], value: bytes) -> bytes:
    return bytes(_hashed(value * math.prod(shape)).digest())


def _hashed(data: Any) -> Any:
    from blake3 import blake3  # not for copies without a digest

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
        mine, theirs = (np.frombuffer(one.hashes, "u8").reshape(-1, _BYTES // 8) for one in (self, other))
        differs = (mine != theirs).any(axis=1)
        if not differs.any():
            return 0, None
        begin = Blocking(self.shape, tile_shape(len(self.shape)))[int(differs.argmax())].begin
        return int(differs.sum()), begin

    @property
    def n_tiles(self) -> int:
        return len(self.hashes) // _BYTES

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
    def stored(cls, source: Source) -> Self | None:
        """Return the digest that is kept for an array, None if there is none; raises StorageError for a damaged one."""
        place = source.side_folder()
        told = None if place is None else place.read_json(_KEPT)
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
        self._hashes: npt.NDArray[np.uint8] = np.zeros((*grid, _BYTES), np.uint8)

    @property
    def nbytes(self) -> int:
        return self._hashes.nbytes

    def put(self, box: Box, hashes: bytes) -> None:
        cells = cells_of(box, tile_shape(len(self.shape)))
        self._hashes[cells.slices or ...] = np.frombuffer(hashes, np.uint8).reshape(*cells.shape, _BYTES)

    def digest(self) -> TileDigest:
        return TileDigest(self.shape, self.dtype.name, self._hashes.tobytes())


_DTYPES = frozenset(
    ["bool", "float16", "float32", "float64", "complex64", "complex128"]
    + [f"{sign}int{8 << n}" for sign in ("", "u") for n in range(4)]
)


@dataclass(frozen=True)
class TileKernel:
    """Hashes the tiles of blocks of a source. What the source does not store is not read, and hashed once."""

    source: Source
    _buffers: ReadBuffers = field(default_factory=ReadBuffers, compare=False, repr=False)

    def hashes(self, box: Box) -> bytes:
        """Return the hashes of the tiles of a box of whole tiles, in C order."""
        tile = tile_shape(box.ndim)
        first = cells_of(box, tile)
        found = np.empty((*first.shape, _BYTES), np.uint8)
        for area, values in self._areas(box):
            cells = cells_of(area, tile)
            found[cells.relative_to(first.begin).slices or ...] = np.frombuffer(
                tile_hashes(values), np.uint8
            ).reshape(*cells.shape, _BYTES)
        return found.tobytes()

    def _areas(self, box: Box) -> Iterator[tuple[Box, AnyArray]]:
        """Yield boxes of whole tiles and their voxels, valid until the next one."""
        source, tile = self.source, tile_shape(box.ndim)
        chunks = source.chunks or tile
        grid = tuple(map(math.lcm, tile, chunks))
        stored = None if self._parts is None else self._parts.within(box)
        if stored is None:
            boxes: list[Box] = [box]
        else:
            cells = cells_under(stored, box, grid)
            boxes = list(boxes_of(cells, box, grid))
            filled = np.asarray(self._parts.fill_value).astype(source.dtype)  # type: ignore[union-attr]
            for area in boxes_of(~cells, box, grid):
                yield area, np.broadcast_to(filled, area.shape)
        inside = math.prod(map(min, grid, source.shape)) * source.dtype.itemsize
        apart = source.codes_chunks and inside <= _IN_CACHE
        for whole in boxes:
            for area in Blocking(source.shape, grid, roi=whole) if apart else (whole,):
                buffer = self._buffers.for_read(source, area)
                yield area, source.read(area, buffer)

    @cached_property
    def _parts(self) -> StoredParts | None:
        return StoredParts.of(self.source)
