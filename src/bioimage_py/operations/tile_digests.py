"""Digests of whole arrays: the tiles of a source hashed block by block, on threads of this process."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Blocking, IdSet, tile_shape
from bioimage_py.kernels import TILE_BYTES, TileDigest, TileKernel, TileTable
from bioimage_py.operations.options import RunOptions
from bioimage_py.planning import ArrayLayout, CopyPlan, PlanOptions, format_bytes, n_cells, plan_copy
from bioimage_py.runner import BlockJournal, LocalRunner, raise_failures, run_twin
from bioimage_py.runner.work import Work
from bioimage_py.sources import Source


def digest_of(source: Source, options: RunOptions) -> TileDigest:
    """Return the digest of an array; raises RunnerError if blocks could not be read."""
    table, planned = TileTable(source), plan_digest(ArrayLayout.of(source), options)
    with run_twin(source, planned.threads, planned.cache_bytes) as twin:
        work = _DigestWork(TileKernel(twin), planned.blocking, table)
        progress = options.progress if callable(options.progress) else None
        journal = LocalRunner().execute(work, planned.in_flight, n_bytes=planned.bytes_in, progress=progress)
    if journal.has_failures:
        raise_failures(journal, work.block_ids, f"digest of {source.name}")
    return table.digest()


def plan_digest(layout: ArrayLayout, options: RunOptions) -> CopyPlan:
    """Return the plan of hashing an array that is stored like this; raises InvalidArgumentError where the memory limit does not allow it."""
    tile, limit = tile_shape(len(layout.shape)), options.memory_bytes
    held = TILE_BYTES * n_cells(layout.shape, tile)
    if limit is not None and limit <= held:
        raise InvalidArgumentError(
            f"the hashes of the tiles of {layout.name} take {format_bytes(held)}: give a larger memory limit"
        )
    tiles = ArrayLayout("tiles", "", layout.shape, layout.dtype, tile, in_memory=True)
    limit = None if limit is None else limit - held
    return reading_plan((layout, tiles), PlanOptions(memory_limit=limit, num_workers=options.num_workers))


def reading_plan(layouts: tuple[ArrayLayout, ArrayLayout], asked: PlanOptions) -> CopyPlan:
    """Return the plan of what reads only, with as many threads as the memory limit allows."""
    try:
        return plan_copy(*layouts, None, asked)
    except InvalidArgumentError:
        if asked.num_workers == 1:
            raise
    return reading_plan(layouts, replace(asked, num_workers=asked.num_workers // 2))


@dataclass(frozen=True)
class _DigestWork(Work):
    kernel: TileKernel
    blocking: Blocking
    table: TileTable
    outputs = ()

    @property
    def block_ids(self) -> IdSet:
        return IdSet.from_range(self.blocking.n_blocks)

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        block = self.blocking[blocks[0]]
        self.table.put(block, self.kernel.hashes(block))
        journal.done(blocks, block.size * self.table.dtype.itemsize)
