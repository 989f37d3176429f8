"""Running work in other processes through a run folder: rounds of tasks until nothing is missing, or nothing helps."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bioimage_py import errors as package_errors
from bioimage_py.errors import RunInterrupted
from bioimage_py.geometry import IdSet
from bioimage_py.runner.account import Account, read_account, read_values
from bioimage_py.runner.base import Resources, Runner
from bioimage_py.runner.environment import describe_environment
from bioimage_py.runner.fingerprint import check_fingerprint, fingerprint_of
from bioimage_py.runner.journal import Journal, Progress
from bioimage_py.runner.portable import store_work
from bioimage_py.runner.rounds import TaskEnd, first_tasks, next_tasks
from bioimage_py.runner.run_folder import RunFolder, default_root
from bioimage_py.runner.work import PortableWork

__all__ = ["FolderRunner", "Watch", "WorkerError"]


class WorkerError(RuntimeError):
    """What stands for an exception of another process: its type's name, message and traceback as text."""


@dataclass
class Watch:
    """Calls the user's function with the progress of a run whose journals others write."""

    folder: RunFolder
    total: int
    n_bytes: int
    report: Callable[[Progress], None] | None
    _began: float = field(default_factory=time.monotonic)
    _next: float = 0.0

    def look(self, *, last: bool = False) -> None:
        """Report how far the run is, if it is time to."""
        now = time.monotonic()
        if self.report is None or (now < self._next and not last):
            return
        account = read_account(self.folder, errors=last)
        # A look costs little, and yet a twentieth of the time at most.
        self._next = time.monotonic() + max(0.5, 20 * (time.monotonic() - now))
        failed = sum(len(e.block_ids) for e in account.errors)
        self.report(
            Progress(len(account.done), self.total, account.n_bytes, self.n_bytes, now - self._began, failed)
        )


class FolderRunner(Runner):
    """A backend whose workers are other processes; what they share is the run folder."""

    in_process = False

    @abstractmethod
    def run_round(
        self, folder: RunFolder, number: int, n_tasks: int, num_workers: int, watch: Watch
    ) -> list[TaskEnd]:
        """Run the tasks of a round and return how each of them ended; blocks are in the journals."""

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
        """Process the work in other processes; failures are in the journal, not raised.

        Raises
        ------
        InvalidArgumentError
            If a source exists in this process only, or the run folder to resume is of another call.
        RunInterrupted
            On Ctrl-C; the run folder is kept.
        """
        if resume_from is None:
            folder = self._new_folder(work, num_workers, resources or Resources(), n_bytes)
        else:
            folder = RunFolder.open(resume_from)
            check_fingerprint(folder.read_run()["work"], fingerprint_of(work))
        return self.drive(folder, work, num_workers, progress=progress)

    def drive(
        self,
        folder: RunFolder,
        work: PortableWork,
        num_workers: int,
        *,
        progress: Callable[[Progress], None] | None = None,
    ) -> Journal:
        """Run what is missing of a run, in as many rounds as that takes, and return the journal of all of it."""
        watch = Watch(folder, len(work.block_ids), folder.read_run()["bytes"], progress)
        try:
            account, ends = self._rounds(folder, work, num_workers, watch)
        except KeyboardInterrupt as error:
            done = read_account(folder, errors=False).done & work.block_ids
            raise RunInterrupted(
                f"interrupted: {len(done)} of {len(work.block_ids)} blocks are done and stay written. To finish: "
                f"bioimage_py.resume({str(folder.path)!r})",
                done,
                work.block_ids - done,
            ) from error
        watch.look(last=True)
        journal = self._journal(folder, work, account, ends)
        if not journal.has_failures and not self.config.keep_run_folder:
            shutil.rmtree(folder.path)
        return journal

    def _rounds(
        self, folder: RunFolder, work: PortableWork, num_workers: int, watch: Watch
    ) -> tuple[Account, list[TaskEnd]]:
        account = read_account(folder)
        todo = work.block_ids - account.done
        n_tasks = num_workers * self.config.tasks_per_worker
        tasks = first_tasks(work, todo, n_tasks)
        ends: list[TaskEnd] = []
        raised_before = IdSet()
        for attempt in range(self.config.retries + 1):
            if not tasks:
                break
            number = folder.n_rounds()
            folder.write_round(number, {"todo": todo.to_json(), "tasks": [t.to_json() for t in tasks]})
            ends = self.run_round(folder, number, len(tasks), num_workers, watch)
            account = read_account(folder)
            todo = work.block_ids - account.done
            if attempt == self.config.retries or all(end.kind in ("error", "cancelled") for end in ends):
                break
            raised = IdSet()
            for error in account.errors:
                raised = raised | error.block_ids
            # An exception that came twice will come again: those blocks are reported, not tried a third time.
            tasks = next_tasks(work, todo - (raised & raised_before), account, ends, tasks, n_tasks)
            raised_before = raised
        return account, ends

    def _new_folder(self, work: Any, num_workers: int, resources: Resources, n_bytes: int) -> RunFolder:
        folder = RunFolder.make(default_root(self.config.tmp_root))
        try:
            stored = store_work(work, folder)
            folder.write_run(
                {
                    "created": time.time(),
                    "job_type": self.job_type,
                    "num_workers": num_workers,
                    "threads": resources.threads,
                    "cache_bytes": resources.cache_bytes,
                    "durable": self.config.durable,
                    "bytes": n_bytes,
                    "environment": describe_environment(),
                    "config": json.loads(json.dumps(self.config.given(), default=str)),
                    "work": {**stored, "fingerprint": fingerprint_of(work)},
                }
            )
        except BaseException:
            shutil.rmtree(folder.path)
            raise
        return folder

    def _journal(
        self, folder: RunFolder, work: PortableWork, account: Account, ends: Sequence[TaskEnd]
    ) -> Journal:
        journal = Journal(len(work.block_ids), 0, folder=folder.path)
        journal.merge(account.done & work.block_ids, read_values(folder, work.block_ids))
        for error in account.errors:
            journal.failed(
                error.block_ids & work.block_ids, _exception(error.type, error.text, error.traceback)
            )
        missing = work.block_ids - account.done
        if missing and not journal.has_failures:
            said = [end for end in ends if end.kind != "finished"]
            text = "; ".join(
                f"task {end.task}: {end.kind}{': ' + end.text if end.text else ''}" for end in said[:3]
            )
            journal.failed(itertools.islice(missing, 1), WorkerError(text or "workers ended without a word"))
        return journal


def _exception(kind: str, text: str, traceback: str) -> BaseException:
    """Return an error of this package again, and anything else as a WorkerError; the traceback comes as a note."""
    found = getattr(package_errors, kind, None)
    if isinstance(found, type) and issubclass(found, Exception) and kind != "RunnerError":
        error: BaseException = found(text)
    else:
        error = WorkerError(f"{kind}: {text}")
    error.add_note(f"In the worker:\n{traceback}")
    return error
