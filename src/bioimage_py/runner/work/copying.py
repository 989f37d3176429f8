"""The blocks of a copy as work for a backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import CastingError, StorageError
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.kernels import (
    CopyKernel,
    Meter,
    MovingKernel,
    Tally,
    TileKernel,
    TileTable,
    kernel_for_road,
    units_of,
)
from bioimage_py.runner.work.block_work import BlockWork, stored_blocks
from bioimage_py.runner.work.stored_sources import input_fingerprint, opened_sources, output_fingerprint

if TYPE_CHECKING:
    from bioimage_py.runner.journal import BlockJournal
    from bioimage_py.runner.run import RunFolder
    from bioimage_py.sources import Source

_MOST_FILES = 2000
"""Files that are asked for their size at the end of a run; on a network disk each takes a millisecond."""


@dataclass(frozen=True)
class CopyWork(BlockWork):
    """Copies blocks; those that share a shard are one group, and the shard is written once."""

    kernel: CopyKernel | MovingKernel
    blocking: Blocking
    group_shape: tuple[int, ...]
    block_ids: IdSet
    keep_results: bool = False  # the hashes of the tiles of each block, as they are written
    kind = "copy"
    returns_results = False

    @property
    def outputs(self) -> tuple[Source]:
        return (self.kernel.output,)

    @property
    def calls_are_short(self) -> bool:  # type: ignore[override]  # what others set, the kernel tells here
        return (
            not isinstance(self.kernel, CopyKernel) and self.kernel.calls_are_short and not self.keep_results
        )

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        """Copy the blocks of one group and record them; a write unit that fails takes only its own blocks with it.

        Where chunks are moved, a block that is left because of a stop goes on at its next attempt.
        """
        if self._groups.single:
            self._process_block(blocks[0], journal)
            return
        unit_shape = self.kernel.output.write_unit
        assert unit_shape is not None
        written, failed = 0, set[int]()
        for unit, parts in units_of([self.blocking[i] for i in blocks], self.kernel.output.shape, unit_shape):
            try:
                written += self.kernel.copy_parts(unit, [part for _, part in parts])
            except (CastingError, KeyboardInterrupt):
                raise  # the run ends with it
            except BaseException as error:  # noqa: BLE001 - recorded: the run ends with it in a RunnerError
                lost = {blocks[n] for n, _ in parts} - failed
                journal.failed(sorted(lost), error)
                failed |= lost
        journal.done([i for i in blocks if i not in failed], written)

    def _process_block(self, block_id: int, journal: BlockJournal) -> None:
        box, kernel, hashes = self.blocking[block_id], self.kernel, b""
        if not isinstance(kernel, CopyKernel):
            written, whole = kernel.copy_units(box, journal.units(block_id))
            if not whole:
                journal.done((), written)
                return
            if self.keep_results:
                with kernel.meter.mine.rest("computing"):
                    hashes = self._moved_tiles.hashes(box)
        elif self.keep_results:
            written, hashes = kernel.copy_hashed(box)
        else:
            written = kernel.copy_box(box)
        if self.keep_results:
            journal.done_with(block_id, hashes, written)
        else:
            journal.done((block_id,), written)

    @cached_property
    def _moved_tiles(self) -> TileKernel:
        """What decodes, for their hashes, chunks that are moved as they are."""
        return TileKernel(self.kernel.input)

    def close(self, results: Mapping[int, Any]) -> None:
        """Keep the digest of the output."""
        if self.keep_results:
            output = self.kernel.output
            table = TileTable(output)
            for block_id, block in enumerate(self.blocking):
                if (hashes := results.get(block_id)) is None:
                    raise StorageError(
                        f"no digest of {output.name} can be kept: the hashes of block {block_id} were not recorded. Its voxels are written"
                    )
                table.put(block, hashes)
            table.digest().store(output)

    def with_new_counts(self) -> CopyWork:
        return self.counted_by(Meter())

    def counted_by(self, meter: Meter) -> CopyWork:
        return replace(self, kernel=self.kernel.counted_by(meter))

    def tally(self) -> Tally:
        return self.kernel.tally()

    def encoded_sizes(self, tally: Tally) -> tuple[int | None, int | None]:
        """Besides those of chunks that were moved: an array that was read, or written, once and as a whole tells its own size."""
        if tally.chunks_moved and not tally.chunks_recoded:
            return super().encoded_sizes(tally)
        source, output = self.kernel.input, self.kernel.output
        once = tally.bytes_in == source.nbytes and _keeps_chunks_whole(source, self.blocking.block_shape)
        return (
            _stored_size(source) if once else None,
            # What takes one writer only may keep back what it has written until it is closed.
            _stored_size(output) if tally.bytes_out == output.nbytes and output.concurrent_writes else None,
        )

    def to_json(self, folder: RunFolder) -> dict[str, Any]:
        kernel = self.kernel
        moving = None if isinstance(kernel, CopyKernel) else moving_json(kernel)
        more = {"casting": kernel.casting, "moving": moving, "hashes_tiles": self.keep_results}
        return self._to_json(folder, [kernel.input], kernel.mask, **more)

    @classmethod
    def from_json(cls, stored: dict[str, Any], folder: RunFolder, threads: int, cache_bytes: int) -> CopyWork:
        (source,), (output,), mask = opened_sources(stored, threads, cache_bytes)
        kernel, moving = CopyKernel(source, output, mask, stored["casting"]), stored["moving"]
        on_road = kernel if moving is None else kernel_for_road(kernel, **moving)
        return cls(on_road, *stored_blocks(stored, folder), stored.get("hashes_tiles", False))

    def fingerprint(self) -> dict[str, Any]:
        kernel = self.kernel
        return {
            **super().fingerprint(),
            "input": input_fingerprint(kernel.input),
            "output": output_fingerprint(kernel.output),
            "casting": kernel.casting,
            "mask": input_fingerprint(kernel.mask),
            **({"digest": True} if self.keep_results else {}),
        }

    def image(self) -> tuple[Source]:
        return self.outputs


def moving_json(kernel: MovingKernel) -> dict[str, Any]:
    """Return how encoded chunks are moved, as arguments of `kernel_for_road` and `mover_for`."""
    options = kernel.options
    return {
        "road": kernel.match.road,
        "verify_encoded": options.verify_encoded,
        "output_is_new": options.output_is_new,
    }


def _keeps_chunks_whole(source: Source, block_shape: tuple[int, ...]) -> bool:
    """Whether no chunk lies in two blocks, and would be decoded for each of them."""
    if source.chunks is None:
        return True
    sides = zip(block_shape, source.chunks, source.shape, strict=True)
    return all(b % c == 0 or b >= n for b, c, n in sides)


def _stored_size(source: Source) -> int | None:
    from bioimage_py.planning import ArrayLayout  # not for workers

    if ArrayLayout.of(source).n_files > _MOST_FILES:
        return None
    try:
        found = source.stored_size()
    except OSError:
        return None  # what cannot be asked for is not known; a store that fails is reported by the run
    return None if found is None else found.n_bytes
