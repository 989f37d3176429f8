"""The external backend from the process that waits: it starts no worker, and says how to start them."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakSet

from bioimage_py.errors import Hint
from bioimage_py.runner.config import RunnerConfig
from bioimage_py.runner.external.config import ExternalConfig
from bioimage_py.runner.folder_runner import FolderRunner, Watch, wait_for_others
from bioimage_py.runner.rounds import TaskEnd
from bioimage_py.runner.run import RunFolder, has_left

_log = logging.getLogger(__name__)
_CANCELLED = "was cancelled"


class ExternalRunner(FolderRunner):
    """Waits for workers that the user starts, by hand or by any scheduler, with `bioimage-py worker RUN --join`.

    Workers may come and go at any time. The process that waits may be stopped with Ctrl-C: workers go on, and `resume` waits again.

    Parameters
    ----------
    config
        Settings; `task_timeout` cannot be given.
    """

    job_type = "external"
    config_type = ExternalConfig
    starts_tasks = False

    def __init__(self, config: RunnerConfig | None = None) -> None:
        super().__init__(config)
        self._told: WeakSet[RunFolder] = WeakSet()
        """Runs whose workers the user was told how to start."""

    def run_round(
        self, folder: RunFolder, number: int, n_tasks: int, num_workers: int, watch: Watch
    ) -> list[TaskEnd]:
        del n_tasks, num_workers
        command = join_command(folder, self.config.python_executable or sys.executable)
        if folder.read_handle(number) is None:
            folder.write_handle(number, {"join": command})
        if folder not in self._told:
            self._told.add(folder)
            _log.warning("waiting for workers, on any machine that sees the run folder: %s", command)
        wait_for_others(folder, number, watch, self.config.poll_interval, until_finished=True)
        if folder.why_over(number) == _CANCELLED:
            return [TaskEnd(0, "error", "the run was cancelled")]
        return list(_ends(folder, number))

    def open_round(self, folder: RunFolder) -> int | None:
        number = folder.n_rounds() - 1
        return number if number >= 0 and folder.round_goes_on(number) else None

    def is_active(self, folder: RunFolder) -> bool:
        number = self.open_round(folder)
        return number is not None and any(self._active(folder, number))

    def cancel(self, folder: RunFolder) -> str:
        number = self.open_round(folder)
        if number is None or (folder.read_driver() is None and not self.is_active(folder)):
            return super().cancel(folder)
        folder.end_round(number, _CANCELLED)
        return "told the workers to stop; what is done stays written"

    def interrupt_hints(self, folder: RunFolder) -> list[Hint]:
        return [
            Hint("workers that have joined go on without this process"),
            Hint.of("to wait for the rest: {}", "resume", str(folder.path)),
            Hint(f"to stop them: bioimage-py cancel {shlex.quote(str(folder.path))}"),
        ]

    @staticmethod
    def _active(folder: RunFolder, number: int) -> Iterator[bool]:
        lease, now = folder.read_round(number)["lease"], folder.now()
        for attempt in folder.attempts(round_number=number):
            yield not has_left(folder.read_state(attempt), now, lease)


def join_command(folder: RunFolder, python: str) -> str:
    """Return the command that starts a worker of a run, whatever PATH is there."""
    command = Path(python).with_name("bioimage-py")
    words = [str(command)] if command.is_file() else [python, "-m", "bioimage_py"]
    return shlex.join([*words, "worker", str(folder.path), "--join"])


def _ends(folder: RunFolder, number: int) -> Iterator[TaskEnd]:
    """Yield how the attempts of a round have ended."""
    for attempt in folder.attempts(round_number=number):
        state = folder.read_state(attempt)
        reason = state["reason"]
        if reason in ("finished", "stopped"):
            yield TaskEnd(attempt.task, reason)
        else:
            text = reason or "died, or gives no sign of life"
            yield TaskEnd(
                attempt.task, "lost", f"its worker, process {state['pid']} on {state['host']}: {text}"
            )
