"""How far a run is, in words and as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from bioimage_py.cli.failure import as_command
from bioimage_py.cli.options import shown_path
from bioimage_py.cli.text import duration, rate, shortened
from bioimage_py.cli.values import ids_text
from bioimage_py.errors import Call
from bioimage_py.planning import format_bytes
from bioimage_py.runner.run import BlockError, RunStatus

_LABEL_WIDTH = 12
_MOST_RUNS = 5
_ERROR_WIDTH = 400
_REPORTED = (
    "job_type", "what", "created", "state", "num_workers", "blocks_total", "blocks_done", "blocks_failed", "bytes_total",
    "bytes_done", "blocks_per_second", "bytes_per_second", "seconds_left", "last_sign", "rounds", "tasks", "handle",
)  # fmt: skip


def status_lines(status: RunStatus) -> list[str]:
    """Return all that is known about a run, one labelled line each."""
    return [f"{label + ':' if label else '':{_LABEL_WIDTH}}{text}" for label, text in _labelled(status)]


def _labelled(status: RunStatus) -> Iterator[tuple[str, str]]:
    yield "run", shown_path(status.path)
    yield "work", status.what
    yield "backend", status.job_type + (f" ({status.handle})" if status.handle else "")
    yield "started", f"{_clock(status.created)}, {duration(max(0.0, time.time() - status.created))} ago"
    yield "state", state_text(status) + _attendance(status)
    failed = f", {status.blocks_failed:,} failed" if status.blocks_failed else ""
    yield "blocks", f"{blocks_text(status)} done{failed}"
    if status.bytes_total or status.bytes_done:
        whole = f" of {format_bytes(status.bytes_total)}" if status.bytes_total else ""
        yield "written", format_bytes(status.bytes_done) + whole
    if status.blocks_per_second is not None and status.working:
        speed = f"{_per_second(status.blocks_per_second)} blocks/s"
        if status.bytes_per_second:
            speed = f"{rate(status.bytes_per_second, 1)}, {speed}"
        yield "speed", speed
    if status.working:
        left = status.seconds_left
        yield "time left", "not known yet" if left is None else f"about {duration(left)}"
    if status.rounds:
        counts = ", ".join(f"{count:,} {_task_word(state, status)}" for state, count in status.tasks.items())
        yield "tasks", counts + (f" (round {status.rounds})" if status.rounds > 1 else "")
    yield from _errors(status)
    if status.state == "unfinished":
        yield "to finish", as_command(Call("resume", (shown_path(status.path),)))


def _errors(status: RunStatus) -> Iterator[tuple[str, str]]:
    label = "errors"
    for error in status.errors:
        yield label, shortened(f"{_where(error)}: {error.type}: {error.text}", _ERROR_WIDTH)
        label = ""


def _where(error: BlockError) -> str:
    runs = error.block_ids.runs
    if not runs:
        return f"task {error.task}"
    listed = ids_text(runs[:_MOST_RUNS]).replace(",", ", ")
    return f"{'blocks' if len(error.block_ids) > 1 else 'block'} {listed}" + (
        " …" if len(runs) > _MOST_RUNS else ""
    )


def state_text(status: RunStatus) -> str:
    if status.state == "unfinished" and status.blocks_failed:
        return f"stopped, {status.blocks_failed:,} failed"
    return {"running": "running", "finished": "finished", "unfinished": "stopped"}[status.state]


def blocks_text(status: RunStatus) -> str:
    share = 100 * status.blocks_done // status.blocks_total if status.blocks_total else 100
    return f"{status.blocks_done:,} of {status.blocks_total:,} ({share} %)"


def progress_of(status: RunStatus) -> str:
    """Return the parts of a status that change, on one line."""
    parts = [state_text(status), f"{blocks_text(status)} blocks"]
    if status.working and status.bytes_per_second:
        parts.append(rate(status.bytes_per_second, 1))
    if status.seconds_left is not None and status.blocks_done < status.blocks_total:
        parts.append(f"{duration(status.seconds_left)} left")
    if status.working and status.blocks_failed:
        parts.append(f"{status.blocks_failed:,} failed")
    return " · ".join(parts)


def status_json(status: RunStatus) -> dict[str, Any]:
    """Return a status as a JSON document has it."""
    driver = status.driver
    return {
        "run_folder": str(status.path),
        **{name: getattr(status, name) for name in _REPORTED},
        "errors": [
            {"block_ids": error.block_ids.runs, "task": error.task, "type": error.type, "text": error.text}
            for error in status.errors
        ],
        "driver": driver
        and {**{name: driver[name] for name in ("host", "pid", "began")}, "alive": status.driver_alive},
    }


def _attendance(status: RunStatus) -> str:
    if not status.working:
        return ""
    if status.driver is None or status.driver_alive is False:
        return "; no process waits for it: 'resume' does"
    where = f"process {status.driver['pid']} on {status.driver['host']}"
    return f"; {where} waits for it" + ("" if status.driver_alive else ", if it still exists")


def _task_word(state: str, status: RunStatus) -> str:
    return "not started" if state == "waiting" and not status.working else state


def _per_second(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
