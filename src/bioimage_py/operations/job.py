"""What a verb does: planned, opened, run and finished, in this order."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from bioimage_py.errors import (
    AssumptionWarning,
    BioimagePyError,
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    MissingDependencyError,
    OutputExistsError,
    RunInterrupted,
    RunnerError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.geometry import IdSet
from bioimage_py.operations.options import CopyOptions, PyramidOptions, RunOptions
from bioimage_py.operations.two_passes import TwoPassRun
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
from bioimage_py.runner.run import (
    RunAccount,
    RunFolder,
    blocks_of_units,
    check_outputs,
    finish_hint,
    log_account,
    read_recorded,
    read_units,
    remove_remains,
)
from bioimage_py.runner.work import (
    differences,
    ended_without_folder,
    input_fingerprint,
    input_spec,
    place_of_run,
)
from bioimage_py.sources import FileSource, Source, checked_overwrite, leaves, locate, open_source
from bioimage_py.sources.stores import (
    MARK_FOLDER,
    NewMarks,
    is_abandoned,
    kept_run,
    marking_new,
    read_mark,
    remove_mark,
    renew_mark,
)
from bioimage_py.storage import StoreFolder, file_identity, forget_reads, is_alive, was_restarted

if TYPE_CHECKING:
    from bioimage_py.planning import CopyPlan, ImagePlan, PyramidPlan
    from bioimage_py.report.page import Part
    from bioimage_py.sources.ome_zarr import Archive

_Options = TypeVar("_Options", CopyOptions, PyramidOptions)
_log = logging.getLogger(__name__)
_SILENT = 60.0
"""Seconds without a sign of life after which a process of another machine is taken for dead."""
_REPLACE = Hint.of("to replace it, give {}", overwrite=True)


class Job(ABC):
    """A copy of one array, of a whole OME-Zarr, or a pyramid, checked and planned; nothing is made yet."""

    verb = "copying"
    report: Report | None = None
    """What is called with the progress."""

    ran: tuple[IdSet, Journal, list[Part], str] | None = None
    """The blocks that were run, how that ended, its arrays where a page is asked for, and its name."""
    archive: Archive | None = None
    """The zip file into which what is made is packed, if that is asked for."""
    all_done = False
    """Whether an earlier call has done all and ended while it cleaned up."""

    options: RunOptions
    plan: CopyPlan | ImagePlan | PyramidPlan

    @abstractmethod
    def again(self, **changes: Any) -> Self:
        """Return the same job with other options; what was warned of is not said again."""

    @abstractmethod
    def input(self) -> Any:
        """Return, as JSON, what tells that the input is the same; None if nothing does."""

    def places(self) -> Sequence[StoreFolder]:
        """Return the folders of the arrays of a store that are made: the first one keeps the journal of a local copy."""
        return ()

    @cached_property
    def call(self) -> dict[str, Any]:
        """What makes a later call the same, as JSON."""
        options = self.options
        said = {"verb": self.verb, "job_type": options.job_type, "options": options.deciding}
        into = [os.path.abspath(place.path) for place in self.places()[:1] if place.is_local]  # noqa: PTH100 - a text
        return {**said, "input": self.input(), "output": into}

    def input_has_changed(self, begun: IdSet) -> bool:
        """Whether the input is known to have changed where an earlier call has begun these blocks."""
        del begun
        return False

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
        """Finish the outputs after the run, which still say that they are not finished; `complete` is False if blocks are missing."""
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
        if self.is_empty or self.all_done:
            self._end()
            journal = Journal(0)
            journal.account = RunAccount()
            self.ran = IdSet(), journal, [], self.name(journal, None)
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
                parts: list[Part] = []
                if options.page is not None:
                    # Here and below: few calls ask for a page.
                    from bioimage_py.report.page import parts_of_work

                    parts = parts_of_work(work)
                forget_reads()  # from here on others may change what is stored
                journal = self.execute(work, resources, n_bytes)
                self.ran = work.block_ids, journal, parts, self.name(journal, passes)
            if journal.has_failures:
                asked = work.asked(work.block_ids)
                raise_failures(journal, asked, self.name(journal, passes), kept_too=work.also_kept)
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
            finish=self._end,
            beside=self.beside,
        )

    def _end(self) -> None:
        """Do what belongs to the end of a run in which all was done, while the outputs still say that they are not finished."""
        self.finish(complete=True)
        self.keep_digests()
        if self.archive is not None:
            self.archive.pack(durable=self.options.runner.config.durable)

    def packed(self) -> Any:
        """Remove the folder that has been packed, and return what the caller gets, opened in the zip file."""
        assert self.archive is not None
        try:
            made = self.result()
        finally:
            self.archive.remove_folder()
        levels = made if isinstance(made, list) else [made]
        found = []
        for level in levels:
            level.close()
            found.append(open_source(self.archive.path, level.key))
        return found if isinstance(made, list) else found[0]

    @property
    def beside(self) -> str | None:
        """The folder for the journal of a local copy that can go on; None where it cannot."""
        local = [place.path for place in self.places()[:1] if place.is_local]
        if not local or not self.options.runner.in_process or self.call["input"] is None:
            return None
        return f"{local[0]}/{MARK_FOLDER}"

    def for_run(self, source: Source, opened: ExitStack, cache_bytes: int = 0) -> Source:
        if not self.options.runner.in_process:
            return source
        return opened.enter_context(run_twin(source, self.plan.threads, cache_bytes))


def carry_out(job: Job) -> Any:
    """Open, run and finish a job, or what an earlier call has left of it; return its result. It is discarded if the backend refuses the run."""
    if job.options.page is not None:
        from bioimage_py.report.page import check_page_path

        check_page_path(job.options.page)
    began, archive, job = datetime.now(UTC), job.archive, continued(job)
    job.archive = archive
    places = job.places()
    if archive is not None and read_mark(places[0]) is None:
        archive.clear()
    if places and read_mark(places[0]) is None:
        _remove_remains(places[0])
    with marking_new(job.call if places else None) as marks:
        job.open(marks)
    try:
        with reporting(job.options.progress, job.verb) as report:
            # Of a run that is reported to nobody no pace is kept.
            job.report = _not_reported if report is None and job.options.page is not None else report
            journal = job.run()
    except (RunnerError, RunInterrupted) as error:
        job.finish(complete=False)
        for place in places:
            if place.file and journal_at(place) is None:
                remove_mark(place)
            renew_mark(place, ended=True)
        leave_page(job, error.tmp_folder)
        raise
    except (InvalidArgumentError, MissingDependencyError):
        # The corrected call must not find an output in its way.
        job.discard()
        raise
    for place in reversed(places) if archive is None else ():
        remove_mark(place)
    if job.all_done:
        _remove_remains(places[0])
    leave_page(job)
    log_account(journal.account)
    if archive is not None:
        return job.packed()
    job.keep_record(began, journal)
    return job.result()


def _not_reported(_: Progress) -> None: ...


def in_archive(input: Any, output: Any, options: _Options) -> tuple[Any, _Options, Archive | None]:
    """Return the folder that is made for an output that is packed, with options for it, and the archive; all others as they are."""
    if not isinstance(output, (str, os.PathLike)) or ".ozx" not in os.fspath(output).lower():
        return output, options, None
    from bioimage_py.metadata import WRITTEN_VERSIONS
    from bioimage_py.sources.ome_zarr import Archive

    overwrite = checked_overwrite(options.overwrite) or options.folder is not None
    archive = Archive.at(output, overwrite=overwrite)
    if archive is None:
        return output, options, None
    read = [*_paths_of(input), *_paths_of(getattr(options, "mask", None))]
    if file_identity(archive.path) in map(file_identity, read):
        raise InvalidArgumentError(f"copy needs 'output' to differ from its input: both are {archive.path!r}")
    refused = [name for name in ("update", "record") if getattr(options, name, False)]
    if refused:
        raise InvalidArgumentError(
            f"{refused[0]} is not possible for {archive.path!r}, which is written as a whole"
        )
    if options.in_other_processes:
        raise InvalidArgumentError(
            f"{archive.path!r} is packed by one process, which makes its levels too",
            hints=[Hint("write a path that ends in .ome.zarr, and copy that into the .ozx")],
        )
    if WRITTEN_VERSIONS.get(options.ome_zarr_version or "", options.zarr_format or 3) != 3:
        raise InvalidArgumentError(
            f"{archive.path!r} holds Zarr v3, as RFC-9 of OME-Zarr wants it: OME-Zarr 0.5 or 0.6"
        )
    return archive.folder, replace(options, zarr_format=3, shards=options.shards or "auto"), archive


def _paths_of(given: Any) -> list[str]:
    if isinstance(given, (str, os.PathLike)):
        return [locate(given).path]
    return (
        [leaf.path for leaf in leaves(given) if isinstance(leaf, FileSource)]
        if isinstance(given, Source)
        else []
    )


def leave_page(job: Job, folder: str | os.PathLike[str] | None = None) -> None:
    """Write the page of a run that has ended, if one is asked for; the run is what it is, so a page that cannot be made is a warning.

    Of a run that keeps its folder it is made from there.
    """
    output = job.options.page
    if output is None or (folder is None and job.ran is None):
        return
    from bioimage_py.report.page import RunLook, shown_journal, write_page
    from bioimage_py.runner.run import StatusReader

    try:
        if folder is not None:
            reader = StatusReader(RunFolder.open(folder))
            shown = RunLook(reader).shown(reader.look())
        else:
            assert job.ran is not None
            block_ids, journal, parts, name = job.ran
            shown = shown_journal(parts, journal, block_ids, name, job.plan.rows(), job.options.job_type)
        write_page(shown, output)
    except BioimagePyError as error:
        warn_caller(BioimagePyWarning(f"the page of the run was not written: {error.message}"))


def continued(job: Job) -> Job:
    """Return the job that goes on where the same call has ended early: the job itself where nothing was begun.

    Raises OutputExistsError if another call has begun the output, or a process is writing it.
    """
    options, place = job.options, next(iter(job.places()), None)
    if place is None or options.folder is not None or getattr(options, "overwrite", False):
        return job
    mark = read_mark(place)
    if mark is None:
        return job
    folder = journal_at(place)
    there = f"{place.file or place.path} is there already, and not finished"
    if _is_written(mark, folder):
        raise OutputExistsError(
            f"{there}: process {mark.get('pid')} on {mark.get('host')} is writing it, or was a moment ago. Wait for it, or stop it"
        )
    if (
        place.file
        and os.path.lexists(place.file)
        and not (folder and os.lstat(place.file).st_ino == mark.get("inode"))
    ):
        _remove_remains(place)  # of a file that has got its name, or was to replace this one
        return job
    elsewhere = kept_run(place)
    if elsewhere is not None:
        raise OutputExistsError(there, hints=[finish_hint(elsewhere), _REPLACE])
    call = json.loads(json.dumps(job.call))
    differ = ["which one is not known"]
    if mark.get("call") is not None:
        differ = list(differences(mark["call"], call, ""))
    if (place.file or is_abandoned(place)) and (folder is None or not folder.anything_done()):
        return job if differ or place.file else job.again(overwrite=True)
    if differ:
        raise OutputExistsError(
            f"{there}; another call has begun it: {'; '.join(differ[:5])}",
            hints=[Hint("make the same call to go on"), _REPLACE],
        )
    why = _why_anew(job, folder, mark)
    if why or folder is None:
        warn_caller(BioimagePyWarning(f"the copy into {place.file or place.path} begins anew: {why}"))
        return job if place.file else job.again(overwrite=True)
    work = folder.read_run()["work"]
    again = job.again(resume_from=str(folder.path), block_ids=None)
    again.all_done = ended_without_folder(folder, work)
    return again


def _why_anew(job: Job, folder: RunFolder | None, mark: Mapping[str, Any]) -> str:
    """Return why a call cannot go on, empty if it can."""
    if folder is None or job.call["input"] is None:
        in_memory = "its input is in memory, or computed by a function, and may be another one"
        return (
            in_memory
            if job.call["input"] is None
            else "it was too short to be recorded, or that could not be"
        )
    if was_restarted(mark) and not job.options.runner.config.durable:
        return "the computer was started anew since, so that what was written last may be lost"
    try:
        run = folder.read_run()
        with suppress(InvalidArgumentError):  # what others have written is not replaced: the run refuses it
            check_outputs(folder, run)
        ended_without_folder(folder, run["work"])
    except InvalidArgumentError:
        return "its temporary store is gone"
    except StorageError as error:
        return f"its journal is damaged: {error.message}"
    begun = read_recorded(folder).done | blocks_of_units(read_units(folder.attempts()))
    try:
        return "its input has changed since" if job.input_has_changed(begun) else ""
    except SourceNotFoundError:
        return "what it has written is gone"


def journal_at(place: StoreFolder) -> RunFolder | None:
    """Return the run folder that a copy keeps beside its voxels."""
    for path in sorted(Path(place.path, MARK_FOLDER).glob("bioimage-run-*")) if place.is_local else ():
        with suppress(BioimagePyError):
            return RunFolder.open(path)
    return None


def _is_written(mark: Mapping[str, Any], folder: RunFolder | None) -> bool:
    """Whether a process is writing an array, as its mark says; where that ran on another machine, by the signs of life that it gave."""
    alive = False if mark.get("ended") or not mark else is_alive(mark)
    if alive is not None or folder is None:
        return alive is not False
    signs = [float(folder.read_state(attempt)["seen"]) for attempt in folder.attempts()]
    return folder.now() - max(signs, default=0.0) < _SILENT


def _remove_remains(place: StoreFolder) -> None:
    """Remove the journal of a copy that has done all and was killed before it had removed it."""
    folder = journal_at(place)
    if folder is not None:
        temporary = place_of_run(folder.read_run()["work"])
        if temporary is not None:
            temporary.remove()
        folder.remove()
    for path in Path(place.path, MARK_FOLDER).glob("bioimage-run-*"):
        remove_remains(path)
    if place.file:
        remove_mark(place)


def input_identity(**sources: Source | None) -> dict[str, Any] | None:
    """Return by what it is known that sources are the same in a later call; None if that cannot be known."""
    found: dict[str, Any] = {}
    for name, source in sources.items():
        if source is not None:
            try:
                spec, known = json.dumps(input_spec(source)), input_fingerprint(source) or {}
            except BioimagePyError:
                return None
            if '"$pickle"' in spec or '"class": ' in spec or None in known["voxels stored in"].values():
                return None
            found[name] = known
    return found


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
