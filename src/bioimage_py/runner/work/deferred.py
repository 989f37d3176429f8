"""Work whose sources are opened when its first block is due: a run can have more arrays than a process should hold open."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

from bioimage_py.kernels import Meter, Tally
from bioimage_py.runner.work.work import BlockGroups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bioimage_py.geometry import Blocking, IdSet
    from bioimage_py.runner.journal import BlockJournal
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
class DeferredWork:
    """The copy of one array that is opened when it is needed.

    Attributes
    ----------
    blocking
        The blocks.
    group_shape
        Extent of a group in voxels, whole write units.
    block_ids
        The blocks to process.
    open
        Opens the sources and returns the work.
    shelf
        Where it is kept, and for how long.
    place
        The folder of the array that is written, for marks that are put there.
    meter
        Where is counted what is done, however often it is opened.
    """

    blocking: Blocking
    group_shape: tuple[int, ...]
    block_ids: IdSet
    open: Callable[[], CopyWork]
    shelf: WorkShelf
    place: StoreFolder | None = field(default=None, compare=False)
    meter: Meter = field(default_factory=Meter, compare=False, repr=False)

    @property
    def n_blocks(self) -> int:
        """How many blocks there are."""
        return self.blocking.n_blocks

    @property
    def outputs(self) -> Sequence[Source]:
        """The sources that are written, opened for whoever asks."""
        return self.open().outputs

    def group_ids(self) -> IdSet:
        """Return the numbers of the groups of blocks that share write units."""
        return self._groups.group_ids(self.block_ids)

    def blocks_in(self, group_id: int) -> tuple[int, ...]:
        """Return the blocks of one group."""
        return self._groups.blocks_in(group_id, self.block_ids)

    def narrowed(self, block_ids: IdSet) -> DeferredWork:
        """Return the same work on fewer blocks."""
        return replace(self, block_ids=block_ids)

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        """Process one group."""
        self.shelf.get(self.open, self.meter).process(blocks, journal)

    def counted_anew(self) -> DeferredWork:
        """Return the same work with nothing counted yet."""
        return replace(self, meter=Meter())

    def tally(self) -> Tally:
        """Return what was done so far, and how long it took."""
        return self.meter.total()

    @cached_property
    def _groups(self) -> BlockGroups:
        return BlockGroups(self.blocking, self.group_shape)
