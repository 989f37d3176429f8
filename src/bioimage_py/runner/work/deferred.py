"""Work whose sources are opened when its first block is due: a run can have more arrays than a process should hold open."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from bioimage_py.kernels import Meter, Tally
from bioimage_py.runner.work.block_work import BlockWork, stored_blocks
from bioimage_py.runner.work.work import load_work
from bioimage_py.sources import family_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bioimage_py.geometry import Blocking, IdSet
    from bioimage_py.runner.journal import BlockJournal
    from bioimage_py.runner.run import RunFolder
    from bioimage_py.runner.work.copying import CopyWork
    from bioimage_py.sources import Source
    from bioimage_py.storage import StoreFolder

MOST_OPEN = 32
"""How many works of a run a process holds open: more than it has threads, for these go through them in order."""


class WorkShelf:
    """The works that were opened last; the one that was not used for longest makes room for a new one."""

    def __init__(self, most: int = MOST_OPEN) -> None:
        self._most = most
        self._opened: OrderedDict[Callable[[], CopyWork], _Slot] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, open_work: Callable[[], CopyWork], meter: Meter) -> CopyWork:
        """Return what a function opens, or has opened: once, whoever asks at the same time. It counts by the meter."""
        with self._lock:
            slot = self._opened.setdefault(open_work, _Slot())
            self._opened.move_to_end(open_work)
            while len(self._opened) > self._most:
                # A thread that is still at work with it holds it; its sources are closed when that lets go of them.
                self._opened.popitem(last=False)
        with slot.lock:
            if slot.work is None:
                slot.work = open_work()
            if slot.work.kernel.meter is not meter:
                slot.work = slot.work.counted_by(meter)
            return slot.work


class _Slot:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.work: CopyWork | None = None


@dataclass(frozen=True)
class DeferredWork(BlockWork):
    """The copy of one array that is opened when it is needed.

    `open` opens the sources and returns the work, which is kept on the `shelf`. `place` is the folder of the array that is
    written, for marks; `meter` is where is counted what is done, however often it is opened.
    """

    blocking: Blocking
    group_shape: tuple[int, ...]
    block_ids: IdSet
    open: Callable[[], CopyWork]
    shelf: WorkShelf
    place: StoreFolder | None = field(default=None, compare=False)
    keep_results: bool = False
    meter: Meter = field(default_factory=Meter, compare=False, repr=False)
    # What to_json has found, for a fingerprint that is asked for next: opening costs more than all else.
    _found: list[dict[str, Any]] = field(default_factory=list, compare=False, repr=False)

    @property
    def outputs(self) -> Sequence[Source]:
        """The sources that are written, opened for whoever asks."""
        return self.open().outputs

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        self.shelf.get(self.open, self.meter).process(blocks, journal)

    def close(self, results: Mapping[int, Any]) -> None:
        self.open().close(results)

    def with_new_counts(self) -> DeferredWork:
        return replace(self, meter=Meter())

    def tally(self) -> Tally:
        return self.meter.total()

    def to_json(self, folder: RunFolder) -> dict[str, Any]:
        work = self.open()
        self._found[:] = [work.fingerprint()]
        return {**work.to_json(folder), "block_ids": folder.store_ids(self.block_ids)}

    def fingerprint(self) -> dict[str, Any]:
        return self._found.pop() if self._found else self.open().fingerprint()

    def flush(self) -> None:
        """Do nothing: the stores of whole images keep nothing back, and would all be opened for this."""

    def marked_places(self) -> Iterator[StoreFolder]:
        if self.place is not None:
            yield self.place


def load_parts(
    stored: list[dict[str, Any]], folder: RunFolder, threads: int, cache_bytes: int
) -> tuple[BlockWork, ...]:
    """Make the parts of a run again: where they are many, each when its first block is due."""
    opening = [partial(load_work, part, folder, threads, cache_bytes) for part in stored]
    if len(stored) <= MOST_OPEN or any(part["kind"] != "copy" for part in stored):
        return tuple(cast("BlockWork", opens()) for opens in opening)
    shelf = WorkShelf()
    return tuple(
        DeferredWork(
            *stored_blocks(part, folder),
            cast("Callable[[], CopyWork]", opens),
            shelf,
            family_of(part["outputs"][0]["kind"]).folder_of(part["outputs"][0]),
            part.get("hashes_tiles", False),
        )
        for part, opens in zip(stored, opening, strict=True)
    )
