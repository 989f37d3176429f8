"""The progress of a run as the command shows it, and what a command tells of it at the end."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from bioimage_py.cli.console import Console
from bioimage_py.runner import ProgressBar, bars_are_wanted

if TYPE_CHECKING:
    from bioimage_py.runner import Progress


class ProgressLine(ProgressBar):
    """Receives the progress of a run, and keeps a bar up to date until its context ends.

    The last progress is kept whether or not a bar is shown: none is where the console is quiet or writes JSON, or the user has
    turned bars off. `before` is how many blocks and bytes were done at the start.
    """

    def __init__(
        self, verb: str, console: Console, stream: IO[str] | None = None, before: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__(verb, stream, before=before, leave=False)
        self.last: Progress | None = None
        self._console = console
        self._shows = not (console.quiet or console.json) and bars_are_wanted()

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        if self._shows:
            super().__call__(progress)

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
