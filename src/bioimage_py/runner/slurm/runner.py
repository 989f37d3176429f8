"""The Slurm backend: tasks are jobs of an array, which go on without the process that submitted them."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

from bioimage_py.errors import Hint, InvalidArgumentError, RunnerError
from bioimage_py.runner.config import RunnerConfig
from bioimage_py.runner.folder_runner import FolderRunner, Watch
from bioimage_py.runner.journal import Progress
from bioimage_py.runner.rounds import TaskEnd
from bioimage_py.runner.run import RunFolder, finish_hint, read_recorded, unmark_outputs
from bioimage_py.runner.slurm.commands import Slurm, SlurmRefusalError, SlurmSilenceError
from bioimage_py.runner.slurm.config import SlurmConfig
from bioimage_py.runner.slurm.jobs import RoundJobs
from bioimage_py.runner.slurm.pace import Pace
from bioimage_py.runner.slurm.round import SlurmRound
from bioimage_py.runner.slurm.states import has_ended
from bioimage_py.runner.slurm.submission import asked_of, script
from bioimage_py.storage import tried_again

_PAUSE = 2.0
"""Seconds until tasks whose nodes did not see the run folder are submitted again; then twice as many, and so on."""
_PATIENCE = 10.0
"""Seconds that Slurm gets to answer somebody who looks at a screen."""


class SlurmRunner(FolderRunner):
    """Runs blocks as the tasks of Slurm job arrays.

    The process that submits may die, or be stopped with Ctrl-C: the jobs go on, and `reattach` waits for them.

    Parameters
    ----------
    config
        A `SlurmConfig`. Default: the user's, from the configuration file. Of a plain `RunnerConfig` the fields that differ
        from their defaults are laid over those.
    """

    job_type = "slurm"
    config_type = SlurmConfig
    config: SlurmConfig

    def __init__(self, config: RunnerConfig | None = None) -> None:
        super().__init__(config)
        self._slurms: WeakKeyDictionary[RunFolder, Slurm] = WeakKeyDictionary()
        """What each run has learned of Slurm."""

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        Slurm.check_present()
        yield

    def run_round(
        self, folder: RunFolder, number: int, n_tasks: int, num_workers: int, watch: Watch
    ) -> list[TaskEnd]:
        if folder not in self._slurms:
            self._slurms[folder] = Slurm(pace=Pace(self.config.poll_interval))
        slurm, jobs = self._slurms[folder], RoundJobs.read(folder, number)
        begun = jobs is not None  # by an earlier process; tasks that it did not get to are submitted
        try:
            if jobs is None:
                jobs = RoundJobs(folder, number, asked=self._asked(slurm, folder, number))
                tried_again(lambda: folder.script(number).write_text(script(self.config)))
            return self._run_jobs(slurm, jobs, num_workers, watch)
        except (SlurmRefusalError, InvalidArgumentError) as error:
            if begun or number > 0:
                return [TaskEnd(task, "error", str(error)) for task in range(n_tasks)]
            # Nothing ran, and the same call will be made again with other settings: nothing of it is kept.
            unmark_outputs(folder.read_run())
            folder.discard()
            if isinstance(error, InvalidArgumentError):
                raise
            raise InvalidArgumentError(str(error)) from error
        except SlurmSilenceError as error:
            missing = folder.stored_ids(folder.read_run()["work"]["block_ids"]) - read_recorded(folder).done
            raise RunnerError(str(error), missing, folder.path, hints=self.interrupt_hints(folder)) from error

    def _run_jobs(self, slurm: Slurm, jobs: RoundJobs, num_workers: int, watch: Watch) -> list[TaskEnd]:
        pause = _PAUSE
        while True:
            made = SlurmRound(slurm, jobs, num_workers, self.config, watch)
            ends = made.run()
            if not made.nothing_began or pause > self.config.patience:
                return ends
            # Network disks show a new folder late.
            time.sleep(pause)
            pause *= 2
            jobs = RoundJobs(jobs.folder, jobs.number, asked=jobs.asked)

    def _asked(self, slurm: Slurm, folder: RunFolder, number: int) -> dict[str, int | None]:
        needs = folder.read_round(number)["needs"]
        limits = slurm.limits(self.config.partition or os.environ.get("SBATCH_PARTITION"))
        before = RoundJobs.read(folder, number - 1) if needs["memory"] > 1 and number else None
        known = None if before is None else slurm.memory_had(before.numbers())
        return asked_of(self.config, needs, limits, known)

    def open_round(self, folder: RunFolder) -> int | None:
        jobs = RoundJobs.open(folder)
        return None if jobs is None else jobs.number

    def is_active(self, folder: RunFolder) -> bool:
        jobs = RoundJobs.open(folder)
        if jobs is None or not jobs.numbers():
            return False
        Slurm.check_present()
        try:
            slurm = Slurm(timeout=_PATIENCE)
            return any(not has_ended(row) for job in jobs.numbers() for row in slurm.queue(job))
        except SlurmSilenceError as error:
            raise RunnerError(
                f"Slurm does not say what became of its jobs: {error}", (), folder.path
            ) from error

    def reattach(
        self,
        run_folder: str | os.PathLike[str],
        num_workers: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> list[Any] | None:
        """Wait for the jobs of a run whose submitting process is gone, and finish it.

        Parameters
        ----------
        run_folder
            Its run folder.
        num_workers
            Tasks at once, of what is still to be submitted. Default: as the run was called.
        progress
            Called with a `Progress` now and then and at the end.

        Returns
        -------
        list or None
            All results in the order of the block ids, where the run returns any.

        Raises
        ------
        SourceNotFoundError
            If there is no such folder.
        InvalidArgumentError
            If it is not the user's own, was not run on Slurm, or a source is not stored any more as it was.
        RunnerError
            If blocks failed; the folder stays.
        """
        folder = RunFolder.open(run_folder)
        job_type = folder.read_run()["job_type"]
        if job_type != self.job_type:
            raise InvalidArgumentError(
                f"{str(folder.path)!r} is a run of job_type {job_type!r}, not 'slurm'",
                hints=[finish_hint(folder.path)],
            )
        return self.resume(folder, num_workers, progress)

    def cancel(self, folder: RunFolder) -> str:
        Slurm.check_present()
        jobs = RoundJobs.open(folder)
        if jobs is None:
            raise InvalidArgumentError(
                f"nothing runs for {str(folder.path)!r}: there is nothing to cancel",
                hints=[finish_hint(folder.path)],
            )
        jobs.cancelled = True
        jobs.write()
        slurm = Slurm()
        try:
            jobs.find_numbers(slurm)
            for job in jobs.numbers():
                slurm.cancel(job)
        except (SlurmSilenceError, SlurmRefusalError) as error:
            raise RunnerError(f"the jobs are not cancelled: {error}", (), folder.path) from error
        return f"cancelled Slurm {_named(jobs.numbers())}; what is done stays written"

    def interrupt_hints(self, folder: RunFolder) -> list[Hint]:
        jobs = RoundJobs.open(folder)
        if jobs is None:
            return [finish_hint(folder.path)]
        with contextlib.suppress(SlurmSilenceError):  # the command that cancels asks again
            jobs.find_numbers(Slurm(timeout=5))
        numbers = jobs.numbers()
        stop = f"bioimage-py cancel {shlex.quote(str(folder.path))}"
        if numbers:
            stop += f", or scancel {' '.join(numbers)}"
        return [
            Hint(f"Slurm {_named(numbers)} go{'es' if len(numbers) == 1 else ''} on without this process"),
            Hint.of("to wait for the rest: {}", "resume", str(folder.path)),
            Hint(f"to stop it: {stop}"),
        ]


def _named(numbers: list[str]) -> str:
    if not numbers:
        return "jobs"
    return f"job{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
