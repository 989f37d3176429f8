"""Slurm's commands, run with patience: what they print is parsed in `slurm_rows`."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bioimage_py.errors import Hint, MissingDependencyError
from bioimage_py.runner.slurm.quantities import mebibytes
from bioimage_py.runner.slurm.rows import (
    EXIT_FIELDS,
    HISTORY_FIELDS,
    QUEUE_FIELDS,
    Limits,
    Row,
    parse_exits,
    parse_history,
    parse_limits,
    parse_queue,
    parse_submitted,
)

_log = logging.getLogger(__name__)

_SILENT = re.compile(
    r"unable to contact slurm controller|socket timed out|zero bytes were transmitted|connection (?:refused|reset|timed out)"
    r"|controller not responding|in standby mode|temporarily unable|message (?:send|receive) failure|munge|authentication"
    r"|transport endpoint",
    re.IGNORECASE,
)
_STALE = re.compile(r"SLURM_(?!CONF$|CLUSTERS$|JWT$)|SLURMD_")
_NOISE = re.compile(rf"(?:SQUEUE|SACCT|SCONTROL)_|{_STALE.pattern}")
_GRACE = 10.0
"""Seconds that a submission gets to its end when this process is interrupted."""

_ARGUMENTS = 400
"""Numbers of jobs to name in one command."""


class SlurmSilenceError(RuntimeError):
    """Slurm did not answer; whether it heard is unknown."""


class SlurmRefusalError(RuntimeError):
    """Slurm answered that it will not; the message is what it said."""


@dataclass
class _Reply:
    code: int
    out: str
    said: str


@dataclass
class Slurm:
    """The commands of the Slurm that this machine belongs to.

    Attributes
    ----------
    idle
        Called about ten times a second while a command runs: one to a dead controller takes many seconds.
    timeout
        Seconds after which a command is taken for silent.
    """

    idle: Callable[[], None] = lambda: None
    timeout: float = 60.0
    _accounting: bool | None = None

    @staticmethod
    def check_present() -> None:
        """Raise MissingDependencyError where Slurm's commands are not there."""
        for command in ("sbatch", "squeue", "scancel", "scontrol"):
            if shutil.which(command) is None:
                raise MissingDependencyError(
                    f"job_type 'slurm' needs Slurm's commands, and {command!r} is not on PATH",
                    hints=[
                        Hint("run this where jobs are submitted, such as a login node"),
                        Hint.of("or, to run on this machine, give {}", job_type="subprocess"),
                    ],
                )

    def submit(self, options: Sequence[str], script: str, arguments: Sequence[str]) -> str:
        """Submit a batch script and return the job's number.

        Raises
        ------
        SlurmSilenceError
            If there was no answer; there may be a job all the same.
        SlurmRefusalError
            If it was refused.
        """
        reply = self._call(["sbatch", "--parsable", *options, script, *arguments], keep=True)
        if reply.code == 0:
            try:
                return parse_submitted(reply.out)
            except ValueError as error:
                raise SlurmSilenceError(str(error)) from error
        self._raise_if_silent(reply)
        raise SlurmRefusalError(reply.said)

    def queue(self, *, jobs: Iterable[str] = (), name: str = "") -> list[Row]:
        """Return what the controller knows of tasks that wait, run, or have ended a short while ago.

        Raises
        ------
        SlurmSilenceError
            If there was no answer.
        """
        return [row for chosen in _chosen(jobs, name) for row in self._queue(chosen)]

    def _queue(self, chosen: Sequence[str]) -> list[Row]:
        reply = self._call(["squeue", "-h", "-r", "-t", "all", "-o", QUEUE_FIELDS, *chosen])
        if reply.code and "Invalid job id" not in reply.said:
            raise SlurmSilenceError(reply.said)
        return parse_queue(reply.out)

    def exits(self, jobs: Iterable[str]) -> dict[tuple[str, int, str], tuple[int, int]]:
        """Return exit code and signal of tasks that ended a short while ago, by job, index and name."""
        found = {}
        for chosen in _chosen(jobs, ""):
            reply = self._call(["squeue", "-h", "-r", "-t", "all", "-O", EXIT_FIELDS, *chosen])
            if reply.code == 0:
                found.update(parse_exits(reply.out))
        return found

    def history(self, *, jobs: Iterable[str] = (), name: str = "") -> list[Row]:
        """Return what the accounting knows, which lags by some seconds; nothing where there is none, or no answer."""
        if self._accounting is None:
            self._accounting = shutil.which("sacct") is not None
        if not self._accounting:
            return []
        rows = []
        for chosen in _chosen(jobs, name):
            span = ["-S", "now-30days"] if name else []
            reply = self._call(["sacct", "-n", "-P", "-X", "-o", HISTORY_FIELDS, *span, *chosen])
            if reply.code and "storage is disabled" in reply.said:
                self._accounting = False
                return []
            rows += parse_history(reply.out)
        return rows

    def cancel(self, jobs: Iterable[str]) -> None:
        """Cancel jobs; those that have ended are left as they are.

        Raises
        ------
        SlurmSilenceError
            If there was no answer.
        SlurmRefusalError
            If it was refused.
        """
        for chosen in _chosen(jobs, ""):
            reply = self._call(["scancel", "--quiet", *chosen[1].split(",")])
            if reply.code and "Invalid job id" not in reply.said:
                self._raise_if_silent(reply)
                raise SlurmRefusalError(reply.said)

    def set_throttle(self, job: str, tasks: int) -> bool:
        """Change how many tasks of an array run at once; return whether Slurm did."""
        return self._call(["scontrol", "update", f"JobId={job}", f"ArrayTaskThrottle={tasks}"]).code == 0

    def max_array_size(self) -> int:
        """Return how many tasks an array may have; 1000, Slurm's default, where the controller does not say."""
        found = re.search(
            r"^MaxArraySize\s*=\s*(\d+)", self._call(["scontrol", "show", "config"]).out, re.MULTILINE
        )
        return max(1, int(found[1]) - 1) if found else 1000

    def limits(self, partition: str | None) -> Limits:
        """Return what a partition allows; of the default one where none is named, nothing where Slurm does not say."""
        reply = self._call(["scontrol", "-o", "show", "partition", *([partition] if partition else [])])
        for line in reply.out.splitlines():
            if partition or " Default=YES " in line:
                return parse_limits(line)
        return Limits()

    def memory_had(self, jobs: Iterable[str]) -> int | None:
        """Return the MiB that tasks of these jobs had; None where Slurm does not know any more."""
        for chosen in _chosen(jobs, ""):
            reply = self._call(["squeue", "-h", "-t", "all", "-O", "tres-alloc:200", *chosen])
            found = re.findall(r"\bmem=([\d.]+[KMGT])", reply.out)
            if found:
                return max(mebibytes(memory) for memory in found)
        return None

    def any_of_mine(self) -> bool:
        """Whether this user has any job that waits or runs."""
        reply = self._call(["squeue", "-h", "-o", "%A", f"--user={os.geteuid()}"])
        return reply.code == 0 and bool(reply.out.strip())

    def _raise_if_silent(self, reply: _Reply) -> None:
        if _SILENT.search(reply.said):
            raise SlurmSilenceError(reply.said)

    def _call(self, words: Sequence[str], *, keep: bool = False) -> _Reply:
        """Run a command; with `keep` it gets to its end also when this process is interrupted."""
        try:
            process = subprocess.Popen(  # noqa: S603 - Slurm's commands, with words that no shell sees
                list(words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=_environment(words[0]),
                start_new_session=True,  # Ctrl-C in the terminal is ours alone
            )
        except OSError as error:
            raise SlurmSilenceError(f"{words[0]} cannot be run: {error.strerror}") from error
        end = time.monotonic() + self.timeout
        with process:
            try:
                while True:
                    try:
                        out, said = process.communicate(timeout=0.1)
                        return _Reply(process.returncode, out, _cleaned(said))
                    except subprocess.TimeoutExpired:
                        if time.monotonic() > end:
                            raise SlurmSilenceError(
                                f"{words[0]} gave no answer in {self.timeout:g} s"
                            ) from None
                    self.idle()
            finally:
                _end(process, _GRACE if keep else 0.0)


def _end(process: subprocess.Popen[str], grace: float) -> None:
    """End a command that was given up; a submission that is on its way gets some seconds, its name tells what came of it."""
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()


def _environment(command: str) -> dict[str, str]:
    """Return what a command is to see: not what a surrounding job, or a taste in formats, would change in the answers.

    What `sbatch` sees becomes the job's environment, so nothing is added there.
    """
    noise = _STALE if command == "sbatch" else _NOISE
    environment = {name: value for name, value in os.environ.items() if not noise.match(name)}
    return environment if command == "sbatch" else {**environment, "SLURM_BITSTR_LEN": "0"}


def _cleaned(said: str) -> str:
    """Return an error's text without the prefixes of its lines."""
    lines = [re.sub(r"^\w+: (?:error|fatal): ", "", line.strip()) for line in said.splitlines()]
    return "; ".join(line for line in lines if line)


def _chosen(jobs: Iterable[str], name: str) -> list[list[str]]:
    """Return the options that choose jobs, by number, a few hundred to a command, or by name."""
    if name:
        return [["--name", name]]
    numbers = list(jobs)
    return [
        ["--jobs", ",".join(numbers[first : first + _ARGUMENTS])]
        for first in range(0, len(numbers), _ARGUMENTS)
    ]
