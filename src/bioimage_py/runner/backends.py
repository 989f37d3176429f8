"""The backends by name: one row for each, and entry points for those of other packages."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import InvalidArgumentError, MissingDependencyError

if TYPE_CHECKING:  # naming a backend imports nothing of it
    from bioimage_py.runner.base import Runner
    from bioimage_py.runner.config import RunnerConfig
    from bioimage_py.runner.run import RunStatus, StatusReader

_GROUP = "bioimage_py.backends"


@dataclass(frozen=True)
class Backend:
    """Where blocks can be processed, before anything of it is imported."""

    name: str  # its job_type
    runner: str  # its subclass of Runner, as "module:Class"
    about: str = ""  # what it is, in a few words
    config: str = ""  # the config dataclass of that runner, where it can be imported without it
    prefix: str = ""  # what goes before the names of its settings in options of the command
    options: str = ""  # what the help of the command says about these options

    @property
    def runner_class(self) -> type[Runner]:
        """The class of its runners; raises MissingDependencyError if it cannot be imported, or is not one of that job type."""
        found: type[Runner] = self._load(self.runner)
        if getattr(found, "job_type", None) != self.name:
            raise MissingDependencyError(
                f"the backend {self.name!r} cannot be used: {self.runner} is not a Runner with job_type = {self.name!r}"
            )
        return found

    @property
    def config_class(self) -> type[RunnerConfig]:
        if not self.config:
            return self.runner_class.config_type
        found: type[RunnerConfig] = self._load(self.config)
        return found

    def _load(self, place: str) -> Any:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except Exception as error:
            raise MissingDependencyError(
                f"the backend {self.name!r} cannot be imported from {place}: {error}"
            ) from error


_PLAIN = "bioimage_py.runner:RunnerConfig"
_BUILT_IN = {
    row.name: row
    for row in (
        Backend("local", "bioimage_py.runner:LocalRunner", "threads of this process", _PLAIN),
        Backend("subprocess", "bioimage_py.runner:SubprocessRunner", "processes on this computer", _PLAIN),
        Backend(
            "slurm", "bioimage_py.runner.slurm:SlurmRunner", "jobs on a Slurm cluster", "bioimage_py.runner.slurm:SlurmConfig",
            options="as sbatch takes them; defaults come from 'bioimage-py config show'",
        ),
        Backend(
            "dask", "bioimage_py.runner.dask:DaskRunner", "tasks on a Dask cluster", "bioimage_py.runner.dask:DaskConfig", "dask_",
        ),
        Backend(
            "external", "bioimage_py.runner.external:ExternalRunner", "workers that you start", "bioimage_py.runner.external:ExternalConfig",
            options="started by hand or by any scheduler; the line to run is printed",
        ),
    )
}  # fmt: skip


@functools.cache
def all_backends() -> Mapping[str, Backend]:
    """Return all backends by name: those of this package, then those that entry points of the group `bioimage_py.backends` name."""
    from importlib.metadata import entry_points

    others = {
        point.name: Backend(
            point.name, point.value, f"from {point.dist.name}" if point.dist else "", prefix=f"{point.name}_"
        )
        for point in entry_points(group=_GROUP)
    }
    return {**_BUILT_IN, **{name: row for name, row in others.items() if name not in _BUILT_IN}}


def find_backend(job_type: str) -> Backend:
    """Return the backend of that name, or raise InvalidArgumentError that lists all names."""
    # Entry points are looked for only where the name is not one of ours: that takes a while.
    found = (_BUILT_IN.get(job_type) or all_backends().get(job_type)) if isinstance(job_type, str) else None
    if found is None:
        known = ", ".join(map(repr, all_backends()))
        raise InvalidArgumentError(f"job_type must be one of {known}, got {job_type!r}")
    return found


def get_runner(job_type: str, config: RunnerConfig | None = None) -> Runner:
    """Return the backend of that name.

    Parameters
    ----------
    job_type
        `"local"`: threads of this process; `"subprocess"`: worker processes on this machine; `"slurm"`: job arrays; `"dask"`: a Dask
        cluster; `"external"`: processes that you start with `bioimage-py worker RUN --join`; or the name of a backend that another
        package adds.
    config
        Its settings.

    Raises
    ------
    InvalidArgumentError
        For an unknown name; the message lists those that are known.

    Examples
    --------
    >>> get_runner("local").map(lambda item: item**2, 4)
    [0, 1, 4, 9]
    """
    return find_backend(job_type).runner_class(config)


def restored_runner(job_type: str, given: Mapping[str, Any]) -> Runner:
    """Return the backend that a run folder names, with the settings that it was given."""
    runner = find_backend(job_type).runner_class
    return runner(runner.config_type(**given))


def look_at_run(reader: StatusReader) -> RunStatus:
    """Return how far a run is; where no process waits for it, its backend is asked whether it has tasks all the same."""
    status, run = reader.look(), reader.run
    if status.state != "unfinished" or not status.rounds:
        return status
    active = restored_runner(run["job_type"], run["config"]).is_active(reader.folder)
    return reader.look(is_active=True) if active else status
