"""Running work in other processes through a run folder: rounds of tasks until nothing is missing, or nothing helps."""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from bioimage_py import errors as package_errors
from bioimage_py.geometry import IdSet
from bioimage_py.runner.base import Runner
from bioimage_py.runner.journal import Journal, Progress, Report
from bioimage_py.runner.rounds import FIRST_NEEDS, TaskEnd, begin_round, needs_after, not_wanted, suspects_of
from bioimage_py.runner.run import (
    BlockError,
    Recorded,
    RunAccount,
    RunFolder,
    StatusReader,
    account_of_attempts,
    blocks_of_units,
    has_left,
    read_recorded,
    read_units,
)
from bioimage_py.runner.work import Work

_PROGRESS = 0.9
"""A round that leaves at most this share of what was missing before it does not count against `retries`."""
_OPERATIONS_EACH, _OPERATIONS = 5, 100
"""What a look costs per task that runs, in operations of the run folder's disk, and how many of them a second are polite."""
_SIGN = 30.0
"""Seconds between two signs of life of the process that waits."""
_LOOK = 0.3
"""Seconds between two looks at what tasks that have ended have written, where a network disk does not show it yet."""


class WorkerError(RuntimeError):
    """What stands for an exception of another process: its type's name, message and traceback as text."""


@dataclass
class Watch:
    """Calls the user's function with the progress of a run whose journals others write."""

    folder: RunFolder
    total: int
    n_bytes: int
    report: Report | None
    _began: float = field(default_factory=time.monotonic)
    _next: float = 0.0
    _shown: float = field(default_factory=time.monotonic)
    _reader: StatusReader | None = None

    def look(self, *, last: bool = False, account: RunAccount | None = None) -> None:
        """Report how far the run is, if it is time to; at the end with the account of it."""
        now = time.monotonic()
        if now > self._shown + _SIGN:
            self.folder.show_driver()
            self._shown = now
        if self.report is None or (now < self._next and not last):
            return
        if self._reader is None:
            self._reader = StatusReader(self.folder)
        status = self._reader.look()
        # A look costs what was appended since the last one, and yet a twentieth of the time at most, and few operations of the disk.
        spared = _OPERATIONS_EACH * status.tasks.get("running", 0) / _OPERATIONS
        self._next = time.monotonic() + max(0.5, 20 * (time.monotonic() - now), spared)
        blocks, n_bytes = (status.blocks_done, self.total), (status.bytes_done, self.n_bytes)
        self.report(Progress(*blocks, *n_bytes, now - self._began, status.blocks_failed, account))


class FolderRunner(Runner):
    """A backend whose workers are other processes; what they share is the run folder."""

    in_process = False
    starts_tasks = True
    """Whether tasks of a round are begun by the backend; those that join are numbered after them."""

    @abstractmethod
    def run_round(
        self, folder: RunFolder, number: int, n_tasks: int, num_workers: int, watch: Watch
    ) -> list[TaskEnd]:
        """Run tasks of a round, or wait for those that `open_round` found, and return how those that began have ended.

        Any of them does all that is left, so no more than `num_workers` run at once, the others take the place of those that end
        early, and none is begun once `folder.round_is_done(number)`. Blocks are in the journals. What the round asks for beyond the first
        one's memory and time is in `folder.read_round(number)["needs"]`.
        """

    def open_round(self, folder: RunFolder) -> int | None:
        """Return the number of the last round if its tasks may still be running without us, else None."""
        del folder
        return None

    def process(self, folder: RunFolder, work: Work, num_workers: int, report: Report | None) -> Journal:
        watch = Watch(folder, len(work.block_ids), folder.read_run()["bytes"], report)
        recorded, ends = self._rounds(folder, work, num_workers, watch)
        journal = _journal(folder, work, recorded, ends)
        journal.states = recorded.states
        journal.account = account_of_attempts(work, journal.states)
        watch.look(last=True, account=journal.account)
        return journal

    def _rounds(
        self, folder: RunFolder, work: Work, num_workers: int, watch: Watch
    ) -> tuple[Recorded, list[TaskEnd]]:
        needs = folder.read_round(folder.n_rounds() - 1)["needs"] if folder.n_rounds() else FIRST_NEEDS
        ends: list[TaskEnd] = []
        raised_before, suspects = IdSet(), IdSet()
        number = self.open_round(folder)
        recorded = read_recorded(folder, with_values=work.keep_results)
        todo = work.ready(work.block_ids - recorded.done)
        wave, attempt, missing = todo, 0, len(todo)
        while todo or number is not None:
            ours = number is None
            if number is None:
                number = begin_round(folder, work, todo, suspects, self.config, num_workers, needs)
            n_tasks = folder.read_round(number)["tasks"]
            ends = self.run_round(folder, number, n_tasks, num_workers, watch)
            if folder.joined(number):
                wait_for_others(folder, number, watch, self.config.poll_interval)
            over = folder.round_is_over(number)
            recorded = self._seen(folder, number, work, ends)
            todo = work.ready(work.block_ids - recorded.done)
            if todo and not todo & wave:
                wave, attempt, missing, raised_before, suspects = todo, 0, len(todo), IdSet(), IdSet()
                number = None
                continue
            # Workers that come and go, as with preemption and short time limits, get the run done in the end.
            # A round that another process submitted, which may have died together with its tasks, does not count as a try.
            # So do blocks that outlast their workers, as long as each attempt finishes some of their write units.
            went_on = blocks_of_units(read_units(folder.attempts(round_number=number))) & todo
            attempt += ours and not went_on and len(todo) > missing * _PROGRESS
            missing = len(todo)
            tried_enough = ours and (not self.config.retries or attempt > self.config.retries)
            if over or not_wanted(ends) or tried_enough:
                break
            # An exception that came twice will come again: those blocks are reported, not tried a third time.
            suspects = suspects_of(folder, number, work.narrowed(todo))
            todo -= (recorded.raised & raised_before) - went_on
            raised_before, number = recorded.raised, None
            needs = needs_after(needs, ends)
        return recorded, ends

    def _seen(self, folder: RunFolder, number: int, work: Work, ends: Sequence[TaskEnd]) -> Recorded:
        """Return what is recorded once all is seen that the tasks of a round wrote, or it is not waited for any longer."""
        begun = {end.task for end in ends if end.kind != "error"}
        # Of a run that is not wanted any more, what is seen later is found by its resume.
        deadline = time.monotonic() + (0.0 if not_wanted(ends) else self.config.patience)
        while True:
            seen = folder.all_seen(number)
            recorded = read_recorded(folder, with_values=work.keep_results)
            mine = [attempt for attempt in recorded.attempts if attempt.files.round == number]
            # What processes of this machine have written is seen here, also where they were cut off.
            here = begun <= {a.files.task for a in mine} and all(a.process_there() is not None for a in mine)
            if here or seen or time.monotonic() >= deadline:
                return recorded
            time.sleep(_LOOK)


def wait_for_others(
    folder: RunFolder, number: int, watch: Watch, interval: float, *, until_finished: bool = False
) -> None:
    """Wait for tasks of a round that others began, and for what each says at its end.

    `until_finished`: there may be none yet, so they have not ended before one of them found nothing left for it.
    """
    lease, next_look, before = folder.read_round(number)["lease"], 0.0, False
    while True:
        watch.look()
        now = time.monotonic()
        goes_on = folder.round_goes_on(number)
        if now >= next_look or not goes_on:
            states = folder.each(folder.read_state, folder.attempts(round_number=number))
            clock = folder.now()
            left = all(has_left(state, clock, lease) for state in states)
            finished = not until_finished or any(state["reason"] == "finished" for state in states)
            # One that has just claimed something may not be seen yet.
            if left and (not goes_on or (finished and before)):
                return
            before = left and finished
            next_look = now + max(interval, _OPERATIONS_EACH * len(states) / _OPERATIONS)
        time.sleep(interval)


def _journal(folder: RunFolder, work: Work, recorded: Recorded, ends: Sequence[TaskEnd]) -> Journal:
    journal = Journal(len(work.block_ids), 0, folder=folder.path)
    journal.stopped = folder.why_over(folder.n_rounds() - 1)
    journal.merge(recorded.done & work.block_ids, recorded.values(work.block_ids))
    missing = work.block_ids - recorded.done
    # What kept tasks from beginning comes before what earlier rounds, or runs, met in their blocks.
    refused = [end for end in ends if end.kind == "error"]
    if missing and refused:
        journal.failed(itertools.islice(missing, 1), WorkerError(_said_by(refused)))
    for block_ids, error in _last_errors(recorded, missing):
        journal.failed(block_ids, _exception(error.type, error.text, error.traceback))
    if missing and not journal.has_failures:
        said = [end for end in ends if end.kind != "finished"]
        journal.failed(
            itertools.islice(missing, 1), WorkerError(_said_by(said) or "workers exited without reporting")
        )
    return journal


def _said_by(ends: Sequence[TaskEnd]) -> str:
    return "; ".join(f"task {end.task}: {end.kind}{': ' + end.text if end.text else ''}" for end in ends[:3])


def _last_errors(recorded: Recorded, missing: IdSet) -> list[tuple[list[int], BlockError]]:
    """Return what each missing block failed with when it was tried last, in the order of the failures."""
    failed = [
        # Which of the two is quicker; and a damaged record can claim any number of blocks.
        [i for i in error.block_ids if i in missing]
        if len(error.block_ids) <= len(missing)
        else list(error.block_ids & missing)
        for error in recorded.errors
    ]
    last = {block_id: n for n, block_ids in enumerate(failed) for block_id in block_ids}
    found = []
    for n, (block_ids, error) in enumerate(zip(failed, recorded.errors, strict=True)):
        latest = [block_id for block_id in block_ids if last[block_id] == n]
        if latest:
            found.append((latest, error))
    return found


def _exception(kind: str, text: str, traceback: str) -> BaseException:
    """Return an error of this package again, and anything else as a WorkerError; the traceback comes as a note."""
    found = getattr(package_errors, kind, None)
    if isinstance(found, type) and issubclass(found, Exception) and kind != "RunnerError":
        error: BaseException = found(text)
    else:
        error = WorkerError(f"{kind}: {text}")
    error.add_note(f"In the worker:\n{traceback}")
    return error
