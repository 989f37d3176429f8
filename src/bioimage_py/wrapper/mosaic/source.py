"""Tiles at positions as one volume: only what a region needs is read."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box, as_integer
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import FileSource, Source, StoredSize
from bioimage_py.wrapper.arguments import checked_number, checked_sources, holds, rounded
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.mosaic.tile import OpenTiles, Tile, tiles_of
from bioimage_py.wrapper.spec import register_wrapper
from bioimage_py.wrapper.tiling import largest_part, parts_of

OVERLAPS = ("first", "last", "max", "mean", "linear")
_MIXING = 40
"""Bytes for each voxel that mixing tiles holds, besides those of up to four tiles."""
_Part = tuple[int, Box]
"""Number of a tile, and the part of a region that it covers."""


@register_wrapper("mosaic")
class MosaicSource(WrapperSource):
    """Tiles at given positions as one volume; nothing is registered, positions are taken as they are.

    A region reads the tiles that it meets, and of stored tiles few are open at once. The volume begins at the least position along each
    axis; its origin in the metadata is there.

    Parameters
    ----------
    tiles
        Sources, arrays, handles or paths, all of the same number of axes and dtype.
    positions
        One per tile: the position of its first voxel along each axis, in voxels, negative ones included. It may have more entries than a tile has
        axes: a tile is then one plane along the first of them.
    overlap
        What is read where tiles overlap: the voxel of the `"first"` or the `"last"` tile in their order, the `"max"`, the `"mean"`, or the
        mean with weights that fall linearly to the edges of the tiles, `"linear"`. Means are rounded half to even into integers.
    fill_value
        What is read where there is no tile; the dtype must hold it.
    label
        What the mosaic is called in messages. Default: the first tile.

    Raises
    ------
    InvalidArgumentError
        If the tiles differ in number of axes, dtype, voxel size or names of axes, a position is missing or is not of integers, or tiles of
        complex numbers are to be compared.

    Examples
    --------
    >>> left, right = np.array([[1, 2, 3]]), np.array([[5, 6, 7]])
    >>> MosaicSource([left, right], [(0, 0), (0, 2)])[...].tolist()
    [[1, 2, 3, 6, 7]]
    >>> MosaicSource([left, right], [(0, 0), (1, 4)], fill_value=9)[...].tolist()
    [[1, 2, 3, 9, 9, 9, 9], [9, 9, 9, 9, 5, 6, 7]]
    """

    reads_others = False  # the time of putting tiles together counts as reading
    fills_buffers = True

    def __init__(
        self, tiles: Any, positions: Any, overlap: str = "first", fill_value: Any = 0, label: str = ""
    ) -> None:
        self.arrange(checked_sources(tiles, MosaicSource), positions, overlap, fill_value, label)
        with self.closing_on_error():
            first = self.inputs[0]
            for tile in self.inputs[1:]:
                _check_alike(first, tile)

    @classmethod
    def from_parameters(cls, inputs: Sequence[Source], parameters: Mapping[str, Any]) -> Self:
        # The tiles were compared when it was made.
        made = cls.__new__(cls)
        made.arrange(inputs, **parameters)
        return made

    def arrange(
        self, tiles: Sequence[Any], positions: Any, overlap: str, fill_value: Any, label: str
    ) -> None:
        if overlap not in OVERLAPS:
            raise InvalidArgumentError(f"overlap must be one of {', '.join(OVERLAPS)}, got {overlap!r}")
        super().__init__(*tiles_of(tiles))
        self.owned += tuple(one for one, given in zip(self.inputs, tiles, strict=True) if isinstance(one, Tile) and one is not given)  # fmt: skip
        self.opened_by(OpenTiles())
        self.overlap, self.label, self.fill_value = overlap, label, checked_number(fill_value, "fill_value")
        with self.closing_on_error():
            self.positions = _checked_positions(positions, self.inputs)
            ndim = len(self.positions[0])
            self._lead = ndim - self.inputs[0].ndim
            for tile in self.inputs:
                _check_same(self.inputs[0], tile, "axes", self.inputs[0].ndim, tile.ndim)
                _check_same(self.inputs[0], tile, "dtype", self.dtype, tile.dtype.newbyteorder("="))
            if not holds(self.dtype, self.fill_value):
                raise InvalidArgumentError(
                    f"fill_value {fill_value!r} does not fit the dtype {self.dtype} of the tiles"
                )
            if overlap == "max":
                self._refuse_complex("greatest one")
        places = np.array(self.positions, np.int64)
        extents = np.array([(*(1,) * self._lead, *tile.shape) for tile in self.inputs], np.int64)
        self._low = tuple(places.min(axis=0).tolist())
        self._begins = places - places.min(axis=0)
        self._ends = self._begins + extents
        self._shifted = [n for n in range(ndim) if np.ptp(self._begins[:, n]) or np.ptp(extents[:, n])]
        self.shape = tuple(self._ends.max(axis=0).tolist())
        self._most = tuple(extents.max(axis=0).tolist())
        chunks = [(*(1,) * self._lead, *tile.chunks) for tile in self.inputs if tile.chunks is not None]
        self.chunks = tuple(np.array(chunks).max(axis=0).tolist()) if chunks else None
        self.format = f"mosaic of {len(self.inputs)} {self.inputs[0].format} tiles, overlap {overlap}"
        self.codec = self.inputs[0].codec

    def opened_by(self, tiles: OpenTiles) -> None:
        self.open_tiles = tiles
        twins = {
            id(one): one.opened_by(tiles, n) for n, one in enumerate(self.inputs) if isinstance(one, Tile)
        }
        self.inputs = tuple(twins.get(id(one), one) for one in self.inputs)

    @property
    def name(self) -> str:
        return self.label or f"mosaic of {len(self.inputs)} tiles from {self.inputs[0].name}"

    @property
    def metadata(self) -> ImageMetadata:
        first = self.inputs[0].metadata.fitting(self.inputs[0].ndim)
        axes = first.axes
        found = replace(
            first.with_axes_selected((*(None,) * self._lead, *range(self.inputs[0].ndim))), origin=None
        )
        if axes is not None and self._lead:
            found = replace(found, axes=("z", *axes) if self._lead == 1 and "z" not in axes else None)
        return found.shifted(self._low)

    def stored_size(self) -> StoredSize | None:
        if not all(isinstance(one, FileSource) and os.path.isfile(one.path) for one in self.inputs):  # noqa: PTH113
            return None
        paths = {one.path for one in self.inputs if isinstance(one, FileSource)}
        return StoredSize(sum(os.path.getsize(path) for path in paths), len(paths))  # noqa: PTH202

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        twin = super().for_run(threads, cache_bytes)
        if twin is self and any(isinstance(one, Tile) for one in self.inputs):
            twin = copy.copy(self)
            twin.owned = ()
        if isinstance(twin, MosaicSource) and twin is not self:
            twin.opened_by(OpenTiles(self.open_tiles, threads, cache_bytes))
        return twin

    def close(self) -> None:
        """Close the tiles that were opened here."""
        super().close()
        self.open_tiles.close()

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        for tile in self.inputs:
            yield tuple(map(min, zip(shape[self._lead :], tile.shape, strict=True)))

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        region = tuple(map(min, zip(shape, self._most, strict=True)))
        tile = self.inputs[0]
        inside = tuple(map(min, zip(region[self._lead :], tile.shape, strict=True)))
        held: int = math.prod(region) * self.dtype.itemsize + tile.scratch_bytes(inside)
        if self.overlap in ("first", "last"):
            return held
        return held + self._held(Box.whole(largest_part(shape, None, self._held)))

    def _held(self, box: Box) -> int:
        return box.size * (_MIXING + 4 * self.dtype.itemsize)

    def _read(self, box: Box) -> AnyArray:
        return self._read_into(box, None)

    def _read_into(self, box: Box, buffer: AnyArray | None) -> AnyArray:
        parts = self._parts(box)
        if self.overlap in ("first", "last") or not _overlaps(parts):
            return self._painted(box, parts, buffer)
        out = np.empty(box.shape, self.dtype) if buffer is None else buffer
        for part in parts_of(box, None, self._held):
            self._mix(part, out[part.relative_to(box.begin).view])
        return out

    def _parts(self, box: Box) -> list[_Part]:
        """Return what each tile that meets a region covers of it, in the order of the tiles."""
        met = np.flatnonzero(((self._begins < box.end) & (self._ends > box.begin)).all(axis=1)).tolist()
        ends = ((tuple(self._begins[n].tolist()), tuple(self._ends[n].tolist())) for n in met)
        return [(n, box.intersect(Box(*both))) for n, both in zip(met, ends, strict=True)]

    def _inner(self, number: int, part: Box) -> Box:
        inner = part.relative_to(tuple(self._begins[number].tolist()))
        return Box(inner.begin[self._lead :], inner.end[self._lead :])

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        yield from ((n, self._inner(n, part)) for n, part in self._parts(box))

    def _tile(self, number: int, part: Box, buffer: AnyArray | None = None) -> AnyArray:
        box, source = self._inner(number, part), self.inputs[number]
        flat = None if buffer is None or buffer.dtype != source.dtype else buffer.reshape(box.shape)
        return np.asarray(source.read(box, flat), self.dtype).reshape(part.shape)

    def _painted(self, box: Box, parts: list[_Part], buffer: AnyArray | None) -> AnyArray:
        """Return a region in which a tile is over those that come after it, or before it for "last"."""
        seen: list[_Part] = []
        for n, part in parts if self.overlap != "last" else reversed(parts):
            if not any(over.contains(part) for _, over in seen):
                seen.append((n, part))
        if len(seen) == 1 and seen[0][1] == box:
            return self._tile(*seen[0], buffer)
        out = np.empty(box.shape, self.dtype) if buffer is None else buffer
        if not _cover(box, parts):
            out[...] = self.fill_value
        for n, part in reversed(seen):
            out[part.relative_to(box.begin).view] = self._tile(n, part)
        return out

    def _mix(self, box: Box, out: AnyArray) -> None:
        """Put the voxels of a region into an array: those of single tiles as they are, and mixed where tiles overlap."""
        parts = self._parts(box)
        values = [self._tile(n, part) for n, part in parts]
        if not _cover(box, parts):
            out[...] = self.fill_value
        for (_, part), found in zip(parts, values, strict=True):
            out[part.relative_to(box.begin).view] = found
        for place in _overlaps(parts):
            target = out[place.relative_to(box.begin).view]
            total = np.zeros(place.shape, complex if self.dtype.kind == "c" else float)
            weights = np.zeros(place.shape)
            for (n, part), found in zip(parts, values, strict=True):
                inside = part.intersect(place)
                if inside.is_empty():
                    continue
                here, view = found[inside.relative_to(part.begin).view], inside.relative_to(place.begin).view
                if self.overlap == "max":
                    np.maximum(target[view], here, out=target[view])
                else:
                    weight = self._weight(n, inside)
                    total[view] += weight * here
                    weights[view] += weight
            if self.overlap != "max":
                target[...] = rounded(total / weights, self.dtype)

    def _weight(self, number: int, part: Box) -> AnyArray:
        """Return the weight of a tile's voxels: one, or the distance from its edges along the axes on which tiles differ."""
        weight = np.ones((1,) * self.ndim)
        for axis in self._shifted if self.overlap == "linear" else ():
            begin, end = int(self._begins[number, axis]), int(self._ends[number, axis])
            place = np.arange(part.begin[axis], part.end[axis])
            distance = np.minimum(place - begin, end - 1 - place) + 0.5
            weight = weight * distance.reshape(tuple(-1 if n == axis else 1 for n in range(self.ndim)))
        return weight


def _overlaps(parts: Sequence[_Part]) -> set[Box]:
    """Return where two parts of a region are in the same place."""
    boxes = [part for _, part in parts]
    found = {one.intersect(other) for n, one in enumerate(boxes) for other in boxes[:n]}
    return {box for box in found if not box.is_empty()}


def _cover(box: Box, parts: Sequence[_Part]) -> bool:
    """Whether parts of a region cover all of it."""
    boxes = [part for _, part in parts]
    cuts = [sorted({*ends, *(part[side][axis] for part in boxes for side in (0, 1))}) for axis, ends in enumerate(zip(*box, strict=True))]  # fmt: skip
    seen = np.zeros([len(cut) - 1 for cut in cuts], bool)
    for part in boxes:
        ends = zip(cuts, *part, strict=True)
        seen[tuple(slice(cut.index(begin), cut.index(end)) for cut, begin, end in ends)] = True
    return bool(seen.all())


def _checked_positions(positions: Any, tiles: Sequence[Source]) -> list[tuple[int, ...]]:
    try:
        given = [tuple(map(as_integer, one)) for one in positions]
    except TypeError:
        given = []
    if len(given) != len(tiles) or len({len(one) for one in given}) != 1 or any(None in one for one in given):
        raise InvalidArgumentError(
            f"positions must be one for each of the {len(tiles)} tiles, with an integer for each axis, got {str(positions)[:80]}"
        )
    found = [tuple(n for n in one if n is not None) for one in given]
    if len(found[0]) < tiles[0].ndim or any(abs(n) >= 2**48 for one in found for n in one):
        raise InvalidArgumentError(
            f"a position must have an integer below 2**48 for each of the {tiles[0].ndim} axes of {tiles[0].name}, got {found[0]}"
        )
    return found


def _check_same(first: Source, tile: Source, what: str, one: Any, other: Any) -> None:
    if one != other:
        raise InvalidArgumentError(
            f"the tiles of a mosaic must have the same {what}: {first.name} has {one}, and {tile.name} has {other}"
        )


def _check_alike(first: Source, tile: Source) -> None:
    """Raise InvalidArgumentError where two tiles state other names of axes or voxel sizes."""
    one, other = (source.metadata.fitting(source.ndim) for source in (first, tile))
    if one.voxel_size is not None and other.voxel_size is not None and one.units == other.units and np.allclose(one.voxel_size, other.voxel_size, 1e-6, 0):  # fmt: skip
        other = replace(other, voxel_size=one.voxel_size)
    _check_same(first, tile, "names of axes", one.axes, other.axes)
    _check_same(first, tile, "voxel size", (one.voxel_size, one.units), (other.voxel_size, other.units))
