"""Work on the blocks of an array, in groups that share write units of the output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, cast

from bioimage_py.geometry import Blocking, Box, IdSet
from bioimage_py.runner.work.stored_sources import input_spec, output_spec
from bioimage_py.runner.work.work import Work

if TYPE_CHECKING:
    from bioimage_py.runner.run import RunFolder
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
        return block_ids if self.single else self._grid.ids_over(self.blocking, block_ids)

    def blocks_of(self, groups: IdSet, block_ids: IdSet) -> IdSet:
        """Return those of `block_ids` that are in any of the groups."""
        if self.single or not groups:
            return groups & block_ids
        near = block_ids & self.blocking.ids_over(self._grid, IdSet.from_range(groups[-1] + 1, groups[0]))
        if groups.n_runs == 1:
            return near
        if near.n_runs > 4 * groups.n_runs:
            return near & self.blocking.ids_over(self._grid, groups)
        # Mostly these are all groups that have blocks there, and each has few.
        others = self.group_ids(near) - groups
        return near - self.blocking.ids_over(self._grid, others) if others else near

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

    def blocks_of(self, groups: IdSet) -> IdSet:
        return self._groups.blocks_of(groups, self.block_ids)

    @property
    def groups_are_blocks(self) -> bool:
        return self._groups.single

    def narrowed(self, block_ids: IdSet) -> Self:
        fewer: Self = replace(cast("Any", self), block_ids=block_ids)
        return fewer

    def fingerprint(self) -> dict[str, Any]:
        return {**super().fingerprint(), **self._blocks(whole_too=True)}

    def settle_marks(self, done: IdSet, *, keep: bool = False) -> None:
        from bioimage_py.sources.stores import settle_mark  # not for workers

        for place in reversed([*self.marked_places()]):
            settle_mark(place, self.blocking, done, keep=keep)

    def _to_json(
        self, folder: RunFolder, inputs: Sequence[Source], mask: Source | None, **more: Any
    ) -> dict[str, Any]:
        from bioimage_py.runner.run import is_beside_data  # not for workers

        axes = inputs[0].metadata.axes if inputs else None
        return {
            "kind": self.kind,
            "axes": None if axes is None else list(axes),
            "inputs": [input_spec(source) for source in inputs],
            "outputs": [output_spec(source, alone=is_beside_data(folder.path)) for source in self.outputs],
            "mask": None if mask is None else input_spec(mask),
            **more,
            **self._blocks(),
            "block_ids": folder.store_ids(self.block_ids),
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


def stored_blocks(stored: dict[str, Any], folder: RunFolder) -> tuple[Blocking, tuple[int, ...], IdSet]:
    """Return blocking, group shape and block ids of stored work."""
    roi = None if stored["roi"] is None else Box(tuple(stored["roi"][0]), tuple(stored["roi"][1]))
    blocking = Blocking(tuple(stored["shape"]), tuple(stored["block_shape"]), roi=roi)
    return blocking, tuple(stored["group_shape"]), folder.stored_ids(stored["block_ids"])
