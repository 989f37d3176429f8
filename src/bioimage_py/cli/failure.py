"""What a user is told about an error: message, advice, exit code, and what a script reads of it."""

from __future__ import annotations

import errno
import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bioimage_py.errors import (
    BioimagePyError,
    Call,
    CastingError,
    Hint,
    MissingDependencyError,
    ReadOnlyError,
    RunInterrupted,
    RunnerError,
    StorageError,
)
from bioimage_py.sources import locate
from bioimage_py.storage import looks_like_pattern

PROGRAM = "bioimage-py"

OK, DIFFERENT, BAD_INPUT, UNFINISHED, ENVIRONMENT = 0, 1, 2, 3, 4
INTERNAL, INTERRUPTED, PIPE_CLOSED, TERMINATED = 70, 130, 141, 143
EXIT_CODES: Mapping[int, str] = {
    OK: "done; for verify: equal; for check: nothing wrong",
    DIFFERENT: "the two images differ (verify, copy --verify), something stored is wrong (check, repair), or some of "
    "several inputs failed (copy --to)",
    BAD_INPUT: "wrong usage or input: an option, a missing path, an output that already exists",
    UNFINISHED: "some blocks could not be copied or compared; the message says how to finish a copy",
    ENVIRONMENT: "the storage or the computer failed: disk full, no permission, a corrupt file, no memory",
    INTERNAL: "an internal error of bioimage-py; please report it",
    INTERRUPTED: "stopped with Ctrl-C",
    PIPE_CLOSED: "the program that read the output, such as 'head', has exited",
    TERMINATED: "terminated by SIGTERM, as batch systems and 'kill' do",
}

_OTHER_NAMES = {"num_workers": "workers", "tmp_root": "run-folders", "in_range": "range"}


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where it arrived: it ends everything that Ctrl-C ends, and in the same way."""


class UsageError(Exception):
    """A command line that makes no sense, found by the parser or before anything is opened."""


@dataclass(eq=False)
class UnfinishedError(Exception):
    """A copy that stopped before its last block, raised from the cause, with the command that finishes it if there is one."""

    cause: RunnerError | RunInterrupted
    command: Sequence[str] | None


@dataclass(frozen=True)
class Failure:
    """What is told about an error; `details` are further entries of the JSON document."""

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


def as_command(call: Call) -> str:
    """Write the call of a hint for a shell: as a command, or as options to add to the one that failed.

    Examples
    --------
    >>> as_command(Call("resume", ("/my runs/1",))), as_command(Call(options={"chunks": (64, 64)}))
    ("bioimage-py resume '/my runs/1'", '--chunks 64,64')
    """
    options = dict(call.options)
    if call.verb == "open_source":  # the commands open what they are given: what differs are options
        if options.pop("mode", "r") == "r+":
            return "--into-existing"
        path, *keys = call.arguments
        for key in keys:
            options["pattern" if looks_like_pattern(key) and locate(path).family is None else "key"] = key
    written = [as_option(name, value) for name, value in options.items()]
    if call.verb in ("", "open_source"):
        return " and ".join(map(shlex.join, written))
    return shlex.join([PROGRAM, call.verb, *itertools.chain(*written), *positional(*call.arguments)])


def positional(*arguments: Any) -> list[str]:
    """Return words that are not options, whatever they begin with."""
    words = [str(argument) for argument in arguments]
    return ["--", *words] if any(word.startswith("-") for word in words) else words


def as_option(name: str, value: Any) -> list[str]:
    """Return the words that give an option a value; the value `...` stands for any."""
    option = f"--{_OTHER_NAMES.get(name, name).replace('_', '-')}"
    if (name, value) in (("update", "content"), ("record", "full")):
        return [f"--{name}-{value}"]
    if value is ... or value is True:
        return [option]
    text = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
    return [f"{option}={text}"] if text.startswith("-") else [option, text]


def failure_of(error: BaseException, verb: str | None = None) -> Failure:
    """Return what to tell about an exception; one that is not foreseen is an internal error."""
    kind = type(error).__name__
    if isinstance(error, UnfinishedError):
        return _unfinished(error)
    if isinstance(error, UsageError):
        program = f"{PROGRAM} {verb}" if verb else PROGRAM
        return Failure(kind, str(error), BAD_INPUT, (f"'{program} --help' shows how it is used",))
    if isinstance(error, (BioimagePyError, OSError, MemoryError)):
        message = error.message_told(as_command) if isinstance(error, BioimagePyError) else str(error)
        return Failure(kind, message or kind, _code_of(error), _advice(error))
    interruption = _interruption(error)
    if interruption is not None:
        return Failure("KeyboardInterrupt", "stopped before it was done", interruption)
    report = "this is a bug in bioimage-py: please report it with the text above"
    return Failure(kind, f"internal error: {kind}: {error}", INTERNAL, (report,))


def _code_of(error: BaseException) -> int:
    if isinstance(error, RunnerError):
        return UNFINISHED
    if isinstance(error, (StorageError, ReadOnlyError, MissingDependencyError)):
        return ENVIRONMENT
    if isinstance(error, (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)):
        return BAD_INPUT
    return BAD_INPUT if isinstance(error, (ValueError, LookupError)) else ENVIRONMENT


def _advice(error: BaseException) -> tuple[str, ...]:
    hints = error.hints if isinstance(error, BioimagePyError) else ()
    if isinstance(error, MemoryError):
        hints = (
            Hint.of("give less memory, for example {}", memory_limit="512MiB"),
            Hint.of("or give fewer {}", num_workers=...),
        )
    elif not hints and _errno_of(error) in (errno.ENOSPC, errno.EDQUOT):
        hints = (Hint("make room on the disk, or write somewhere else, then run it again"),)
    return tuple(hint.told(as_command) for hint in hints)


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
    from bioimage_py.geometry import IdSet

    cause, kind = error.cause, type(error.cause).__name__
    hints, folder = cause.hints, cause.tmp_folder
    command = None if isinstance(cause.__cause__, CastingError) else error.command
    left = IdSet.from_ids(cause.failed_block_ids)
    details: dict[str, Any] = {"failed_block_ids": left.to_json()}
    if folder is not None:
        details["run_folder"] = folder
    if isinstance(cause, RunInterrupted):
        done = IdSet.from_ids(cause.done_block_ids)
        details["done_block_ids"] = done.to_json()
    if command is not None:
        details["finish_command"] = list(command)
        if folder is None and isinstance(cause, RunInterrupted):
            hints = ()  # they say how to call the library again
        if not any(hint.call and hint.call.verb == "resume" for hint in hints):
            when = "" if isinstance(cause, RunInterrupted) else "once the cause is gone, "
            hints = (*hints, Hint(when + "copy the rest: {}", Call("resume")))

    def written(call: Call) -> str:
        return shlex.join(command) if command is not None and call.verb == "resume" else as_command(call)

    advice = tuple(hint.told(written) for hint in hints)
    if isinstance(cause, RunnerError):
        return Failure(kind, cause.message, UNFINISHED, advice, details)
    message = "no block is done yet"
    if done:
        verbs = ("is", "stays") if len(done) == 1 else ("are", "stay")
        message = f"{len(done):,} of {len(done) + len(left):,} blocks {verbs[0]} done and {verbs[1]} written"
    return Failure(kind, message, _interruption(cause) or INTERRUPTED, advice, details)
