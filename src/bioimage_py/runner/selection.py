"""The backends by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.runner.base import Runner
from bioimage_py.runner.config import RunnerConfig
from bioimage_py.runner.dask import DaskRunner
from bioimage_py.runner.local import LocalRunner
from bioimage_py.runner.slurm import SlurmRunner
from bioimage_py.runner.subprocess_runner import SubprocessRunner

JOB_TYPES: dict[str, type[Runner]] = {
    "local": LocalRunner,
    "subprocess": SubprocessRunner,
    "slurm": SlurmRunner,
    "dask": DaskRunner,
}


def get_runner(job_type: str, config: RunnerConfig | None = None) -> Runner:
    """Return the backend of that name.

    Parameters
    ----------
    job_type
        `"local"`: threads of this process; `"subprocess"`: worker processes on this machine; `"slurm"`: job arrays; `"dask"`: a Dask cluster.
    config
        Its settings.

    Raises
    ------
    InvalidArgumentError
        For a name that is none; the message lists them.

    Examples
    --------
    >>> get_runner("local").map(lambda item: item**2, 4)
    [0, 1, 4, 9]
    """
    try:
        backend = JOB_TYPES[job_type]
    except (KeyError, TypeError):
        known = ", ".join(map(repr, JOB_TYPES))
        raise InvalidArgumentError(f"job_type must be one of {known}, got {job_type!r}") from None
    return backend(config)


def restored_runner(job_type: str, given: Mapping[str, Any]) -> Runner:
    """Return the backend that a run folder names, with the settings that it was given."""
    return get_runner(job_type, JOB_TYPES[job_type].config_type(**given))
