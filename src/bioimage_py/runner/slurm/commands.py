"""Slurm's commands, and what they answer, if they do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from bioimage_py.errors import Hint, MissingDependencyError
from bioimage_py.runner.slurm.quantities import mebibytes, minutes
from bioimage_py.runner.slurm.states import EXITS, HISTORY, QUEUE, Place, Row

_SILENT = re.compile(
    r"unable to contact slurm controller|socket timed out|zero bytes were transmitted|connection (?:refused|reset|timed out)"
    r"|controller not responding|in standby mode|temporarily unable|message (?:send|receive) failure|munge|authentication"
    r"|transport endpoint",
    re.IGNORECASE,
)
_STALE = re.compile(r"SLURM_(?!CONF$|CLUSTERS$|JWT$)|SLURMD_")
_NOISE = re.compile(rf"(?:SQUEUE|SACCT|SCONTROL)_|{_STALE.pattern}")
_GRACE = 10.0
"""Seconds that a submission may still take when this process is interrupted."""

_ARGUMENTS = 400
"""Numbers of jobs to name in one command."""


class SlurmSilenceError(RuntimeError):
    """Slurm did not answer; whether it did what was asked is unknown."""


class SlurmRefusalError(RuntimeError):
    """Slurm refused; the message is what it said."""


@dataclass(frozen=True)
class Limits:
    """Minutes that a partition allows and assumes, None for no limit."""

    max_minutes: int | None = None
    default_minutes: int | None = None

    @classmethod
    def parse(cls, text: str) -> Limits:
        """Return what `scontrol -o show partition` says."""
        words = dict(re.findall(r"(\w+)=(\S+)", text))
        said = [words.get(key, "NONE") for key in ("MaxTime", "DefaultTime")]
        return cls(*(None if time == "NONE" else minutes(time) for time in said))


@dataclass
class _Reply:
    code: int
    out: str
    said: str

    def check(self) -> None:
        """Raise SlurmSilenceError or SlurmRefusalError if the command failed."""
        if self.code:
            raise (SlurmSilenceError if _SILENT.search(self.said) else SlurmRefusalError)(self.said)


@dataclass
class Slurm:
    """The commands of the Slurm that this machine belongs to; they raise SlurmSilenceError where there is no answer."""

    idle: Callable[[], None] = lambda: None
    """Called about ten times a second while a command runs: one to a dead controller takes many seconds."""
    timeout: float = 60.0
    """Seconds that a command may take."""
    _accounting: bool | None = None

    @staticmethod
    def check_present() -> None:
        """Raise MissingDependencyError where Slurm's commands are missing."""
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
        """Submit a batch script and return the job's number; after a silence there may be a job all the same."""
        reply = self._call(["sbatch", "--parsable", *options, script, *arguments], keep=True)
        reply.check()
        return parse_submitted(reply.out)

    def queue(self, *, jobs: Iterable[str] = (), name: str = "") -> list[Row]:
        """Return what the controller knows of tasks that wait, run, or have ended a short while ago."""
        rows = []
        for chosen in _chosen(jobs, name):
            reply = self._call([*QUEUE.command, *chosen])
            if reply.code and "Invalid job id" not in reply.said:
                raise SlurmSilenceError(reply.said)
            rows += QUEUE.rows(reply.out)
        return rows

    def exits(self, jobs: Iterable[str]) -> dict[Place, tuple[int, int]]:
        """Return exit code and signal of tasks that ended a short while ago."""
        replies = [self._call([*EXITS.command, *chosen]) for chosen in _chosen(jobs)]
        rows = [row for reply in replies if reply.code == 0 for row in EXITS.rows(reply.out)]
        return {row.place: row.exit for row in rows if row.exit is not None}

    def history(self, *, jobs: Iterable[str] = (), name: str = "") -> list[Row]:
        """Return what the accounting knows, which lags by some seconds; nothing where there is none, or no answer."""
        if self._accounting is None:
            self._accounting = shutil.which("sacct") is not None
        rows: list[Row] = []
        for chosen in _chosen(jobs, name) if self._accounting else ():
            reply = self._call([*HISTORY.command, *(["-S", "now-30days"] if name else []), *chosen])
            if reply.code and "storage is disabled" in reply.said:
                self._accounting = False
                return []
            rows += HISTORY.rows(reply.out)
        return rows

    def cancel(self, jobs: Iterable[str]) -> None:
        """Cancel jobs; those that have ended are left as they are."""
        for _, numbers in _chosen(jobs):
            reply = self._call(["scancel", "--quiet", *numbers.split(",")])
            if "Invalid job id" not in reply.said:
                reply.check()

    def set_throttle(self, job: str, tasks: int) -> bool:
        """Change how many tasks of an array run at once; return whether Slurm did."""
        return self._call(["scontrol", "update", f"JobId={job}", f"ArrayTaskThrottle={tasks}"]).code == 0

    def max_array_size(self) -> int:
        """Return how many tasks an array may have; 1000, Slurm's default, where the controller does not say."""
        said = self._call(["scontrol", "show", "config"]).out
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, re.MULTILINE)
        return max(1, int(found[1]) - 1) if found else 1000

    def limits(self, partition: str | None) -> Limits:
        """Return what a partition, or the default one, allows; nothing where Slurm does not say."""
        reply = self._call(["scontrol", "-o", "show", "partition", *([partition] if partition else [])])
        for line in reply.out.splitlines():
            if partition or " Default=YES " in line:
                return Limits.parse(line)
        return Limits()

    def memory_had(self, jobs: Iterable[str]) -> int | None:
        """Return the MiB that tasks of these jobs had; None where Slurm does not know any more."""
        for chosen in _chosen(jobs):
            reply = self._call(["squeue", "-h", "-t", "all", "-O", "tres-alloc:200", *chosen])
            found = re.findall(r"\bmem=([\d.]+[KMGT])", reply.out)
            if found:
                return max(mebibytes(memory) for memory in found)
        return None

    def any_of_mine(self) -> bool:
        """Whether this user has any job that waits or runs."""
        reply = self._call(["squeue", "-h", "-o", "%A", f"--user={os.geteuid()}"])
        return reply.code == 0 and bool(reply.out.strip())

    def _call(self, words: Sequence[str], *, keep: bool = False) -> _Reply:
        """Run a command; with `keep` it gets some seconds to end when this process is interrupted."""
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
                        return _Reply(process.returncode, out, _without_prefixes(said))
                    except subprocess.TimeoutExpired:
                        if time.monotonic() > end:
                            raise SlurmSilenceError(
                                f"{words[0]} gave no answer in {self.timeout:g} s"
                            ) from None
                    self.idle()
            finally:
                # A submission that is given up gets some seconds: its name tells what came of it.
                try:
                    process.wait(_GRACE if keep else 0.0)
                except subprocess.TimeoutExpired:
                    process.kill()


def parse_submitted(text: str) -> str:
    """Return the job's number from what `sbatch --parsable` printed, after lines of a site's own wrapper perhaps."""
    found: list[str] = re.findall(r"^(\d+)(?:;\S*)?\s*$", text, re.MULTILINE)
    if not found:
        raise SlurmSilenceError(f"sbatch printed no job number: {text!r}")
    return found[-1]


def _environment(command: str) -> dict[str, str]:
    """Return what a command is to see: not what a surrounding job, or a user's own formats, would change in the answers.

    What `sbatch` sees becomes the job's environment, so nothing is added there.
    """
    noise = _STALE if command == "sbatch" else _NOISE
    environment = {name: value for name, value in os.environ.items() if not noise.match(name)}
    return environment if command == "sbatch" else {**environment, "SLURM_BITSTR_LEN": "0"}


def _without_prefixes(said: str) -> str:
    lines = [re.sub(r"^\w+: (?:error|fatal): ", "", line.strip()) for line in said.splitlines()]
    return "; ".join(line for line in lines if line)


def _chosen(jobs: Iterable[str], name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the option that chooses jobs by name, or by number, a few hundred to a command."""
    if name:
        yield "--name", name
        return
    numbers = list(jobs)
    for first in range(0, len(numbers), _ARGUMENTS):
        yield "--jobs", ",".join(numbers[first : first + _ARGUMENTS])
