"""Settings of runs whose workers the user starts."""

from __future__ import annotations

from dataclasses import dataclass

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.runner.config import RunnerConfig


@dataclass(frozen=True)
class ExternalConfig(RunnerConfig):
    """Settings of runs whose workers the user starts: those of every backend.

    Raises
    ------
    InvalidArgumentError
        For a value out of range, or a `task_timeout`: the time of a worker is limited by what starts it.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task_timeout is not None:
            raise InvalidArgumentError(
                "task_timeout is for workers that are started here: limit the time where you start them"
            )

    @property
    def on_other_machines(self) -> bool:
        return True
