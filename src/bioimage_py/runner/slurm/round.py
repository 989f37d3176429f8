"""One round on Slurm: as many of its tasks are submitted as Slurm takes, and those that have begun are waited for.

Any of them does all that is left, so that none has to be submitted again, and what still waits is cancelled once one has found
nothing to do. What is known comes from the run folder. Slurm is asked about an array only while some of its tasks are silent:
they have not begun although they may, gave no sign of life for long, or have ended early.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
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
from bioimage_py.runner.slurm.states import LOST, Row, could_not_log, end_of, has_ended, hopeless
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
        self, slurm: Slurm, jobs: RoundJobs, num_workers: int, config: SlurmConfig, watch: Watch
    ) -> None:
        content = jobs.folder.read_round(jobs.number)
        self._slurm, self._jobs, self._config, self._watch = slurm, jobs, config, watch
        self._pace = slurm.pace
        self._n_tasks, self._at_once = content["tasks"], min(num_workers, content["at_once"])
        self._pace.set_size(self._n_tasks)
        self._signs = Signs(jobs.folder, jobs.number, self._n_tasks, content["beat"], self._pace)
        self._ends: dict[int, TaskEnd] = {}
        self._spared: set[int] = set()  # tasks that were cancelled here, as they need not begin any more
        self._lost: set[int] = set()  # tasks that were cancelled here, as they may never end
        self._to_cancel: list[tuple[str, IdSet]] = []  # arrays, and which of their indices
        self._released = False  # is nothing more to be submitted?
        self._sparing = False  # are those that wait cancelled?
        self._done_since: float | None = None
        self._attention = {job.name: Attention.at(self._pace.now()) for job in jobs.jobs}
        self._seen: dict[int, str] = {}  # states that the controller last told of tasks that were not over
        self._missing: dict[
            int, tuple[float, bool]
        ] = {}  # since when tasks are not listed; are their siblings?
        self._over: dict[int, _Over] = {}
        self._refusal = ""  # why Slurm refuses the tasks for good
        self._n_full = 0  # times that Slurm took not even one task, although it had none
        self._submitted_last = False
        self._not_before = 0.0  # when to turn to Slurm again
        self._silent_since: float | None = None
        self._reattached = bool(jobs.jobs)
        self._was_cancelled = jobs.cancelled

    def run(self) -> list[TaskEnd]:
        """Return how the tasks that have begun, or could not, ended, in the order of their numbers.

        Raises SlurmRefusalError if Slurm will not run anything of it, and SlurmSilenceError if it has not answered for longer
        than `controller_timeout`.
        """
        while True:
            self._look()
            try:
                self._cancel_chosen()
                if not self._enough() and self._pace.now() >= self._not_before and self._pace.allows():
                    self._turn_to_slurm()
            except SlurmSilenceError as error:
                self._silence(error)
            if self._enough():
                break
            self._pace.sleep(self._signs.interval())
        self._jobs.ended = True
        self._jobs.write()
        return [self._ends[task] for task in sorted(self._ends)]

    @property
    def nothing_began(self) -> bool:
        """Whether no task could begin because its node does not see the run folder."""
        overs = self._over.values()
        return bool(overs) and not self._signs.begun and all(could_not_log(over.row) for over in overs)

    def _enough(self) -> bool:
        return not self._waiting() and not any(self._open(job) for job in self._jobs.jobs)

    def _waiting(self) -> list[int]:
        """Return the tasks that are still to be submitted."""
        if self._released:
            return []
        known = {task for job in self._jobs.jobs for task in job.tasks}.union(self._ends)
        return [task for task in range(self._n_tasks) if task not in known]

    def _open(self, job: ArrayJob) -> list[int]:
        """Return the tasks of an array of which it is not known how they ended."""
        gone = (self._spared - self._signs.begun).union(self._ends, self._lost)
        return [task for task in job.tasks if task not in gone]

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
        folder, number = self._jobs.folder, self._jobs.number
        if self._done_since is None and folder.round_is_done(number):
            self._done_since = self._pace.now()
            self._signs.hurry()
        if not self._released and (self._signs.finished or not folder.round_goes_on(number)):
            # A task has found nothing left, so others would find nothing either.
            self._released = True
        if (
            self._released
            and not self._sparing
            and (not folder.round_goes_on(number) or folder.all_seen(number, done=True))
        ):
            # Not before: a network disk may not show yet that a task has begun.
            self._sparing = True
            self._spared |= self._cancel(lambda task: task not in self._signs.begun)
        if self._done_since is not None and self._pace.now() - self._done_since > self._config.latency_wait:
            # Others have done their work.
            self._lost |= self._cancel(self._signs.quiet().__contains__)

    def _cancel(self, chosen: Callable[[int], bool]) -> set[int]:
        """Choose open tasks to be cancelled, and return them."""
        cancelled: set[int] = set()
        for job in self._jobs.jobs:
            tasks = [task for task in self._open(job) if chosen(task)]
            cancelled.update(tasks)
            if tasks and job.number is not None:
                self._to_cancel.append((job.number, job.indices(IdSet.from_ids(tasks))))
        return cancelled

    def _cancel_chosen(self) -> None:
        while self._to_cancel:
            try:
                self._slurm.cancel(*self._to_cancel.pop())
            except SlurmRefusalError as error:
                _log.warning("tasks that have nothing left to do are not cancelled: %s", error)

    def _turn_to_slurm(self) -> None:
        """Submit what there is room for, or ask about the array that it is time to ask about: in turn, where there are both."""
        if not self._jobs.find_numbers(self._slurm):
            self._not_before = self._pace.now() + 1
            return  # whether the last array was submitted is not known yet
        due, waiting = self._due(), self._waiting()
        if waiting and not (due and self._submitted_last) and self._may_submit(waiting):
            self._submitted_last = True
        elif due:
            self._submitted_last = False
            self._ask(min(due, key=lambda job: self._attention[job.name].due))

    def _due(self) -> list[ArrayJob]:
        """Return the arrays with silent tasks that it is time to ask about."""
        now, quiet = self._pace.now(), self._signs.quiet()
        due = []
        for job in self._jobs.jobs:
            tasks = [task for task in self._open(job) if task not in self._over]
            begun = self._signs.begun.intersection(tasks)
            attention, silent = self._attention[job.name], frozenset(begun & quiet)
            if silent - attention.quiet:
                attention.stir(now)
            attention.quiet = silent
            may_begin = len(begun) < min(job.throttle, len(tasks))
            if attention.due <= now and (silent or may_begin):
                due.append(job)
        return due

    # -- submitting

    def _may_submit(self, waiting: list[int]) -> bool:
        """Submit an array of tasks that wait, if there is room for it; return whether Slurm was turned to."""
        there = [(job, len(self._open(job))) for job in self._jobs.jobs]
        free = self._at_once - sum(min(job.throttle, n_open) for job, n_open in there)
        n_there = sum(n_open for _, n_open in there)
        if self._jobs.cancelled:
            self._give_up(waiting, "cancelled", "the run was cancelled before it was submitted")
        elif self._refusal:
            if not self._jobs.jobs:
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
        # What this has cancelled, or its user before, who now wants it finished.
        before = end.task in self._spared or (
            self._reattached and (self._was_cancelled or end.task not in self._seen)
        )
        kind = "stopped" if end.kind == "cancelled" and before else end.kind
        self._ends[end.task] = TaskEnd(end.task, kind, end.text)

    def _abandon(self, job: ArrayJob, why: str) -> None:
        if self._refusal:
            return
        self._refusal = f"{why} (job {job.number}, cancelled)"
        _log.warning("%s", self._refusal)
        # The others were submitted with the same options.
        left = self._cancel(lambda task: task not in self._signs.begun)
        self._cancel_chosen()
        if not self._ends and not self._signs.begun:
            raise SlurmRefusalError(self._refusal)
        self._give_up(sorted(left), "error", self._refusal)

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
