"""What every backend offers: `run` over blocks, `map` over items, and exact accounts of failure."""

from __future__ import annotations

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import numpy as np

from bioimage_py.errors import (
    BioimagePyError,
    CastingError,
    Hint,
    InvalidArgumentError,
    RunnerError as RunnerError,  # noqa: PLC0414 - it is found in the door of this room too
    StorageError,
)
from bioimage_py.geometry import Box, IdSet
from bioimage_py.runner.config import Resources, RunnerConfig
from bioimage_py.runner.environment import extend_import_path
from bioimage_py.runner.journal import Journal, Report
from bioimage_py.runner.kept_run import (
    check_same_run,
    explained_interrupt,
    new_run_folder,
    remove_leftovers,
    take_given_functions,
)
from bioimage_py.runner.run import (
    RunFolder,
    driving,
    finish_hint,
    finish_outputs,
    interrupt_driver,
    log_account,
)
from bioimage_py.runner.work import (
    BlockFunctionWork,
    ItemFunctionWork,
    Work,
    ended_without_folder,
    load_work,
    place_of_run,
)
from bioimage_py.sources import finish_images
from bioimage_py.system import available_cores

MOST_WORKERS = 10_000

_log = logging.getLogger(__name__)


def nothing() -> None: ...


class Runner(ABC):
    """A backend that processes blocks.

    Parameters
    ----------
    config
        Settings of the backend.
    """

    job_type: str
    config_type: type[RunnerConfig] = RunnerConfig
    in_process = True

    def __init__(self, config: RunnerConfig | None = None) -> None:
        kind = self.config_type
        if type(config) is RunnerConfig and kind is not RunnerConfig:
            config = kind.load(**config.given())
        if config is not None and not isinstance(config, kind):
            names = " or ".join(dict.fromkeys((kind.__name__, RunnerConfig.__name__)))
            raise InvalidArgumentError(f"job_config must be a {names}, got {type(config).__name__}")
        self.config = config or kind.load()

    def ready(self) -> AbstractContextManager[None]:
        """Hold what the backend needs for a run, within another such hold too; raises before anything is made."""
        return nullcontext()

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
        """Process all groups of the work and return the journal; failures are in it, not raised.

        `resources` are those of one worker process (local runs are tuned by their caller), `n_bytes` is what will be written at
        most, `resume_from` the folder of the run to resume. `finish` is called when all blocks are done, while the outputs still say that
        they are not finished. A local run that is asked for no run folder keeps one in the folder `beside` its voxels. Raises
        InvalidArgumentError if a source exists in this process only, or the folder is of another call; RunInterrupted, which lists
        what is done, within a second of Ctrl-C.
        """
        del beside
        with self.ready():
            if resume_from is None:
                folder = new_run_folder(
                    work, self.job_type, self.config, num_workers, resources or Resources(), n_bytes
                )
            else:
                folder = RunFolder.open(resume_from)
                check_same_run(folder, folder.read_run(), work)
            resumes = resume_from is not None
            return self.drive(folder, work, num_workers, progress=progress, resumes=resumes, finish=finish)

    def drive(
        self,
        folder: RunFolder,
        work: Work,
        num_workers: int,
        *,
        progress: Report | None = None,
        resumes: bool = False,
        finish: Callable[[], None] = nothing,
    ) -> Journal:
        """Run what is missing of a run that keeps a folder, and return the journal of all of it.

        `resumes` says that the work is of a call that resumes the run: it may have another function than the run had.
        """
        with self.ready(), explained_interrupt(folder, work, self.interrupt_hints), driving(folder):
            if resumes:
                take_given_functions(folder, work)
            journal = self.process(folder, work, num_workers, progress)
            if not journal.has_failures:
                finish()
                finish_outputs(folder, self.config.patience)
                remove_leftovers(folder, work)
                work.close(journal.results)
            self.settle(work, journal)
            if not journal.has_failures and not self.config.keep_run_folder:
                folder.remove()
        return journal

    def settle(self, work: Work, journal: Journal, *, keep: bool = False) -> None:
        """Settle the marks of the outputs; where the run has failed, or is stopped, that is told, and not that they cannot be reached."""
        try:
            work.settle_marks(journal.done_ids(), keep=keep)
        except StorageError as error:
            if not (keep or journal.has_failures):
                raise
            _log.info("the marks of what is not finished are not up to date: %s", error)

    @abstractmethod
    def process(self, folder: RunFolder, work: Work, num_workers: int, report: Report | None) -> Journal:
        """Process what is missing of a run, report the last progress, and return the journal of all of it."""

    def resume(
        self,
        folder: RunFolder,
        num_workers: int | None = None,
        progress: Report | None = None,
        finish: Callable[[], object] = nothing,
    ) -> list[Any] | None:
        """Make the work of a run again and finish it; return all results where it returns any. `finish` is as for `execute`.

        Raises InvalidArgumentError if a source is not stored any more as it was, RunnerError if blocks failed; the folder stays.
        """
        if num_workers is not None:
            num_workers = checked_workers(num_workers)
        run = folder.read_run()
        temporary = place_of_run(run["work"])
        if temporary is not None and ended_without_folder(folder, run["work"]):
            with driving(folder):
                temporary.remove()
                folder.remove()
            return None
        if "fingerprint" not in run["work"]:
            raise InvalidArgumentError(
                f"the run {str(folder.path)!r} goes on when the call that began it is made again"
            )
        workers = num_workers or run["num_workers"]
        # Where other processes do the work, this one only looks.
        threads, cache_bytes = (workers, run["cache_bytes"]) if self.in_process else (1, 0)
        extend_import_path(run.get("import_path", ()))
        work = load_work(run["work"], folder, threads, cache_bytes)
        check_same_run(folder, run, work)

        def ended() -> None:
            finish_images(work.image())
            finish()

        journal = self.drive(folder, work, workers, progress=progress, finish=ended)
        log_account(journal.account)
        if journal.has_failures:
            name = f"resumed run {folder.path.name}"
            raise_failures(journal, work.asked(work.block_ids), name, kept_too=work.also_kept)
        if not work.keep_results or not work.returns_results:
            return None
        return [journal.results[i] for i in work.order or work.block_ids]

    def interrupt_hints(self, folder: RunFolder) -> list[Hint]:
        """Return what a user who pressed Ctrl-C is told about going on."""
        return [finish_hint(folder.path)]

    def is_active(self, folder: RunFolder) -> bool:
        """Whether tasks of a run wait or run without a process that waits for them; raises RunnerError if that is unknown."""
        del folder
        return False

    def cancel(self, folder: RunFolder) -> str:
        """Stop what runs for this folder and return a sentence about it; the folder stays, so that it can be resumed.

        Raises InvalidArgumentError if nothing runs, or it cannot be stopped from here.
        """
        return interrupt_driver(folder)

    def run(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Any],
        outputs: Sequence[Any] = (),
        *,
        block_shape: Sequence[int] | None = None,
        halo: int | Iterable[int] | None = None,
        mask: Any = None,
        num_workers: int | None = 1,
        block_ids: Iterable[int] | None = None,
        has_return_val: bool = False,
        name: str = "",
        roi: Box | tuple[slice, ...] | None = None,
        resume_from: str | None = None,
    ) -> list[Any] | None:
        """Call `function(block, inputs, outputs, mask)` once per block.

        Parameters
        ----------
        function
            Gets a `Block` (with `halo`: a `BlockWithHalo`), the list of input sources, the list of output sources and
            the mask source or None. `to_roi(block)` gives the slices to read.
        inputs
            Sources, arrays or paths of one shape.
        outputs
            Writable sources; leading channel axes are allowed, the trailing axes have the inputs' shape.
        block_shape
            Extent of a block in voxels. Default: planned from the chunks of inputs and outputs.
        halo
            Voxels to read on each side of a block: one integer, or one per axis.
        mask
            A source of the inputs' shape, handed to the function.
        num_workers
            Threads, or tasks at once; None for all cores that this process may use.
        block_ids
            Process only these blocks, each once.
        has_return_val
            Whether to return what the function returns, in the order of the block ids as they were given, one for each.
        name
            What to call the run in messages.
        roi
            Process only blocks that meet this region, cut at its faces; the grid stays that of the whole array.
        resume_from
            Run folder of a failed run, for backends that have one.

        Returns
        -------
        list or None
            The results in the order of the block ids as they were given, with `has_return_val`.

        Raises
        ------
        RunnerError
            If blocks failed; all others are done. `failed_block_ids` lists them.
        InvalidArgumentError
            If shapes do not fit, before anything is called.
        """
        num_workers = checked_workers(num_workers)
        self.check_resume(resume_from, block_ids)
        work = BlockFunctionWork.prepare(
            function, inputs, outputs, mask,
            block_shape=block_shape, halo=halo, roi=roi, block_ids=block_ids, keep_results=has_return_val,
        )  # fmt: skip
        return self._results(work, num_workers, name or "run", resume_from)

    def map(
        self,
        function: Callable[[int], Any],
        n_items: int | None = None,
        *,
        item_ids: Iterable[int] | None = None,
        num_workers: int | None = 1,
        has_return_val: bool = True,
        name: str = "",
        resume_from: str | None = None,
    ) -> list[Any] | None:
        """Call `function(item_id)` once per item, `0 … n_items - 1` or those in `item_ids`.

        Returns
        -------
        list or None
            The results in the order of the item ids as they were given, one for each, with `has_return_val`.

        Raises
        ------
        RunnerError
            If items failed; `failed_block_ids` lists them.
        """
        num_workers = checked_workers(num_workers)
        self.check_resume(resume_from, item_ids)
        work = ItemFunctionWork.prepare(function, n_items, item_ids, keep_results=has_return_val)
        return self._results(work, num_workers, name or "map", resume_from)

    def _results(self, work: Work, num_workers: int, name: str, resume_from: str | None) -> list[Any] | None:
        order: Iterable[int] | None = work.order
        if resume_from is not None:
            folder = RunFolder.open(resume_from)
            begun = folder.read_run()["work"]
            work, order = work.narrowed(folder.stored_ids(begun["block_ids"])), begun.get("order")
        journal = self.execute(work, num_workers, resume_from=resume_from)
        if journal.has_failures:
            raise_failures(journal, work.block_ids, name)
        return [journal.results[i] for i in order or work.block_ids] if work.keep_results else None

    def check_resume(
        self, resume_from: str | os.PathLike[str] | None, block_ids: Iterable[int] | None
    ) -> None:
        """Raise InvalidArgumentError if both a run folder and ids are given."""
        if resume_from is not None and block_ids is not None:
            raise InvalidArgumentError("give block_ids or resume_from, not both")


def checked_workers(num_workers: int | None) -> int:
    """Return a number of workers, for None that of the cores which this process may use; InvalidArgumentError unless it is positive."""
    if num_workers is None:
        return available_cores()
    integer = isinstance(num_workers, (int, np.integer)) and not isinstance(num_workers, bool)
    if not integer or num_workers < 1:
        raise InvalidArgumentError(
            f"num_workers must be a positive integer, or None for all cores, got {num_workers!r}"
        )
    if num_workers > MOST_WORKERS:
        raise InvalidArgumentError(f"num_workers must be {MOST_WORKERS} at most, got {num_workers}")
    return int(num_workers)


def raise_failures(journal: Journal, block_ids: IdSet, name: str, *, kept_too: str = "") -> NoReturn:
    """Raise RunnerError with exactly those of the caller's blocks that are not done, and the text of the first error.

    `kept_too` is the path of what else is kept, so that the run can be finished.
    """
    failed = block_ids - journal.done_ids()
    assert journal.first_error is not None
    block_id, error = journal.first_error
    hints = list(error.hints) if isinstance(error, BioimagePyError) else []
    text = (error.message if isinstance(error, BioimagePyError) else str(error)) or type(error).__name__
    if isinstance(error, CastingError):
        what = "are not done, because the first voxel that does not fit ends the run. In"
        hints = [
            Hint.of("give a {} that holds these values", dtype=...),
            Hint.of("or, to cast them all the same, leave out {}", casting="check"),
        ]
    else:
        others = ", all others are done" if len(failed) < len(block_ids) else ""
        stopped = f", and the run {journal.stopped}" if journal.stopped else ""
        what = f"failed{others}{stopped}. First error, in"
        if journal.folder is not None:
            hints.append(finish_hint(journal.folder, "once the cause is gone"))
        if journal.folder is not None and kept_too:
            hints.append(Hint(f"the temporary store {kept_too!r} is kept for that"))
    # In two passes the first one's blocks are not the caller's.
    where = f"block {block_id}" if block_id in block_ids else "the first of two passes"
    raise RunnerError(
        f"{name}: {len(failed)} of {len(block_ids)} blocks {what} {where}: {type(error).__name__}: {text}",
        failed,
        journal.folder,
        hints=hints,
    ) from error
