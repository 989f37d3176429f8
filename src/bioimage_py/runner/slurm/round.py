"""One round on Slurm: arrays are submitted one after the other, until it is known how every task ended."""

from __future__ import annotations

import logging
import time

from bioimage_py.errors import StorageError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.folder_runner import Watch
from bioimage_py.runner.rounds import TaskEnd
from bioimage_py.runner.run import end_of_log
from bioimage_py.runner.slurm.commands import Slurm, SlurmRefusalError, SlurmSilenceError
from bioimage_py.runner.slurm.config import SlurmConfig
from bioimage_py.runner.slurm.jobs import ArrayJob, RoundJobs
from bioimage_py.runner.slurm.states import LOST, Row, end_of, has_ended, hopeless
from bioimage_py.runner.slurm.submission import advice, is_full, options, script_arguments
from bioimage_py.runner.task import FINISHED

_log = logging.getLogger(__name__)

_SOON = 0.2
_CALMING = 4
"""Slurm is asked again after this part of the time since something happened, up to the interval of the user."""
_FULL_INTERVAL = 5.0
_ACCOUNTING_LAG = 8.0
"""Seconds that the accounting may lag behind the controller; up to 5 were seen."""
_FIRST_PATIENCE = 60.0
"""Seconds that a controller gets to take the first job of a round."""


class SlurmRound:
    """Submits the tasks of a round that were not submitted before, and waits for all of them."""

    def __init__(
        self, slurm: Slurm, jobs: RoundJobs, n_tasks: int, num_workers: int, config: SlurmConfig, watch: Watch
    ) -> None:
        self._slurm, self._jobs, self._config, self._watch = slurm, jobs, config, watch
        self._n_tasks, self._num_workers = n_tasks, num_workers
        self._ends: dict[int, TaskEnd] = {}
        self._began: set[int] = set()  # tasks that have started
        self._settled: set[str] = set()  # attempts that have ended
        self._seen: dict[int, str] = {}  # states that the controller last told of tasks that were not over
        self._missing: dict[
            int, tuple[float, bool]
        ] = {}  # since when tasks are not listed; are their siblings?
        self._over: dict[int, float] = {}  # since when tasks are over that have not finished
        self._most: int | None = None  # tasks that an array may have
        self._limit = 0  # tasks to submit at once
        self._refusal = ""  # why Slurm refuses the tasks for good
        self._said_full = False
        self._started = self._happened = time.monotonic()
        self._next = 0.0  # when to turn to Slurm again
        self._silent_since: float | None = None
        self._reattached = bool(jobs.jobs)
        self._was_cancelled = jobs.cancelled

    def run(self) -> list[TaskEnd]:
        """Return how each task of the round ended, in the order of their numbers.

        Raises SlurmRefusalError if Slurm will not run anything of it, and SlurmSilenceError if it has not answered for longer
        than `controller_timeout`.
        """
        current: dict[int, ArrayJob] = {}
        while True:
            self._look()
            had, current = current, self._open()
            try:
                if time.monotonic() >= self._next or (had and not current):
                    self._next = time.monotonic() + _SOON
                    if current:
                        self._ask(current)
                    elif len(self._ends) < self._n_tasks:
                        self._submit()
            except SlurmSilenceError as error:
                self._silence(error)
            if len(self._ends) == self._n_tasks:
                break
            # Short while a run is young, when waiting would be a large part of it.
            age = time.monotonic() - self._started
            time.sleep(max(0.05, min(1.0, age / 50, self._config.poll_interval)))
        self._jobs.ended = True
        self._jobs.write()
        return [self._ends[task] for task in range(self._n_tasks)]

    def _open(self) -> dict[int, ArrayJob]:
        """Return the tasks that Slurm has, as far as it is not known how they ended."""
        submitted = [job for job in self._jobs.jobs if job.number is not None]
        return {task: job for job in submitted for task in job.tasks if task not in self._ends}

    def _hurry(self) -> None:
        self._happened = time.monotonic()
        self._next = min(self._next, self._happened + _SOON)

    def _look(self) -> None:
        self._watch.look()
        for attempt in self._jobs.folder.attempts(round_number=self._jobs.number):
            if attempt.stem in self._settled or attempt.task in self._ends:
                continue
            self._began.add(attempt.task)
            try:
                reason = self._jobs.folder.read_state(attempt)["reason"]
            except (OSError, StorageError):
                continue  # it is being replaced on a disk that does so in two steps: the next look finds it
            if reason is None:
                continue
            self._settled.add(attempt.stem)
            if reason == FINISHED:
                self._ends[attempt.task] = TaskEnd(attempt.task, "finished")
            else:
                self._hurry()

    # -- submitting

    def _submit(self) -> None:
        """Submit an array of tasks that wait, when Slurm has none: so no more than `num_workers` run at once."""
        if not self._jobs.find_numbers(self._slurm):
            return  # whether the last array was submitted is not known yet
        submitted = {task for job in self._jobs.jobs for task in job.tasks}
        waiting = [task for task in range(self._n_tasks) if task not in submitted and task not in self._ends]
        if not waiting:
            return  # they were found just now
        if self._jobs.cancelled:
            self._give_up(waiting, "cancelled", "the run was cancelled before it was submitted")
            return
        if self._refusal:
            if not self._ends:
                raise SlurmRefusalError(self._refusal)
            self._give_up(waiting, "error", self._refusal)
            return
        if self._most is None:
            allowed = self._slurm.max_array_size()
            self._limit = self._most = min(self._config.max_array_size or allowed, allowed)
        offset = waiting[0]
        tasks = [task for task in waiting[: self._limit] if task < offset + self._most]
        folder, number = self._jobs.folder, self._jobs.number
        job = self._jobs.intend(IdSet.from_ids(tasks), offset, min(self._num_workers, len(tasks)))
        if self._jobs.cancelled:  # by another process, meanwhile
            self._jobs.withdraw(job)
            return
        words = options(self._config, folder, number, job, self._jobs.asked)
        arguments = script_arguments(self._config, folder, number, job)
        try:
            job.number = self._slurm.submit(words, str(folder.script(number)), arguments)
        except SlurmRefusalError as refusal:
            self._jobs.withdraw(job)
            self._take_refusal(str(refusal), len(tasks))
            return
        self._jobs.write()
        self._heard()
        self._hurry()
        self._limit = min(self._most, 2 * self._limit)
        _log.info("submitted job %s with %d tasks", job.number, len(tasks))

    def _take_refusal(self, said: str, n_tasks: int) -> None:
        if is_full(said):
            self._limit = max(1, n_tasks // 2)
            if n_tasks > 1:
                return
            if self._slurm.any_of_mine():
                self._next = time.monotonic() + min(_FULL_INTERVAL, self._config.poll_interval)
                if not self._said_full:
                    self._said_full = True
                    _log.warning(
                        "Slurm takes no more jobs now (%s); the rest waits until some have ended", said
                    )
                return
        self._refusal = advice(said, self._config, self._jobs.asked)

    def _give_up(self, tasks: list[int], kind: str, text: str) -> None:
        for task in tasks:
            self._close(TaskEnd(task, kind, text))

    # -- asking Slurm

    def _ask(self, current: dict[int, ArrayJob]) -> None:
        calm = max(_SOON, (time.monotonic() - self._happened) / _CALMING)
        self._next = time.monotonic() + min(calm, self._config.poll_interval)
        rows = self._slurm.queue(jobs=_numbers(current))
        self._heard()
        self._look()
        known = {row.place: row for row in rows}
        listed = {row.name for row in rows}
        over: dict[int, Row] = {}
        for task, job in self._open().items():
            row = known.get(job.place(task))
            if row is None:
                self._missing.setdefault(task, (time.monotonic(), job.name in listed))
                continue
            self._missing.pop(task, None)
            never = hopeless(row)
            if never:
                self._abandon(job, never)
            if has_ended(row):
                over[task] = row
            elif row.state != "COMPLETING":  # then it has ended, and only its node is cleaned up
                self._seen[task] = row.state
        for task, row in (over | self._vanished()).items():
            if task not in self._ends:
                self._conclude(task, row)

    def _vanished(self) -> dict[int, Row]:
        """Return how tasks ended that the controller does not list any more, where that is certain."""
        missing = {task: job for task, job in self._open().items() if task in self._missing}
        history = {row.place: row for row in self._slurm.history(jobs=_numbers(missing))}
        found = {}
        for task, job in missing.items():
            place = job.place(task)
            since, siblings = self._missing[task]
            recorded = history.get(place)
            if recorded is not None and has_ended(recorded):
                found[task] = recorded
            elif time.monotonic() - since > max(_ACCOUNTING_LAG, self._config.latency_wait):
                # A task of an array that is cancelled while it waits leaves no trace, but its siblings do.
                waited = task not in self._began and self._seen.get(task, "PENDING") == "PENDING"
                found[task] = Row(*place, "CANCELLED" if siblings and waited else LOST)
        return found

    def _conclude(self, task: int, row: Row) -> None:
        """Take what is known of a task that is over without having finished."""
        began = task in self._began
        (job,) = [job for job in self._jobs.jobs if job.name == row.name]
        log = end_of_log(job.log(self._jobs.folder, self._jobs.number, row.index))
        end = end_of(task, row, began=began, log=log)
        # What a node wrote may take a while to be seen here, so that only what has an ending of its own is certain.
        certain = end.kind != "lost" and (began or end.kind in ("cancelled", "error"))
        now = time.monotonic()
        if certain or now - self._over.setdefault(task, now) >= self._config.latency_wait:
            self._close(end)

    def _close(self, end: TaskEnd) -> None:
        # What its user cancelled before, and now wants finished.
        before = self._reattached and (self._was_cancelled or end.task not in self._seen)
        kind = "stopped" if end.kind == "cancelled" and before else end.kind
        self._ends[end.task] = TaskEnd(end.task, kind, end.text)

    def _abandon(self, job: ArrayJob, why: str) -> None:
        if job.number is None or self._refusal:
            return
        self._slurm.cancel([job.number])
        self._refusal = f"{why} (job {job.number}, cancelled)"
        _log.warning("%s", self._refusal)
        if not self._ends and not self._began:
            raise SlurmRefusalError(self._refusal)
        left = [task for task in job.tasks if task not in self._ends and task not in self._began]
        self._give_up(left, "error", self._refusal)

    # -- a controller that does not answer

    def _silence(self, error: SlurmSilenceError) -> None:
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
            _log.warning(
                "Slurm does not answer (%s); waiting for it. Tasks that run go on without it, and so does this",
                error,
            )
        limit = self._config.controller_timeout
        if limit is None and not any(job.number for job in self._jobs.jobs):
            limit = _FIRST_PATIENCE
        if limit is not None and now - self._silent_since > limit:
            raise SlurmSilenceError(
                f"Slurm has not answered for {now - self._silent_since:.0f} s: {error}"
            ) from error

    def _heard(self) -> None:
        if self._silent_since is not None:
            _log.warning("Slurm answers again after %.0f s", time.monotonic() - self._silent_since)
        self._silent_since = None


def _numbers(current: dict[int, ArrayJob]) -> list[str]:
    return list(dict.fromkeys(job.number for job in current.values() if job.number is not None))
