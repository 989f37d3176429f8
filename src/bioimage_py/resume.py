"""`resume`: finish a run from its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from bioimage_py.runner import LocalRunner, Progress, check_num_workers, raise_failures
from bioimage_py.runner.fingerprint import check_fingerprint, fingerprint_of
from bioimage_py.runner.folder_runner import FolderRunner
from bioimage_py.runner.function_work import BlockFunctionWork, ItemFunctionWork
from bioimage_py.runner.portable import load_work
from bioimage_py.runner.run_folder import RunFolder
from bioimage_py.runner.selection import restored_runner

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
    if num_workers is not None:
        check_num_workers(num_workers)
    folder = RunFolder.open(run_folder)
    run = folder.read_run()
    runner = restored_runner(run["job_type"], run["config"])
    assert isinstance(runner, (FolderRunner, LocalRunner))
    workers = num_workers or run["num_workers"]
    # Where other processes do the work, this one only looks.
    threads, cache_bytes = (workers, run["cache_bytes"]) if runner.in_process else (1, 0)
    work = load_work(run["work"], folder, threads, cache_bytes)
    check_fingerprint(run["work"], fingerprint_of(work))
    journal = runner.drive(folder, work, workers, progress=progress)
    if journal.has_failures:
        raise_failures(journal, work.block_ids, f"resumed run {folder.path.name}")
    keeps = isinstance(work, (BlockFunctionWork, ItemFunctionWork)) and work.keep_results
    return [journal.results[i] for i in work.block_ids] if keeps else None
