"""Write units of a block that is copied without being decoded: which are done, and when to begin no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import perf_counter

from bioimage_py.geometry import Blocking, Box, IdSet
from bioimage_py.kernels.cells import cells_of

_Position = tuple[int, ...]

_MOST_CELLS = 4096

_RUN_BYTES = 2**26
_RUN_SECONDS = 1.0
"""Chunks are recorded when so many encoded bytes, or seconds, have come together: one by one would cost more than small chunks do."""

ALONE = _RUN_BYTES
"""The size of a unit that is recorded as soon as it is finished."""


@dataclass(frozen=True)
class BlockUnits:
    """The write units of a block, by their numbers in it in C order: those done by earlier attempts, and what records more."""

    done: IdSet = field(default_factory=IdSet)
    record: Callable[[IdSet], None] | None = None  # called when the units are in the store
    stopping: Callable[[], bool] = lambda: False  # whether no further unit is to be begun


class UnitsOfBox:
    """The write units of a box that one thread works, by their positions in the grid of units.

    A unit that is never finished, as no chunk is stored in it, is looked at again by the next attempt.
    """

    def __init__(self, shape: tuple[int, ...], unit: tuple[int, ...], box: Box, known: BlockUnits) -> None:
        self._blocking, self._cells, self._known = Blocking(shape, unit, roi=box), cells_of(box, unit), known
        self.stopped = False
        self._finished: list[tuple[int, int]] = []
        self._fresh: list[_Position] = []
        self._bytes, self._since = 0, perf_counter()

    @property
    def n_voxels(self) -> int:
        """Voxels of the units that were worked by this attempt."""
        if self.stopped:
            return self._size(IdSet(self._finished) - self._known.done)
        return self._blocking.roi.size - self._size(self._known.done)

    def slabs(self, weight: int = 1) -> Iterator[Box]:
        """Yield parts of the box whose units are to be worked, until it is time to stop."""
        for cells in slabs(self._cells, weight):
            if self._known.done and len(self._done_in(cells)) == cells.size:
                continue
            if self._stops():
                return
            yield cells

    def done_in(self, cells: Box) -> set[_Position]:
        """Return which units of a slab were done by earlier attempts."""
        return {self._position(number) for number in self._done_in(cells)} if self._known.done else set()

    def left(self, positions: Iterable[_Position], done: set[_Position]) -> Iterator[_Position]:
        """Yield positions, without those that are done, until it is time to stop."""
        for position in positions:
            if position in done:
                continue
            if self._stops():
                return
            yield position

    def finish(self, position: _Position, n_bytes: int) -> None:
        """Take note that a unit of so many encoded bytes is in the store."""
        if self._known.record is None:
            return
        self._fresh.append(position)
        self._bytes += n_bytes
        if self._bytes >= _RUN_BYTES or perf_counter() - self._since > _RUN_SECONDS:
            self.flush()

    def finish_slab(self, cells: Box) -> None:
        """Take note that nothing is left to do in a slab, unless it was left because of a stop."""
        if self.stopped or self._known.record is None:
            return
        self._fresh.clear()
        if cells.end != self._cells.end:
            first = self._number(cells.begin)
            self._record(IdSet([(first, first + cells.size)]))
        # Else the block is recorded next.

    def flush(self) -> None:
        """Record what is finished and was not recorded yet."""
        if self._fresh:
            numbers = IdSet.from_ids(map(self._number, self._fresh))
            self._fresh.clear()
            self._record(numbers)

    def _record(self, numbers: IdSet) -> None:
        assert self._known.record is not None
        self._finished += numbers.runs
        self._known.record(numbers)
        self._bytes, self._since = 0, perf_counter()

    def _stops(self) -> bool:
        self.stopped = self.stopped or self._known.stopping()
        return self.stopped

    def _done_in(self, cells: Box) -> IdSet:
        # A slab is one run of numbers.
        first = self._number(cells.begin)
        return self._known.done & IdSet([(first, first + cells.size)])

    def _number(self, position: _Position) -> int:
        begin = self._cells.begin
        return self._blocking.block_id(tuple(p - b for p, b in zip(position, begin, strict=True)))

    def _position(self, number: int) -> _Position:
        inside = self._blocking.position(number)
        return tuple(p + b for p, b in zip(inside, self._cells.begin, strict=True))

    def _size(self, numbers: IdSet) -> int:
        return sum(self._blocking[number].size for number in numbers)


def slabs(cells: Box, weight: int = 1) -> Iterator[Box]:
    """Yield parts of a box, in C order, that hold few enough cells of a weight to be listed in memory."""
    for axis, (begin, end) in enumerate(zip(*cells, strict=True)):
        if end - begin > 1 and cells.size * weight > _MOST_CELLS:
            middle = (begin + end) // 2
            upper = (*cells.end[:axis], middle, *cells.end[axis + 1 :])
            lower = (*cells.begin[:axis], middle, *cells.begin[axis + 1 :])
            yield from slabs(Box(cells.begin, upper), weight)
            yield from slabs(Box(lower, cells.end), weight)
            return
    yield cells
