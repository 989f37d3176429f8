"""One round on Slurm: as many of its tasks are submitted as Slurm takes, and it is waited for until its work is done.

What is known comes from the run folder. Slurm is asked about an array only while some of its tasks are silent: they have not
begun, gave no sign of life for long, or have ended early.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from bioimage_py.geometry import IdSet
from bioimage_py.runner.folder_runner import Watch
from bioimage_py.runner.rounds import TaskEnd
from bioimage_py.runner.run import end_of_log
from bioimage_py.runner.slurm.commands import Slurm, SlurmRefusalError, SlurmSilenceError
from bioimage_py.runner.slurm.config import SlurmConfig
from bioimage_py.runner.slurm.jobs import ArrayJob, RoundJobs
from bioimage_py.runner.slurm.pace import Attention
from bioimage_py.runner.slurm.signs import Signs
from bioimage_py.runner.slurm.states import LOST, Row, end_of, has_ended, hopeless
from bioimage_py.runner.slurm.submission import advice, is_full, is_too_long, options, script_arguments

_log = logging.getLogger(__name__)

_ROOM_AGAIN = 600.0
"""Seconds after which more may be submitted than Slurm has refused."""
_ACCOUNTING_LAG = 8.0
"""Seconds that the accounting may lag behind the controller; up to 5 were seen."""
_FIRST_PATIENCE = 60.0
"""Seconds that a controller gets to take the first job of a round."""
_SILENCE = 30.0
"""Most seconds between two calls to a controller that does not answer."""


@dataclass
class _Over:
    """A task that is over for Slurm and not for the run folder: the last of what its node wrote may not be seen here yet."""

    row: Row
    since: float
    began: bool | None = None  # what was known when it was judged last


class SlurmRound:
    """Submits the tasks of a round that were not submitted before, and waits for them."""

    def __init__(
        self, slurm: Slurm, jobs: RoundJobs, n_tasks: int, num_workers: int, config: SlurmConfig, watch: Watch
    ) -> None:
        self._slurm, self._jobs, self._config, self._watch = slurm, jobs, config, watch
        self._pace = slurm.pace
        self._pace.set_size(n_tasks)
        self._n_tasks, self._num_workers = n_tasks, num_workers
        self._signs = Signs(jobs.folder, jobs.number, n_tasks, self._pace)
        self._ends: dict[int, TaskEnd] = {}
        self._attention = {job.name: Attention.at(self._pace.now()) for job in jobs.jobs}
        self._seen: dict[int, str] = {}  # states that the controller last told of tasks that were not over
        self._missing: dict[
            int, tuple[float, bool]
        ] = {}  # since when tasks are not listed; are their siblings?
        self._over: dict[int, _Over] = {}
        self._refusal = ""  # why Slurm refuses the tasks for good
        self._n_full = 0  # times that Slurm took not even one task, although it had none
        self._not_before = 0.0  # when to turn to Slurm again
        self._silent_since: float | None = None
        self._reattached = bool(jobs.jobs)
        self._was_cancelled = jobs.cancelled

    def run(self) -> list[TaskEnd]:
        """Return how each task of the round ended, in the order of their numbers.

        Raises SlurmRefusalError if Slurm will not run anything of it, and SlurmSilenceError if it has not answered for longer
        than `controller_timeout`.
        """
        while True:
            self._look()
            if self._enough():
                break
            try:
                if self._pace.now() >= self._not_before and self._pace.allows():
                    self._turn_to_slurm()
            except SlurmSilenceError as error:
                self._silence(error)
            if not self._enough():
                self._pace.sleep(self._signs.interval())
        self._jobs.ended = True
        self._jobs.write()
        return [self._ends[task] for task in range(self._n_tasks)]

    def _enough(self) -> bool:
        return len(self._ends) == self._n_tasks

    def _open(self, job: ArrayJob) -> list[int]:
        """Return the tasks of an array of which it is not known how they ended."""
        return [task for task in job.tasks if task not in self._ends]

    def _look(self, *, now: bool = False) -> None:
        self._watch.look()
        early = self._signs.look(now=now)
        for task in self._signs.finished - self._ends.keys():
            self._ends[task] = TaskEnd(task, "finished")
        if early:
            for job in self._jobs.jobs:
                if not early.isdisjoint(job.tasks):
                    self._attention[job.name].stir(self._pace.now())
        for task in [task for task in self._over if task not in self._ends]:
            self._conclude(task)

    def _turn_to_slurm(self) -> None:
        """Submit what there is room for, else ask about the array that it is time to ask about, if there is one."""
        if not self._jobs.find_numbers(self._slurm):
            self._not_before = self._pace.now() + 1
            return  # whether the last array was submitted is not known yet
        waiting = self._waiting()
        if waiting and self._may_submit(waiting):
            return
        now, quiet = self._pace.now(), self._signs.quiet()
        due = []
        for job in self._jobs.jobs:
            tasks = [task for task in self._open(job) if task not in self._over]
            if not tasks:
                continue
            attention = self._attention[job.name]
            silent = frozenset(quiet.intersection(tasks))
            if silent - attention.quiet:
                attention.stir(now)
            attention.quiet = silent
            if attention.due <= now and (silent or not self._signs.begun.issuperset(tasks)):
                due.append(job)
        if due:
            self._ask(min(due, key=lambda job: self._attention[job.name].due))

    # -- submitting

    def _waiting(self) -> list[int]:
        submitted = {task for job in self._jobs.jobs for task in job.tasks}
        return [task for task in range(self._n_tasks) if task not in submitted and task not in self._ends]

    def _may_submit(self, waiting: list[int]) -> bool:
        """Submit an array of tasks that wait, if there is room for it; return whether Slurm was turned to."""
        there = [(job, len(self._open(job))) for job in self._jobs.jobs]
        free = self._num_workers - sum(min(job.throttle, n_open) for job, n_open in there)
        n_there = sum(n_open for _, n_open in there)
        if self._jobs.cancelled:
            self._give_up(waiting, "cancelled", "the run was cancelled before it was submitted")
        elif self._refusal:
            if not self._ends:
                raise SlurmRefusalError(self._refusal)
            self._give_up(waiting, "error", self._refusal)
        elif (
            not n_there and self._ends and {end.kind for end in self._ends.values()} <= {"error", "cancelled"}
        ):
            last = next(reversed(self._ends.values()))
            self._give_up(waiting, last.kind, last.text)
        elif free > 0:
            return self._submit(waiting, n_there, free)
        return False

    def _submit(self, waiting: list[int], n_there: int, free: int) -> bool:
        slurm, config, now = self._slurm, self._config, self._pace.now()
        most = slurm.array_limit(len(waiting))
        most = min(most, config.max_array_size or most)
        if now - slurm.room.refused_at > _ROOM_AGAIN:
            slurm.room.forget()
        n = slurm.room.portion(min(len(waiting), most), n_there)
        if not n:
            return False
        offset = waiting[0]
        tasks = [task for task in waiting[:n] if task < offset + most]
        folder, number = self._jobs.folder, self._jobs.number
        job = self._jobs.intend(IdSet.from_ids(tasks), offset, min(free, len(tasks)))
        if self._jobs.cancelled:  # by another process, meanwhile
            self._jobs.withdraw(job)
            return False
        self._attention[job.name] = Attention.at(now)
        words = options(config, folder, number, job, self._jobs.asked)
        arguments = script_arguments(config, folder, number, job)
        try:
            job.number = slurm.submit(words, str(folder.script(number)), arguments)
        except SlurmRefusalError as refusal:
            self._jobs.withdraw(job)
            self._take_refusal(str(refusal), len(tasks), n_there)
            return True
        self._jobs.write()
        self._heard()
        slurm.room.accepted(n_there + len(tasks))
        self._n_full = 0
        self._attention[job.name] = Attention.at(self._pace.now())
        _log.info("submitted job %s with %d tasks", job.number, len(tasks))
        return True

    def _take_refusal(self, said: str, n_tasks: int, n_there: int) -> None:
        slurm = self._slurm
        if is_too_long(said) and n_tasks > slurm.array_limit():
            return
        if not is_full(said):
            self._refusal = advice(said, self._config, self._jobs.asked)
            return
        first = slurm.room.refused is None
        slurm.room.was_refused(n_there, n_tasks, self._pace.now())
        if n_there or n_tasks > 1:
            if first:
                _log.warning("Slurm takes no more than a part of the tasks now (%s); the rest waits", said)
            return
        # Others of the account may have filled what they share; a limit of none is not waited out.
        self._n_full += 1
        if self._n_full > 1 and "Grp" not in said and not slurm.any_of_mine():
            self._refusal = advice(said, self._config, self._jobs.asked)
            return
        seconds = self._pace.interval * 2 ** (self._n_full - 1)
        self._not_before = self._pace.now() + min(self._pace.longest, seconds)
        if self._n_full == 2:
            _log.warning("Slurm takes no job now (%s); it is tried again and again", said)

    def _give_up(self, tasks: list[int], kind: str, text: str) -> None:
        for task in tasks:
            self._close(TaskEnd(task, kind, text))

    # -- asking Slurm

    def _ask(self, job: ArrayJob) -> None:
        attention = self._attention[job.name]
        attention.asked(self._pace.now(), self._pace.longest)
        assert job.number is not None  # those without are not asked about
        rows = self._slurm.queue(job.number)
        self._heard()
        self._look(now=True)
        known = {row.place: row for row in rows}
        listed = any(row.name == job.name for row in rows)
        now = self._pace.now()
        for task in self._open(job):
            row = known.get(job.place(task))
            if row is None:
                if task not in self._missing:
                    self._missing[task] = (now, listed)
                    attention.stir(now)
                continue
            self._missing.pop(task, None)
            never = hopeless(row)
            if never:
                self._abandon(job, never)
            if has_ended(row):
                self._is_over(task, row)
                attention.stir(now)
            elif row.state != "COMPLETING":  # then it has ended, and only its node is cleaned up
                self._seen[task] = row.state
        self._look_for_missing(job)
        if not self._open(job):
            return
        attention.asked(self._pace.now(), self._pace.longest)

    def _look_for_missing(self, job: ArrayJob) -> None:
        """Learn how tasks ended that the controller does not list any more, where that is certain."""
        missing = [task for task in self._open(job) if task in self._missing and task not in self._over]
        if not missing or job.number is None:
            return
        history = {row.place: row for row in self._slurm.history(job.number)}
        for task in missing:
            place = job.place(task)
            since, siblings = self._missing[task]
            recorded = history.get(place)
            if recorded is not None and has_ended(recorded):
                self._is_over(task, recorded)
            elif self._pace.now() - since > max(_ACCOUNTING_LAG, self._config.latency_wait):
                # A task of an array that is cancelled while it waits leaves no trace, but its siblings do.
                waited = task not in self._signs.begun and self._seen.get(task, "PENDING") == "PENDING"
                self._is_over(task, Row(*place, "CANCELLED" if siblings and waited else LOST))

    def _is_over(self, task: int, row: Row) -> None:
        self._over.setdefault(task, _Over(row, self._pace.now()))
        self._conclude(task)

    def _conclude(self, task: int) -> None:
        """Take what is known of a task that is over without having finished, once that is certain."""
        over = self._over[task]
        began = task in self._signs.begun
        late = self._pace.now() - over.since >= self._config.latency_wait
        if began == over.began and not late:
            return
        over.began = began
        (job,) = [job for job in self._jobs.jobs if job.name == over.row.name]
        log = end_of_log(job.log(self._jobs.folder, self._jobs.number, over.row.index))
        end = end_of(task, over.row, began=began, log=log)
        if late or (end.kind != "lost" and (began or end.kind in ("cancelled", "error"))):
            self._close(end)

    def _close(self, end: TaskEnd) -> None:
        # What its user cancelled before, and now wants finished.
        before = self._reattached and (self._was_cancelled or end.task not in self._seen)
        kind = "stopped" if end.kind == "cancelled" and before else end.kind
        self._ends[end.task] = TaskEnd(end.task, kind, end.text)

    def _abandon(self, job: ArrayJob, why: str) -> None:
        if job.number is None or self._refusal:
            return
        self._slurm.cancel(job.number)
        self._refusal = f"{why} (job {job.number}, cancelled)"
        _log.warning("%s", self._refusal)
        if not self._ends and not self._signs.begun:
            raise SlurmRefusalError(self._refusal)
        left = [task for task in job.tasks if task not in self._ends and task not in self._signs.begun]
        self._give_up(left, "error", self._refusal)

    # -- a controller that does not answer

    def _silence(self, error: SlurmSilenceError) -> None:
        now = self._pace.now()
        if self._silent_since is None:
            self._silent_since = now
            _log.warning(
                "Slurm does not answer (%s); waiting for it. Tasks that run go on without it, and so does this",
                error,
            )
        silent = now - self._silent_since
        self._not_before = now + min(_SILENCE, max(Attention.SOON, silent / 2))
        limit = self._config.controller_timeout
        if limit is None and not any(job.number for job in self._jobs.jobs):
            limit = _FIRST_PATIENCE
        if limit is not None and silent > limit:
            raise SlurmSilenceError(f"Slurm has not answered for {silent:.0f} s: {error}") from error

    def _heard(self) -> None:
        if self._silent_since is not None:
            _log.warning("Slurm answers again after %.0f s", self._pace.now() - self._silent_since)
        self._silent_since = None
