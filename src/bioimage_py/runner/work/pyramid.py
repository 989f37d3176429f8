"""The blocks of a pyramid as work for a backend: each is read once and written to several levels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.kernels import PyramidKernel, Tally
from bioimage_py.runner.journal import BlockJournal
from bioimage_py.sources import Source


@dataclass(frozen=True)
class PyramidWork:
    """Makes levels of a pyramid from what is read; blocks hold whole write units of each, so that no two meet in one.

    Attributes
    ----------
    kernel
        What is done with a block.
    blocking
        The blocks of what is read.
    block_ids
        The blocks to process.
    """

    kernel: PyramidKernel
    blocking: Blocking
    block_ids: IdSet

    @property
    def n_blocks(self) -> int:
        """How many blocks what is read has."""
        return self.blocking.n_blocks

    @property
    def outputs(self) -> tuple[Source, ...]:
        """The levels that are written."""
        return self.kernel.outputs

    def group_ids(self) -> IdSet:
        """Return the numbers of the groups: each block is one."""
        return self.block_ids

    def blocks_in(self, group_id: int) -> tuple[int, ...]:
        """Return the block."""
        return (group_id,)

    def narrowed(self, block_ids: IdSet) -> PyramidWork:
        """Return the same work on fewer blocks."""
        return replace(self, block_ids=block_ids)

    def counted_anew(self) -> PyramidWork:
        """Return the same work with nothing counted yet."""
        return replace(self, kernel=self.kernel.counted_anew())

    def tally(self) -> Tally:
        """Return what was done so far, and how long it took."""
        return self.kernel.tally()

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        """Make one block and record it."""
        for block_id in blocks:
            journal.done((block_id,), self.kernel.make_box(self.blocking[block_id]))
