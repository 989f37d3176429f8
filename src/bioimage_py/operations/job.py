"""What a verb does: planned, opened, run and finished, in this order."""

from __future__ import annotations

import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from bioimage_py.errors import (
    AssumptionWarning,
    BioimagePyError,
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    MissingDependencyError,
    RunInterrupted,
    RunnerError,
)
from bioimage_py.operations.options import RunOptions
from bioimage_py.operations.two_passes import TwoPassRun
from bioimage_py.planning import CopyPlan, ImagePlan, PyramidPlan
from bioimage_py.report.page import (
    Part,
    RunLook,
    check_page_path,
    parts_of_work,
    shown_journal,
    write_page,
)
from bioimage_py.runner import (
    Journal,
    Progress,
    ProgressBar,
    Report,
    Resources,
    raise_failures,
    reporting,
    run_twin,
)
from bioimage_py.runner.run import RunAccount, RunFolder, StatusReader, log_account
from bioimage_py.sources import Source
from bioimage_py.sources.stores import NewMarks, marking_new


class Job(ABC):
    """A copy of one array, of a whole OME-Zarr, or a pyramid, checked and planned; nothing is made yet."""

    verb = "copying"
    report: Report | None = None
    """What is called with the progress."""

    ran: tuple[Any, Journal, list[Part], str] | None = None
    """What was run, how it ended, its arrays where a page is asked for, and its name."""

    options: RunOptions
    plan: CopyPlan | ImagePlan | PyramidPlan

    @abstractmethod
    def check_free(self) -> None:
        """Raise what `open` would raise before it makes anything."""

    @abstractmethod
    def open(self, marks: NewMarks) -> None:
        """Make the outputs, or open existing ones; note the missing blocks of new ones in their marks."""

    @abstractmethod
    def work(self, opened: ExitStack, passes: TwoPassRun | None, resources: Resources) -> Any:
        """Return the work; sources opened for it are closed with the stack."""

    @abstractmethod
    def name(self, journal: Journal, passes: TwoPassRun | None) -> str:
        """Return what was run, for the message of a run that failed."""

    @abstractmethod
    def result(self) -> Any:
        """Return what the caller of the verb gets."""

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether there is nothing to run."""

    def passes(self, resources: Resources) -> TwoPassRun | None:
        """Make or reopen the temporary store of a run in two passes; None for one pass."""
        del resources
        return None

    def finish(self, *, complete: bool) -> None:
        """Finish the outputs after the run; `complete` is False if blocks are missing."""
        del complete

    def keep_digests(self) -> None:  # noqa: B027 - most jobs have none to keep
        """Keep the digests that could not be computed while voxels were written: the outputs are read once more."""

    def keep_record(self, began: datetime, journal: Journal) -> None:
        """Write what was done beside the output, if that is asked for."""
        del began, journal

    @abstractmethod
    def discard(self) -> None:
        """Remove what `open` made, unless something was written into it."""

    def run(self) -> Journal:
        """Run what was opened.

        Raises
        ------
        RunnerError
            If blocks failed; `failed_block_ids` are those that are not done.
        """
        options, resources = self.options, Resources(self.plan.in_flight, self.plan.cache_bytes)
        if self.is_empty:
            journal = Journal(0)
            journal.account = RunAccount()
            if self.report is not None:
                self.report(journal.progress())
            return journal
        if isinstance(self.report, ProgressBar):  # the first block may take a while
            self.report(Journal(self.plan.n_blocks, self.plan.bytes_out).progress())
        with ExitStack() as kept:
            passes = self.passes(resources)
            n_bytes = self.plan.bytes_out
            if passes is not None:
                resources = passes.resources
                kept.enter_context(passes.kept_where_needed(options))
                # The progress counts what both passes write.
                n_bytes += passes.n_bytes
            with ExitStack() as opened:
                work = self.work(opened, passes, resources)
                parts = [] if options.page is None else parts_of_work(work)
                journal = self.execute(work, resources, n_bytes)
                self.ran = work, journal, parts, self.name(journal, passes)
            if journal.has_failures:
                asked = work.asked(work.block_ids)
                raise_failures(journal, asked, self.name(journal, passes), kept_too=work.also_kept)
            if journal.folder is None:
                work.close(journal.results)
        return journal

    def execute(self, work: Any, resources: Resources, n_bytes: int) -> Journal:
        options = self.options
        return options.runner.execute(
            work,
            resources.threads if options.runner.in_process else options.num_workers,
            resources=resources,
            n_bytes=n_bytes,
            progress=self.report,
            resume_from=options.folder,
        )

    def for_run(self, source: Source, opened: ExitStack, cache_bytes: int = 0) -> Source:
        if not self.options.runner.in_process:
            return source
        return opened.enter_context(run_twin(source, self.plan.threads, cache_bytes))


def carry_out(job: Job) -> Any:
    """Open, run and finish a job; return its result. It is discarded if the backend refuses the run."""
    if job.options.page is not None:
        check_page_path(job.options.page)
    began = datetime.now(UTC)
    with marking_new() as marks:
        job.open(marks)
    try:
        with reporting(job.options.progress, job.verb) as report:
            # Of a run that is reported to nobody no pace is kept.
            job.report = _not_reported if report is None and job.options.page is not None else report
            journal = job.run()
    except (RunnerError, RunInterrupted) as error:
        job.finish(complete=False)
        leave_page(job, error.tmp_folder)
        raise
    except (InvalidArgumentError, MissingDependencyError):
        # The corrected call must not find an output in its way.
        job.discard()
        raise
    job.finish(complete=True)
    job.keep_digests()
    marks.remove()
    leave_page(job)
    log_account(journal.account)
    job.keep_record(began, journal)
    return job.result()


def _not_reported(_: Progress) -> None: ...


def leave_page(job: Job, folder: str | os.PathLike[str] | None = None) -> None:
    """Write the page of a run that has ended, if one is asked for; the run is what it is, so a page that cannot be made is a warning.

    Of a run that keeps its folder it is made from there.
    """
    output = job.options.page
    if output is None or (folder is None and job.ran is None):
        return
    try:
        if folder is not None:
            reader = StatusReader(RunFolder.open(folder))
            shown = RunLook(reader).shown(reader.look())
        else:
            assert job.ran is not None
            work, journal, parts, name = job.ran
            shown = shown_journal(parts, journal, work.block_ids, name, job.plan.rows(), job.options.job_type)
        write_page(shown, output)
    except BioimagePyError as error:
        warn_caller(BioimagePyWarning(f"the page of the run was not written: {error.message}"))


def warn_of_assumed(source: Source, assumed: Sequence[Hint]) -> None:
    if assumed:
        name = f"the metadata of {source.name} are not complete"
        warn_caller(AssumptionWarning(name, hints=assumed))


def warn_caller(warning: BioimagePyWarning) -> None:
    """Issue a warning that points at the code which called the package."""
    frame, level = sys._getframe(1), 2  # noqa: SLF001 - there is no other way to it
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("bioimage_py."):
        frame, level = frame.f_back, level + 1
    warnings.warn(warning, stacklevel=level)
