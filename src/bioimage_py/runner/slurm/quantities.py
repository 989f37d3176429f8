"""Times, memory and indices as Slurm writes them: minutes, mebibytes and lists of integers."""

from __future__ import annotations

import datetime as dt
import math
import re

from bioimage_py.errors import InvalidArgumentError

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:I?B)?)?", re.IGNORECASE)
_MEBIBYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}


def minutes(time: str | int | dt.timedelta) -> int | None:
    """Return a time limit in minutes, rounded up as Slurm does; None for an unlimited one.

    It is `90` (minutes), `"90"`, `"90:00"` (minutes and seconds), `"1:30:00"`, `"2-12"` (days and hours), `"2-12:30"`, `"2-12:30:00"`,
    `"UNLIMITED"`, or a timedelta.
    """
    seconds = 0
    if isinstance(time, dt.timedelta):
        seconds = math.ceil(time.total_seconds())
    elif type(time) is int:
        seconds = 60 * time
    elif isinstance(time, str):
        if time.strip().upper() in ("UNLIMITED", "INFINITE"):
            return None
        match = _TIME.fullmatch(time.strip())
        if match:
            parts = [int(part) for part in match["parts"].split(":")]
            if match["days"] is None and len(parts) < 3:
                parts.insert(0, 0)
            hours, mins, secs = [*parts, 0, 0][:3]
            seconds = ((int(match["days"] or 0) * 24 + hours) * 60 + mins) * 60 + secs
    if seconds <= 0:
        raise InvalidArgumentError(
            f"time must be minutes or a text such as '90', '1:30:00' or '2-12:00:00' (days-hours:minutes:seconds), got {time!r}"
        )
    return -(-seconds // 60)


def mebibytes(memory: str | int) -> int:
    """Return an amount of memory in MiB, rounded up: of `4000` (MiB), `"4000"`, `"4000M"`, `"1.5G"`, `"4GiB"`; 0 is all memory of a node."""
    if type(memory) is int and memory >= 0:
        return memory
    match = _MEMORY.fullmatch(memory.strip()) if isinstance(memory, str) else None
    if match is None:
        raise InvalidArgumentError(f"mem must be MiB or a text such as '4G' or '500M', got {memory!r}")
    return math.ceil(float(match[1]) * _MEBIBYTES[(match[2] or "M").upper()])


def array_indices(text: str) -> list[int]:
    """Return the indices that a short form such as `[0-3,7,10-14:2%4]` names, without its throttle; ValueError for any other text."""
    found: list[int] = []
    for piece in text.strip("[]").partition("%")[0].split(","):
        span, _, step = piece.partition(":")
        first, _, last = span.partition("-")
        found.extend(range(int(first), int(last or first) + 1, int(step or 1)))
    return found
