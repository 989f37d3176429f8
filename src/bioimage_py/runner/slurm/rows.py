"""What Slurm's commands print, as values; nothing here runs a command."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bioimage_py.runner.slurm.quantities import array_indices, minutes

QUEUE_FIELDS = "%F|%K|%T|%r|%N|%j"
EXIT_FIELDS = "ArrayJobID:20|,ArrayTaskID:20|,exit_code:20|,NodeList:200|,Name:120"
HISTORY_FIELDS = "JobID,JobName,State,ExitCode,NodeList"


@dataclass(frozen=True)
class Row:
    """What Slurm says about one task of an array.

    Attributes
    ----------
    job, index
        Number of the array, and index in it.
    state
        In Slurm's words, such as `RUNNING`.
    name
        Name of the job.
    reason
        Why it is in that state, in one word; empty where nothing was said.
    nodes
        Where it runs or ran.
    exit
        Exit code and signal, where known.
    """

    job: str
    index: int
    state: str
    name: str
    reason: str = ""
    nodes: str = ""
    exit: tuple[int, int] | None = None


@dataclass(frozen=True)
class Limits:
    """What a partition allows and assumes.

    Attributes
    ----------
    max_minutes, default_minutes
        Time of a job; None for no limit.
    """

    max_minutes: int | None = None
    default_minutes: int | None = None


def parse_submitted(text: str) -> str:
    """Return the job's number from what `sbatch --parsable` printed.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> parse_submitted("1234;cluster")
    '1234'
    """
    # A site's own wrapper of sbatch may print lines before it.
    found = re.findall(r"^(\d+)(?:;\S*)?\s*$", text, re.MULTILINE)
    if not found:
        raise ValueError(f"sbatch printed no job number: {text!r}")
    return str(found[-1])


def parse_queue(text: str) -> list[Row]:
    """Return a row for each task in what `squeue -o QUEUE_FIELDS` printed; a row of several tasks becomes several."""
    rows = []
    for line in text.splitlines():
        fields = line.split("|", 5)
        if len(fields) != 6:
            continue
        job, indices, state, reason, nodes, name = fields
        reason = "" if reason.strip("()") in ("None", "null") else reason
        rows += [Row(job, i, state.strip(), name.strip(), reason, nodes) for i in _indices(indices)]
    return rows


def parse_exits(text: str) -> dict[tuple[str, int, str], tuple[int, int]]:
    """Return exit code and signal by job, index and name, from what `squeue -O EXIT_FIELDS` printed."""
    found = {}
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|", 4)]
        code = _exit(fields[2]) if len(fields) == 5 else None
        if code is not None:
            for index in _indices(fields[1]):
                found[fields[0], index, fields[4]] = code
    return found


def parse_history(text: str) -> list[Row]:
    """Return a row for each task in what `sacct -nPX -o HISTORY_FIELDS` printed; steps and whole arrays are left out."""
    rows = []
    for line in text.splitlines():
        fields = line.split("|", 4)
        job, separator, indices = fields[0].partition("_")
        if len(fields) != 5 or not separator or "." in indices:
            continue
        _, name, state, code, nodes = fields
        word, _, reason = state.partition(" ")
        nodes = "" if nodes == "None assigned" else nodes
        rows += [Row(job, i, word, name, reason, nodes, _exit(code)) for i in _indices(indices)]
    return rows


def parse_limits(text: str) -> Limits:
    """Return what `scontrol -o show partition` says."""
    words = dict(re.findall(r"(\w+)=(\S+)", text))

    def time_of(key: str) -> int | None:
        value = words.get(key, "NONE")
        return None if value in ("NONE", "UNLIMITED") else minutes(value)

    return Limits(time_of("MaxTime"), time_of("DefaultTime"))


def _indices(text: str) -> list[int]:
    try:
        return array_indices(text.strip())
    except ValueError:
        return []  # no task of an array: N/A


def _exit(text: str) -> tuple[int, int] | None:
    code, separator, number = text.partition(":")
    try:
        if separator:
            return int(code), int(number)
        status = int(code)
    except ValueError:
        return None
    return status >> 8, status & 0x7F
