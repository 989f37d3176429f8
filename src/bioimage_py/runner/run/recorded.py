"""What the attempts at a run have recorded: blocks that are done, values that were returned, errors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bioimage_py.geometry import IdSet
from bioimage_py.runner.run.block_log import BlockLogReader, Ids, as_ids, read_block_logs
from bioimage_py.runner.run.run_folder import AttemptFiles, RunFolder
from bioimage_py.runner.run.value_log import read_value_log, valued_blocks
from bioimage_py.storage import is_alive

_FAILED_BLOCKS = re.compile(rb'^\{"blocks":(\[(?:\[\d+,\d+\],?)+\]),.*\}$')
_MOST_IDS = 2**63
_INTERRUPTIONS = ("KeyboardInterrupt", "RunInterrupted", "Terminated")
_NOTHING: Ids = np.empty(0, np.int64)
_MOST_KEPT = 1000
"""Errors of an attempt whose texts are kept; of all further ones only the blocks are, but for one that ended the run."""
_MOST_APART = 100
"""Failures of an attempt that are told apart; where there are more, the others are taken together."""


@dataclass(frozen=True)
class RecordedError:
    """A failure as its attempt wrote it down: half-open runs of the blocks that failed with it, and the whole record."""

    runs: list[tuple[int, int]]
    line: bytes

    @property
    def ends_the_run(self) -> bool:
        return b'"type":"CastingError"' in self.line

    def read(self) -> tuple[str, str, str] | None:
        """Return the name of the exception's class, its message and its traceback, None for a record that is torn."""
        try:
            entry = json.loads(self.line.decode(errors="replace"))
            return str(entry["type"]), str(entry["text"]), str(entry["traceback"])
        except (ValueError, LookupError, TypeError):
            return None


class AttemptReader:
    """Reads what one attempt left in the run folder, again and again, each time only what was appended since.

    `n_blocks` are those that it recorded as finished in all looks, `errors` the first of its failures, `error_runs` the blocks of
    all its failures, `state` what it said of itself last, `last_sign` when its files were last written.
    """

    def __init__(self, folder: RunFolder, files: AttemptFiles) -> None:
        self.files = files
        self.n_blocks = 0
        self.errors: list[RecordedError] = []
        self.error_runs: list[tuple[int, int]] = []
        self.state: dict[str, Any] = {}
        self.last_sign = 0.0
        self._folder = folder
        self._log = BlockLogReader(files.blocks)
        self._errors_read = 0
        self._complete = False

    @property
    def began(self) -> float:
        return float(self.state.get("began", self.last_sign))

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

    def look(self, *, errors: bool = True) -> tuple[Ids, Ids]:
        """Read what is new; return begins and ends of the runs of blocks recorded since the last look."""
        if self._complete:
            return _NOTHING, _NOTHING
        # The state first: an attempt that had ended then has written all that it will write.
        self.state = self._folder.read_state(self.files)
        begins, ends = self._log.more() if self.files.blocks.exists() else (_NOTHING, _NOTHING)
        self.n_blocks += int((ends - begins).sum())
        if errors and self.files.errors.exists():
            self._read_errors()
        self.last_sign = max(
            (p.stat().st_mtime for p in (self.files.state, self.files.blocks) if p.exists()), default=0.0
        )
        self._complete = self.reason is not None
        return begins, ends

    def _read_errors(self) -> None:
        with self.files.errors.open("rb") as file:
            file.seek(self._errors_read)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._errors_read += len(data)
        for line in data.splitlines():
            found = _FAILED_BLOCKS.match(line)
            if found:
                error = RecordedError([(b, e) for b, e in json.loads(found[1]) if b < e < _MOST_IDS], line)
                self.error_runs.extend(error.runs)
                if error.runs and (len(self.errors) < _MOST_KEPT or error.ends_the_run):
                    self.errors.append(error)


@dataclass(frozen=True)
class BlockError:
    """Blocks that failed with an exception: the name of its class, its message, and where it was raised."""

    block_ids: IdSet
    type: str
    text: str
    traceback: str


@dataclass(frozen=True)
class Recorded:
    """How far a run is: blocks that some attempt finished, failures of others, and what each attempt said of itself last."""

    done: IdSet
    errors: list[BlockError]
    states: list[dict[str, Any]]

    @property
    def n_bytes(self) -> int:
        return sum(int(state.get("bytes", 0)) for state in self.states)

    @property
    def raised(self) -> IdSet:
        """The blocks whose last attempts raised."""
        return IdSet([run for error in self.errors for run in error.block_ids.runs])


def read_recorded(folder: RunFolder, *, errors: bool = True, with_values: bool = False) -> Recorded:
    """Read all journals of a run; what is torn or half written is not trusted.

    With `with_values` a block counts as done only if its value can be had: a crash of the machine, or a damaged disk, can take
    the end of a log of values and leave that of the blocks.
    """
    attempts = [AttemptReader(folder, files) for files in folder.attempts()]
    looks = [attempt.look(errors=errors) for attempt in attempts]
    every = done = as_ids(looks)
    if with_values:
        valued = [
            (as_ids([look]) & valued_blocks(attempt.files.values)).runs
            for attempt, look in zip(attempts, looks, strict=True)
            if attempt.files.values.exists()
        ]
        done = IdSet([run for runs in valued for run in runs])
    found = [error for attempt in attempts for error in _open_errors(attempt, every)]
    return Recorded(done, found, [attempt.state for attempt in attempts])


def _open_errors(attempt: AttemptReader, done: IdSet) -> list[BlockError]:
    """Return the failures of an attempt whose blocks are not done."""
    found: list[BlockError] = []
    for error in attempt.errors:
        if len(found) >= _MOST_APART and not error.ends_the_run:
            continue
        # Most failures are of one block, and a set of many runs is slow to subtract.
        begin, end = error.runs[0]
        if len(error.runs) == 1 and end == begin + 1:
            left = IdSet() if begin in done else IdSet(error.runs)
        else:
            left = IdSet(error.runs) - done
        said = error.read() if left else None
        if said is not None:
            found.append(BlockError(left, *said))
    if len(attempt.errors) > _MOST_APART and found:
        told = IdSet(run for error in found for run in error.block_ids.runs)
        others = IdSet(attempt.error_runs) - done - told
        found += [replace(found[-1], block_ids=others)] if others else []
    return found


def read_values(folder: RunFolder, block_ids: IdSet) -> dict[int, Any]:
    """Return what the function returned, once for each of these blocks that is done."""
    values: dict[int, Any] = {}
    for attempt in folder.attempts():
        if attempt.values.exists() and attempt.blocks.exists():
            done = read_block_logs([attempt.blocks])
            for block_id, value in read_value_log(attempt.values).items():
                # A value whose block was not recorded after it belongs to an attempt that died in between.
                if block_id in done and block_id in block_ids:
                    values.setdefault(block_id, value)
    return values
