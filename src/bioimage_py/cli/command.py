"""`main`: from the arguments of a command line to an exit code."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NoReturn

from bioimage_py.cli import commands
from bioimage_py.cli.completion import completion_script
from bioimage_py.cli.console import Console, abandon_stdout
from bioimage_py.cli.failure import (
    BAD_INPUT,
    INTERNAL,
    INTERRUPTED,
    OK,
    PIPE_CLOSED,
    PROGRAM,
    TERMINATED,
    Terminated,
    UsageError,
    failure_of,
)
from bioimage_py.cli.options import given_values
from bioimage_py.cli.parser import Parser, build_parser
from bioimage_py.cli.verbs import VERBS
from bioimage_py.operations import StoreAccess
from bioimage_py.storage import stores_reached

_HELP = re.compile(r"--help$|-\w*h")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code; nothing is raised.

    Parameters
    ----------
    argv
        The arguments after the program's name. Default: those of this process, which then exits at once after Ctrl-C or
        SIGTERM: threads inside a storage library cannot be stopped, and Python's orderly exit would crash on them.

    Examples
    --------
    >>> main(["--version"])  # doctest: +ELLIPSIS
    bioimage-py ...
    0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        _fill_closed_streams()
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()
        return PIPE_CLOSED
    if argv is None and words[:1] == ["worker"]:
        from bioimage_py.runner import leave

        leave(code)
    if argv is None and code in (INTERRUPTED, TERMINATED):
        sys.stderr.flush()
        os._exit(code)
    return code


def _fill_closed_streams() -> None:
    """Point streams that the caller closed (`>&-`) at nothing, so that no file opened later takes their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - stays open


def _terminate(*_: object) -> NoReturn:
    # A second one must not cut short what the first one has begun: saying what is done, and stopping workers.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _run(words: list[str]) -> int:
    options = words[: words.index("--")] if "--" in words else words
    console = Console(as_json="--json" in options)
    debug = "--debug" in options or os.environ.get("BIOIMAGE_PY_DEBUG", "") not in ("", "0")
    first = next((word for word in options if not word.startswith("-")), None)
    verb = first if first in VERBS else None
    try:
        parser, args = _parsed(words, None if verb == "completion" else verb)
        if args.version:
            print(PROGRAM, _version())
            return OK
        if args.verb is None:
            parser.print_help()
            return BAD_INPUT
        console.quiet = getattr(args, "quiet", False)
        if args.verb == "completion":
            about = {name: text.summary for name, text in VERBS.items()}
            console.line(completion_script(args.shell, parser.verbs, about).rstrip())
            return OK
        with console.showing_warnings(), console.showing_log(args.verbose), _reaching(args, words):
            return int(getattr(commands, f"run_{args.verb}")(args, console))
    except SystemExit as stop:  # argparse leaves this way after --help
        return OK if stop.code is None else int(stop.code)
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - every error becomes a message and an exit code
        if signal.getsignal(signal.SIGTERM) is _terminate:
            # The end has begun: another one must not cut the message short.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        failure = failure_of(error, verb)
        if debug or failure.exit_code == INTERNAL:
            console.trace(error)
        console.failure(failure, verb)
        return failure.exit_code


def _parsed(words: list[str], verb: str | None) -> tuple[Parser, argparse.Namespace]:
    """Parse the arguments; backends are loaded, which takes a while, where they or their options could be meant."""
    if verb is not None and not any(_HELP.match(word) for word in words):
        with suppress(UsageError):
            parser = build_parser(verb, all_backends=False)
            return parser, parser.parse(words)
    parser = build_parser(verb)
    return parser, parser.parse(words)


def _reaching(args: argparse.Namespace, words: list[str]) -> AbstractContextManager[None]:
    """Reach stores as the options say, while a command runs; UsageError where they say something and no store is named."""
    said = given_values(args, StoreAccess)
    if said and (why := StoreAccess.why_not(words)):
        raise UsageError(f"{' and '.join(f'--{name}' for name in said)} {why}")
    return stores_reached(said)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("bioimage-py")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "(version not known: not installed)"
