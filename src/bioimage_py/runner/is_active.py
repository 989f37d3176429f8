"""Whether a backend has tasks of a run in hand though nobody waits for them."""

from __future__ import annotations

from bioimage_py.errors import RunnerError
from bioimage_py.runner.folder_runner import FolderRunner
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.selection import restored_runner
from bioimage_py.runner.slurm import (
    RoundJobs,
    Slurm,
    SlurmRefusalError,
    SlurmRunner,
    SlurmSilenceError,
    has_ended,
)

_PATIENCE = 10.0
"""Seconds that Slurm gets to answer: somebody looks at a screen."""


def in_hand(folder: RunFolder) -> bool:
    """Whether tasks of a run wait or run, though nobody waits for them.

    Raises
    ------
    MissingDependencyError
        Where the backend's commands are not there.
    RunnerError
        If the backend does not answer.
    """
    run = folder.read_run()
    runner = restored_runner(run["job_type"], run["config"])
    if not isinstance(runner, FolderRunner):
        return False
    number = runner.open_round(folder)
    if number is None or not isinstance(runner, SlurmRunner):
        return number is not None
    Slurm.check_present()
    jobs = RoundJobs.read(folder, number)
    numbers = [] if jobs is None else jobs.numbers()
    try:
        return (
            any(not has_ended(row) for row in Slurm(timeout=_PATIENCE).queue(jobs=numbers))
            if numbers
            else False
        )
    except (SlurmSilenceError, SlurmRefusalError) as error:
        raise RunnerError(f"Slurm does not say what became of its jobs: {error}", (), folder.path) from error
