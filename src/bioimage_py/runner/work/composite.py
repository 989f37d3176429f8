"""Several works as one run: one numbering, one run folder, and parts that wait for others."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from bioimage_py.errors import Hint
from bioimage_py.geometry import IdSet
from bioimage_py.runner.work.block_work import BlockWork
from bioimage_py.runner.work.deferred import MOST_OPEN, load_parts
from bioimage_py.runner.work.work import Work

if TYPE_CHECKING:
    from bioimage_py.kernels import BlockUnits, Tally
    from bioimage_py.runner.journal import BlockJournal
    from bioimage_py.runner.run import RunFolder
    from bioimage_py.sources import Source
    from bioimage_py.storage import StoreFolder


@dataclass(frozen=True)
class CompositeWork(Work):
    """Several works as one, done wave after wave.

    Blocks and groups of a part have its own numbers, plus how many blocks the parts before it have: a part has no more groups
    than blocks. `waves` says which parts are done at the same time, by their place in `parts`; each is in one wave. A wave
    begins when the one before it is done entirely, and not at all where some block of that failed.
    """

    parts: tuple[BlockWork, ...]
    waves: tuple[tuple[int, ...], ...]
    kind = "composite"
    returns_results = False
    how_to_finish = Hint.of(
        "its parts wait for each other, so it starts again; a run with {} can be resumed", resumable=True
    )

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """What is added to the numbers of each part; and the number of all blocks."""
        return tuple(itertools.accumulate((part.n_blocks for part in self.parts), initial=0))

    @cached_property
    def keep_results(self) -> bool:  # type: ignore[override]  # what others set, the parts tell here
        return any(part.keep_results for part in self.parts)

    @property
    def calls_are_short(self) -> bool:  # type: ignore[override]  # as above
        return all(part.calls_are_short for part in self.parts)

    @property
    def concurrent_writes(self) -> bool:
        return self.parts[0].concurrent_writes  # all are in one store, and opened when their turn has come

    @property
    def n_blocks(self) -> int:
        return self.offsets[-1]

    @cached_property
    def block_ids(self) -> IdSet:
        return self._joined(part.block_ids for part in self.parts)

    @property
    def outputs(self) -> tuple[Source, ...]:
        return tuple(output for part in self.parts for output in part.outputs)

    @property
    def asked_parts(self) -> tuple[BlockWork, ...]:
        return self.parts

    def group_ids(self) -> IdSet:
        return self._joined(part.group_ids() for part in self.parts)

    def blocks_in(self, group_id: int) -> tuple[int, ...]:
        part, offset = self._part_of(group_id)
        return tuple(block_id + offset for block_id in part.blocks_in(group_id - offset))

    def blocks_of(self, groups: IdSet) -> IdSet:
        by_part = zip(self.parts, self.split(groups), strict=True)
        return self._joined(part.blocks_of(own) for part, own in by_part)

    @property
    def groups_are_blocks(self) -> bool:
        return all(part.groups_are_blocks for part in self.parts)

    def narrowed(self, block_ids: IdSet) -> Self:
        parts = tuple(part.narrowed(ids) for part, ids in zip(self.parts, self.split(block_ids), strict=True))
        return replace(self, parts=parts)

    def with_new_counts(self) -> Self:
        return replace(self, parts=tuple(part.with_new_counts() for part in self.parts))

    def tally(self) -> Tally | None:
        counted = [tally for part in self.parts if (tally := part.tally()) is not None]
        return sum(counted[1:], counted[0]) if counted else None

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        part, offset = self._part_of(blocks[0])
        # With values, blocks without one would not count as done.
        valued = self.keep_results and not part.keep_results
        part.process(tuple(block_id - offset for block_id in blocks), _Shifted(journal, offset, valued))

    def close(self, results: Mapping[int, Any]) -> None:
        for part, offset in zip(self.asked_parts, self.offsets, strict=False):
            if part.keep_results:
                part.close({n: results.get(n + offset) for n in part.block_ids})

    def split(self, block_ids: IdSet) -> list[IdSet]:
        """Return which of the blocks each part has, in the numbering of the part."""
        return [
            (block_ids & IdSet.from_range(end, begin)).shifted(-begin)
            for begin, end in itertools.pairwise(self.offsets)
        ]

    def ready(self, missing: IdSet) -> IdSet:
        """Return those of the missing blocks whose wave has begun."""
        by_part = self.split(missing)
        for wave in self.waves:
            found = IdSet.union(by_part[place].shifted(self.offsets[place]) for place in wave)
            if found:
                return found
        return IdSet()

    def to_json(self, folder: RunFolder) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "parts": [part.to_json(folder) for part in self.parts],
            "waves": [list(wave) for wave in self.waves],
            "block_ids": folder.store_ids(self.block_ids),
        }

    def outline(self, folder: RunFolder) -> dict[str, Any] | None:
        if len(self.parts) <= MOST_OPEN or type(self) is not CompositeWork:
            return None
        return {
            "kind": "copies",
            "parts": len(self.parts),
            "hashes_tiles": self.keep_results,
            "block_ids": folder.store_ids(self.block_ids),
        }

    @classmethod
    def from_json(
        cls, stored: dict[str, Any], folder: RunFolder, threads: int, cache_bytes: int, **more: Any
    ) -> Self:
        parts = load_parts(stored["parts"], folder, threads, cache_bytes)
        return cls(parts, tuple(map(tuple, stored["waves"])), **more)

    def fingerprint(self) -> dict[str, Any]:
        parts = {f"part {n}": part.fingerprint() for n, part in enumerate(self.parts)}
        return {**super().fingerprint(), "waves": [list(wave) for wave in self.waves], **parts}

    def flush(self) -> None:
        for part in self.parts:
            part.flush()

    def image(self) -> tuple[Source, ...]:
        """Return the levels of a pyramid; an OME-Zarr that is copied whole has its metadata from the input."""
        return tuple(output for part in self.parts if part.shares_image for output in part.outputs)

    def marked_places(self) -> Iterator[StoreFolder]:
        for part in self.asked_parts:
            yield from part.marked_places()

    def settle_marks(self, done: IdSet, *, keep: bool = False) -> None:
        from bioimage_py.sources.stores import read_mark  # not for workers

        (first, first_ids), *others = zip(self.asked_parts, self.split(done), strict=False)
        shared = {place.path for place in first.marked_places()}
        # The mark of the first array tells of all of them.
        marked = False
        for part, ids in others:
            places = [*part.marked_places()]
            if shared.issuperset(place.path for place in places):  # levels of one volume
                marked |= bool(part.block_ids - ids)
                continue
            part.settle_marks(ids)
            marked |= any(read_mark(place) is not None for place in places)
        first.settle_marks(first_ids, keep=keep or marked)

    def _joined(self, of_parts: Iterable[IdSet]) -> IdSet:
        return IdSet.union(ids.shifted(offset) for ids, offset in zip(of_parts, self.offsets, strict=False))

    def _part_of(self, number: int) -> tuple[BlockWork, int]:
        # Of parts without blocks the last one is found, whose end is beyond the number.
        place = bisect_right(self.offsets, number) - 1
        return self.parts[place], self.offsets[place]


class _Shifted:
    """Records the blocks of a part under the numbers of the whole."""

    def __init__(self, journal: BlockJournal, offset: int, valued: bool) -> None:
        self._journal = journal
        self._offset = offset
        self._valued = valued

    def done(self, block_ids: Iterable[int], n_bytes: int = 0) -> None:
        ids = [block_id + self._offset for block_id in block_ids]
        if not self._valued or not ids:
            self._journal.done(ids, n_bytes)
            return
        for block_id in ids:
            self._journal.done_with(block_id, None, n_bytes)
            n_bytes = 0

    def done_with(self, block_id: int, result: Any, n_bytes: int = 0) -> None:
        self._journal.done_with(block_id + self._offset, result, n_bytes)

    def failed(self, block_ids: Iterable[int], error: BaseException) -> None:
        self._journal.failed([block_id + self._offset for block_id in block_ids], error)

    def units(self, block_id: int) -> BlockUnits:
        return self._journal.units(block_id + self._offset)

    def hopeless(self) -> str:
        return self._journal.hopeless()
