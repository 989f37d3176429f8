"""One round on Slurm: arrays are submitted as there is room for them, until it is known how every task ended."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

from bioimage_py.errors import StorageError
from bioimage_py.runner.folder_runner import Watch
from bioimage_py.runner.rounds import TaskEnd
from bioimage_py.runner.run import RunFolder, end_of_log
from bioimage_py.runner.slurm.commands import Slurm, SlurmRefusalError, SlurmSilenceError
from bioimage_py.runner.slurm.config import SlurmConfig
from bioimage_py.runner.slurm.jobs import ArrayJob, RoundJobs
from bioimage_py.runner.slurm.states import Evidence, Place, Row, end_of, has_ended, hopeless
from bioimage_py.runner.slurm.submission import Submitter
from bioimage_py.runner.slurm.vanished import Vanished
from bioimage_py.runner.task import FINISHED

_log = logging.getLogger(__name__)

_FIRST_INTERVAL = 0.2
_GROWTH = 1.3
_AGAIN = ("node failure", "lost")
"""Ends that are not the fault of the task: it is submitted again at once, while others of its round still run."""
_FIRST_PATIENCE = 60.0
"""Seconds that a controller gets to take the first job of a round."""
_LAST_PATIENCE = 40.0
"""Seconds that duplicate tasks get to end; Slurm kills what does not after 30 by default."""


class RoundAttempts:
    """What the attempts of a round say of themselves, read again and again while the round runs."""

    def __init__(self, folder: RunFolder, number: int) -> None:
        self.finished: set[int] = set()  # tasks that some attempt tried to its end
        self.began: set[int] = set()
        self.stopped: set[int] = set()  # tasks of which some attempt says that it ended before
        self._folder, self._number = folder, number
        self._settled: set[str] = set()
        self._stamps: dict[str, tuple[int, int]] = {}

    def look(self) -> None:
        """Read what is new."""
        for attempt in self._folder.attempts(round_number=self._number):
            if attempt.stem in self._settled or attempt.task in self.finished:
                continue
            self.began.add(attempt.task)
            try:
                found = attempt.state.stat()
                stamp = (found.st_ino, found.st_mtime_ns)  # the clock of a disk may tick slowly
                if self._stamps.get(attempt.stem) == stamp:
                    continue
                reason = self._folder.read_state(attempt).get("reason")
            except (OSError, StorageError):
                continue  # it is being replaced on a disk that does so in two steps: the next look finds it
            self._stamps[attempt.stem] = stamp
            if reason is not None:
                self._settled.add(attempt.stem)
                (self.finished if reason == FINISHED else self.stopped).add(attempt.task)


class SlurmRound:
    """Submits the tasks of a round that were not submitted before, and waits for all of them."""

    def __init__(
        self, slurm: Slurm, jobs: RoundJobs, n_tasks: int, num_workers: int, config: SlurmConfig, watch: Watch
    ) -> None:
        self._slurm, self._jobs, self._config, self._watch = slurm, jobs, config, watch
        self._n_tasks = n_tasks
        self._attempts = RoundAttempts(jobs.folder, jobs.number)
        self._ends: dict[int, TaskEnd] = {}
        self._home: dict[int, ArrayJob] = {}
        self._tries: Counter[int] = Counter()
        self._vanished = Vanished(slurm, config.latency_wait)
        self._submitter = Submitter(slurm, jobs, num_workers, config)
        self._interval = _FIRST_INTERVAL
        self._next = 0.0
        self._began = time.monotonic()
        self._silent_since: float | None = None
        self._next_submission = 0.0
        self._reattached = bool(jobs.jobs)
        self._was_cancelled = jobs.cancelled

    def run(self) -> list[TaskEnd]:
        """Return how each task of the round ended, in the order of their numbers.

        Raises SlurmRefusalError if Slurm will not run anything of it, and SlurmSilenceError if it has not answered for longer
        than `controller_timeout`.
        """
        self._slurm.idle = self._look
        for job in self._jobs.jobs:
            if job.number is not None:
                self._take(job)
        self._submitter.waiting = [task for task in range(self._n_tasks) if task not in self._home]
        while len(self._ends) < self._n_tasks:
            self._submit()
            self._look()
            if self._home and time.monotonic() >= self._next:
                self._ask()
            if len(self._ends) < self._n_tasks:
                time.sleep(self._pause())
        self._slurm.idle = lambda: None
        duplicates = {self._home[task].place(task) for task in self._tries if task in self._home}
        if duplicates:
            end_duplicates(self._slurm, duplicates)
        self._jobs.ended = True
        self._jobs.write()
        return [self._ends[task] for task in range(self._n_tasks)]

    def _pause(self) -> float:
        """Short while a run is young, when waiting would be a large part of it."""
        age = time.monotonic() - self._began
        return max(0.05, min(1.0, age / 50, self._config.poll_interval))

    def _take(self, job: ArrayJob) -> None:
        """Count the tasks of an array as submitted."""
        self._heard()
        self._vanished.forget(job.tasks)
        for task in job.tasks:
            self._home[task] = job
        self._hurry()

    # -- submitting

    def _open(self) -> dict[int, ArrayJob]:
        return {task: job for task, job in self._home.items() if task not in self._ends}

    def _submit(self) -> None:
        if not self._submitter.waiting or time.monotonic() < self._next_submission:
            return
        if self._jobs.cancelled:
            self._give_up(TaskEnd(0, "cancelled", "the run was cancelled before it was submitted"))
            return
        try:
            self._submitter.submit(self._open(), self._take)
        except SlurmSilenceError as error:
            self._next_submission = time.monotonic() + self._interval
            self._silence(error)
            return
        if self._submitter.refusal and not self._open():
            if not self._ends:
                raise SlurmRefusalError(self._submitter.refusal)
            self._give_up(TaskEnd(0, "error", self._submitter.refusal))

    def _give_up(self, end: TaskEnd) -> None:
        for task in self._submitter.waiting:
            self._close(TaskEnd(task, end.kind, end.text))
        self._submitter.waiting = []

    # -- looking at the run folder

    def _look(self) -> None:
        self._watch.look()
        before = len(self._attempts.stopped)
        self._attempts.look()
        for task in self._attempts.finished:
            if task not in self._ends:
                self._ends[task] = TaskEnd(task, "finished")
        if len(self._attempts.stopped) > before:
            self._hurry()

    # -- asking Slurm

    def _hurry(self) -> None:
        """Ask Slurm again soon, as something happened."""
        self._interval = _FIRST_INTERVAL
        self._next = min(self._next, time.monotonic() + _FIRST_INTERVAL)

    def _ask(self) -> None:
        self._interval = min(self._interval * _GROWTH, max(_FIRST_INTERVAL, self._config.poll_interval))
        current = self._open()
        numbers = self._jobs.numbers({job.name: job for job in current.values()}.values())
        try:
            rows = self._slurm.queue(jobs=numbers)
        except SlurmSilenceError as error:
            self._silence(error)
        else:
            self._heard()
            self._judge(self._open(), {row.place: row for row in rows})
            self._submitter.widen(self._open())
        self._next = time.monotonic() + self._interval

    def _judge(self, current: Mapping[int, ArrayJob], known: Mapping[Place, Row]) -> None:
        over: dict[int, Row] = {}
        jobs_known = {(place.job, place.name) for place in known}
        for task, job in current.items():
            row = known.get(job.place(task))
            if row is None:
                self._vanished.missed(task, siblings=(job.number, job.name) in jobs_known)
                continue
            stuck = hopeless(row)
            if stuck:
                self._abandon(job, stuck)
            if has_ended(row):
                over[task] = row
            else:
                self._vanished.saw(task, row)
        self._look()
        left = {task: job for task, job in self._open().items() if task not in over}
        over |= self._vanished.found(left, self._attempts.began)
        over = {task: row for task, row in over.items() if task not in self._ends}
        if over:
            self._conclude(over)

    def _conclude(self, over: Mapping[int, Row]) -> None:
        """Take what is known of tasks that are over without having finished."""
        unclear = [
            task for task, row in over.items() if row.exit is None and row.state in ("FAILED", "COMPLETED")
        ]
        exits = self._slurm.exits(dict.fromkeys(over[task].job for task in unclear)) if unclear else {}
        for task, row in over.items():
            job, began = self._home[task], task in self._attempts.began
            log = end_of_log(job.log(self._jobs.folder, self._jobs.number, row.index))
            told = replace(row, exit=row.exit or exits.get(row.place))
            end = end_of(task, told, Evidence(began, log))
            # What a node wrote may take a while to be seen here, so that only what has an ending of its own is certain.
            certain = began or end.kind in ("cancelled", "error")
            if (end.kind == "lost" or not certain) and not self._vanished.patience_over(task):
                continue
            self._end(end)

    def _end(self, end: TaskEnd) -> None:
        others = any(task != end.task for task in self._open())
        if end.kind in _AGAIN and others and self._tries[end.task] < self._config.retries:
            self._tries[end.task] += 1
            _log.warning("task %d is submitted again: %s", end.task, end.text)
            del self._home[end.task]
            self._submitter.put_back(end.task)
        else:
            self._close(end)

    def _close(self, end: TaskEnd) -> None:
        if end.kind == "cancelled" and self._reattached:
            # Its user cancelled it before, and now wants it finished.
            before = self._was_cancelled or end.task not in self._vanished.seen
            end = TaskEnd(end.task, "stopped", end.text) if before else end
        self._ends[end.task] = end

    def _abandon(self, job: ArrayJob, why: str) -> None:
        """Cancel an array that would wait for ever."""
        if job.number is None or self._submitter.refusal:
            return
        try:
            self._slurm.cancel([job.number])
        except SlurmSilenceError as error:
            self._silence(error)  # it is found waiting again
            return
        self._submitter.refusal = f"{why} (job {job.number}, cancelled)"
        _log.warning("%s", self._submitter.refusal)
        if not self._ends and not self._attempts.began:
            raise SlurmRefusalError(self._submitter.refusal)
        for task, home in self._open().items():
            if home is job and task not in self._attempts.began:
                self._ends[task] = TaskEnd(task, "error", self._submitter.refusal)

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
        if limit is None and not self._home:
            limit = _FIRST_PATIENCE
        if limit is not None and now - self._silent_since > limit:
            raise SlurmSilenceError(
                f"Slurm has not answered for {now - self._silent_since:.0f} s: {error}"
            ) from error

    def _heard(self) -> None:
        if self._silent_since is not None:
            _log.warning("Slurm answers again after %.0f s", time.monotonic() - self._silent_since)
        self._silent_since = None


def end_duplicates(slurm: Slurm, places: Collection[Place]) -> None:
    """Cancel tasks that another attempt has done, and wait for their end, so that nothing is written after the run's end."""
    numbers = dict.fromkeys(place.job for place in places)
    end = time.monotonic() + _LAST_PATIENCE
    told = False
    try:
        while time.monotonic() < end:
            rows = [row for row in slurm.queue(jobs=numbers) if row.place in places and not has_ended(row)]
            if not rows:
                return
            alive = [f"{row.job}_{row.index}" for row in rows]
            if not told:
                slurm.cancel(alive)
                told = True
            time.sleep(0.2)
        _log.warning("tasks %s were cancelled, as another attempt has done them, and have not ended", alive)
    except (SlurmSilenceError, SlurmRefusalError) as error:
        _log.warning("tasks that another attempt has done may still run: %s", error)
