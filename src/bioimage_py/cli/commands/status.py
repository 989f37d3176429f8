"""`bioimage-py status`: how far a run is, once or until it ends."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from bioimage_py.cli.console import Console, printable
from bioimage_py.cli.failure import OK, UNFINISHED, Terminated
from bioimage_py.cli.options import look_at, named_run
from bioimage_py.cli.status_text import progress_of, status_json, status_lines
from bioimage_py.errors import StorageError
from bioimage_py.runner.run import RunFolder, RunStatus, StatusReader

_CLUSTER_INTERVAL = 5.0
_REMOVAL = 2.0
"""Seconds that removing the folder of a finished run may take."""


def run_status(args: argparse.Namespace, console: Console) -> int:
    folder = named_run(args.folder)
    if args.watch:
        return _watch(folder, args.interval, console)
    status = look_at(StatusReader(folder), folder)
    for line in status_lines(status):
        console.line(line)
    console.document({"command": "status", **status_json(status)})
    return OK


def _watch(folder: RunFolder, interval: float, console: Console) -> int:
    reader, screen = StatusReader(folder), _Screen(console)
    last: RunStatus | None = None
    try:
        while True:
            status = _next_look(reader, folder, last)
            if status is None:
                break
            last = status
            screen.show(status)
            if status.state != "running":
                break
            # Where nobody waits for the run, each look asks the cluster.
            time.sleep(interval if status.driver is not None else max(interval, _CLUSTER_INTERVAL))
    except Terminated:
        raise
    except KeyboardInterrupt:
        screen.leave()
        console.line("stopped watching; the run goes on")
        console.document({"command": "status", **_last_words(last)})
        return OK
    if status is None:
        console.line(
            f"the run has ended, and its folder {folder.path} is removed, as it is when all blocks are done"
        )
        removed = {"run_folder": str(folder.path), "state": "removed", "last_look": _last_words(last)}
        console.document({"command": "status", **removed})
        return OK
    screen.leave()
    console.document({"command": "status", **status_json(status)})
    return OK if status.state == "finished" else UNFINISHED


def _next_look(reader: StatusReader, folder: RunFolder, last: RunStatus | None) -> RunStatus | None:
    """Return how far the run is, None once its folder is gone."""
    try:
        status = look_at(reader, folder)
    except (StorageError, FileNotFoundError):
        if last is not None and _is_removed(folder):
            return None
        raise
    if status.state != "finished" or last is None:
        return status
    return None if _is_removed(folder) else look_at(reader, folder)


def _is_removed(folder: RunFolder) -> bool:
    """Whether the folder is gone; removing it takes a moment."""
    end = time.monotonic() + _REMOVAL
    while folder.path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    return not folder.path.exists()


def _last_words(last: RunStatus | None) -> dict[str, Any]:
    return {} if last is None else status_json(last)


class _Screen:
    """Shows each status: in place on a terminal, as a line elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._in_place = not console.json and sys.stdout.isatty()
        self._height = 0
        self._before: tuple[object, ...] = ()
        self._last: RunStatus | None = None

    def show(self, status: RunStatus) -> None:
        self._last = status
        if not self._in_place:
            news = (status.state, status.blocks_done, status.blocks_failed)
            if news != self._before:
                self._console.line(progress_of(status))
            self._before = news
            return
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        # A line that wraps, or one below the edge, could not be drawn over.
        width, height = (columns or 80) - 1, rows or 24
        lines = [line if len(line) <= width else line[: width - 1] + "…" for line in status_lines(status)]
        lines = [*lines[: max(1, height - 2)], "Ctrl-C stops watching, not the run"]
        back = f"\x1b[{self._height}A\x1b[J" if self._height else ""
        sys.stdout.write(back + "".join(f"{printable(line, sys.stdout)}\n" for line in lines))
        sys.stdout.flush()
        self._height = len(lines)

    def leave(self) -> None:
        """Leave the last status on the screen, all of it."""
        if self._last is None or self._console.json:
            return
        if self._in_place and self._height:
            sys.stdout.write(f"\x1b[{self._height}A\x1b[J")
            self._height = 0
        for line in status_lines(self._last):
            self._console.line(line)
