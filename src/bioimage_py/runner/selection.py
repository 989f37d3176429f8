"""The backends by name."""

from __future__ import annotations

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.runner.base import Runner
from bioimage_py.runner.config import RunnerConfig
from bioimage_py.runner.local import LocalRunner

__all__ = ["JOB_TYPES", "get_runner"]

JOB_TYPES: dict[str, type[Runner]] = {"local": LocalRunner}


def get_runner(job_type: str, config: RunnerConfig | None = None) -> Runner:
    """Return the backend of that name.

    Parameters
    ----------
    job_type
        `"local"`: threads of this process.
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
