"""What one attempt left in the run folder, read again and again, each time only what was appended since."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bioimage_py.errors import StorageError
from bioimage_py.runner.run.block_log import BlockLogReader, Ids
from bioimage_py.runner.run.run_folder import AttemptFiles, RunFolder

_FAILED_BLOCKS = re.compile(rb'^\{"blocks":(\[(?:\[\d+,\d+\],?)+\]),.*\}$')
_PROC = Path("/proc")
_INTERRUPTIONS = ("KeyboardInterrupt", "RunInterrupted", "Terminated")
_MOST_KEPT = 1000
"""Errors of an attempt whose texts are kept; of all further ones only the blocks are."""


@dataclass(frozen=True)
class RecordedError:
    """A failure as its attempt wrote it down.

    Attributes
    ----------
    runs
        Half-open runs of the blocks that failed with it.
    line
        The whole record.
    """

    runs: list[tuple[int, int]]
    line: bytes

    def read(self) -> tuple[str, str] | None:
        """Return the name of the exception's class and its message, None for a record that is torn."""
        try:
            entry = json.loads(self.line)
            return str(entry["type"]), str(entry["text"])
        except (ValueError, KeyError, TypeError):
            return None


class AttemptReader:
    """Follows one attempt.

    Attributes
    ----------
    n_blocks
        Blocks that it recorded as finished, in all looks.
    errors
        The first of its failures.
    error_runs
        Half-open runs of the blocks of all its failures.
    state
        What it said of itself last; empty where that cannot be read.
    last_sign
        When its files were last written, in seconds since 1970.
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
        """When it began, in seconds since 1970."""
        return float(self.state.get("began", self.last_sign))

    @property
    def n_bytes(self) -> int:
        """Bytes that it said it has written, decoded."""
        return int(self.state.get("bytes", 0))

    @property
    def reason(self) -> str | None:
        """Why it ended: `"finished"`, `"stopped"` or an error; None while it runs, and for ever if it could not say so."""
        found = self.state.get("reason")
        if found is None:
            return None
        return "stopped" if str(found).partition(":")[0] in _INTERRUPTIONS else str(found)

    def process_there(self) -> bool | None:
        """Whether the process that makes the attempt is there; None where that cannot be seen from here."""
        host, pid = self.state.get("host"), self.state.get("pid")
        if host != platform.node() or not isinstance(pid, int):
            return None
        born = _birth(pid)
        # One that was born later has only got the number.
        return born is not None and born <= self.began + 1 if _PROC.exists() else None

    def look(self) -> tuple[Ids, Ids]:
        """Read what is new; return begins and ends of the runs of blocks recorded since the last look."""
        if self._complete:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        # The state first: an attempt that had ended then has written all that it will write.
        try:
            self.state = self._folder.read_state(self.files)
        except StorageError:
            self.state = self.state or {}
        begins, ends = self._log.more() if self.files.blocks.exists() else (np.empty(0, np.int64),) * 2
        self.n_blocks += int((ends - begins).sum())
        if self.files.errors.exists():
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
        for error in _recorded(data):
            self.error_runs.extend(error.runs)
            if len(self.errors) < _MOST_KEPT:
                self.errors.append(error)


def _birth(pid: int) -> float | None:
    """Return when a process of this machine began, in seconds since 1970, None if there is none."""
    try:
        ticks = int((_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
        boot = next(line for line in (_PROC / "stat").read_text().splitlines() if line.startswith("btime "))
    except (OSError, StopIteration):
        return None
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")


def _recorded(data: bytes) -> Iterator[RecordedError]:
    for line in data.splitlines():
        found = _FAILED_BLOCKS.match(line)
        if found:
            yield RecordedError([(b, e) for b, e in json.loads(found[1])], line)
