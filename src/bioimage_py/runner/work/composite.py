"""Several works as one run: one numbering, one run folder, and parts that wait for others."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from bioimage_py.geometry import IdSet
from bioimage_py.runner.work.counts import counted_anew, tally_of
from bioimage_py.runner.work.work import PortableWork, Work

if TYPE_CHECKING:
    from bioimage_py.kernels import Tally
    from bioimage_py.runner.journal import BlockJournal
    from bioimage_py.sources import Source


class NumberedWork(PortableWork, Protocol):
    """Work whose blocks are numbered from 0 on, and its groups too; there are no more groups than blocks."""

    @property
    def n_blocks(self) -> int:
        """How many numbers the blocks have, whether or not all of them are to be processed."""
        ...


@dataclass(frozen=True)
class CompositeWork:
    """Several works as one, done wave after wave.

    Blocks and groups of a part have its own numbers, plus how many blocks the parts before it have.

    Attributes
    ----------
    parts
        The works.
    waves
        Which parts are done at the same time, by their place in `parts`; each is in one wave. A wave begins when the one before
        it is done entirely, and not at all where some block of that failed.
    """

    parts: tuple[NumberedWork, ...]
    waves: tuple[tuple[int, ...], ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """What is added to the numbers of each part; and the number of all blocks."""
        return tuple(itertools.accumulate((part.n_blocks for part in self.parts), initial=0))

    @property
    def n_blocks(self) -> int:
        """How many numbers the blocks have."""
        return self.offsets[-1]

    @cached_property
    def block_ids(self) -> IdSet:
        """The blocks of all parts that are to be processed."""
        return self._joined(part.block_ids for part in self.parts)

    @property
    def outputs(self) -> tuple[Source, ...]:
        """The sources that are written."""
        return tuple(output for part in self.parts for output in part.outputs)

    def group_ids(self) -> IdSet:
        """Return the numbers of the groups of all parts."""
        return self._joined(part.group_ids() for part in self.parts)

    def blocks_in(self, group_id: int) -> tuple[int, ...]:
        """Return the blocks to process of one group."""
        part, offset = self._part_of(group_id)
        return tuple(block_id + offset for block_id in part.blocks_in(group_id - offset))

    def narrowed(self, block_ids: IdSet) -> CompositeWork:
        """Return the same work on fewer blocks."""
        parts = tuple(part.narrowed(ids) for part, ids in zip(self.parts, self.split(block_ids), strict=True))
        return replace(self, parts=parts)

    def counted_anew(self) -> CompositeWork:
        """Return the same work with nothing counted yet."""
        return replace(self, parts=tuple(counted_anew(part) for part in self.parts))

    def tally(self) -> Tally | None:
        """Return what all parts have done so far, and how long it took; None where none of them counts."""
        counted = [tally for tally in map(tally_of, self.parts) if tally is not None]
        return sum(counted[1:], counted[0]) if counted else None

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        """Process one group by the part it belongs to."""
        part, offset = self._part_of(blocks[0])
        part.process(tuple(block_id - offset for block_id in blocks), _Shifted(journal, offset))

    def split(self, block_ids: IdSet) -> list[IdSet]:
        """Return which of the blocks each part has, in the numbering of the part."""
        found: list[list[tuple[int, int]]] = [[] for _ in self.parts]
        for begin, end in block_ids.runs:
            first, last = self._place_of(begin), self._place_of(end - 1)
            for place in range(first, last + 1):
                offset = self.offsets[place]
                inside = (max(begin, offset) - offset, min(end, self.offsets[place + 1]) - offset)
                found[place].append(inside)
        return [IdSet(runs) for runs in found]

    def ready(self, missing: IdSet) -> IdSet:
        """Return those of the missing blocks whose wave has begun."""
        by_part = self.split(missing)
        for wave in self.waves:
            runs = [
                (begin + self.offsets[place], end + self.offsets[place])
                for place in wave
                for begin, end in by_part[place].runs
            ]
            if runs:
                return IdSet(runs)
        return IdSet()

    def _joined(self, of_parts: Iterable[IdSet]) -> IdSet:
        return IdSet(
            (begin + offset, end + offset)
            for ids, offset in zip(of_parts, self.offsets, strict=False)
            for begin, end in ids.runs
        )

    def _place_of(self, number: int) -> int:
        # Of parts without blocks the last one is found, whose end is beyond the number.
        return bisect_right(self.offsets, number) - 1

    def _part_of(self, number: int) -> tuple[NumberedWork, int]:
        place = self._place_of(number)
        return self.parts[place], self.offsets[place]


def ready_blocks(work: Work, missing: IdSet) -> IdSet:
    """Return those of the blocks that are not done which do not wait for others."""
    return work.ready(missing) if isinstance(work, CompositeWork) else missing


class _Shifted:
    """Records the blocks of a part under the numbers of the whole."""

    def __init__(self, journal: BlockJournal, offset: int) -> None:
        self._journal = journal
        self._offset = offset

    def done(self, block_ids: Iterable[int], n_bytes: int = 0) -> None:
        self._journal.done([block_id + self._offset for block_id in block_ids], n_bytes)

    def done_with(self, block_id: int, result: Any) -> None:
        self._journal.done_with(block_id + self._offset, result)

    def failed(self, block_ids: Iterable[int], error: BaseException) -> None:
        self._journal.failed([block_id + self._offset for block_id in block_ids], error)
