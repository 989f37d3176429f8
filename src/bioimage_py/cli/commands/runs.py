"""`bioimage-py runs`, `cancel` and `resume`: which runs are there, stop one, do what is missing of it."""

from __future__ import annotations

import argparse
import time
import warnings

from bioimage_py.cli.commands.finish import telling_how_to_finish
from bioimage_py.cli.commands.status import (
    REMOVED,
    look_at,
    named_run,
    resume_command,
    shown_path,
    status_json,
    usual_places,
)
from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import OK, PROGRAM, as_option
from bioimage_py.cli.progress import ProgressLine
from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    Call,
    InvalidArgumentError,
    SourceNotFoundError,
)
from bioimage_py.planning import format_bytes
from bioimage_py.runner import restored_runner
from bioimage_py.runner.run import RunFolder, RunStatus, StatusReader, find_runs, remove_remains
from bioimage_py.storage import any_path
from bioimage_py.text import duration, rate

_PATIENCE = 10.0
"""Seconds that a run gets to stop."""


def run_runs(args: argparse.Namespace, console: Console) -> int:
    places = [any_path(folder) for folder in args.folders] or usual_places()
    found: list[RunStatus] = []
    for path in find_runs(places):
        try:
            found.append(look_at(StatusReader(RunFolder.open(path))))
        except SourceNotFoundError:
            continue  # it ended meanwhile
        except BioimagePyError as error:
            warnings.warn(f"left out: {error}", BioimagePyWarning, stacklevel=2)
    rows = [("run", "age", "backend", "blocks done", "state")]
    for status in found:
        age = duration(max(0.0, time.time() - status.created))
        rows.append((shown_path(status.path), age, status.job_type, status.blocks_text, status.state_text))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if found else ():
        console.line("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    if not found:
        console.line("no runs in " + ", ".join(map(str, places)))
    documents = [status_json(status) for status in found]
    console.document({"command": "runs", "folders": [str(place) for place in places], "runs": documents})
    return OK


def run_cancel(args: argparse.Namespace, console: Console) -> int:
    folder = named_run(args.folder)
    run = folder.read_run()
    reader = StatusReader(folder)
    if reader.look().state == "finished":
        raise InvalidArgumentError(
            f"the run {shown_path(folder.path)} is finished: there is nothing to cancel"
        )
    said = restored_runner(run["job_type"], run["config"]).cancel(folder)
    console.remark(said)
    status = _stopped(reader)
    if status is None:
        console.remark(f"the run has ended, and its folder {REMOVED}")
        removed = {"run_folder": str(folder.path), "said": said, "state": "removed"}
        console.document({"command": "cancel", **removed})
        return OK
    if status.state == "running" and status.driver is not None:
        console.line(
            f"it has not stopped yet: process {status.driver['pid']} on {status.driver['host']} still runs"
        )
    else:
        console.remark(f"{status.blocks_text} blocks are done; to do the rest: {resume_command(folder.path)}")
    console.document({"command": "cancel", "said": said, **status_json(status)})
    return OK


def _stopped(reader: StatusReader) -> RunStatus | None:
    """Return the status when the run has stopped, or does not stop in time; None if its folder is gone."""
    end = time.monotonic() + _PATIENCE
    try:
        while True:
            status = reader.look()
            if status.state != "running" or time.monotonic() > end:
                return status
            time.sleep(0.1)
    except (SourceNotFoundError, FileNotFoundError):
        return None


def run_resume(args: argparse.Namespace, console: Console) -> int:
    from bioimage_py.resume import resume

    if remove_remains(args.folder):
        console.remark("nothing was missing: the run had finished; the rest of its folder has been removed")
        console.document({"command": "resume", "run_folder": args.folder, "blocks": 0})
        return OK
    folder = named_run(args.folder)
    before = StatusReader(folder).look()
    if folder.read_run()["work"].get("keep_results"):  # they would be lost here, with the run folder
        raise InvalidArgumentError(
            "this run returns results to the Python program that began it, and a command would lose them: finish it there, "
            f"with {Call('resume', (str(folder.path),))}"
        )
    verb = "copying" if before.what.startswith("copy ") else "working"
    again = [PROGRAM, "resume", shown_path(folder.path)]
    for name in ("workers", "page"):
        again += [] if getattr(args, name) is None else as_option(name, getattr(args, name))
    started = time.perf_counter()
    progress = ProgressLine(verb, console, before=(before.blocks_done, before.bytes_done))
    with progress, telling_how_to_finish(resume=again):
        resume(folder.path, num_workers=args.workers, page=args.page, progress=progress)
    seconds = time.perf_counter() - started
    n_blocks = before.blocks_total - before.blocks_done
    n_bytes = 0 if progress.last is None else max(0, progress.last.bytes_done - before.bytes_done)
    console.remark(_summary(before, n_blocks, n_bytes, seconds))
    account = progress.tell_account()
    if not folder.is_gone():
        console.remark(f"its run folder is kept: {shown_path(folder.path)}")
    console.document(
        {
            "command": "resume",
            "run_folder": str(folder.path),
            "what": before.what,
            "blocks_total": before.blocks_total,
            "blocks_done_before": before.blocks_done,
            "blocks": n_blocks,
            "bytes": n_bytes,
            "seconds": seconds,
            "account": account,
        }
    )
    return OK


def _summary(before: RunStatus, n_blocks: int, n_bytes: int, seconds: float) -> str:
    if not n_blocks:
        return f"nothing was missing: {before.blocks_done:,} of {before.blocks_total:,} blocks were done ({before.what})"
    moved = f"{format_bytes(n_bytes)} in {duration(seconds)}, {rate(n_bytes, seconds)}"
    how = f" ({moved if n_bytes else duration(seconds)})"
    earlier = f", {before.blocks_done:,} before" if before.blocks_done else ""
    return f"finished: {before.what}; {n_blocks:,} of {before.blocks_total:,} blocks now{how}{earlier}"
