"""What a backend executes: blocks in groups, each group given whole to one worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.runner.journal import Journal

__all__ = ["BlockGroups", "Work"]


class Work(Protocol):
    """The blocks of one run and what to do with them."""

    @property
    def block_ids(self) -> IdSet:
        """The blocks to process."""
        ...

    def groups(self) -> Iterator[tuple[int, ...]]:
        """Yield block ids group by group, lazily; every id of `block_ids` exactly once."""
        ...

    def process(self, group: tuple[int, ...], journal: Journal) -> None:
        """Process one group and record each of its blocks, or raise and record none: then all of them have failed."""
        ...


class BlockGroups:
    """Partitions block ids so that blocks which share a write unit of the output stay together.

    Parameters
    ----------
    blocking
        The blocks.
    group_shape
        Extent of a group in voxels; a multiple of the block shape on each axis, or the whole axis.
    block_ids
        The blocks to hand out.
    """

    def __init__(self, blocking: Blocking, group_shape: tuple[int, ...], block_ids: IdSet) -> None:
        self.blocking = blocking
        self.block_ids = block_ids
        self._single = tuple(group_shape) == blocking.block_shape
        self._grid = Blocking(blocking.shape, group_shape, roi=blocking.roi)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        if self._single:
            return ((block_id,) for block_id in self.block_ids)
        if len(self.block_ids) == self.blocking.n_blocks:
            return self._all_groups()
        return self._groups_of_selected()

    def _all_groups(self) -> Iterator[tuple[int, ...]]:
        for group in self._grid:
            yield tuple(self.blocking.ids_in(group))

    def _groups_of_selected(self) -> Iterator[tuple[int, ...]]:
        seen = set()
        for block_id in self.block_ids:
            group_id = next(self._grid.ids_in(self.blocking[block_id]))
            if group_id not in seen:
                seen.add(group_id)
                inside = self.blocking.ids_in(self._grid[group_id])
                yield tuple(i for i in inside if i in self.block_ids)
