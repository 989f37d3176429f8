"""`status`: how far a run is, from its folder."""

from __future__ import annotations

import os

from bioimage_py.runner import look_at_run
from bioimage_py.runner.run import RunFolder, RunStatus, StatusReader

__all__ = ["status"]


def status(run_folder: str | os.PathLike[str]) -> RunStatus:
    """Return how far a run is; it is not disturbed, and a notebook shows the result as a table.

    Parameters
    ----------
    run_folder
        The folder of the run, such as `error.tmp_folder`.

    Returns
    -------
    RunStatus
        `state`, `blocks_done`, `blocks_total`, `bytes_per_second`, `seconds_left`, the first `errors`, and more.

    Raises
    ------
    SourceNotFoundError
        If the folder does not exist, as when all blocks are done.
    InvalidArgumentError
        If it belongs to another user.
    RunnerError
        If the cluster does not say whether tasks of the run are still active.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import bioimage_py as bp
    >>> folder = tempfile.mkdtemp()
    >>> np.save(f"{folder}/a.npy", np.zeros((8, 8), "uint8"))
    >>> config = bp.RunnerConfig(tmp_root=f"{folder}/runs", keep_run_folder=True)
    >>> with bp.copy(f"{folder}/a.npy", f"{folder}/a.zarr", job_config=config):
    ...     [run] = os.listdir(f"{folder}/runs")
    >>> bp.status(f"{folder}/runs/{run}").state
    'finished'
    """
    return look_at_run(StatusReader(RunFolder.open(run_folder)))
