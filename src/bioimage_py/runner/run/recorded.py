"""What the attempts at a run have recorded: blocks that are done, values that were returned, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.block_log import BlockLogReader
from bioimage_py.runner.run.own_files import read_from
from bioimage_py.runner.run.run_folder import AttemptFiles, RunFolder
from bioimage_py.runner.run.value_log import read_value_log, valued_blocks
from bioimage_py.storage import is_alive

_MOST_IDS = 2**63
_INTERRUPTIONS = ("KeyboardInterrupt", "RunInterrupted", "Terminated")
_MOST_APART = 100
"""Failures of an attempt that are told apart; of all further ones only the blocks are kept, but for one that ended the run."""


@dataclass(frozen=True)
class BlockError:
    """Blocks of a task that failed with an exception: the name of its class, its message, and where it was raised."""

    block_ids: IdSet
    """Empty for a task that failed as a whole."""
    type: str
    text: str
    traceback: str
    task: int


class AttemptReader:
    """Reads what one attempt left in the run folder, again and again, each time only what was appended since.

    `done` are the blocks that it recorded as finished in all looks, `errors` the first of its failures, `failed` the runs of the
    blocks of all its failures, `state` what it said of itself last.
    """

    def __init__(self, folder: RunFolder, files: AttemptFiles) -> None:
        self.files = files
        self.done = IdSet()
        self.errors: list[BlockError] = []
        self.failed: list[tuple[int, int]] = []
        self.state: dict[str, Any] = {}
        self._folder = folder
        self._log = BlockLogReader(files.blocks)
        self._errors_read = 0
        self._lines: list[BlockError | None] = []
        self._complete = False

    @property
    def began(self) -> float:
        return float(self.state.get("began", self.last_sign))

    @property
    def last_sign(self) -> float:
        """When it was seen last, by the clock of the run folder's disk."""
        return float(self.state.get("seen", 0.0))

    @property
    def n_bytes(self) -> int:
        return int(self.state.get("bytes", 0))

    @property
    def reason(self) -> str | None:
        """Why it ended: `"finished"`, `"stopped"` or an error; None while it runs, and also if it was killed."""
        found = self.state.get("reason")
        if found is None:
            return None
        return "stopped" if str(found).partition(":")[0] in _INTERRUPTIONS else str(found)

    def process_there(self) -> bool | None:
        """Whether the process that makes the attempt is there; None where that cannot be seen from here."""
        known = isinstance(self.state.get("pid"), int)
        return is_alive({"born": None, **self.state}) if known else None

    def look(self) -> bool:
        """Read what is new; return whether that is any finished block."""
        if self._complete:
            return False
        # The state first: an attempt that had ended then has written all that it will write.
        self.state = self._folder.read_state(self.files)
        n_done = len(self.done)
        if more := self._log.more():
            self.done = self.done | more
        self._read_errors()
        self._complete = self.reason is not None
        return len(self.done) > n_done

    def _read_errors(self) -> None:
        try:
            data = read_from(self.files.errors, self._errors_read)
        except FileNotFoundError:
            return
        data = data[: data.rfind(b"\n") + 1]
        self._errors_read += len(data)
        for line in data.splitlines():
            self._lines.append(self._read_error(line))

    def _read_error(self, line: bytes) -> BlockError | None:
        """Take a line of the errors in; None for one that is damaged."""
        try:
            entry = json.loads(line.decode(errors="replace"))
            runs = [(b, e) for b, e in entry["blocks"] if 0 <= b < e < _MOST_IDS]
            like = self._lines[entry["as"]] if "as" in entry else None
            if like is None:
                said = str(entry["type"]), str(entry["text"]), str(entry["traceback"])
                found = BlockError(IdSet(runs), *said, self.files.task)
            else:
                found = replace(like, block_ids=IdSet(runs))
        except (ValueError, LookupError, TypeError):
            return None  # torn
        self.failed.extend(runs)
        if runs and (len(self.errors) < _MOST_APART or found.type == "CastingError"):
            self.errors.append(found)
        return found

    def open_errors(self, done: IdSet) -> Iterator[BlockError]:
        """Yield the failures whose blocks are not done."""
        told: list[tuple[int, int]] = []
        for error in self.errors:
            ids = error.block_ids
            # Most failures are of one block, and a set of many runs is slow to subtract.
            left = (IdSet() if ids[0] in done else ids) if len(ids) == 1 else ids - done
            if left:
                told.extend(left.runs)
                yield replace(error, block_ids=left)
        if len(self.errors) >= _MOST_APART:
            others = IdSet(self.failed) - done - IdSet(told)
            if others:
                yield replace(self.errors[-1], block_ids=others)


class Recorded:
    """How far a run is: what its attempts have recorded, and what each said of itself last; what is torn is not trusted.

    With `with_values` a block counts as done only if its value can be had: a crash of the machine, or a damaged disk, can take
    the end of a log of values and leave that of the blocks.
    """

    def __init__(self, folder: RunFolder, *, with_values: bool = False) -> None:
        self.attempts: list[AttemptReader] = []
        self.done = IdSet()
        self._folder = folder
        self._with_values = with_values

    def look(self) -> None:
        """Read what was appended since the last look."""
        known = {attempt.files.stem: attempt for attempt in self.attempts}
        self.attempts = [
            known.get(files.stem) or AttemptReader(self._folder, files) for files in self._folder.attempts()
        ]
        found = self._folder.each(AttemptReader.look, self.attempts)
        if any(found):
            self.done = IdSet.union(self._done_by(attempt) for attempt in self.attempts)

    def _done_by(self, attempt: AttemptReader) -> IdSet:
        if not self._with_values:
            return attempt.done
        values = attempt.files.values
        return attempt.done & valued_blocks(values) if values.exists() else IdSet()

    @property
    def errors(self) -> list[BlockError]:
        """The failures of blocks that are not done."""
        finished = self._finished
        return [error for attempt in self.attempts for error in attempt.open_errors(finished)]

    @property
    def states(self) -> list[dict[str, Any]]:
        return [attempt.state for attempt in self.attempts]

    @property
    def n_bytes(self) -> int:
        return sum(attempt.n_bytes for attempt in self.attempts)

    @property
    def raised(self) -> IdSet:
        """The blocks whose last attempts raised."""
        failed = IdSet(run for attempt in self.attempts for run in attempt.failed)
        return failed - self._finished if failed else failed

    @property
    def _finished(self) -> IdSet:
        """The blocks that were recorded, whether their values can be had or not."""
        return IdSet.union(attempt.done for attempt in self.attempts) if self._with_values else self.done

    def values(self, block_ids: IdSet) -> dict[int, Any]:
        """Return what the function returned, once for each of these blocks that is done."""
        values: dict[int, Any] = {}
        for attempt in self.attempts:
            if attempt.done and attempt.files.values.exists():
                for block_id, value in read_value_log(attempt.files.values).items():
                    # A value whose block was not recorded after it belongs to an attempt that died in between.
                    if block_id in attempt.done and block_id in block_ids:
                        values.setdefault(block_id, value)
        return values


def read_recorded(folder: RunFolder, *, with_values: bool = False) -> Recorded:
    found = Recorded(folder, with_values=with_values)
    found.look()
    return found
