"""The blocks of a copy as work for a backend."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from bioimage_py.errors import CastingError
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.kernels import CopyKernel, Meter, MovingKernel, Tally
from bioimage_py.runner.journal import BlockJournal
from bioimage_py.runner.work.work import BlockGroups
from bioimage_py.sources import Source


@dataclass(frozen=True)
class CopyWork:
    """Copies blocks; those that share a shard are one group, and the shard is written once.

    Attributes
    ----------
    kernel
        What is done with a block.
    blocking
        The blocks.
    group_shape
        Extent of a group in voxels, whole write units.
    block_ids
        The blocks to process.
    """

    kernel: CopyKernel | MovingKernel
    blocking: Blocking
    group_shape: tuple[int, ...]
    block_ids: IdSet

    @property
    def n_blocks(self) -> int:
        """How many blocks the whole array has."""
        return self.blocking.n_blocks

    @property
    def outputs(self) -> tuple[Source]:
        """The source that is written."""
        return (self.kernel.output,)

    def group_ids(self) -> IdSet:
        """Return the numbers of the groups of blocks that share write units."""
        return self._groups.group_ids(self.block_ids)

    def blocks_in(self, group_id: int) -> tuple[int, ...]:
        """Return the blocks of one group."""
        return self._groups.blocks_in(group_id, self.block_ids)

    def narrowed(self, block_ids: IdSet) -> CopyWork:
        """Return the same copy of fewer blocks."""
        return replace(self, block_ids=block_ids)

    def counted_anew(self) -> CopyWork:
        """Return the same copy with nothing counted yet."""
        return self.counted_by(Meter())

    def counted_by(self, meter: Meter) -> CopyWork:
        """Return the same copy with another meter."""
        return replace(self, kernel=self.kernel.counted_by(meter))

    def tally(self) -> Tally:
        """Return what was done so far, and how long it took."""
        return self.kernel.tally()

    @cached_property
    def _groups(self) -> BlockGroups:
        return BlockGroups(self.blocking, self.group_shape)

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        """Copy the blocks of one group and record them; a write unit that fails takes only its own blocks with it."""
        if self._groups.single:
            journal.done(blocks, self.kernel.copy_box(self.blocking[blocks[0]]))
            return
        unit_shape = self.kernel.output.write_unit
        assert unit_shape is not None
        written, failed = 0, set[int]()
        for unit, parts in self.kernel.units_of([self.blocking[i] for i in blocks], unit_shape):
            try:
                written += self.kernel.copy_parts(unit, [part for _, part in parts])
            except (CastingError, KeyboardInterrupt):
                raise  # the run ends with it
            except BaseException as error:  # noqa: BLE001 - recorded: the run ends with it in a RunnerError
                lost = {blocks[n] for n, _ in parts} - failed
                journal.failed(sorted(lost), error)
                failed |= lost
        journal.done([i for i in blocks if i not in failed], written)
