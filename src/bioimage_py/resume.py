"""`resume`: finish a run from its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from bioimage_py.report.page import page_of_run
from bioimage_py.runner import Progress, ProgressBar, reporting, restored_runner
from bioimage_py.runner.run import RunFolder, StatusReader, remove_remains

__all__ = ["resume"]


def resume(
    run_folder: str | os.PathLike[str],
    *,
    num_workers: int | None = None,
    page: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | bool | None = None,
) -> list[Any] | None:
    """Finish a run: do what is missing, and nothing that is done.

    Parameters
    ----------
    run_folder
        The folder that a failed or interrupted run left: `error.tmp_folder`.
    num_workers
        Tasks at once. Default: as in the call that began the run.
    page
        A file (.html) in which a page about the run is left, as `copy` does.
    progress
        A function that is called with a `Progress` a few times a second and at the end; True for a bar, False for nothing. Default: a
        bar in notebooks and on terminals, unless `BIOIMAGE_PY_PROGRESS=0` or `progress = false` in the configuration file turns it off.

    Returns
    -------
    list or None
        All results in the order of the block ids, if the run returns any.

    Raises
    ------
    SourceNotFoundError
        If the folder does not exist.
    InvalidArgumentError
        If it belongs to another user, or a source has changed since; the message says what differs.
    RunnerError
        If blocks failed again; the folder stays.
    """
    if remove_remains(run_folder):
        return None
    folder = RunFolder.open(run_folder)
    run = folder.read_run()
    runner = restored_runner(run["job_type"], run["config"])
    with reporting(progress, "working") as report:
        if isinstance(report, ProgressBar):
            before = StatusReader(folder).look()
            report.before = (before.blocks_done, before.bytes_done)
        with nullcontext(_nothing) if page is None else page_of_run(folder, page) as look:
            return runner.resume(folder, num_workers, report, look)


def _nothing() -> None: ...
