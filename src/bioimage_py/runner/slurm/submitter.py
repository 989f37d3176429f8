"""Submitting the tasks of a round in as many arrays as the cluster's limits make necessary."""

from __future__ import annotations

import bisect
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

from bioimage_py.runner.slurm.commands import Slurm, SlurmRefusalError
from bioimage_py.runner.slurm.config import SlurmConfig
from bioimage_py.runner.slurm.jobs import ArrayJob, RoundJobs, next_array
from bioimage_py.runner.slurm.submission import advice, is_full, options, script_arguments

_log = logging.getLogger(__name__)

_PATIENCE = 5.0
"""Seconds after which a submission that got no answer, and that Slurm does not know by its name, has not happened."""
_FULL_INTERVAL = 5.0


class Submitter:
    """Submits waiting tasks so that no more than `num_workers` run at once, whatever number of arrays they are in.

    Parameters
    ----------
    slurm
        The commands.
    jobs
        The arrays of the round.
    num_workers
        Tasks that may run at once.
    config
        Settings.

    Attributes
    ----------
    waiting
        Tasks to submit, in ascending order.
    refusal
        Why Slurm refuses the tasks for good; empty as long as it does not.
    """

    def __init__(self, slurm: Slurm, jobs: RoundJobs, num_workers: int, config: SlurmConfig) -> None:
        self.waiting: list[int] = []
        self.refusal = ""
        self._slurm, self._jobs, self._num_workers, self._config = slurm, jobs, num_workers, config
        self._most: int | None = None
        self._limit = 10**9
        self._full_until = 0.0
        self._said_full = False

    def put_back(self, task: int) -> None:
        """Take a task to submit it again."""
        bisect.insort(self.waiting, task)

    def submit(self, current: Mapping[int, ArrayJob], taken: Callable[[ArrayJob], None]) -> None:
        """Submit what there is room for.

        Parameters
        ----------
        current
            Tasks that are submitted and not known to have ended, with the array that each is in.
        taken
            Called with each array as soon as Slurm has it.

        Raises
        ------
        SlurmSilenceError
            If Slurm does not answer.
        """

        def note(job: ArrayJob) -> None:
            self.waiting = [task for task in self.waiting if task not in job.tasks]
            taken(job)

        if not number_unnumbered(self._slurm, self._jobs, note):
            return
        room = self._num_workers - sum(_used(current).values())
        while self.waiting and room > 0 and not (self.refusal or self._jobs.cancelled):
            if time.monotonic() < self._full_until:
                return
            job = self._submit_one(room, bool(current))
            if job is not None:
                room -= min(job.throttle, len(job.tasks))
                note(job)

    def _submit_one(self, room: int, others: bool) -> ArrayJob | None:
        tasks, offset = next_array(self.waiting, self._array_size(), self._limit)
        folder, number, config = self._jobs.folder, self._jobs.number, self._config
        job = self._jobs.intend(tasks, offset, min(room, len(tasks)))
        if self._jobs.cancelled:  # by another process, meanwhile
            self._jobs.withdraw(job)
            return None
        chosen = options(config, folder, number, job, self._jobs.asked)
        try:
            job.number = self._slurm.submit(
                chosen, str(folder.script(number)), script_arguments(config, folder, number, job)
            )
        except SlurmRefusalError as refusal:
            self._jobs.withdraw(job)
            self._take_refusal(str(refusal), len(tasks), others)
            return None
        self._jobs.write()
        self._limit = min(10**9, 2 * self._limit)
        _log.info("submitted job %s with %d tasks", job.number, len(tasks))
        return job

    def _array_size(self) -> int:
        if self._most is None:
            allowed = self._slurm.max_array_size()
            wanted = self._config.max_array_size
            self._most = allowed if wanted is None else min(wanted, allowed)
        return self._most

    def _take_refusal(self, said: str, n_tasks: int, others: bool) -> None:
        if not is_full(said):
            self.refusal = advice(said, self._config, self._jobs.asked)
            return
        if n_tasks > 1:
            self._limit = n_tasks // 2
            if "array specification" in said:
                self._most = max(1, self._array_size() // 2)
            return
        self._limit = 1
        if others or self._slurm.any_of_mine():
            self._full_until = time.monotonic() + min(_FULL_INTERVAL, self._config.poll_interval)
            if not self._said_full:
                self._said_full = True
                _log.warning("Slurm takes no more jobs now (%s); the rest waits until some have ended", said)
            return
        self.refusal = advice(said, self._config, self._jobs.asked)

    def widen(self, current: Mapping[int, ArrayJob]) -> None:
        """Let the last array run more tasks at once where earlier ones have ended."""
        used = _used(current)
        if not used or self.waiting:
            return
        last = self._jobs.jobs[-1]
        room = self._num_workers - sum(n for name, n in used.items() if name != last.name)
        left = sum(job is last for job in current.values())
        if last.number is None or left <= last.throttle or room <= last.throttle:
            return
        if self._slurm.set_throttle(last.number, room):
            last.throttle = room
            self._jobs.write()


def _used(current: Mapping[int, ArrayJob]) -> dict[str, int]:
    """Return how many tasks of each array may run at once."""
    left = Counter(job.name for job in current.values())
    throttles = {job.name: job.throttle for job in current.values()}
    return {name: min(throttles[name], n) for name, n in left.items()}


def number_unnumbered(
    slurm: Slurm, jobs: RoundJobs, found: Callable[[ArrayJob], None] = lambda _: None
) -> bool:
    """Find by their names the arrays whose submission got no answer; return whether none is in doubt any more.

    Parameters
    ----------
    slurm
        The commands.
    jobs
        The arrays of a round; those that were never submitted are taken out of it.
    found
        Called with each array that has its number now.

    Raises
    ------
    SlurmSilenceError
        If Slurm does not answer.
    """
    for job in [job for job in jobs.jobs if job.number is None]:
        rows = slurm.queue(name=job.name) or slurm.history(name=job.name)
        if rows:
            job.number = rows[0].job
            jobs.write()
            found(job)
        elif time.time() - job.intended > _PATIENCE:
            jobs.withdraw(job)
        else:
            return False
    return True
