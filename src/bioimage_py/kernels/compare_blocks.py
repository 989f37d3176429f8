"""The kernel of a verification: count the voxels of a block that differ, and find the first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels.casting import differing
from bioimage_py.kernels.cells import boxes_of, cells_under
from bioimage_py.kernels.stored_parts import StoredParts
from bioimage_py.sources import Source


@dataclass(frozen=True)
class Difference:
    """Voxels of a block that differ: how many, where the first is in C order, and what stands there."""

    count: int
    first: tuple[int, ...]
    values: tuple[Any, Any]


@dataclass(frozen=True)
class CompareKernel:
    """Compares two sources of one shape by value; NaN equals NaN. What neither of them stores is not read."""

    a: Source
    b: Source

    def compare(self, box: Box) -> Difference | None:
        found = [one for area in self._stored_areas(box) if (one := self._compare(area)) is not None]
        if not found:
            return None
        first = min(found, key=lambda difference: difference.first)
        return replace(first, count=sum(one.count for one in found))

    def _compare(self, box: Box) -> Difference | None:
        a, b = self.a.read(box), self.b.read(box)
        count, first = 0, None
        for piece in Blocking(box.shape, _slab(box.shape)):
            mine, other = a[piece.view], b[piece.view]
            if mine.dtype == other.dtype and np.array_equal(mine, other):
                continue
            differs = differing(mine, other)
            here = int(np.count_nonzero(differs))
            if here and first is None:
                at = np.unravel_index(int(np.argmax(differs)), differs.shape)
                first = tuple(int(i) + o for i, o in zip(at, piece.begin, strict=True))
            count += here
        if first is None:
            return None
        where = tuple(i + o for i, o in zip(first, box.begin, strict=True))
        return Difference(count, where, (a[first].item(), b[first].item()))

    def _stored_areas(self, box: Box) -> Iterator[Box]:
        """Yield boxes that hold all that one of the sources stores; all of the box where that is not known."""
        stored = [] if self._parts is None else [parts.within(box, most=True) for parts in self._parts]
        if not stored or any(boxes is None for boxes in stored):
            yield box
            return
        grid = tuple(map(math.lcm, self.a.chunks or box.shape, self.b.chunks or box.shape))
        cells = cells_under(itertools.chain(*(boxes or () for boxes in stored)), box, grid)
        yield from boxes_of(cells, box, grid)

    @cached_property
    def _parts(self) -> tuple[StoredParts, StoredParts] | None:
        """What both store, if all other voxels are equal."""
        a = StoredParts.of(self.a)
        b = None if a is None else StoredParts.of(self.b)
        if a is None or b is None or differing(*(np.asarray([parts.fill_value]) for parts in (a, b))).any():
            return None
        return a, b


def _slab(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of neighbours in C order that are compared at once."""
    from bioimage_py.planning import COMPARED_AT_ONCE  # not for the workers of copies, which plan nothing

    slab, room = [], COMPARED_AT_ONCE
    for extent in reversed(shape):
        slab.append(max(1, min(extent, room)))
        room //= max(1, extent)
    return tuple(reversed(slab))
