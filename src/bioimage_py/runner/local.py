"""The local backend: threads of this process, with no more blocks in hand than threads."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    MissingDependencyError,
    NotPortableError,
    RunInterrupted,
    RunnerError,
    StorageError,
)
from bioimage_py.geometry import IdSet
from bioimage_py.runner.account import read_values
from bioimage_py.runner.base import Resources, Runner
from bioimage_py.runner.finished import read_finished
from bioimage_py.runner.interrupt_hint import explained_interrupt
from bioimage_py.runner.journal import BlockJournal, Journal, Progress, ProgressTicker
from bioimage_py.runner.leftovers import remove_leftovers
from bioimage_py.runner.new_run import new_run_folder, take_given_functions
from bioimage_py.runner.rounds import FIRST_NEEDS
from bioimage_py.runner.run import (
    AttemptJournal,
    RunFolder,
    account_of_attempts,
    account_of_run,
    check_outputs,
    driving,
    finish_hint,
    finish_outputs,
    settle_outputs,
)
from bioimage_py.runner.task import settling
from bioimage_py.runner.work import (
    CompositeWork,
    PortableWork,
    TwoPassWork,
    Work,
    asked_of,
    check_fingerprint,
    close_temporary_store,
    counted_anew,
    counting,
    fingerprint_of,
    ready_blocks,
)
from bioimage_py.runner.worker_threads import Crew
from bioimage_py.sources import leaves
from bioimage_py.storage import begin_anew


class LocalRunner(Runner):
    """Runs blocks on threads of this process.

    A thread takes the next block when it has finished one, so the number of blocks in flight, and with it the memory,
    is bounded by the number of threads. A block that fails does not stop the others.

    Parameters
    ----------
    config
        Settings. With `tmp_root`, a run keeps a run folder there, from which it can be resumed even if this process is
        killed, where its sources and its function could be opened by another process.

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
        work: Any,
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
        InvalidArgumentError
            If the run folder to resume is of another call.
        RunInterrupted
            On Ctrl-C, within a second; it lists what is done.
        """
        self.check_resume(resume_from, None)
        begin_anew()
        if resume_from is not None:
            folder = RunFolder.open(resume_from)
            run = folder.read_run()
            check_fingerprint(run["work"], fingerprint_of(work))
            check_outputs(folder, run)
            return self.drive(folder, work, num_workers, progress=progress, resumes=True)
        kept = self._new_folder(work, num_workers, resources or Resources(num_workers), n_bytes)
        if kept is not None:
            return self.drive(kept, work, num_workers, progress=progress)
        journal = Journal(len(work.block_ids), n_bytes)
        how = (
            Hint.of(
                "its parts wait for each other, so it starts anew; a run with {} can be resumed",
                resumable=True,
            )
            if isinstance(work, CompositeWork) and not isinstance(work, TwoPassWork)
            else Hint(
                "to finish, call again with block_ids=error.failed_block_ids and the same block shape and output"
            )
        )
        threads = _threads(work, num_workers)
        ticker = ProgressTicker(journal, progress)
        try:
            _run(work, journal, journal, threads, ticker.tick, how)
            _flush(work, journal)
            if self.config.durable and hasattr(work, "outputs"):
                settling(work)()
            journal.account = account_of_run(work, journal.seconds, threads)
            ticker.tick(last=True)
        finally:
            # Last of all: whoever dies within the user's progress function has not finished.
            settle_outputs(work, journal.done_ids())
        return journal

    def drive(
        self,
        folder: RunFolder,
        work: PortableWork,
        num_workers: int,
        *,
        progress: Callable[[Progress], None] | None = None,
        resumes: bool = False,
    ) -> Journal:
        """Run what is missing of a run that keeps a folder, and return the journal of all of it."""
        how = finish_hint(folder.path)
        with explained_interrupt(folder, work, lambda _: [how]):
            run = folder.read_run()
            with driving(folder):
                if resumes:
                    take_given_functions(folder, work)
                account = read_finished(folder, work)
                journal = Journal(len(work.block_ids), run["bytes"], folder=folder.path)
                done = account.done & work.block_ids
                journal.merge(done, read_values(folder, done))
                journal.done((), account.n_bytes)
                missing = counted_anew(work.narrowed(work.block_ids - done))
                ticker = ProgressTicker(journal, progress)
                if missing.block_ids:
                    number = folder.n_rounds()
                    content = {"todo": missing.block_ids.to_json(), "tasks": [missing.group_ids().to_json()]}
                    folder.write_round(number, {**content, "needs": FIRST_NEEDS})
                    settle = settling(work) if self.config.durable or run["durable"] else None
                    threads = _threads(missing, num_workers)
                    try:
                        with AttemptJournal(
                            folder, number, 0, settle=settle, counted=counting(missing), threads=threads
                        ) as attempt:
                            _run(missing, journal, _Both(attempt, journal), threads, ticker.tick, how)
                    except StorageError as error:
                        done = read_finished(folder, work, errors=False).done
                        every, left = (asked_of(work, ids) for ids in (work.block_ids, work.block_ids - done))
                        raise RunnerError(
                            f"{len(left)} of {len(every)} blocks are not known to be done: {error.message}",
                            left,
                            folder.path,
                            hints=[*error.hints, how],
                        ) from error
                attempts = folder.attempts()
                journal.account = account_of_attempts(work, map(folder.read_state, attempts))
                ticker.tick(last=True)
                remove_leftovers(work, account)
                settle_outputs(work, journal.done_ids())
                if not journal.has_failures:
                    finish_outputs(folder)
                    close_temporary_store(work)
                    if not self.config.keep_run_folder:
                        folder.remove()
        return journal

    def check_resume(
        self, resume_from: str | os.PathLike[str] | None, block_ids: Iterable[int] | None
    ) -> None:
        """Raise InvalidArgumentError if there is no such run folder, or ids are given besides."""
        super().check_resume(resume_from, block_ids)
        if resume_from is None:
            return
        try:
            RunFolder.open(resume_from)
        except BioimagePyError as error:
            raise InvalidArgumentError(
                "resume_from is for distributed runs, and for local ones with tmp_root= in their RunnerConfig: they keep a run "
                f"folder. {error.message}",
                hints=[Hint("for a local run without one, give block_ids=error.failed_block_ids")],
            ) from error

    def _new_folder(self, work: Work, threads: int, resources: Resources, n_bytes: int) -> RunFolder | None:
        """Return a new run folder, None if none is asked for or nobody else could go on with the run."""
        if not self.config.asks_for_folder:
            return None
        try:
            return new_run_folder(work, self.job_type, self.config, threads, resources, n_bytes)  # type: ignore[arg-type]
        except (NotPortableError, MissingDependencyError) as error:
            if self.config.resumable:
                raise InvalidArgumentError(f"the run cannot be resumable: {error}") from error
            warnings.warn(
                f"no run folder is kept, so this run cannot be resumed: {error}",
                BioimagePyWarning,
                stacklevel=6,
            )
            return None


class _Both:
    """Records blocks where they outlive this process, then in memory."""

    def __init__(self, attempt: AttemptJournal, journal: Journal) -> None:
        self._journals: tuple[BlockJournal, BlockJournal] = (attempt, journal)

    def done(self, block_ids: Iterable[int], n_bytes: int = 0) -> None:
        ids = tuple(block_ids)
        for journal in self._journals:
            journal.done(ids, n_bytes)

    def done_with(self, block_id: int, result: Any) -> None:
        for journal in self._journals:
            journal.done_with(block_id, result)

    def failed(self, block_ids: Iterable[int], error: BaseException) -> None:
        ids = tuple(block_ids)
        for journal in self._journals:
            journal.failed(ids, error)


def _threads(work: Work, num_workers: int) -> int:
    """Return how many threads there is work for."""
    return max(1, min(num_workers, len(work.group_ids())))


def _flush(work: Work, journal: Journal) -> None:
    """Have all that libraries keep in memory written: only then are the blocks done."""
    if isinstance(work, CompositeWork) and not isinstance(work, TwoPassWork):
        return  # whole images, whose stores keep nothing back: they would all be opened for this
    if not hasattr(work, "outputs"):
        return  # nothing is known to be written
    try:
        for source in work.outputs:
            for leaf in leaves(source):
                leaf.flush()
    except BioimagePyError as error:
        journal.lose(error)


def _run(
    work: Work,
    journal: Journal,
    records: BlockJournal,
    threads: int,
    tick: Callable[[], None],
    how_to_finish: Hint,
) -> None:
    """Process all groups on threads; on Ctrl-C raise RunInterrupted with what is done."""
    wave = ready_blocks(work, work.block_ids)
    try:
        while wave:
            begun = work.narrowed(wave) if isinstance(work, CompositeWork) else work
            Crew(begun, begun.group_ids(), records).run(_threads(begun, threads), tick)
            if begun is work:
                break
            # A wave that was not done entirely keeps the next from beginning.
            ready = ready_blocks(work, work.block_ids - journal.done_ids())
            wave = ready - wave if not ready & wave else IdSet()
    except KeyboardInterrupt as error:
        done, left = (
            asked_of(work, ids) for ids in (journal.done_ids(), work.block_ids - journal.done_ids())
        )
        raise RunInterrupted(
            f"interrupted: {len(done)} of {len(done) + len(left)} blocks are done and stay written",
            done,
            IdSet(left.runs),
            journal.folder,
            hints=[how_to_finish],
        ) from error
