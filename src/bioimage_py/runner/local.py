"""The local backend: threads of this process, with no more blocks in hand than threads."""

from __future__ import annotations

from collections.abc import Callable

from bioimage_py.errors import RunInterrupted
from bioimage_py.runner.base import Resources, Runner
from bioimage_py.runner.crew import Crew
from bioimage_py.runner.journal import Journal, Progress, ProgressTicker
from bioimage_py.runner.work import Work

__all__ = ["LocalRunner"]


class LocalRunner(Runner):
    """Runs blocks on threads of this process.

    A thread takes the next block when it has finished one, so the number of blocks in flight, and with it the memory,
    is bounded by the number of threads. A block that fails does not stop the others.

    Parameters
    ----------
    config
        Settings; only `memory_limit` matters here.

    Examples
    --------
    >>> import numpy as np
    >>> from bioimage_py import get_runner, to_roi
    >>> image, result = np.arange(20.0).reshape(4, 5), np.zeros((4, 5))
    >>> def double(block, inputs, outputs, mask):
    ...     outputs[0][to_roi(block)] = 2 * inputs[0][to_roi(block)]
    >>> get_runner("local").run(double, [image], [result], block_shape=(2, 5), num_workers=2)
    >>> bool((result == 2 * image).all())
    True
    """

    job_type = "local"

    def execute(
        self,
        work: Work,
        num_workers: int,
        *,
        resources: Resources | None = None,
        n_bytes: int = 0,
        progress: Callable[[Progress], None] | None = None,
        resume_from: str | None = None,
    ) -> Journal:
        """Process all groups of the work; failures are in the journal, not raised.

        Raises
        ------
        RunInterrupted
            On Ctrl-C, within a second; it lists what is done.
        """
        del resources
        self.check_resume(resume_from, None)
        journal = Journal(len(work.block_ids), n_bytes)
        ticker = ProgressTicker(journal, progress)
        try:
            groups = work.group_ids()
            Crew(work, groups, journal).run(max(1, min(num_workers, len(groups))), ticker.tick)
        except KeyboardInterrupt as error:
            done = journal.done_ids()
            left = work.block_ids - done
            raise RunInterrupted(
                f"interrupted: {len(done)} of {len(work.block_ids)} blocks are done and stay written. "
                "Call again with block_ids=error.failed_block_ids and the same block shape and output to finish",
                done,
                left,
            ) from error
        ticker.tick(last=True)
        return journal
