"""What a backend executes: blocks in groups, each group given whole to one worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from bioimage_py.geometry import Blocking, IdSet

if TYPE_CHECKING:
    from bioimage_py.runner.journal import BlockJournal
    from bioimage_py.sources import Source


class Work(Protocol):
    """The blocks of one run and what to do with them."""

    @property
    def block_ids(self) -> IdSet:
        """The blocks to process."""
        ...

    def group_ids(self) -> IdSet:
        """Return the numbers of the groups that hold them."""
        ...

    def blocks_in(self, group_id: int) -> tuple[int, ...]:
        """Return the blocks to process of one group; over all groups, every id of `block_ids` exactly once."""
        ...

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        """Process one group and record each of its blocks, or raise and record none: then all of them have failed."""
        ...


class PortableWork(Work, Protocol):
    """Work that can be given to other processes, and cut down to what is missing."""

    @property
    def outputs(self) -> Sequence[Source]:
        """The sources that are written."""
        ...

    def narrowed(self, block_ids: IdSet) -> Self:
        """Return the same work on fewer blocks."""
        ...


class BlockGroups:
    """Partitions blocks so that those which share a write unit of the output stay together.

    Parameters
    ----------
    blocking
        The blocks.
    group_shape
        Extent of a group in voxels; a multiple of the block shape on each axis, or the whole axis.
    """

    def __init__(self, blocking: Blocking, group_shape: tuple[int, ...]) -> None:
        self.blocking = blocking
        self.single = tuple(group_shape) == blocking.block_shape
        self._grid = Blocking(blocking.shape, group_shape, roi=blocking.roi)

    def group_ids(self, block_ids: IdSet) -> IdSet:
        """Return the groups that hold these blocks."""
        if self.single:
            return block_ids
        if len(block_ids) == self.blocking.n_blocks:
            return IdSet.from_range(self._grid.n_blocks)
        ids = np.concatenate(
            [np.arange(b, e, dtype=np.int64) for b, e in block_ids.runs] or [np.empty(0, np.int64)]
        )
        groups = np.zeros_like(ids)
        for axis, positions in enumerate(np.unravel_index(ids, self.blocking.grid_shape) if ids.size else ()):
            groups = groups * self._grid.grid_shape[axis] + self._cells(axis)[positions]
        return IdSet.from_ids(np.unique(groups).tolist())

    def _cells(self, axis: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the group's place on an axis for each block's."""
        first = self.blocking.roi.begin[axis]
        block, group = self.blocking.block_shape[axis], self._grid.block_shape[axis]
        positions = np.arange(self.blocking.grid_shape[axis], dtype=np.int64) + first // block
        return positions * block // group - first // group

    def blocks_in(self, group_id: int, block_ids: IdSet) -> tuple[int, ...]:
        """Return those of `block_ids` that are in a group, in ascending order."""
        if self.single:
            return (group_id,)
        inside = self.blocking.ids_in(self._grid[group_id])
        if len(block_ids) == self.blocking.n_blocks:
            return tuple(inside)
        return tuple(i for i in inside if i in block_ids)
