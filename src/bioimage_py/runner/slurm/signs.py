"""What the run folder tells of the tasks of a round: who has begun, who goes on, who has ended."""

from __future__ import annotations

from dataclasses import dataclass

from bioimage_py.errors import StorageError
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.slurm.pace import Pace
from bioimage_py.runner.task import FINISHED

_PER_SECOND = 10
"""Attempts to look at per second; each costs a few operations on the disk that all share."""
_SHORTEST, _LONGEST, _LONGEST_ENDING = 0.05, 60.0, 5.0
"""Seconds between two looks."""
_QUIET = 3
"""Signs of life that are left out after which a task that has begun is quiet."""


@dataclass
class _Attempt:
    task: int
    written: float  # when, by the clock of the disk
    seen: float  # when that changed, by our clock


class Signs:
    """Looks at the attempts of a round now and then; those that have ended are not looked at again."""

    def __init__(self, folder: RunFolder, number: int, n_tasks: int, beat: float, pace: Pace) -> None:
        self._folder, self._number, self._pace = folder, number, pace
        self._n_tasks = n_tasks
        self._patience = _QUIET * max(1.0, beat)
        self._open: dict[str, _Attempt] = {}
        self._ended: set[str] = set()
        self._began = self._next = pace.now()
        self._longest = _LONGEST
        self.begun: set[int] = set()
        """Tasks that have begun."""
        self.finished: set[int] = set()
        """Tasks that have come to their end."""

    def look(self, *, now: bool = False) -> set[int]:
        """Return tasks with an attempt that has ended early since the last look. Unless `now`, a call soon after the last one does nothing."""
        time = self._pace.now()
        if time < self._next and not now:
            return set()
        early = set()
        for attempt in self._folder.attempts(round_number=self._number):
            if attempt.stem in self._ended or attempt.task >= self._n_tasks:
                continue  # the latter have joined: Slurm knows nothing of them
            self.begun.add(attempt.task)
            try:
                written = attempt.state.stat().st_mtime
                known = self._open.get(attempt.stem)
                if known is not None and known.written == written:
                    continue
                state = self._folder.read_state(attempt)
                reason = state["reason"]
                self._open[attempt.stem] = _Attempt(attempt.task, 0 if state.get("ends") else written, time)
            except (OSError, StorageError):
                continue  # it is being replaced on a disk that does so in two steps: the next look finds it
            if reason is None:
                continue
            self._ended.add(attempt.stem)
            del self._open[attempt.stem]
            if reason == FINISHED:
                self.finished.add(attempt.task)
            else:
                early.add(attempt.task)
        # Short while a run is young, when waiting would be a large part of it.
        young = min(1.0, (time - self._began) / 50)
        cost = self._pace.now() - time
        self._next = time + min(
            self._longest, max(_SHORTEST, young, len(self._open) / _PER_SECOND, 20 * cost)
        )
        return early - self.finished

    def hurry(self) -> None:
        """Look again at the next call, and more often from now on: all tasks are about to end."""
        self._next, self._longest = self._pace.now(), _LONGEST_ENDING

    def interval(self) -> float:
        """Return how long to wait until the next look, a second at most."""
        return min(1.0, max(_SHORTEST, self._next - self._pace.now()))

    def quiet(self) -> set[int]:
        """Return tasks that have begun and of which there was no sign of life for long."""
        time = self._pace.now()
        going = {a.task for a in self._open.values() if time - a.seen < self._patience}
        return self.begun - self.finished - going
