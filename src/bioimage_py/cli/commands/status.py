"""`bioimage-py status` and `page`: how far a run is, once or until it ends; in words, as JSON and as a page."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
import warnings
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bioimage_py.cli.console import Console, printable
from bioimage_py.cli.failure import OK, PROGRAM, UNFINISHED, Terminated, UsageError, as_command
from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    Call,
    Hint,
    InvalidArgumentError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.report.page import PageServer, RunLook, ShownRun, check_page_path, write_page
from bioimage_py.runner import look_at_run
from bioimage_py.runner.run import RunFolder, RunStatus, StatusReader
from bioimage_py.runner.slurm import SlurmConfig
from bioimage_py.storage import AnyPath, ObjectPath, absolute_path, is_url
from bioimage_py.text import duration, rate

REMOVED = "is removed, as it is when all blocks are done"
_CLUSTER_INTERVAL = 30.0
"""Seconds between two looks where the cluster has to be asked."""
_REMOVAL = 2.0
"""Seconds that removing the folder of a finished run may take."""
_REPORTED = (
    "job_type", "what", "created", "state", "num_workers", "blocks_total", "blocks_done", "blocks_failed", "bytes_total",
    "bytes_done", "blocks_per_second", "bytes_per_second", "seconds_left", "last_sign", "rounds", "tasks", "handle",
)  # fmt: skip


def usual_places() -> list[Path]:
    """Return the folders in which runs are looked for: the working directory, and the one that is configured."""
    places = [absolute_path(".")]
    try:
        configured = SlurmConfig.load().tmp_root
    except BioimagePyError as error:
        text = f"cannot tell which folder is configured for runs: {error}"
        warnings.warn(text, BioimagePyWarning, stacklevel=2)
        return places
    if configured is not None and Path(configured).expanduser().is_dir():
        places.append(Path(configured).expanduser())
    return places


def named_run(name: str) -> RunFolder:
    """Open the run folder that was named: by its path, or by its bare name where that is in one of the usual places."""
    path = Path(name).expanduser()
    if is_url(name):
        return RunFolder.open(name)
    if path.exists():
        return RunFolder.open(path)
    if os.path.basename(name) == name:  # noqa: PTH119 - no separator in it at all
        for place in usual_places():
            if (place / name).is_dir():
                return RunFolder.open(place / name)
    raise SourceNotFoundError(
        f"there is no run folder {name!r}: it is removed when all blocks are done. 'bioimage-py runs' lists those that exist"
    )


def look_at(reader: StatusReader) -> RunStatus:
    """Return how far a run is; where nobody waits for it, its backend is asked whether tasks run all the same."""
    try:
        return look_at_run(reader)
    except (SourceNotFoundError, StorageError):
        raise
    except BioimagePyError as error:
        text = f"cannot tell whether its tasks are still running: {error}"
        warnings.warn(text, BioimagePyWarning, stacklevel=2)
        return reader.look()


def shown_path(path: AnyPath) -> str:
    """Return a path as short as it can be typed: relative where it is below the working directory."""
    if isinstance(path, ObjectPath):
        return str(path)
    here = absolute_path(".")
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def resume_command(path: AnyPath) -> str:
    return as_command(Call("resume", (shown_path(path),)))


def status_json(status: RunStatus) -> dict[str, Any]:
    """Return a status as a JSON document has it."""
    driver = status.driver
    return {
        "run_folder": str(status.path),
        **{name: getattr(status, name) for name in _REPORTED},
        "errors": [
            {
                "block_ids": error.block_ids.to_json(),
                "task": error.task,
                "type": error.type,
                "text": error.text,
            }
            for error in status.errors
        ],
        "driver": driver
        and {**{name: driver[name] for name in ("host", "pid", "began")}, "alive": status.driver_alive},
    }


def _status_lines(status: RunStatus) -> list[str]:
    """Return all that is known about a run, one labelled line each."""
    return [f"{label + ':' if label else '':12}{text}" for label, text in _labelled(status)]


def _labelled(status: RunStatus) -> Iterator[tuple[str, str]]:
    shorter = {"run": shown_path(status.path), "to finish": resume_command(status.path)}
    for label, text in status.rows():
        yield label, shorter.get(label, text)


def _changing(status: RunStatus) -> str:
    """Return the parts of a status that change, on one line."""
    parts = [status.state_text, f"{status.blocks_text} blocks"]
    if status.working and status.bytes_per_second:
        parts.append(rate(status.bytes_per_second, 1))
    if status.seconds_left is not None and status.blocks_done < status.blocks_total:
        parts.append(f"{duration(status.seconds_left)} left")
    if status.working and status.blocks_failed:
        parts.append(f"{status.blocks_failed:,} failed")
    return " · ".join(parts)


def run_status(args: argparse.Namespace, console: Console) -> int:
    folder = named_run(args.folder)
    if args.watch:
        reader = StatusReader(folder)
        return _watch(reader, args.interval, console, _Screen(console))
    if args.serve:
        if console.json:
            raise UsageError("--serve prints an address and goes on, so it cannot be combined with --json")
        return _serve(folder, args, console)
    status = look_at(StatusReader(folder))
    for line in _status_lines(status):
        console.line(line)
    console.document({"command": "status", **status_json(status)})
    return OK


def run_page(args: argparse.Namespace, console: Console) -> int:
    check_page_path(args.output)
    reader = StatusReader(named_run(args.folder))
    status = look_at(reader)
    path = write_page(RunLook(reader).shown(status), args.output)
    console.remark(f"{path}  ({status.state_text}, {status.blocks_text} blocks)")
    console.document({"command": "page", "page": str(path), **status_json(status)})
    return OK


def _serve(folder: RunFolder, args: argparse.Namespace, console: Console) -> int:
    """Serve a page about a run until it ends, or the user has seen enough."""
    reader = StatusReader(folder)
    status = look_at(reader)
    if status.state != "running":
        raise InvalidArgumentError(
            f"the run {shown_path(folder.path)} does not go on ({status.state_text}), so there is nothing to follow",
            hints=[
                Hint(
                    f"to make a page about it: {PROGRAM} page {shlex.quote(shown_path(folder.path))} -o run.html"
                )
            ],
        )
    look = RunLook(reader)
    with PageServer(look.shown(status), args.port) as server:
        served = _Served(server, look, console, open_browser=not args.no_browser)
        return _watch(reader, args.interval, console, served)


class _Served:
    """Shows each status on the page, and the user where that is."""

    def __init__(self, server: PageServer, look: RunLook, console: Console, *, open_browser: bool) -> None:
        self._server, self._look, self._console, self._open_browser = server, look, console, open_browser
        self._is_told = False

    def show(self, status: RunStatus) -> None:
        shown = self._look.shown(status)
        if status.state != "running":
            self._end(shown)
            return
        self._server.show(shown)
        if not self._is_told:
            self._is_told = True
            self._console.line(f"shown at {self._server.url} until the run ends, or you press Ctrl-C")
            if self._open_browser:
                webbrowser.open(self._server.url)

    def leave(self) -> None:
        """Leave the page as it is: its server ends, and it says so."""

    def removed(self) -> None:
        self._end(self._look.ended())

    def _end(self, shown: ShownRun) -> None:
        self._server.finish(shown)
        self._server.wait_for_last_look()


def _watch(reader: StatusReader, interval: float, console: Console, screen: _Screen | _Served) -> int:
    folder = reader.folder
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
        console.document({"command": "status", **({} if last is None else status_json(last))})
        return OK
    if status is None:
        screen.removed()
        console.line(f"the run has ended, and its folder {folder.path} {REMOVED}")
        look = {} if last is None else status_json(last)
        console.document(
            {"command": "status", "run_folder": str(folder.path), "state": "removed", "last_look": look}
        )
        return OK
    screen.leave()
    console.document({"command": "status", **status_json(status)})
    return OK if status.state == "finished" else UNFINISHED


def _next_look(reader: StatusReader, folder: RunFolder, last: RunStatus | None) -> RunStatus | None:
    """Return how far the run is, None once its folder is gone."""
    try:
        status = look_at(reader)
    except (StorageError, FileNotFoundError):
        if last is None or not _is_removed(folder):
            raise
        return None
    if status.state != "finished" or last is None:
        return status
    return None if _is_removed(folder) else look_at(reader)


def _is_removed(folder: RunFolder) -> bool:
    """Whether the folder is gone; removing it takes a moment."""
    end = time.monotonic() + _REMOVAL
    while not folder.is_gone() and time.monotonic() < end:
        time.sleep(0.05)
    return folder.is_gone()


class _Screen:
    """Shows each status: in place on a terminal, as a line elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._in_place = not console.json and sys.stdout.isatty()
        self._height = 0
        self._last: RunStatus | None = None

    def show(self, status: RunStatus) -> None:
        before, self._last = self._last, status
        if not self._in_place:
            if before is None or any(
                getattr(before, name) != getattr(status, name)
                for name in ("state", "blocks_done", "blocks_failed")
            ):
                self._console.line(_changing(status))
            return
        columns, rows = os.get_terminal_size(sys.stdout.fileno())
        # A line that wraps, or one below the edge, could not be drawn over.
        width, height = (columns or 80) - 1, rows or 24
        lines = [line if len(line) <= width else line[: width - 1] + "…" for line in _status_lines(status)]
        lines = [*lines[: max(1, height - 2)], "Ctrl-C stops watching, not the run"]
        # In one piece: Ctrl-C finds the screen drawn, or not drawn.
        sys.stdout.write(self._back() + "".join(f"{printable(line, sys.stdout)}\n" for line in lines))
        sys.stdout.flush()
        self._height = len(lines)

    def leave(self) -> None:
        """Leave the last status on the screen, all of it."""
        if self._last is not None:
            sys.stdout.write(self._back())
            for line in _status_lines(self._last):
                self._console.line(line)

    def removed(self) -> None:
        """Leave what is on the screen; what is printed next says the end."""

    def _back(self) -> str:
        return f"\x1b[{self._height}A\x1b[J" if self._height else ""
