"""Sets of block ids as runs of consecutive numbers: a billion ids in a few bytes when contiguous.

numpy is imported where many ids are at hand at once: a worker has few, and begins before numpy would have been imported.
"""

from __future__ import annotations

import operator
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from bioimage_py.errors import Hint, InvalidArgumentError

if TYPE_CHECKING:
    import numpy.typing as npt

_MANY = 1000
_LIMIT = 2**63 - 1
"""The most ids that a set can have: `len` gives no more."""


class IdSet(Sequence[int]):
    """An immutable, sorted set of non-negative ids, stored as runs.

    It is a sequence (sorted, indexable, with a length), so it can stand wherever a list of block ids is read, and it
    compares equal to a list or tuple with the same sorted ids.
    """

    __slots__ = ("_begins", "_offsets", "runs")

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        """Take half-open runs in any order; those that touch or overlap are joined."""
        joined: list[tuple[int, int]] = []
        for begin, end in sorted((int(b), int(e)) for b, e in runs if e > b):
            if begin < 0:
                raise InvalidArgumentError(f"ids must not be negative, got {begin}")
            if end > _LIMIT:
                raise InvalidArgumentError(
                    f"ids must be below 2**63, got {end - 1}: a run cannot have that many blocks",
                    hints=[Hint.of("give a larger {}", block_shape=...)],
                )
            if joined and begin <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((begin, end))
        self.runs = tuple(joined)
        self._begins = [b for b, _ in joined]
        offsets = [0]
        for begin, end in joined:
            offsets.append(offsets[-1] + end - begin)
        self._offsets = offsets

    @classmethod
    def from_range(cls, stop: int, start: int = 0) -> IdSet:
        """Return the ids `start <= id < stop`."""
        return cls([(start, stop)])

    @classmethod
    def from_ids(cls, ids: Iterable[int]) -> IdSet:
        """Return the set of ids in any order, repeated or not; InvalidArgumentError for what is not a non-negative 64-bit integer."""
        if isinstance(ids, IdSet):
            return ids
        if isinstance(ids, range) and ids.step == 1:
            return cls([(ids.start, ids.stop)])
        try:
            given = array("q", map(operator.index, ids))
        except (TypeError, OverflowError) as error:
            raise InvalidArgumentError(f"ids must be integers below 2**63: {error}") from error
        if len(given) < _MANY:
            return cls((number, number + 1) for number in given)
        import numpy as np

        numbers = np.frombuffer(given, np.int64)
        return cls.from_arrays(numbers, numbers + 1)

    @classmethod
    def from_arrays(cls, begins: npt.ArrayLike, ends: npt.ArrayLike) -> IdSet:
        """Return the set of half-open runs given as two integer arrays, in any order, overlapping or not."""
        import numpy as np

        first, last = np.asarray(begins, np.int64), np.asarray(ends, np.int64)
        kept = last > first
        order = np.argsort(first[kept], kind="stable")
        first, last = first[kept][order], np.maximum.accumulate(last[kept][order])
        if not first.size:
            return cls()
        cuts = np.flatnonzero(first[1:] > last[:-1])
        starts = first[np.concatenate(([0], cuts + 1))]
        stops = last[np.concatenate((cuts, [first.size - 1]))]
        return cls(zip(starts.tolist(), stops.tolist(), strict=True))

    def split(self, n_parts: int) -> list[IdSet]:
        """Return the set cut into at most `n_parts` neighbouring parts of nearly equal size, none of them empty."""
        n_parts = min(n_parts, len(self))
        sizes = [len(self) // n_parts + (n < len(self) % n_parts) for n in range(n_parts)] if n_parts else []
        parts, runs = [], list(reversed(self.runs))
        for size in sizes:
            part, left = [], size
            while left:
                begin, end = runs.pop()
                taken = min(end - begin, left)
                part.append((begin, begin + taken))
                left -= taken
                if begin + taken < end:
                    runs.append((begin + taken, end))
            parts.append(IdSet(part))
        return parts

    @classmethod
    def from_json(cls, runs: Iterable[Sequence[int]]) -> IdSet:
        return cls((int(run[0]), int(run[1])) for run in runs)

    def to_json(self) -> list[list[int]]:
        return [[b, e] for b, e in self.runs]

    def __len__(self) -> int:
        return self._offsets[-1]

    def __bool__(self) -> bool:
        return bool(self.runs)

    def __iter__(self) -> Iterator[int]:
        for begin, end in self.runs:
            yield from range(begin, end)

    def __contains__(self, item: object) -> bool:
        try:
            number = operator.index(item)  # type: ignore[arg-type]
        except TypeError:
            return False
        at = bisect_right(self._begins, number) - 1
        return at >= 0 and number < self.runs[at][1]

    def __getitem__(self, index: int | slice) -> int | list[int]:  # type: ignore[override]
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(len(self)))]
        at = operator.index(index)
        if not -len(self) <= at < len(self):
            raise IndexError(f"index {at} is out of range for {len(self)} ids")
        return self._at(at + len(self) if at < 0 else at)

    def _at(self, index: int) -> int:
        at = bisect_right(self._offsets, index) - 1
        return self.runs[at][0] + index - self._offsets[at]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, IdSet):
            return self.runs == other.runs
        if isinstance(other, (list, tuple)):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.runs)

    def __or__(self, other: IdSet) -> IdSet:
        return IdSet((*self.runs, *other.runs))

    def __and__(self, other: IdSet) -> IdSet:
        return self - (self - other)

    def __sub__(self, other: IdSet) -> IdSet:
        left: list[tuple[int, int]] = []
        cuts = iter((*other.runs, (2**63, 2**63)))
        cut_begin, cut_end = next(cuts)
        for run_begin, end in self.runs:
            begin = run_begin
            while cut_end <= begin:
                cut_begin, cut_end = next(cuts)
            while cut_begin < end:
                left.append((begin, cut_begin))
                begin = max(begin, cut_end)
                if cut_end > end:
                    break
                cut_begin, cut_end = next(cuts)
            left.append((begin, end))
        return IdSet(left)

    def __repr__(self) -> str:
        if len(self.runs) > 8:
            return f"IdSet({len(self)} ids in {len(self.runs)} runs, {self[0]} … {self[-1]})"
        return "IdSet(" + ", ".join(str(b) if e == b + 1 else f"{b}…{e - 1}" for b, e in self.runs) + ")"


class IdSetBuilder:
    """Collects ids that arrive mostly in order, merging neighbours as they come."""

    __slots__ = ("_by_begin", "_by_end", "_count")

    def __init__(self) -> None:
        self._by_begin: dict[int, int] = {}
        self._by_end: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, block_id: int) -> None:
        """Add one id, which must not have been added before."""
        self.add_run(block_id, block_id + 1)

    def add_run(self, begin: int, end: int) -> None:
        """Add the ids `begin <= id < end`, none of which may have been added before."""
        self._count += end - begin
        before = self._by_end.pop(begin, None)
        if before is not None:
            begin = before
        after = self._by_begin.pop(end, None)
        if after is not None:
            del self._by_end[after]
            end = after
        self._by_begin[begin] = end
        self._by_end[end] = begin

    def build(self) -> IdSet:
        return IdSet(self._by_begin.items())
