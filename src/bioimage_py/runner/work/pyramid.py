"""The blocks of a pyramid as work for a backend: each is read once and written to several levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.kernels import PyramidKernel, Tally, mover_for
from bioimage_py.runner.work.block_work import BlockWork, stored_blocks
from bioimage_py.runner.work.copying import moving_json
from bioimage_py.runner.work.stored_sources import input_fingerprint, opened_sources, output_fingerprint

if TYPE_CHECKING:
    from bioimage_py.runner.journal import BlockJournal
    from bioimage_py.runner.run import RunFolder
    from bioimage_py.sources import Source


@dataclass(frozen=True)
class PyramidWork(BlockWork):
    """Makes levels of a pyramid from what is read; blocks hold whole write units of each, so that no two meet in one."""

    kernel: PyramidKernel
    blocking: Blocking
    block_ids: IdSet
    kind = "pyramid"
    shares_image = True

    @property
    def group_shape(self) -> tuple[int, ...]:
        return self.blocking.block_shape

    @property
    def outputs(self) -> tuple[Source, ...]:
        return self.kernel.outputs

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        for block_id in blocks:
            journal.done((block_id,), self.kernel.make_box(self.blocking[block_id]))

    def with_new_counts(self) -> PyramidWork:
        return replace(self, kernel=self.kernel.with_new_counts())

    def tally(self) -> Tally:
        return self.kernel.tally()

    def to_json(self, folder: RunFolder) -> dict[str, Any]:
        kernel = self.kernel
        return self._to_json(
            folder,
            [kernel.input],
            None,
            steps=[list(step) for step in kernel.steps],
            method=kernel.method,
            tile_shape=list(kernel.tile_shape),
            casting=kernel.casting,
            moving=None if kernel.mover is None else moving_json(kernel.mover),
        )

    @classmethod
    def from_json(
        cls, stored: dict[str, Any], folder: RunFolder, threads: int, cache_bytes: int
    ) -> PyramidWork:
        (source,), outputs, _ = opened_sources(stored, threads, cache_bytes)
        kernel = PyramidKernel(
            source,
            tuple(outputs),
            tuple(map(tuple, stored["steps"])),
            stored["method"],
            tuple(stored["tile_shape"]),
            stored["casting"],
            None if stored["moving"] is None else mover_for(source, outputs[0], **stored["moving"]),
        )
        blocking, _, ids = stored_blocks(stored, folder)
        return cls(kernel, blocking, ids)

    def fingerprint(self) -> dict[str, Any]:
        kernel = self.kernel
        return {
            **super().fingerprint(),
            "input": input_fingerprint(kernel.input),
            **{f"output {n}": output_fingerprint(output) for n, output in enumerate(kernel.outputs)},
            "steps": [list(step) for step in kernel.steps],
            "method": kernel.method,
            "casting": kernel.casting,
        }

    def image(self) -> tuple[Source, ...]:
        return self.outputs

    def settle_marks(self, done: IdSet, *, keep: bool = False) -> None:
        """Take the marks away when all is done: blocks of what is read are not blocks of the levels."""
        if not self.block_ids - done:
            super().settle_marks(self.block_ids, keep=keep)
