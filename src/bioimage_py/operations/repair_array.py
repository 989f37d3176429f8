"""Writing the damaged chunks of an array again, from a source that holds the same voxels."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import Hint, InvalidArgumentError, StorageError, UnsupportedFormatError
from bioimage_py.geometry import Blocking, Box, IdSet, tile_shape
from bioimage_py.kernels import TileDigest, TileKernel, differing
from bioimage_py.operations.check_array import ArrayCheck, threads_for
from bioimage_py.operations.options import RunOptions
from bioimage_py.runner import BlockJournal, LocalRunner, raise_failures
from bioimage_py.runner.work import Work
from bioimage_py.sources import Source, encoded_writer, from_spec, same_voxels
from bioimage_py.sources.stores import read_mark, settle_mark
from bioimage_py.storage import is_alive
from bioimage_py.wrapper.shape import turned_like


@dataclass(frozen=True)
class Damaged:
    """An array, and which of its write units are to be written again."""

    key: str
    spec: dict[str, Any] = field(repr=False)
    unit: tuple[int, ...]
    n_units: int
    numbers: IdSet  # of the units
    right: tuple[Box, ...] = ()  # some chunks that are right
    doubtful: frozenset[int] = frozenset()  # units that are written only if their voxels differ

    @classmethod
    def of(cls, array: ArrayCheck) -> Damaged:
        numbers = array.damaged()
        right, doubtful = array.some_right(numbers), frozenset(array.doubtful)
        return cls(
            array.key, array.source.to_spec(), array.unit, array.blocking.n_blocks, numbers, right, doubtful
        )

    @classmethod
    def all_of(cls, array: ArrayCheck) -> Damaged:
        return cls.of(array).whole()

    def whole(self) -> Damaged:
        """Return the array with all of its units to be written."""
        return replace(self, numbers=IdSet.from_range(self.n_units), right=())

    @property
    def folder(self) -> str:
        """Path of the array in a container."""
        return "/".join(filter(None, (str(self.spec.get("path")), self.spec.get("key"))))


class Repair:
    """Writes units of an array again; raises InvalidArgumentError, before anything is written, for a source of other voxels."""

    def __init__(self, damaged: Damaged, source: Source, stack: ExitStack) -> None:
        self._damaged = damaged
        mode = "r+" if damaged.numbers else "r"
        self._target = target = stack.enter_context(from_spec({**damaged.spec, "mode": mode}))
        self._source = source = turned_like(target, source)
        other = f"{source.name} is not what {target.name} was made from"
        if (source.shape, source.dtype.name) != (target.shape, target.dtype.name):
            raise InvalidArgumentError(
                f"{other}: it is {source.dtype} of shape {source.shape}, and not {target.dtype} of shape {target.shape}"
            )
        if same_voxels(source, target):
            raise InvalidArgumentError(
                f"{source.name} is the array that is to be repaired: give another source of its voxels"
            )
        for box in damaged.right:
            differs = differing(target.read(box), source.read(box))
            if differs.any():
                at = tuple(int(b + n) for b, n in zip(box.begin, np.argwhere(differs)[0], strict=True))
                raise InvalidArgumentError(f"{other}: voxel {at}, which is stored well, is another one there")
        self._digest = _kept_digest(target) if damaged.numbers else None
        if self._digest is not None:
            self._check_by_digest(self._digest, other)
        self._marked = target.mark_place()
        mark = None if self._marked is None else read_mark(self._marked)
        writing = mark and not mark.get("ended") and mark.get("pid") != os.getpid() and is_alive(mark)
        if mark and writing:
            raise InvalidArgumentError(
                f"{target.name} cannot be repaired: process {mark.get('pid')} is writing it"
            )

    def _check_by_digest(self, kept: TileDigest, other: str) -> None:
        """Compare some tiles of what is damaged: all are, when the array is checked again."""
        tiles = Blocking(kept.shape, tile_shape(len(kept.shape)))
        units = Blocking(kept.shape, self._damaged.unit)
        kernel = TileKernel(self._source)
        numbers = tiles.ids_over(units, self._damaged.numbers)
        for number in numbers[:: max(1, len(numbers) // 16)]:
            if kernel.hashes(tiles[number]) != kept.hashes[32 * number :][:32]:
                raise InvalidArgumentError(
                    f"{other}: the voxels from {tiles[number].begin} on are not those of the digest that is kept"
                )

    def write(self, options: RunOptions) -> None:
        if not self._damaged.numbers:
            return
        work = _RepairWork(
            self._target,
            self._source,
            Blocking(self._target.shape, self._damaged.unit),
            self._damaged.numbers,
            self._damaged.doubtful,
        )
        unit_bytes = math.prod(self._damaged.unit) * self._target.dtype.itemsize
        try:
            journal = LocalRunner().execute(
                work,
                threads_for(3 * unit_bytes, f"writing a chunk or shard of {self._target.name}", options),
                n_bytes=unit_bytes * len(work.block_ids),
                progress=options.progress if callable(options.progress) else None,
            )
        finally:
            if self._digest is not None:
                self._digest.store(self._target)  # it is that of the right voxels, but writing has removed it
        if journal.has_failures:
            raise_failures(journal, work.block_ids, f"repair of {self._target.name}")
        if self._marked is not None:
            settle_mark(self._marked, work.blocking, IdSet.from_range(work.blocking.n_blocks))


def _kept_digest(source: Source) -> TileDigest | None:
    try:
        return TileDigest.stored(source)
    except (StorageError, UnsupportedFormatError):
        return None  # a check tells of it


@dataclass
class _RepairWork(Work):
    how_to_finish = Hint("what was written is right: repair again")
    target: Source
    source: Source
    blocking: Blocking
    block_ids: IdSet
    doubtful: frozenset[int]

    @property
    def outputs(self) -> tuple[Source, ...]:
        return (self.target,)

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        box = self.blocking[blocks[0]]
        voxels = self.source.read(box)
        if blocks[0] in self.doubtful and self._is_right(box, voxels):
            journal.done(blocks)
            return
        try:
            self.target.write(box, voxels)
        except StorageError as error:
            # TensorStore reads a shard at the far faces before it writes it.
            try:
                encoded_writer(self.target).remove(self.blocking.position(blocks[0]))
            except UnsupportedFormatError:
                raise error from None
            self.target.write(box, voxels)
        journal.done(blocks, box.size * self.target.dtype.itemsize)

    def _is_right(self, box: Box, voxels: AnyArray) -> bool:
        try:
            return not differing(self.target.read(box), voxels).any()
        except StorageError:
            return False
