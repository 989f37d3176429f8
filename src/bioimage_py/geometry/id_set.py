"""Sets of block ids as runs of consecutive numbers: a billion ids in a few bytes when contiguous, scattered ones in 16 bytes each.

numpy is imported where many runs are at hand at once: a worker has few, and begins before numpy would have been imported.
"""

from __future__ import annotations

import itertools
import operator
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from bioimage_py.errors import Hint, InvalidArgumentError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MANY = 1000
"""Numbers from which numpy is quicker than a loop."""
_SLICE = 2**14
"""Numbers of each of two sets that are combined at once."""
_LIMIT = 2**63 - 1
"""The most ids that a set can have: `len` gives no more."""


class IdSet(Sequence[int]):
    """An immutable, sorted set of non-negative ids, stored as runs.

    It is a sequence (sorted, indexable, with a length), so it can stand wherever a list of block ids is read, and it
    compares equal to a list or tuple with the same sorted ids.
    """

    # Begins and ends of the runs in turn, which is in ascending order: of an id that is inside, an odd number are not beyond it.
    _edges: array[int]
    _size: int  # below 0 until it is asked for
    _ranks: array[int] | None
    __slots__ = ("_edges", "_ranks", "_size")

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        """Take half-open runs in any order; those that touch or overlap are joined."""
        pairs = [(begin, end) for begin, end in runs if end > begin]
        if len(pairs) == 1 and pairs[0][0] >= 0 and pairs[0][1] <= _LIMIT:
            self._set(array("q", pairs[0]))
            return
        begins, ends = [begin for begin, _ in pairs], [end for _, end in pairs]
        if ends and max(ends) > _LIMIT:
            raise _beyond(max(ends) - 1)
        if len(pairs) < _MANY:
            self._set(_joined(sorted(begins), sorted(ends)))
        else:
            joined: IdSet = IdSet.from_arrays(begins, ends)
            self._set(joined._edges)

    def _set(self, edges: array[int], size: int = -1) -> None:
        self._edges = edges
        self._size = size
        self._ranks = None

    @classmethod
    def _of(cls, edges: array[int], size: int = -1) -> IdSet:
        found: IdSet = cls.__new__(cls)
        found._set(edges, size)
        return found

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
        given = _numbers(ids)
        if len(given) < _MANY:
            begins = sorted(given)
            if begins and begins[-1] == _LIMIT:
                raise _beyond(_LIMIT)
            return cls._of(_joined(begins, [begin + 1 for begin in begins]))
        import numpy as np

        numbers = np.frombuffer(given, np.int64)
        numbers.sort()
        if numbers[-1] == _LIMIT:
            raise _beyond(_LIMIT)
        return cls._of(_joined_arrays(numbers, numbers, 1))

    @classmethod
    def from_arrays(cls, begins: npt.ArrayLike, ends: npt.ArrayLike) -> IdSet:
        """Return the set of half-open runs given as two integer arrays, in any order, overlapping or not."""
        import numpy as np

        first, last = np.asarray(begins, np.int64), np.asarray(ends, np.int64)
        kept = last > first
        if not kept.all():
            first, last = first[kept], last[kept]
        if (first[1:] < last[:-1]).any():
            first, last = np.sort(first), np.sort(last)
        return cls._of(_joined_arrays(first, last))

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> IdSet:
        """Return the set that `to_bytes` gave; InvalidArgumentError for anything that it cannot have given."""
        edges = array("q")
        if len(data) % 16 == 0:
            edges.frombytes(data)
            if sys.byteorder == "big":
                edges.byteswap()
        if len(data) % 16 or not _ascend(edges):
            raise InvalidArgumentError(f"these {len(data)} bytes are not the runs of a set of ids")
        return cls._of(edges)

    def to_bytes(self) -> bytes:
        """Return begin and end of each run, in ascending order, as 64-bit little-endian integers."""
        edges = self._edges
        if sys.byteorder == "big":
            edges = edges[:]
            edges.byteswap()
        return edges.tobytes()

    @classmethod
    def from_json(cls, runs: Iterable[Sequence[int]]) -> IdSet:
        return cls((int(run[0]), int(run[1])) for run in runs)

    def to_json(self) -> list[list[int]]:
        return [[begin, end] for begin, end in self.runs]

    @property
    def runs(self) -> Runs:
        """Begin and end of each run, made as they are asked for."""
        return Runs(self._edges)

    @property
    def n_runs(self) -> int:
        return len(self._edges) // 2

    def to_arrays(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return views of the begins and the ends of the runs."""
        numbers = _view(self._edges)
        numbers.flags.writeable = False
        return numbers[::2], numbers[1::2]

    def split(self, n_parts: int) -> list[IdSet]:
        """Return the set cut into at most `n_parts` neighbouring parts of nearly equal size, none of them empty."""
        n_parts = max(0, min(n_parts, len(self)))
        each, left = divmod(len(self), max(1, n_parts))
        return self.cut([each + (n < left) for n in range(n_parts)])

    def cut(self, sizes: Sequence[int]) -> list[IdSet]:
        """Return the set cut into neighbouring parts of these sizes, none of them 0, which add up to its own."""
        ranks = self._begin_ranks()
        cuts = (
            [self._at(rank, ranks) for rank in itertools.accumulate(sizes[:-1], initial=0)] if sizes else []
        )
        cuts.append(_LIMIT)
        return [
            IdSet._of(_within(self._edges, [window]), size)
            for window, size in zip(itertools.pairwise(cuts), sizes, strict=True)
        ]

    def shifted(self, offset: int) -> IdSet:
        """Return the set of all ids plus `offset`, which may be negative."""
        if not offset or not self:
            return self
        if self._edges[0] + offset < 0 or self._edges[-1] + offset > _LIMIT:
            raise InvalidArgumentError(f"ids must be from 0 to 2**63 - 2, not {self!r} shifted by {offset}")
        if len(self._edges) < _MANY:
            return IdSet._of(array("q", [edge + offset for edge in self._edges]), self._size)
        edges = self._edges[:]
        numbers = _view(edges)
        numbers += offset
        return IdSet._of(edges, self._size)

    def __len__(self) -> int:
        if self._size < 0:
            self._size = _size_of(self._edges)
        return self._size

    def __bool__(self) -> bool:
        return bool(self._edges)

    def __iter__(self) -> Iterator[int]:
        parts = itertools.starmap(range, self.runs) if self.n_runs < _MANY else self._parts()
        return itertools.chain.from_iterable(parts)

    def _parts(self) -> Iterator[Iterable[int]]:
        """Yield ranges, or lists where there are many runs of one id."""
        begins, ends = self.to_arrays()
        for at in range(0, self.n_runs, _SLICE):
            first, last = begins[at : at + _SLICE], ends[at : at + _SLICE]
            if (last - first == 1).all():
                yield first.tolist()
            else:
                yield from map(range, first.tolist(), last.tolist())

    def __contains__(self, item: object) -> bool:
        try:
            number = operator.index(item)  # type: ignore[arg-type]
        except TypeError:
            return False
        return bisect_right(self._edges, number) % 2 == 1

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> list[int]: ...

    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return self._several(range(*index.indices(len(self))))
        at = operator.index(index)
        if not -len(self) <= at < len(self):
            raise IndexError(f"index {at} is out of range for {len(self)} ids")
        rank = at + len(self) if at < 0 else at
        # Of a large set mostly these are asked for.
        if rank == 0 or rank == len(self) - 1:
            return self._edges[-1] - 1 if rank else self._edges[0]
        return self._at(rank, self._known_ranks())

    def _several(self, ranks: range) -> list[int]:
        if len(ranks) < _MANY:
            return [self._at(rank, self._known_ranks()) for rank in ranks]
        import numpy as np

        asked, known = np.arange(ranks.start, ranks.stop, ranks.step), _view(self._known_ranks())
        places = np.searchsorted(known, asked, "right") - 1
        asked += (self.to_arrays()[0] - known)[places]
        several: list[int] = asked.tolist()
        return several

    def _at(self, rank: int, ranks: array[int]) -> int:
        at = bisect_right(ranks, rank) - 1
        return self._edges[2 * at] + rank - ranks[at]

    def _known_ranks(self) -> array[int]:
        if self._ranks is None:
            self._ranks = self._begin_ranks()
        return self._ranks

    def _begin_ranks(self) -> array[int]:
        """Return how many ids come before each run."""
        if len(self._edges) < _MANY:
            sizes = (end - begin for begin, end in self.runs)
            return array("q", itertools.islice(itertools.accumulate(sizes, initial=0), self.n_runs))
        import numpy as np

        begins, ends = self.to_arrays()
        ranks = array("q", [0]) * self.n_runs
        np.cumsum(ends[:-1] - begins[:-1], out=_view(ranks)[1:])
        return ranks

    def __eq__(self, other: object) -> bool:
        if isinstance(other, IdSet):
            return self._edges == other._edges
        if isinstance(other, (list, tuple)):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._edges.tobytes())

    def __reduce__(self) -> tuple[Any, ...]:
        return IdSet.from_bytes, (self.to_bytes(),)

    @staticmethod
    def union(sets: Iterable[IdSet]) -> IdSet:
        """Return the ids that are in any of the sets."""
        filled = [one for one in sets if one]
        if len(filled) < 2:
            return filled[0] if filled else IdSet()
        if sum(one.n_runs for one in filled) < _MANY:
            return IdSet(itertools.chain.from_iterable(one.runs for one in filled))
        if len(filled) == 2:
            return IdSet._combined(filled[0], filled[1], operator.or_)
        import numpy as np

        arrays = [one.to_arrays() for one in filled]
        first, last = (np.concatenate([pair[at] for pair in arrays]) for at in (0, 1))
        # This kind merges what is sorted in parts.
        first.sort(kind="stable")
        last.sort(kind="stable")
        return IdSet._of(_joined_arrays(first, last))

    def __or__(self, other: IdSet) -> IdSet:
        return IdSet.union((self, other))

    def __and__(self, other: IdSet) -> IdSet:
        few, many = (self, other) if self.n_runs <= other.n_runs else (other, self)
        if few.n_runs < _MANY:
            return IdSet._of(_within(many._edges, few.runs))
        window = max(self._edges[0], other._edges[0]), min(self._edges[-1], other._edges[-1])
        if window[0] >= window[1]:
            return IdSet()
        one, two = (IdSet._of(_within(edges, [window])) for edges in (self._edges, other._edges))
        return IdSet._combined(one, two, operator.and_)

    def __sub__(self, other: IdSet) -> IdSet:
        if not other or not self:
            return self
        if self.n_runs < _MANY:
            return IdSet._of(_within(other._edges, self.runs, outside=True))
        if other.n_runs < _MANY:
            around = array("q", (0, *other._edges, _LIMIT))
            return IdSet._of(_within(self._edges, (run for run in Runs(around) if run[1] > run[0])))
        # Of one and the other, of which each is true or not.
        return IdSet._combined(self, other, operator.gt)

    @staticmethod
    def _combined(one: IdSet, other: IdSet, inside: Callable[[Any, Any], Any]) -> IdSet:
        """Return the ids for which `inside` of being in the one and being in the other is true: in slices, so that little memory is needed."""
        import numpy as np

        a, b = _view(one._edges).view(np.uint64), _view(other._edges).view(np.uint64)
        at_a = at_b = 0
        edges = array("q")
        before = False
        while at_a < len(a) or at_b < len(b):
            # The slices end at the same number, before the first that is left of either.
            ends = [all_[at + _SLICE] for all_, at in ((a, at_a), (b, at_b)) if at + _SLICE < len(all_)]
            end_a, end_b = (
                at + int(np.searchsorted(all_[at : at + _SLICE], min(ends))) if ends else len(all_)
                for all_, at in ((a, at_a), (b, at_b))
            )
            # Twice the number, plus one for those of the other set, so that sorting keeps whose they are.
            merged = np.concatenate((a[at_a:end_a] * 2, b[at_b:end_b] * 2 + 1))
            merged.sort(kind="stable")
            others = (merged & 1).astype(bool)
            merged >>= 1
            in_a = np.logical_xor.accumulate(~others) ^ bool(at_a % 2)
            in_b = np.logical_xor.accumulate(others) ^ bool(at_b % 2)
            # Where both sets have the same number, the second of them tells what is so from there on.
            last = np.append(merged[1:] != merged[:-1], True)
            merged, now = merged[last], inside(in_a, in_b)[last]
            edges.frombytes(merged[now != np.insert(now[:-1], 0, before)].tobytes())
            before, at_a, at_b = bool(now[-1]), end_a, end_b
        return IdSet._of(edges)

    def __repr__(self) -> str:
        if self.n_runs > 8:
            return f"IdSet({len(self)} ids in {self.n_runs} runs, {self[0]} … {self[-1]})"
        return "IdSet(" + ", ".join(str(b) if e == b + 1 else f"{b}…{e - 1}" for b, e in self.runs) + ")"


class Runs(Sequence[tuple[int, int]]):
    """Begin and end of each run of a set of ids, none of which is stored as an object."""

    __slots__ = ("_edges",)

    def __init__(self, edges: array[int]) -> None:
        self._edges = edges

    def __len__(self) -> int:
        return len(self._edges) // 2

    def __iter__(self) -> Iterator[tuple[int, int]]:
        edges = iter(self._edges)
        return zip(edges, edges, strict=False)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        at = range(len(self))[index]
        return self._edges[2 * at], self._edges[2 * at + 1]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, (Runs, tuple, list)) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def _beyond(number: int) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"ids must be below 2**63 - 1, got {number}: a run cannot have that many blocks",
        hints=[Hint.of("give a larger {}", block_shape=...)],
    )


def _numbers(ids: Iterable[int]) -> array[int]:
    kind: Any = getattr(ids, "dtype", None)
    if kind is not None and kind.kind == "i" and getattr(ids, "ndim", 0) == 1:
        import numpy as np

        given = np.asarray(ids)
        numbers = array("q", [0]) * len(given)
        _view(numbers)[:] = given
        return numbers
    try:
        return array("q", map(operator.index, ids))
    except (TypeError, OverflowError) as error:
        raise InvalidArgumentError(f"ids must be integers below 2**63: {error}") from error


def _view(numbers: array[int]) -> npt.NDArray[np.int64]:
    import numpy as np

    return np.frombuffer(numbers, np.int64) if numbers else np.empty(0, np.int64)


def _size_of(edges: array[int]) -> int:
    if len(edges) < _MANY:
        return sum(edges[1::2]) - sum(edges[::2])
    numbers = _view(edges)
    # Sums that are too large wrap around, and so does their difference, to what it is.
    return int(numbers[1::2].sum() - numbers[::2].sum())


def _ascend(edges: array[int]) -> bool:
    """Whether no number is negative and each is larger than the one before."""
    if len(edges) < _MANY:
        return all(map(operator.lt, edges, itertools.islice(edges, 1, None))) and (not edges or edges[0] >= 0)
    numbers = _view(edges)
    return bool((numbers[1:] > numbers[:-1]).all() and numbers[0] >= 0)


def _joined(begins: Sequence[int], ends: Sequence[int]) -> array[int]:
    """Return the edges of runs of which the begins and the ends are sorted, each by themselves.

    Between a begin and the one before there is a gap if all runs that began before have ended, and there are as many of these as
    of the begins: so the end at the place of the one before tells it.
    """
    if not begins:
        return array("q")
    if begins[0] < 0:
        raise InvalidArgumentError(f"ids must not be negative, got {begins[0]}")
    edges = array("q", begins[:1])
    for begin, end in zip(itertools.islice(begins, 1, None), ends, strict=False):
        if begin > end:
            edges.append(end)
            edges.append(begin)
    edges.append(ends[-1])
    return edges


def _joined_arrays(begins: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], more: int = 0) -> array[int]:
    """Do as `_joined`, with `more` added to the ends."""
    if not begins.size:
        return array("q")
    if begins[0] < 0:
        raise InvalidArgumentError(f"ids must not be negative, got {int(begins[0])}")
    apart = (begins[1:] - ends[:-1]) > more
    edges = array("q", [0]) * (2 * (int(apart.sum()) + 1))
    view = _view(edges)
    view[0] = begins[0]
    view[2::2] = begins[1:][apart]
    view[1:-1:2] = ends[:-1][apart]
    view[-1] = ends[-1]
    view[1::2] += more
    return edges


def _within(edges: array[int], windows: Iterable[tuple[int, int]], *, outside: bool = False) -> array[int]:
    """Return the edges of what a set has of windows, which are apart and in order; with `outside`, of what it lacks there."""
    found = array("q")
    last = 0
    for begin, end in windows:
        first = bisect_right(edges, begin, last)
        last = bisect_left(edges, end, first)
        if first % 2 != outside:
            found.append(begin)
        if last > first:
            found += edges[first:last]
        if last % 2 != outside:
            found.append(end)
    return found


class IdSetBuilder:
    """Collects ids in any order; what arrives in order takes no memory."""

    __slots__ = ("_count", "_ids", "_new", "_room")

    def __init__(self) -> None:
        self._ids = IdSet()
        self._new = array("q")
        self._room = _SLICE
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, block_id: int) -> None:
        """Add one id, which must not have been added before."""
        self.add_run(block_id, block_id + 1)

    def add_run(self, begin: int, end: int) -> None:
        """Add the ids `begin <= id < end`, none of which may have been added before."""
        self._count += end - begin
        new = self._new
        if new and new[-1] == begin:
            new[-1] = end
            return
        new.append(begin)
        new.append(end)
        if len(new) >= self._room:
            self._fold()

    def _fold(self) -> None:
        begins, ends = self._new[::2], self._new[1::2]
        if len(begins) < _MANY:
            new = IdSet(zip(begins, ends, strict=True))
        else:
            new = IdSet.from_arrays(_view(begins), _view(ends))
        self._ids = self._ids | new
        self._new = array("q")
        # Never less than half of what is there, so that folding costs about the same for each id, however many there are.
        self._room = max(_SLICE, self._ids.n_runs)

    def add_all(self, ids: IdSet) -> None:
        """Add all ids of a set, none of which may have been added before."""
        self._count += len(ids)
        self._ids = self._ids | ids

    def build(self) -> IdSet:
        self._fold()
        return self._ids
