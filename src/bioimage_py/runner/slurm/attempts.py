"""What the attempts of a round say of themselves, looked at again and again while the round runs."""

from __future__ import annotations

from bioimage_py.errors import StorageError
from bioimage_py.runner.run import RunFolder
from bioimage_py.runner.task import FINISHED


class RoundAttempts:
    """Follows the attempts of one round.

    Parameters
    ----------
    folder, number
        The run folder, and which round.

    Attributes
    ----------
    finished
        Tasks that some attempt tried to its end.
    began
        Tasks that some attempt has begun.
    reasons
        Why the last attempt of a task that said so has ended, by task; those that are finished are left out.
    """

    def __init__(self, folder: RunFolder, number: int) -> None:
        self.finished: set[int] = set()
        self.began: set[int] = set()
        self.reasons: dict[int, str] = {}
        self._folder = folder
        self._number = number
        self._settled: set[str] = set()
        self._stamps: dict[str, tuple[int, int]] = {}

    def look(self) -> None:
        """Read what is new."""
        for attempt in self._folder.attempts(round_number=self._number):
            if attempt.stem in self._settled or attempt.task in self.finished:
                continue
            self.began.add(attempt.task)
            try:
                found = attempt.state.stat()
                stamp = (found.st_ino, found.st_mtime_ns)  # the clock of a disk may tick slowly
                if self._stamps.get(attempt.stem) == stamp:
                    continue
                reason = self._folder.read_state(attempt).get("reason")
            except (OSError, StorageError):
                continue  # it is being replaced on a disk that does so in two steps: the next look finds it
            self._stamps[attempt.stem] = stamp
            if reason is None:
                continue
            self._settled.add(attempt.stem)
            if reason == FINISHED:
                self.finished.add(attempt.task)
                self.reasons.pop(attempt.task, None)
            else:
                self.reasons[attempt.task] = str(reason)
