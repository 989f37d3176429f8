"""Work on the blocks of an array, in groups that share write units of the output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from bioimage_py.geometry import Blocking, Box, IdSet
from bioimage_py.runner.work.stored_sources import input_spec, output_spec
from bioimage_py.runner.work.work import Work

if TYPE_CHECKING:
    from bioimage_py.sources import Source


class BlockGroups:
    """Partitions blocks so that those which share a write unit of the output stay together.

    `group_shape` is the extent of a group in voxels: a multiple of the block shape on each axis, or the whole axis.
    """

    def __init__(self, blocking: Blocking, group_shape: tuple[int, ...]) -> None:
        self.blocking = blocking
        self.single = tuple(group_shape) == blocking.block_shape
        self._grid = Blocking(blocking.shape, group_shape, roi=blocking.roi)

    def group_ids(self, block_ids: IdSet) -> IdSet:
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


class BlockWork(Work):
    """Work on blocks; subclasses are dataclasses that have the attributes below."""

    if TYPE_CHECKING:

        @property
        def blocking(self) -> Blocking:
            """The blocks."""

        @property
        def group_shape(self) -> tuple[int, ...]:
            """Extent of a group in voxels, whole write units."""

    @property
    def n_blocks(self) -> int:
        """How many blocks the whole array has."""
        return self.blocking.n_blocks

    @cached_property
    def _groups(self) -> BlockGroups:
        return BlockGroups(self.blocking, self.group_shape)

    def group_ids(self) -> IdSet:
        return self._groups.group_ids(self.block_ids)

    def blocks_in(self, group_id: int) -> tuple[int, ...]:
        return self._groups.blocks_in(group_id, self.block_ids)

    def narrowed(self, block_ids: IdSet) -> Self:
        fewer: Self = replace(cast("Any", self), block_ids=block_ids)
        return fewer

    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint(), **self._blocks(whole_too=True)}

    def settle_marks(self, done: IdSet) -> None:
        from bioimage_py.sources.stores import settle_mark  # not for workers

        for place in self.marked_places():
            if place.is_local:
                settle_mark(place.path, self.blocking, done)

    def _to_json(self, inputs: Iterable[Source], mask: Source | None, **more: Any) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "inputs": [input_spec(source) for source in inputs],
            "outputs": [output_spec(source) for source in self.outputs],
            "mask": None if mask is None else input_spec(mask),
            **more,
            **self._blocks(),
            "block_ids": self.block_ids.to_json(),
        }

    def _blocks(self, *, whole_too: bool = False) -> dict[str, Any]:
        blocking, roi = self.blocking, self.blocking.roi
        whole = roi == Box.whole(blocking.shape) and not whole_too
        return {
            "shape": list(blocking.shape),
            "block_shape": list(blocking.block_shape),
            "roi": None if whole else [list(roi.begin), list(roi.end)],
            "group_shape": list(self.group_shape),
        }


def stored_blocks(stored: dict[str, Any]) -> tuple[Blocking, tuple[int, ...], IdSet]:
    """Return blocking, group shape and block ids of stored work."""
    roi = None if stored["roi"] is None else Box(tuple(stored["roi"][0]), tuple(stored["roi"][1]))
    blocking = Blocking(tuple(stored["shape"]), tuple(stored["block_shape"]), roi=roi)
    return blocking, tuple(stored["group_shape"]), IdSet.from_json(stored["block_ids"])
