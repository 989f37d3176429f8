"""Slurm's commands, and what they answer, if they do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bioimage_py.errors import Hint, MissingDependencyError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.slurm.pace import Pace, Room
from bioimage_py.runner.slurm.quantities import mebibytes, minutes
from bioimage_py.runner.slurm.states import HISTORY, QUEUE, Row, rows
from bioimage_py.system import own_group, user_id
from bioimage_py.text import ids_text

_SILENT = re.compile(
    r"unable to contact slurm controller|socket timed out|zero bytes were transmitted|connection (?:refused|reset|timed out)"
    r"|controller not responding|in standby mode|temporarily unable|message (?:send|receive) failure|munge|authentication"
    r"|transport endpoint",
    re.IGNORECASE,
)
_STALE = re.compile(r"SLURM_(?!CONF$|CLUSTERS$|JWT$)|SLURMD_")
_NOISE = re.compile(rf"(?:SQUEUE|SACCT|SCONTROL)_|{_STALE.pattern}")
_USUAL_ARRAY = 1000


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
        words = dict(re.findall(r"(\w+)=(\S+)", text))
        said = [words.get(key, "NONE") for key in ("MaxTime", "DefaultTime")]
        return cls(*(None if time == "NONE" else minutes(time) for time in said))


@dataclass
class Slurm:
    """The commands of the Slurm that this machine belongs to; they raise SlurmSilenceError where there is no answer.

    No command names two jobs: `squeue` asked about two or more, or with a filter such as a name or a state, gets all jobs of
    the cluster and drops what was not asked for. What is learned here holds for a whole run, so a run has one of these.
    """

    timeout: float = 60.0
    """Seconds that a command may take."""
    pace: Pace = field(default_factory=lambda: Pace(1.0))
    """Counts the calls; who can wait asks it before."""
    room: Room = field(default_factory=Room)
    _array_limit: int | None = None
    _limits: dict[str | None, Limits] = field(default_factory=dict)
    _accounting: bool | None = None

    @staticmethod
    def check_present() -> None:
        """Raise MissingDependencyError where Slurm's commands are missing."""
        elsewhere = [
            Hint("run this where jobs are submitted, such as a login node"),
            Hint.of("or, to run on this machine, give {}", job_type="subprocess"),
        ]
        if user_id() is None:
            raise MissingDependencyError(
                "job_type 'slurm' does not run on Windows, which Slurm has no commands for", hints=elsewhere
            )
        for command in ("sbatch", "squeue", "scancel", "scontrol"):
            if shutil.which(command) is None:
                raise MissingDependencyError(
                    f"job_type 'slurm' needs Slurm's commands, and {command!r} is not on PATH",
                    hints=elsewhere,
                )

    def submit(self, options: Sequence[str], script: str, arguments: Sequence[str]) -> str:
        """Submit a batch script and return the job's number; after a silence there may be a job all the same."""
        reply = self._call("sbatch", "--parsable", *options, script, *arguments)
        _check(reply)
        return parse_submitted(reply.stdout)

    def queue(self, job: str) -> list[Row]:
        """Return what the controller knows of the tasks of an array that wait, run, or have ended a short while ago."""
        return self._listed("--jobs", job)

    def history(self, job: str) -> list[Row]:
        """Return what the accounting knows, which lags by some seconds; nothing where there is none, or no answer."""
        return self._recorded("-j", job)

    def find(self, name: str) -> list[Row]:
        """Return the tasks of an array whose number is not known; that costs more than `queue` does."""
        # The controller sends the jobs of one user, except for root.
        return self._listed("--user", str(user_id()), "--name", name) or self._recorded(
            "-S", "now-30days", "--name", name
        )

    def cancel(self, job: str, indices: IdSet | None = None) -> None:
        """Cancel an array, or some indices of it; what has ended is left as it is."""
        # With --state, it would get all jobs of the cluster.
        reply = self._call(
            "scancel", "--quiet", job if indices is None else f"{job}_[{ids_text(indices.runs)}]"
        )
        if "Invalid job id" not in reply.stderr:
            _check(reply)

    def array_limit(self, wanted: int | None = None) -> int:
        """Return how many tasks an array may have; Slurm's default where fewer are wanted, or the controller does not say."""
        if self._array_limit is None and (wanted is None or wanted > _USUAL_ARRAY):
            said = self._call("scontrol", "show", "config").stdout
            found = re.search(r"^MaxArraySize\s*=\s*(\d+)", said, re.MULTILINE)
            self._array_limit = max(1, int(found[1]) - 1) if found else _USUAL_ARRAY
        return self._array_limit or _USUAL_ARRAY

    def limits(self, partition: str | None) -> Limits:
        """Return what a partition, or the default one, allows; nothing where Slurm does not say."""
        if partition not in self._limits:
            words = () if partition is None else (partition,)
            reply = self._call("scontrol", "-o", "show", "partition", *words)
            lines = [line for line in reply.stdout.splitlines() if partition or " Default=YES " in line]
            if not lines:
                return Limits()
            self._limits[partition] = Limits.parse(lines[0])
        return self._limits[partition]

    def memory_had(self, jobs: Iterable[str]) -> int | None:
        """Return the MiB that tasks of the first of these jobs had that Slurm still knows; None if it knows none."""
        for job in jobs:
            reply = self._call("squeue", "-h", "-t", "all", "-O", "tres-alloc:200", "--jobs", job)
            found = re.findall(r"\bmem=([\d.]+[KMGT])", reply.stdout)
            if found:
                return max(mebibytes(memory) for memory in found)
        return None

    def any_of_mine(self) -> bool:
        reply = self._call("squeue", "-h", "-o", "%A", f"--user={user_id()}")
        return reply.returncode == 0 and bool(reply.stdout.strip())

    def _listed(self, *chosen: str) -> list[Row]:
        reply = self._call(*QUEUE, *chosen)
        if reply.returncode and "Invalid job id" not in reply.stderr:
            raise SlurmSilenceError(reply.stderr)
        return list(rows(reply.stdout))

    def _recorded(self, *chosen: str) -> list[Row]:
        if self._accounting is None:
            self._accounting = shutil.which("sacct") is not None
        if not self._accounting:
            return []
        reply = self._call(*HISTORY, *chosen)
        self._accounting = not (reply.returncode and "storage is disabled" in reply.stderr)
        return list(rows(reply.stdout)) if self._accounting else []

    def _call(self, *words: str) -> subprocess.CompletedProcess[str]:
        self.pace.spend()
        try:
            reply = subprocess.run(  # noqa: S603 - Slurm's commands, with words that no shell sees
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                env=_environment(words[0]),
                **own_group(),  # Ctrl-C in the terminal is ours alone
                timeout=self.timeout,
                check=False,
            )
        except OSError as error:
            raise SlurmSilenceError(f"{words[0]} cannot be run: {error.strerror}") from error
        except subprocess.TimeoutExpired:
            raise SlurmSilenceError(f"{words[0]} gave no answer in {self.timeout:g} s") from None
        lines = [re.sub(r"^\w+: (?:error|fatal): ", "", line.strip()) for line in reply.stderr.splitlines()]
        reply.stderr = "; ".join(line for line in lines if line)
        return reply


def _check(reply: subprocess.CompletedProcess[str]) -> None:
    if reply.returncode:
        raise (SlurmSilenceError if _SILENT.search(reply.stderr) else SlurmRefusalError)(reply.stderr)


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
