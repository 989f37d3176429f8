"""The blocks of a copy as work for a backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.kernels import CopyKernel
from bioimage_py.runner.journal import Journal
from bioimage_py.runner.work import BlockGroups

__all__ = ["CopyWork"]


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

    kernel: CopyKernel
    blocking: Blocking
    group_shape: tuple[int, ...]
    block_ids: IdSet

    def groups(self) -> Iterator[tuple[int, ...]]:
        """Yield the block ids of one group of write units after the other."""
        return iter(BlockGroups(self.blocking, self.group_shape, self.block_ids))

    def process(self, group: tuple[int, ...], journal: Journal) -> None:
        """Copy the blocks of one group and record them."""
        if self.group_shape == self.blocking.block_shape:
            written = self.kernel.copy_box(self.blocking[group[0]])
        else:
            unit = self.kernel.output.write_unit
            assert unit is not None
            written = self.kernel.copy_group([self.blocking[i] for i in group], unit)
        journal.done(group, written)
