"""`bioimage-py runs`: which runs are there, and how far are they."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bioimage_py.cli.console import Console
from bioimage_py.cli.failure import OK
from bioimage_py.cli.options import look_at, shown_path, usual_places
from bioimage_py.cli.status_text import blocks_text, state_text, status_json
from bioimage_py.cli.text import duration
from bioimage_py.errors import BioimagePyError, BioimagePyWarning, SourceNotFoundError
from bioimage_py.runner.run import RunFolder, RunStatus, StatusReader, find_runs

_TITLES = ("run", "age", "backend", "blocks done", "state")


def run_runs(args: argparse.Namespace, console: Console) -> int:
    places = [Path(folder) for folder in args.folders] or usual_places()
    found: list[RunStatus] = []
    for path in find_runs(places):
        try:
            folder = RunFolder.open(path)
            found.append(look_at(StatusReader(folder), folder))
        except SourceNotFoundError:
            continue  # it ended meanwhile
        except BioimagePyError as error:
            warnings.warn(f"left out: {error}", BioimagePyWarning, stacklevel=2)
    if found:
        _print_table(console, [_TITLES, *(_row(status) for status in found)])
    else:
        console.line("no runs in " + ", ".join(str(place) for place in places))
    documents: list[dict[str, Any]] = [status_json(status) for status in found]
    console.document({"command": "runs", "folders": [str(place) for place in places], "runs": documents})
    return OK


def _row(status: RunStatus) -> tuple[str, ...]:
    return (
        shown_path(status.path),
        duration(max(0.0, time.time() - status.created)),
        status.job_type,
        blocks_text(status),
        state_text(status),
    )


def _print_table(console: Console, rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        console.line("  ".join(cells).rstrip())
