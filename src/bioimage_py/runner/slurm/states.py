"""What Slurm says of a task, and from that, the run folder and the log: how it ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bioimage_py.runner.rounds import TaskEnd, killed_by
from bioimage_py.runner.slurm.quantities import array_indices

LOST = "LOST"
"""The state of a task that Slurm does not know any more; the word is ours."""

_LACK_OF_MEMORY = ("out of memory", "it needed more memory than it had")
_ENDED: dict[str, tuple[str, str] | None] = {
    "BOOT_FAIL": ("node failure", "its node did not start"),
    "CANCELLED": ("cancelled", "it was cancelled"),
    "COMPLETED": None,  # exit code and log say more
    "DEADLINE": ("timeout", "it missed its deadline"),
    "FAILED": None,
    "LAUNCH_FAILED": ("node failure", "its node could not start it"),
    LOST: ("lost", "Slurm does not know it any more, and it has not finished"),
    "NODE_FAIL": ("node failure", "its node failed"),
    "OUT_OF_MEMORY": _LACK_OF_MEMORY,
    "PREEMPTED": ("node failure", "a job with a higher priority took its place"),
    "RECONFIG_FAIL": ("node failure", "its node could not be configured"),
    "REVOKED": ("cancelled", "it was cancelled"),
    "TIMEOUT": ("timeout", "it ran into its time limit"),
}
_NEVER = {
    "AccountNotAllowed": "the partition does not take this account",
    "AssocMaxCpuPerJobLimit": "the account allows fewer processors per job",
    "AssocMaxMemPerJob": "the account allows less memory per job",
    "AssocMaxWallDurationPerJobLimit": "the account allows less time per job",
    "BadConstraints": "no node has what constraint= asks for",
    "DependencyNeverSatisfied": "the dependency in extra= has failed",
    "InvalidAccount": "the account is not valid",
    "InvalidQOS": "the QOS is not valid",
    "MaxMemPerLimit": "the partition allows less memory per job",
    "PartitionConfig": "no node of the partition has that many processors or that much memory",
    "PartitionNodeLimit": "the partition allows fewer nodes",
    "PartitionTimeLimit": "the partition's time limit is below time=",
    "QOSMaxCpuPerJobLimit": "the QOS allows fewer processors per job",
    "QOSMaxMemoryPerJob": "the QOS allows less memory per job",
    "QOSMaxWallDurationPerJobLimit": "the QOS allows less time per job",
    "QOSNotAllowed": "the partition does not take this QOS",
}
_NO_LOG = 53
"""What Slurm gives as the signal of a task whose output file it could not open."""
_OOM = re.compile(r"oom[-_ ]kill|out[- ]of[- ]memory|exceeded (?:job |step )?memory limit", re.IGNORECASE)


Place = tuple[str, int, str]
"""Number of an array, index in it, name of the job."""


@dataclass(frozen=True)
class Row:
    """What Slurm says about one task of an array."""

    job: str  # number of the array
    index: int
    name: str  # of the job: unlike numbers, names are not used again
    state: str  # in Slurm's words, such as RUNNING
    exit: tuple[int, int] | None = None  # exit code and signal, where known
    nodes: str = ""
    reason: str = ""  # why it is in that state, in one word

    @property
    def place(self) -> Place:
        return self.job, self.index, self.name


# Of the controller: tasks that wait, run, or have ended a short while ago.
QUEUE = (
    "squeue", "-h", "-r", "-t", "all", "-O",
    "ArrayJobID:20_,ArrayTaskID:20|,Name:120|,State:20|,exit_code:20|,NodeList:200|,Reason:100",
)  # fmt: skip
# Of the accounting, which lags by some seconds.
HISTORY = ("sacct", "-n", "-P", "-X", "-o", "JobID,JobName,State,ExitCode,NodeList")


def rows(text: str) -> Iterator[Row]:
    """Yield a row for each task that either command listed: none for steps and jobs that are not arrays, several for a range of indices."""
    for line in text.splitlines():
        values = [value.strip() for value in f"{line}|".split("|")]
        if len(values) < 6:
            continue
        job, _, indices = values[0].partition("_")
        name, state, code, nodes, reason = values[1:6]
        state, _, by = state.partition(" ")
        reason = "" if reason in ("None", "(null)") else reason
        nodes = "" if nodes == "None assigned" else nodes
        try:
            found = array_indices(indices.strip())
        except ValueError:
            continue  # no task of an array
        for index in found:
            yield Row(job.strip(), index, name, state, _exit(code), nodes, reason or by)


def _exit(text: str) -> tuple[int, int] | None:
    code, separator, number = text.partition(":")
    try:
        return (int(code), int(number)) if separator else (int(code) >> 8, int(code) & 0x7F)
    except ValueError:
        return None


def has_ended(row: Row) -> bool:
    return row.state in _ENDED


def could_not_log(row: Row) -> bool:
    """Whether a task did not begin because its node could not make its log: it may not see the run folder, or not yet."""
    return row.exit is not None and row.exit[1] == _NO_LOG


def hopeless(row: Row) -> str:
    """Return why a pending task will never run, empty if it may."""
    if row.state != "PENDING" or row.reason not in _NEVER:
        return ""
    return f"Slurm keeps it waiting for {row.reason}: {_NEVER[row.reason]}"


def end_of(task: int, row: Row, *, began: bool, log: str) -> TaskEnd:
    """Return how a task ended that Slurm says is over and whose journal does not say that it finished.

    `began` says whether an attempt has written its first line, `log` is the end of what it printed.
    """
    where = f" on {row.nodes}" if row.nodes else ""
    kind, text = _ENDED[row.state] or _judged(row, log, began=began)
    if kind == "cancelled" and row.reason.startswith("by "):
        text += f" {row.reason}"
    if log and kind != "cancelled":
        text += f". Its log ends: {log}"
    return TaskEnd(task, kind, f"Slurm job {row.job}_{row.index}{where}: {text}")


def _judged(row: Row, log: str, *, began: bool) -> tuple[str, str]:
    code, number = row.exit or (0, 0)
    if code > 128 and not number:
        code, number = 0, code - 128
    if number == _NO_LOG:
        return "error", (
            "its node could not write the log in the run folder: run folders must be on a disk that all nodes share, and "
            "with room"
        )
    if row.state == "COMPLETED" and not code and not number:
        return "lost", "Slurm says that it completed, " + (
            "its journal does not"
            if began
            else "and it left nothing in the run folder: is that on a disk that all nodes share? If it is, and slow, give a longer "
            "latency_wait="
        )
    if _OOM.search(log) and (number or code > 1):
        return _LACK_OF_MEMORY
    if number:
        return "killed", killed_by(number)
    # The package must not have imported a module that is to be run as the main one.
    from bioimage_py.runner.worker import EXIT_REFUSED, EXIT_STOPPED

    no_python = "its node could not start Python: python_executable= must be one that the nodes have, and setup= what it needs"
    known = {
        # Cancelling and preemption have states of their own; this is the warning ahead of the time limit.
        EXIT_STOPPED: ("timeout", "it was about to run into its time limit, and stopped between two blocks"),
        EXIT_REFUSED: ("error", "its worker could not begin"),
        126: ("error", no_python),
        127: ("error", no_python),
    }
    text = f"its worker ended with exit code {code}"
    return known.get(code) or (("lost", text) if began else ("error", f"{text} before it could begin"))
