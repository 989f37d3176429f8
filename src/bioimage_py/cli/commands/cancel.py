"""`bioimage-py cancel`: stop a run."""

from __future__ import annotations

import argparse
import time

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import OK, as_command
from bioimage_py.cli.options import named_run, shown_path
from bioimage_py.cli.status_text import blocks_text, status_json
from bioimage_py.errors import Call, InvalidArgumentError, SourceNotFoundError
from bioimage_py.runner import restored_runner
from bioimage_py.runner.run import RunStatus, StatusReader

_PATIENCE = 10.0
"""Seconds that a run gets to stop."""


def run_cancel(args: argparse.Namespace, console: Console) -> int:
    folder = named_run(args.folder)
    run = folder.read_run()
    reader = StatusReader(folder)
    if reader.look().state == "finished":
        raise InvalidArgumentError(
            f"the run {shown_path(folder.path)} is finished: there is nothing to cancel"
        )
    runner = restored_runner(run["job_type"], run["config"])
    said = runner.cancel(folder)
    console.remark(said)
    status = _stopped(reader)
    if status is None:
        console.remark("the run has ended, and its folder is removed, as it is when all blocks are done")
        removed = {"run_folder": str(folder.path), "said": said, "state": "removed"}
        console.document({"command": "cancel", **removed})
        return OK
    if status.state == "running" and status.driver is not None:
        console.line(
            f"it has not stopped yet: process {status.driver['pid']} on {status.driver['host']} still runs"
        )
    else:
        finish = as_command(Call("resume", (shown_path(folder.path),)))
        console.remark(f"{blocks_text(status)} blocks are done; to do the rest: {finish}")
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
