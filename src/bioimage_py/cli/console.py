"""Where the command writes: results on stdout, warnings and errors on stderr, or all as one JSON document."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from typing import IO, Any

from bioimage_py.cli.failure import INTERRUPTED, PROGRAM, TERMINATED, Failure, as_command
from bioimage_py.errors import BioimagePyWarning
from bioimage_py.system import READ_WRITE
from bioimage_py.text import one_line

# What moves the cursor, sets colours or titles, or turns the direction of letters: names and attributes may hold it.
_ACTIVE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_PLAIN_ASCII = str.maketrans({"\u00d7": "x", "µ": "u", "Å": "A", "…": "...", "·": "|"})


class Console:
    """The two streams of one call of the command."""

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.json = as_json  # stdout carries exactly one JSON document, and stderr nothing
        self.quiet = quiet  # only errors and what was asked for are printed
        self.warnings: list[str] = []  # for the JSON document

    def line(self, text: str = "") -> None:
        """Print lines of the result, for people; nothing in JSON mode."""
        if not self.json:
            _to_stdout(printable(text, sys.stdout))

    def remark(self, text: str) -> None:
        """Print a line that `--quiet` leaves out."""
        if not self.quiet:
            self.line(text)

    def document(self, content: Mapping[str, Any]) -> None:
        """Print the JSON document, with the warnings issued; nothing where JSON was not asked for."""
        if self.json:
            document = {**content, "warnings": self.warnings} if self.warnings else content
            # ASCII only: it survives every locale, and file names that are not valid Unicode.
            try:
                _to_stdout(json.dumps(plain(document), indent=2, allow_nan=False))
            except OSError:
                self.json = False  # the error goes to the other stream
                raise

    def failure(self, failure: Failure, verb: str | None) -> None:
        """Print what went wrong and what to do next."""
        if self.json:
            with contextlib.suppress(OSError):
                self.document({"command": verb, "error": failure.to_json()})
                return
        label = {INTERRUPTED: "interrupted", TERMINATED: "ended by SIGTERM"}.get(failure.exit_code, "error")
        first, *more = [one_line(line) for line in failure.message.splitlines() if line.strip()]
        _to_stderr(f"{PROGRAM}: {label}: {first}")
        for text in (*more, *failure.advice):
            _to_stderr(f"  {text}")

    def trace(self, error: BaseException) -> None:
        """Print a traceback on stderr, also in JSON mode: it is for debugging."""
        _to_stderr("".join(traceback.format_exception(error)).rstrip())

    @contextlib.contextmanager
    def showing_warnings(self) -> Iterator[None]:
        """Print every warning of the package as one line, without the source line that Python adds."""
        with warnings.catch_warnings():
            warnings.simplefilter("always", BioimagePyWarning)
            warnings.showwarning = self._show_warning
            yield

    @contextlib.contextmanager
    def showing_log(self, verbose: bool) -> Iterator[None]:
        """Print what the package logs on stderr, if asked; nothing in JSON mode."""
        if not verbose or self.json:
            yield
            return
        logger, handler = logging.getLogger("bioimage_py"), _LogHandler()
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)

    def _show_warning(self, message: Warning | str, *_: Any, **__: Any) -> None:
        text = one_line(message.told(as_command) if isinstance(message, BioimagePyWarning) else str(message))
        self.warnings.append(text)
        if not self.json and not self.quiet:
            _to_stderr(f"{PROGRAM}: warning: {text}")


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _to_stderr(f"{PROGRAM}: {one_line(record.getMessage())}")


def printable(text: str, stream: IO[str]) -> str:
    """Return a text that a stream can encode and that does not control a terminal: plain letters for our signs, escapes for the rest."""
    text = _ACTIVE.sub(lambda found: ascii(found[0])[1:-1], text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return text


def plain(value: Any) -> Any:
    """Return a value as strict JSON has it: numpy numbers and tuples converted, NaN and infinities as text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else json.dumps(value)
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    if callable(getattr(value, "tolist", None)):
        return plain(value.tolist())
    return str(value)


def _to_stderr(text: str) -> None:
    tqdm = sys.modules.get("tqdm")
    # A bar that is on the terminal makes room, and is drawn again below.
    with contextlib.nullcontext() if tqdm is None else tqdm.tqdm.external_write_mode(sys.stderr):
        print(printable(text, sys.stderr), file=sys.stderr, flush=True)


def _to_stdout(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would fail again at exit.
        abandon_stdout()
        raise OSError(error.errno, f"standard output cannot be written: {error.strerror}") from error


def abandon_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail too."""
    try:
        number = sys.stdout.fileno()
    except OSError:  # a stream in memory
        return
    nothing = os.open(os.devnull, READ_WRITE)
    os.dup2(nothing, number)
    os.close(nothing)
