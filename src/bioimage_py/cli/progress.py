"""The line that shows how far a run is: blocks, percent, MB/s and time left, redrawn in place."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any, Self

from bioimage_py.cli.console import Console, printable
from bioimage_py.cli.text import duration, rate, shortened

if TYPE_CHECKING:
    from bioimage_py.runner import Progress


class ProgressLine:
    """Receives the progress of a run, and keeps one line on a terminal up to date until its context ends.

    The last progress is kept whether or not a line is drawn: nothing is where the console is quiet or writes JSON, or the stream
    (default: stderr) is not a terminal. `before` is how many blocks and bytes were done at the start: speed and time left are
    those of the rest.
    """

    def __init__(
        self, verb: str, console: Console, stream: IO[str] | None = None, before: tuple[int, int] = (0, 0)
    ) -> None:
        self.last: Progress | None = None
        self._console = console
        self._verb = verb
        self._before = before
        self._stream = sys.stderr if stream is None else stream
        self._draws = not (console.quiet or console.json) and self._stream.isatty()
        self._drawn = 0

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        if self._draws:
            self._draw(progress_text(self._verb, progress, self._before))

    @property
    def bytes_out(self) -> int | None:
        """Bytes of voxels written to the output, without those in a temporary store; None before any progress."""
        if self.last is None:
            return None
        return self.last.bytes_done if self.last.account is None else self.last.account.bytes_out

    def tell_account(self) -> dict[str, Any] | None:
        """Print what the run did and how it spent its time; return it for the JSON document."""
        account = None if self.last is None else self.last.account
        if account is None:
            return None
        for line in str(account).splitlines():
            self._console.remark(line)
        return account.to_json()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._stream.flush()
            self._drawn = 0

    def _draw(self, text: str) -> None:
        # The last column stays free: a terminal would wrap there and the line could not be redrawn.
        text = printable(shortened(text, max(10, self._columns() - 1)), self._stream)
        self._stream.write("\r" + text.ljust(self._drawn))
        self._stream.flush()
        self._drawn = len(text)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except OSError:
            return 80


def progress_text(verb: str, progress: Progress, before: tuple[int, int] = (0, 0)) -> str:
    """Return a progress as one line; `before` is how many blocks and bytes were done at the start."""
    done, total = progress.blocks_done, progress.blocks_total
    new = done - before[0]
    share = 100 * done // total if total else 100
    parts = [
        f"{verb} {share:3d} %",
        f"{done:,} of {total:,} blocks",
        rate(max(0, progress.bytes_done - before[1]), progress.seconds),
    ]
    if new > 0 and done < total:
        parts.append(f"{duration(progress.seconds * (total - done) / new)} left")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    return " · ".join(parts)
