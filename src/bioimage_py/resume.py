"""`resume`: finish a run from its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from bioimage_py.runner import Progress, restored_runner
from bioimage_py.runner.run import RunFolder, remove_remains

__all__ = ["resume"]


def resume(
    run_folder: str | os.PathLike[str],
    *,
    num_workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Any] | None:
    """Run what is missing of a run, and nothing that is done.

    Parameters
    ----------
    run_folder
        The folder that a failed or interrupted run left: `error.tmp_folder`.
    num_workers
        Tasks at once. Default: as the run was called.
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
        If it is not the user's own, or a source is not stored any more as it was; the message says what differs.
    RunnerError
        If blocks failed again; the folder stays.
    """
    if remove_remains(run_folder):
        return None
    folder = RunFolder.open(run_folder)
    run = folder.read_run()
    runner = restored_runner(run["job_type"], run["config"])
    return runner.resume(folder, num_workers, progress)
