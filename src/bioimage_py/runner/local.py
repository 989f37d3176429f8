"""The local backend: threads of this process, with no more blocks in hand than threads."""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    MissingDependencyError,
    NotPortableError,
    RunnerError,
    StorageError,
)
from bioimage_py.geometry import IdSet
from bioimage_py.runner.base import Runner, nothing
from bioimage_py.runner.config import Resources
from bioimage_py.runner.journal import BlockJournal, Journal, Report
from bioimage_py.runner.kept_run import interrupted, new_run_folder
from bioimage_py.runner.rounds import FIRST_NEEDS
from bioimage_py.runner.run import (
    AttemptJournal,
    Portion,
    RunFolder,
    account_of_attempts,
    account_of_run,
    is_beside_data,
    read_recorded,
    read_units,
)
from bioimage_py.runner.work import Work
from bioimage_py.runner.worker_threads import WorkerThreads
from bioimage_py.sources import Source, leaves
from bioimage_py.sources.stores import renew_mark
from bioimage_py.storage import StoreFolder, forget_failures, give_up_waiting, this_process

if TYPE_CHECKING:
    from bioimage_py.kernels import BlockUnits

_log = logging.getLogger(__name__)
_COUNTED_EVERY = 1.0
"""Seconds between two times that the mark of an output tells how far the copy is."""


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
        work: Work,
        num_workers: int,
        *,
        resources: Resources | None = None,
        n_bytes: int = 0,
        progress: Report | None = None,
        resume_from: str | None = None,
        finish: Callable[[], None] = nothing,
        beside: str | None = None,
    ) -> Journal:
        """Process all groups of the work, without a run folder where none is asked for or can be kept; as in `Runner`."""
        forget_failures()
        if resume_from is not None:
            return super().execute(
                work, num_workers, progress=progress, resume_from=resume_from, finish=finish
            )
        if self.config.asks_for_folder or beside is not None:
            kept = self._new_folder(work, num_workers, resources or Resources(num_workers), n_bytes, beside)
            if kept is not None:
                return self.drive(kept, work, num_workers, progress=progress, finish=finish)
        journal = Journal(len(work.block_ids), n_bytes)
        threads, closed = _threads(work, num_workers), False
        try:
            threads = _process_waves(work, journal, journal, threads, lambda: journal.tell(progress))
            try:
                work.flush()
            except BioimagePyError as error:
                journal.lose(error)
            if self.config.durable:
                work.settling()()
            journal.account = account_of_run(work, journal.seconds, threads)
            journal.tell(progress, last=True)
            if not journal.has_failures:
                finish()
                work.close(journal.results)
            closed = True
        except KeyboardInterrupt as error:
            # Also one within the last call of the user's progress function, which is the only call in a short run.
            give_up_waiting()
            raise interrupted(work, journal.done_ids(), [work.how_to_finish]) from error
        finally:
            # Last of all: whoever dies within the user's progress function has not finished.
            self.settle(work, journal, keep=not closed)
        return journal

    def check_resume(
        self, resume_from: str | os.PathLike[str] | None, block_ids: Iterable[int] | None
    ) -> None:
        """Raise InvalidArgumentError if there is no such run folder, or ids are given too."""
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

    def process(self, folder: RunFolder, work: Work, num_workers: int, report: Report | None) -> Journal:
        run, before = folder.read_run(), read_recorded(folder, with_values=work.keep_results)
        journal = Journal(len(work.block_ids), run["bytes"], folder=folder.path)
        done = before.done & work.block_ids
        if done:
            _log.info("continued: %d of %d blocks were done", len(done), len(work.block_ids))
        journal.merge(done, before.values(done))
        journal.done((), before.n_bytes)
        missing = work.narrowed(work.block_ids - done).with_new_counts()
        if before.attempts and is_beside_data(folder.path):
            for place in work.marked_places():
                renew_mark(place, **this_process(), ended=False)
        if missing.block_ids:
            number = folder.n_rounds()
            # All in one portion, which nobody claims: threads of one process share it.
            content = {"needs": FIRST_NEEDS, "at_once": 1, "tasks": 1}
            folder.write_round(number, [Portion(missing.group_ids())], content)
            settle = work.settling() if self.config.durable or run["durable"] else None
            threads = _threads(missing, num_workers)
            try:
                with (
                    _shown(folder, work, journal, report) as tick,
                    AttemptJournal(
                        folder,
                        number,
                        0,
                        settle=settle,
                        tally=missing.tally,
                        threads=threads,
                        stop=journal.stop,
                    ) as attempt,
                ):
                    attempt.know(read_units(folder.attempts()))
                    attempt.worked_by(
                        _process_waves(missing, journal, _Both(attempt, journal), threads, tick)
                    )
            except StorageError as error:
                done = read_recorded(folder, with_values=work.keep_results).done
                every, left = work.asked(work.block_ids), work.asked(work.block_ids - done)
                raise RunnerError(
                    f"{len(left)} of {len(every)} blocks are not known to be done: {error.message}",
                    left,
                    folder.path,
                    hints=[*error.hints, *self.interrupt_hints(folder)],
                ) from error
        journal.states = [folder.read_state(attempt) for attempt in folder.attempts()]
        account = account_of_attempts(work, journal.states)
        if account is not None and done:
            account = replace(account, blocks_before=len(done), blocks=len(work.block_ids))
        journal.account = account
        journal.tell(report, last=True)
        return journal

    def _new_folder(
        self, work: Work, threads: int, resources: Resources, n_bytes: int, beside: str | None
    ) -> RunFolder | None:
        """Return a new run folder; None if no other process could resume the run."""
        beside = None if self.config.asks_for_folder else beside
        try:
            return new_run_folder(work, self.job_type, self.config, threads, resources, n_bytes, beside)
        except BioimagePyError as error:
            if beside is not None:
                _log.info("the same call would begin anew: %s", error)
                return None
            if not isinstance(error, (NotPortableError, MissingDependencyError)):
                raise
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

    def done_with(self, block_id: int, result: Any, n_bytes: int = 0) -> None:
        for journal in self._journals:
            journal.done_with(block_id, result, n_bytes)

    def failed(self, block_ids: Iterable[int], error: BaseException) -> None:
        ids = tuple(block_ids)
        for journal in self._journals:
            journal.failed(ids, error)

    def units(self, block_id: int) -> BlockUnits:
        return self._journals[0].units(block_id)

    def hopeless(self) -> str:
        return self._journals[0].hopeless()


@contextlib.contextmanager
def _shown(
    folder: RunFolder, work: Work, journal: Journal, report: Report | None
) -> Iterator[Callable[[], None]]:
    """Give what is called again and again during a run: it shows the progress to the user, and to whoever opens the output."""
    if not is_beside_data(folder.path):
        yield lambda: journal.tell(report)
        return
    place = StoreFolder(str(Path(str(folder.path)).parents[1]))
    due = time.monotonic() + _COUNTED_EVERY

    def count() -> None:
        renew_mark(place, run=[len(journal.done_ids()), journal.blocks_total])

    def tick() -> None:
        nonlocal due
        journal.tell(report)
        if time.monotonic() > due:
            count()
            due = time.monotonic() + _COUNTED_EVERY

    count()
    try:
        yield tick
    except BaseException:
        # What is told to be missing is what the marks say, so that whoever does it takes them away.
        work.settle_marks(read_recorded(folder).done & work.block_ids, keep=True)
        raise
    count()


def _threads(work: Work, num_workers: int) -> int:
    return max(1, min(num_workers, len(work.group_ids())))


def _process_waves(
    work: Work, journal: Journal, records: BlockJournal, threads: int, tick: Callable[[], None]
) -> int:
    """Process all blocks in at most so many threads; return how many there were."""
    wave, most = work.ready(work.block_ids), 1
    while wave:
        begun = work if wave == work.block_ids else work.narrowed(wave)
        groups = ((begun, group) for group in begun.group_ids())
        workers = WorkerThreads(groups, records, journal.stop, ctrl_c=True)
        used = workers.run(_threads(begun, threads), tick, gradually=begun.calls_are_short)
        most = max(most, used)
        journal.stopped = records.hopeless()
        # A wave that was not done entirely keeps the next from beginning.
        ready = work.ready(work.block_ids - journal.done_ids())
        wave = ready - wave if not ready & wave else IdSet()
    return most


@contextlib.contextmanager
def run_twin(source: Source, threads: int, cache_bytes: int = 0) -> Iterator[Source]:
    """Give a twin of a source that is tuned for a run, as by `Source.for_run`, and close it afterwards; the source stays as it is."""
    _check_present(source)
    twin = source.for_run(threads, cache_bytes)
    in_use = False
    try:
        yield twin
        _check_present(source)
    except KeyboardInterrupt:
        # Threads that are in the middle of a block go on using it; it is closed when they have let go of it.
        in_use = True
        raise
    finally:
        if twin is not source and not in_use:
            twin.close()


def _check_present(source: Source) -> None:
    for leaf in leaves(source):
        leaf.check_present()
