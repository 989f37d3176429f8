"""A copy in one pass: the whole array at once where it fits and nothing else is asked for, else block by block."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from bioimage_py.errors import RunInterrupted
from bioimage_py.geometry import Box, IdSet
from bioimage_py.kernels import CopyKernel
from bioimage_py.operations.copy_request import CopyRequest
from bioimage_py.operations.planned_work import planned_work
from bioimage_py.planning import CopyPlan
from bioimage_py.runner import Journal, Progress, Resources, raise_failures, run_twin
from bioimage_py.runner.run import RunAccount, account_of_run, settle_outputs
from bioimage_py.runner.work import CopyWork
from bioimage_py.sources import Source, leaves

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OnePassCopy:
    """A copy from the input into the output.

    Attributes
    ----------
    request, planned, casting
        Of the copy.
    output_is_new
        Whether the copy has made the output.
    """

    request: CopyRequest
    planned: CopyPlan
    casting: str
    output_is_new: bool

    def run(self, sink: Source, progress: Callable[[Progress], None] | None) -> Journal:
        """Copy all blocks.

        Raises
        ------
        RunnerError
            If blocks failed; `failed_block_ids` are those that are not done.
        """
        if not self.planned.block_ids or 0 in sink.shape:
            journal = Journal(0)
            journal.account = RunAccount()
            if progress is not None:
                progress(journal.progress())
            return journal
        journal = self._run(sink, progress)
        if journal.has_failures:
            name = f"copy of {self.request.source.name} into {sink.name}"
            raise_failures(journal, self.planned.block_ids, name)
        return journal

    def _run(self, sink: Source, progress: Callable[[Progress], None] | None) -> Journal:
        request, planned = self.request, self.planned
        if not request.runner.in_process:
            work = self._work(request.source, sink, request.mask)
            return self._executed(work, request.num_workers, progress)
        with ExitStack() as stack:
            source = stack.enter_context(run_twin(request.source, planned.threads, planned.cache_bytes))
            output = stack.enter_context(run_twin(sink, planned.threads))
            mask = request.mask
            if mask is not None:
                mask = stack.enter_context(run_twin(mask, planned.threads))
            work = self._work(source, output, mask)
            if planned.direct and (journal := _copied_at_once(work, planned, progress)) is not None:
                return journal
            # What the attempt at once has counted has come to nothing.
            return self._executed(work.counted_anew(), planned.in_flight, progress)

    def _work(self, source: Source, sink: Source, mask: Source | None) -> CopyWork:
        fresh = self.output_is_new and self.request.resume_from is None
        kernel = CopyKernel(source, sink, mask, self.casting)
        verify_encoded = self.request.verify_encoded
        return planned_work(kernel, self.planned, verify_encoded=verify_encoded, output_is_new=fresh)

    def _executed(
        self, work: CopyWork, num_workers: int, progress: Callable[[Progress], None] | None
    ) -> Journal:
        return self.request.runner.execute(
            work,
            num_workers,
            resources=Resources(self.planned.in_flight, self.planned.cache_bytes),
            n_bytes=self.planned.bytes_out,
            progress=progress,
            resume_from=self.request.resume_from,
        )


def _copied_at_once(
    work: CopyWork, planned: CopyPlan, progress: Callable[[Progress], None] | None
) -> Journal | None:
    """Copy the whole array in one go; None if that failed, so that going block by block tells which blocks do."""
    journal = Journal(planned.n_blocks, planned.bytes_out)
    try:
        written = work.kernel.copy_box(Box.whole(work.kernel.output.shape))
        for leaf in leaves(work.kernel.output):
            leaf.flush()
    except KeyboardInterrupt as error:
        raise RunInterrupted(
            f"interrupted: none of {planned.n_blocks} blocks is done. Call again to copy them",
            IdSet(),
            planned.block_ids,
        ) from error
    except BaseException as error:  # noqa: BLE001 - the blocks will meet it again, and their run reports it
        _log.info("copying the whole array at once failed (%s); going block by block", error)
        return None
    journal.done(planned.block_ids, written)
    journal.account = account_of_run(work, journal.seconds, 1)
    try:
        if progress is not None:
            progress(journal.progress())
    finally:
        settle_outputs(work, planned.block_ids)
    return journal
