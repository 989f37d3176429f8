"""From what Slurm, the run folder and the log say of a task to how it ended; nothing here runs a command."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from bioimage_py.runner.rounds import TaskEnd
from bioimage_py.runner.slurm.rows import Row

LOST = "LOST"
"""The state of a task that Slurm does not know any more; the word is ours."""

_ENDED = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "LAUNCH_FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "RECONFIG_FAIL",
    "REVOKED",
    "TIMEOUT",
)
_PLAIN = {
    "BOOT_FAIL": ("node failure", "its node did not start"),
    "DEADLINE": ("timeout", "it missed its deadline"),
    "LAUNCH_FAILED": ("node failure", "its node could not start it"),
    LOST: ("lost", "Slurm does not know it any more, and it has not finished"),
    "NODE_FAIL": ("node failure", "its node failed"),
    "OUT_OF_MEMORY": ("out of memory", "it needed more memory than it had"),
    "PREEMPTED": ("node failure", "a job with a higher priority took its place"),
    "RECONFIG_FAIL": ("node failure", "its node could not be configured"),
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
_STARVED = re.compile(r"oom[-_ ]kill|out[- ]of[- ]memory|exceeded (?:job |step )?memory limit", re.IGNORECASE)
_NO_PYTHON = (126, 127)


@dataclass(frozen=True)
class Evidence:
    """What the run folder tells of a task.

    Attributes
    ----------
    began
        Whether an attempt at it has written its first line.
    reason
        Why its last attempt ended, in the attempt's own words.
    log
        The last lines of its log.
    """

    began: bool = False
    reason: str | None = None
    log: str = ""


def has_ended(row: Row) -> bool:
    """Whether Slurm says that the task is over."""
    return row.state in _ENDED


def hopeless(row: Row) -> str:
    """Return why a task that waits will wait for ever, empty if it will not."""
    if row.state != "PENDING" or row.reason not in _NEVER:
        return ""
    return f"Slurm keeps it waiting for {row.reason}: {_NEVER[row.reason]}"


def end_of(task: int, row: Row, evidence: Evidence) -> TaskEnd:
    """Return how a task ended that Slurm says is over and whose journal does not say that it finished.

    Parameters
    ----------
    task
        Number of the task.
    row
        What Slurm says.
    evidence
        What the run folder says.
    """
    where = f" on {row.nodes}" if row.nodes else ""
    call = f"Slurm job {row.job}_{row.index}{where}"
    kind, text = _verdict(row, evidence)
    tail = f". Its log ends: {evidence.log}" if evidence.log and kind != "cancelled" else ""
    return TaskEnd(task, kind, f"{call}: {text}{tail}")


def _verdict(row: Row, evidence: Evidence) -> tuple[str, str]:
    if row.state in _PLAIN:
        return _PLAIN[row.state]
    if row.state in ("CANCELLED", "REVOKED"):
        by = f" {row.reason}" if row.reason.startswith("by ") else ""
        return "cancelled", f"it was cancelled{by}"
    code, number = row.exit or (0, 0)
    if code > 128 and not number:
        code, number = 0, code - 128
    if number:
        return _killed(number, evidence)
    if row.state == "COMPLETED" and not code:
        return _silent_success(evidence)
    if _STARVED.search(evidence.log) and code > 1:
        return _PLAIN["OUT_OF_MEMORY"]
    return _exited(code, evidence)


def _killed(number: int, evidence: Evidence) -> tuple[str, str]:
    if number == _NO_LOG:
        return "error", (
            "its node could not write the log in the run folder: run folders must be on a disk that all nodes share, and "
            "with room"
        )
    if _STARVED.search(evidence.log):
        return _PLAIN["OUT_OF_MEMORY"]
    hint = ", perhaps for lack of memory" if number == signal.SIGKILL else ""
    return "killed", f"its worker was killed by {_signal_name(number)}{hint}"


def _silent_success(evidence: Evidence) -> tuple[str, str]:
    if evidence.began:
        return "lost", "Slurm says that it completed, its journal does not"
    return "lost", (
        "Slurm says that it completed, and it left nothing in the run folder: is that on a disk that all nodes share? "
        "If it is, and slow, give a longer latency_wait="
    )


def _exited(code: int, evidence: Evidence) -> tuple[str, str]:
    # The package must not have imported a module that is to be run as the main one.
    from bioimage_py.runner.worker import EXIT_REFUSED, EXIT_STOPPED

    if code == EXIT_STOPPED:
        # Cancelling and preemption have states of their own; this is the warning ahead of the time limit.
        return "timeout", "it was about to run into its time limit, and stopped between two blocks"
    if code == EXIT_REFUSED:
        return "error", "its worker could not begin"
    if code in _NO_PYTHON:
        return "error", (
            "its node could not start Python: python_executable= must be one that the nodes have, and setup= what it needs"
        )
    if evidence.began:
        return "lost", f"its worker ended with exit code {code}"
    return "error", f"its worker ended with exit code {code} before it could begin"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
