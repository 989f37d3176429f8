"""Times and memory as Slurm writes them, as whole minutes and mebibytes."""

from __future__ import annotations

import datetime as dt
import math
import re

from bioimage_py.errors import InvalidArgumentError

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(?:I?B)?)?", re.IGNORECASE)
_MEBIBYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
_UNLIMITED = ("UNLIMITED", "INFINITE")


def minutes(time: str | int | dt.timedelta, name: str = "time") -> int | None:
    """Return a time limit in minutes, rounded up as Slurm does; None for an unlimited one.

    Parameters
    ----------
    time
        `90` (minutes), `"90"`, `"90:00"` (minutes and seconds), `"1:30:00"`, `"2-12"` (days and hours), `"2-12:30"`,
        `"2-12:30:00"`, `"UNLIMITED"`, or a timedelta.
    name
        What to call it in the error.

    Raises
    ------
    InvalidArgumentError
        If it is none of these, or not positive.

    Examples
    --------
    >>> minutes("1:30:00"), minutes("2-12"), minutes("0:10"), minutes(5), minutes("infinite")
    (90, 3600, 1, 5, None)
    """
    seconds = 0
    if isinstance(time, dt.timedelta):
        seconds = math.ceil(time.total_seconds())
    elif type(time) is int:
        seconds = 60 * time
    elif isinstance(time, str):
        if time.strip().upper() in _UNLIMITED:
            return None
        match = _TIME.fullmatch(time.strip())
        if match:
            seconds = _seconds(match["days"], [int(part) for part in match["parts"].split(":")])
    if seconds <= 0:
        raise InvalidArgumentError(
            f"{name} must be minutes or a text such as '90', '1:30:00' or '2-12:00:00' (days-hours:minutes:seconds), got {time!r}"
        )
    return -(-seconds // 60)


def _seconds(days: str | None, parts: list[int]) -> int:
    if days is None:
        hours, mins, secs = {1: (0, *parts, 0), 2: (0, *parts), 3: tuple(parts)}[len(parts)]
    else:
        hours, mins, secs = [*parts, 0, 0][:3]
    return ((int(days or 0) * 24 + hours) * 60 + mins) * 60 + secs


def minutes_text(number: int) -> str:
    """Return minutes as Slurm shows them.

    Examples
    --------
    >>> minutes_text(90), minutes_text(3600)
    ('01:30:00', '2-12:00:00')
    """
    days, rest = divmod(number, 24 * 60)
    text = f"{rest // 60:02d}:{rest % 60:02d}:00"
    return f"{days}-{text}" if days else text


def mebibytes(memory: str | int, name: str = "mem") -> int:
    """Return an amount of memory in MiB, rounded up.

    Parameters
    ----------
    memory
        `4000` (MiB, as Slurm takes it), `"4000"`, `"4000M"`, `"4G"`, `"1.5G"`, `"4GiB"`; 0 is all memory of a node.
    name
        What to call it in the error.

    Raises
    ------
    InvalidArgumentError
        If it is none of these.

    Examples
    --------
    >>> mebibytes("4G"), mebibytes("1.5G"), mebibytes(500), mebibytes("10K")
    (4096, 1536, 500, 1)
    """
    if type(memory) is int and memory >= 0:
        return memory
    match = _MEMORY.fullmatch(memory.strip()) if isinstance(memory, str) else None
    if match is None:
        raise InvalidArgumentError(f"{name} must be MiB or a text such as '4G' or '500M', got {memory!r}")
    return math.ceil(float(match[1]) * _MEBIBYTES[(match[2] or "M").upper()])


def array_indices(text: str) -> list[int]:
    """Return the indices that Slurm's short form names; a throttle behind `%` is left out.

    Raises
    ------
    ValueError
        If it is no such form.

    Examples
    --------
    >>> array_indices("[0-3,7,10-14:2%4]")
    [0, 1, 2, 3, 7, 10, 12, 14]
    """
    found: list[int] = []
    for piece in text.strip("[]").partition("%")[0].split(","):
        span, _, step = piece.partition(":")
        first, _, last = span.partition("-")
        found.extend(range(int(first), int(last or first) + 1, int(step or 1)))
    return found
