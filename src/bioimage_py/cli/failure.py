"""From an exception to what the user sees: one line, a hint, and an exit code that scripts can use."""

from __future__ import annotations

import errno
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bioimage_py.cli.wording import in_options, without_finishing
from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyError,
    CastingError,
    MissingDependencyError,
    OutputExistsError,
    ReadOnlyError,
    RunInterrupted,
    RunnerError,
    StorageError,
)

PROGRAM = "bioimage-py"

OK, DIFFERENT, BAD_INPUT, UNFINISHED, ENVIRONMENT = 0, 1, 2, 3, 4
INTERNAL, INTERRUPTED, PIPE_CLOSED, TERMINATED = 70, 130, 141, 143
EXIT_CODES: Mapping[int, str] = {
    OK: "done; for verify: equal",
    DIFFERENT: "the two images differ (verify, copy --verify)",
    BAD_INPUT: "wrong usage or input: an option, a path that is not there, an output that exists",
    UNFINISHED: "some blocks could not be copied or compared; the message says how to finish a copy",
    ENVIRONMENT: "the storage or the computer failed: disk full, no permission, a corrupt file, no memory",
    INTERNAL: "an error inside bioimage-py; please report it",
    INTERRUPTED: "stopped with Ctrl-C",
    PIPE_CLOSED: "whoever read the output, such as 'head', went away",
    TERMINATED: "told to end (SIGTERM), as batch systems and 'kill' do",
}

_FULL = (errno.ENOSPC, errno.EDQUOT)
_STAY = "stay written. "
_INTERNAL_ADVICE = "this is a fault of bioimage-py, not yours: please report it with the text above"


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where it arrived: it ends everything that Ctrl-C ends, and in the same way."""


class UsageError(Exception):
    """A command line that makes no sense, found by the parser or before anything is opened.

    Parameters
    ----------
    message
        What is wrong with it.
    program
        The command with its verb, whose `--help` says more.
    """

    def __init__(self, message: str, program: str = PROGRAM) -> None:
        super().__init__(message)
        self.program = program


class UnfinishedError(Exception):
    """A copy that stopped before its last block, raised from the cause, with the command that finishes it.

    Parameters
    ----------
    cause
        Why it stopped.
    done
        Half-open runs of the blocks that are done, or None where that is not known.
    left
        Half-open runs of the blocks that are not done.
    command
        The command that does the rest, as a list of arguments, or None where there is none.
    """

    def __init__(
        self,
        cause: RunnerError | KeyboardInterrupt,
        done: Sequence[tuple[int, int]] | None,
        left: Sequence[tuple[int, int]],
        command: Sequence[str] | None,
    ) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.done = done
        self.left = left
        self.command = command


@dataclass(frozen=True)
class Failure:
    """What is told about an error.

    Attributes
    ----------
    kind
        Name of the exception's class.
    message
        What went wrong.
    exit_code
        One of `EXIT_CODES`.
    advice
        Lines that say what to do next.
    details
        Further entries of the JSON document.
    """

    kind: str
    message: str
    exit_code: int
    advice: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the `error` entry of the JSON document."""
        return {
            "type": self.kind,
            "message": self.message,
            "exit_code": self.exit_code,
            "hint": "\n".join(self.advice),
            **self.details,
        }


def failure_of(error: BaseException) -> Failure:
    """Return what to tell about an exception; one that is not foreseen is an internal error."""
    kind = type(error).__name__
    if isinstance(error, UnfinishedError):
        return _unfinished(error)
    if isinstance(error, UsageError):
        return Failure(kind, str(error), BAD_INPUT, (f"'{error.program} --help' shows how it is used",))
    if isinstance(error, RunnerError):
        return Failure(kind, in_options(str(error)), UNFINISHED)
    if isinstance(error, (BioimagePyError, OSError, MemoryError)):
        code = _code_of(error)
        message = in_options(str(error))
        return Failure(kind, message or kind, code, _hint(error, message))
    interruption = _interruption(error)
    if interruption is not None:
        return Failure("KeyboardInterrupt", "stopped before it was done", interruption)
    return Failure(kind, f"internal error: {kind}: {error}", INTERNAL, (_INTERNAL_ADVICE,))


def _code_of(error: BaseException) -> int:
    if isinstance(error, (StorageError, ReadOnlyError, MissingDependencyError)):
        return ENVIRONMENT
    if isinstance(error, (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)):
        return BAD_INPUT
    if isinstance(error, (ValueError, LookupError)):
        return BAD_INPUT
    return ENVIRONMENT


def _hint(error: BaseException, message: str) -> tuple[str, ...]:
    """Return what to do next, where the message does not say so already."""
    if isinstance(error, OutputExistsError) and "--overwrite" not in message:
        return (
            "--overwrite deletes what is there and writes it anew; --into-existing writes into the array that is there",
        )
    if isinstance(error, AmbiguousSourceError) and "--key" not in message:
        return (f"choose one with --key, or by its path; '{PROGRAM} info' on the path lists what is in it",)
    if isinstance(error, MemoryError):
        return ("--memory-limit 512MiB, or fewer --workers, needs less memory",)
    if _errno_of(error) in _FULL:
        return ("make room on the disk, or write somewhere else, then run it again",)
    return ()


def _errno_of(error: BaseException | None) -> int | None:
    """Return the system's error number of an exception or of what it was raised from."""
    while error is not None:
        number = getattr(error, "errno", None)
        if isinstance(number, int):
            return number
        error = error.__cause__
    return None


def _interruption(error: BaseException | None) -> int | None:
    """Return the exit code of Ctrl-C and of SIGTERM, also in disguise.

    A library that is stopped while it loads raises an ImportError.
    """
    found = None
    while error is not None:
        if isinstance(error, Terminated):
            return TERMINATED
        if isinstance(error, KeyboardInterrupt):
            found = INTERRUPTED
        error = error.__cause__ or error.__context__
    return found


def _unfinished(error: UnfinishedError) -> Failure:
    cause = error.cause
    interrupted = isinstance(cause, KeyboardInterrupt)
    details: dict[str, Any] = {"failed_block_ids": [list(run) for run in error.left]}
    advice = []
    folder = cause.tmp_folder if isinstance(cause, (RunnerError, RunInterrupted)) else None
    if folder is not None:
        details["run_folder"] = folder
    if isinstance(cause, RunInterrupted) and error.done is not None:
        details["done_block_ids"] = [list(run) for run in error.done]
    if isinstance(cause.__cause__, CastingError):
        advice.append(
            "choose a --dtype that holds these values, or leave out --casting check to cast them all the same"
        )
    elif error.command is not None:
        details["finish_command"] = list(error.command)
        rest = "copy the rest" if folder is None else "finish it"
        again = f"to {rest}" if interrupted else f"once the cause is gone, {rest} with"
        advice.append(f"{again}: {shlex.join(error.command)}")
    text = str(cause) if error.command is None else without_finishing(str(cause))
    message = in_options(text)
    if interrupted and error.done is not None:
        message = _what_is_done(error.done, error.left)
        # What a backend has to say about its jobs; where they go on, waiting for them is the same command.
        said = "" if folder is None else text.partition(_STAY)[2]
        lines = [re.sub("^To ", "to ", line) for line in in_options(said).rstrip(".").split(". ") if line]
        if any(f"{PROGRAM} resume" in line for line in lines):
            advice = lines
            message = message if error.done else "no block is done yet"
        else:
            advice = [*lines, *advice]
    code = (_interruption(cause) or INTERRUPTED) if interrupted else UNFINISHED
    return Failure(type(cause).__name__, message, code, tuple(advice), details)


def _what_is_done(done: Sequence[tuple[int, int]], left: Sequence[tuple[int, int]]) -> str:
    n_done, n_left = (sum(end - begin for begin, end in runs) for runs in (done, left))
    if not n_done:
        return "stopped before the first block was done"
    verbs = ("is", "stays") if n_done == 1 else ("are", "stay")
    return f"{n_done:,} of {n_done + n_left:,} blocks {verbs[0]} done and {verbs[1]} written"
