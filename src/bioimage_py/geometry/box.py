"""Half-open boxes of voxels, the integers that everything else is built from."""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class Box(NamedTuple):
    """A half-open region of an array: voxels `begin[d] <= i < end[d]` on each axis d."""

    begin: tuple[int, ...]
    end: tuple[int, ...]

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> Box:
        """Return the box that covers an array of this shape."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def ndim(self) -> int:
        return len(self.begin)

    @property
    def text(self) -> str:
        """What messages call it: `[0:4, 8:16]`, as numpy would index it."""
        return f"[{', '.join(f'{b}:{e}' for b, e in zip(self.begin, self.end, strict=True))}]"

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent per axis; 0 where the box is empty."""
        return tuple([e - b if e > b else 0 for b, e in zip(self.begin, self.end, strict=True)])

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(b, e) for b, e in zip(self.begin, self.end, strict=True))

    @property
    def view(self) -> tuple[Any, ...]:
        """The box as an index that gives a view, never a scalar, of an array without axes too."""
        return (*self.slices, ...)

    def is_empty(self) -> bool:
        return any(e <= b for b, e in zip(self.begin, self.end, strict=True))

    def intersect(self, other: Box) -> Box:
        """Return the voxels in both boxes; empty where they do not meet."""
        begin = tuple(map(max, self.begin, other.begin))
        return Box(begin, tuple(max(b, e) for b, e in zip(begin, map(min, self.end, other.end), strict=True)))

    def contains(self, other: Box) -> bool:
        """Whether every voxel of `other` is in this box."""
        return other.is_empty() or (
            all(a <= b for a, b in zip(self.begin, other.begin, strict=True))
            and all(a >= b for a, b in zip(self.end, other.end, strict=True))
        )

    def shift(self, offset: tuple[int, ...]) -> Box:
        """Return the box moved by `offset` voxels."""
        return Box(
            tuple(b + o for b, o in zip(self.begin, offset, strict=True)),
            tuple(e + o for e, o in zip(self.end, offset, strict=True)),
        )

    def relative_to(self, origin: tuple[int, ...]) -> Box:
        """Return the box in coordinates that start at `origin`."""
        return self.shift(tuple(-o for o in origin))

    def with_axis(self, axis: int, begin: int, end: int) -> Box:
        """Return the box with other ends along an axis."""
        return Box(
            (*self.begin[:axis], begin, *self.begin[axis + 1 :]),
            (*self.end[:axis], end, *self.end[axis + 1 :]),
        )

    def with_new_axis(self, axis: int, begin: int, end: int) -> Box:
        """Return the box with one more axis, which becomes number `axis`."""
        return Box((*self.begin[:axis], begin, *self.begin[axis:]), (*self.end[:axis], end, *self.end[axis:]))

    def grow(self, halo: tuple[int, ...], within: tuple[int, ...]) -> Box:
        """Return the box with `halo` voxels added on both sides, cut at an array of shape `within`."""
        return Box(
            tuple(max(0, b - h) for b, h in zip(self.begin, halo, strict=True)),
            tuple(min(n, e + h) for e, h, n in zip(self.end, halo, within, strict=True)),
        )

    def snap(self, grid: tuple[int, ...], within: tuple[int, ...]) -> Box:
        """Return the smallest box of whole grid cells around this one, cut at an array of shape `within`."""
        return Box(
            tuple(b // g * g for b, g in zip(self.begin, grid, strict=True)),
            tuple(min(n, -(-e // g) * g) for e, g, n in zip(self.end, grid, within, strict=True)),
        )
