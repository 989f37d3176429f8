"""How a run shows its progress: a bar on terminals and in notebooks, a line each minute elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Self

from bioimage_py.errors import BioimagePyError, InvalidArgumentError
from bioimage_py.text import duration, rate

if TYPE_CHECKING:
    from bioimage_py.runner.journal import Progress, Report

_DELAY = 0.5
"""Seconds before a bar appears that nobody asked for."""

_WIDTH = 80
_LEAST_BAR = 12
_NO = ("0", "no", "off", "false")


class ProgressBar:
    """Shows the progress that it is called with until its context ends.

    On a terminal and in a notebook it is a bar of tqdm, elsewhere one line every `minute` seconds. `before` is how many blocks and
    bytes were done at the start: speed and time left are those of the rest. The bar appears after `delay` seconds, and stays at
    the end if `leave` is true.
    """

    def __init__(
        self,
        verb: str,
        stream: IO[str] | None = None,
        *,
        before: tuple[int, int] = (0, 0),
        delay: float = 0.0,
        leave: bool = True,
        minute: float = 60.0,
    ) -> None:
        self.before = before
        self._verb = verb
        self._stream = sys.stderr if stream is None else stream
        self._in_place = self._stream.isatty() or (stream is None and in_notebook())
        self._delay, self._leave, self._minute = delay, leave, minute
        self._told = time.monotonic()
        self._bar: Any = None

    def __call__(self, progress: Progress) -> None:
        if not self._in_place:
            if time.monotonic() - self._told >= self._minute:
                self._told = time.monotonic()
                print(f"{self._verb} {progress_text(progress, self.before)}", file=self._stream, flush=True)
        elif progress.seconds >= self._delay:
            if self._bar is None:
                self._bar = _new_bar(
                    self._verb, self._stream, self._leave, progress_text(progress, self.before)
                )
            self._bar.total, self._bar.n = (
                max(1, progress.blocks_total),
                progress.blocks_done or not progress.blocks_total,
            )
            self._bar.told = progress_text(progress, self.before)
            self._bar.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _new_bar(verb: str, stream: IO[str], leave: bool, first: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without ipywidgets has a plain bar
        from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc, unused-ignore]
        monitor_interval = 0  # no thread: reports come often enough
        nrows = property(
            lambda _: None, lambda *_: None
        )  # tqdm hides its bars on terminals that do not know their size
        told = first

        @property
        def format_dict(self) -> dict[str, Any]:
            told = super().format_dict
            width = told["ncols"] if (told["ncols"] or 0) > 0 else _WIDTH
            text = self.told
            while len(text) + len(verb) + _LEAST_BAR > width and " · " in text:
                text = text.rpartition(" · ")[0]
            return {**told, "ncols": width, "told": text.replace("·", "|") if told["ascii"] else text}

    form = "{desc} |{bar}| {told}"
    return Bar(
        desc=verb, file=stream, leave=leave, total=1, bar_format=form, dynamic_ncols=True, mininterval=0
    )


def progress_text(progress: Progress, before: tuple[int, int] = (0, 0)) -> str:
    """Return a progress in words; `before` is how many blocks and bytes were done at the start."""
    done, total = progress.blocks_done, progress.blocks_total
    new = done - before[0]
    parts = [
        f"{100 * done // total if total else 100} %",
    ]
    if progress.bytes_done > before[1]:
        parts.append(rate(progress.bytes_done - before[1], progress.seconds))
    if new > 0 and done < total:
        parts.append(f"{duration(progress.seconds * (total - done) / new)} left")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    return " · ".join([*parts, f"{done:,} of {total:,} blocks"])


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


def bars_are_wanted() -> bool:
    """Whether the user has not turned bars off, by `BIOIMAGE_PY_PROGRESS=0` or by `progress = false` in the configuration file."""
    said = os.environ.get("BIOIMAGE_PY_PROGRESS")
    if said:
        return said.lower() not in _NO
    try:
        return bars_in_file() is not False
    except BioimagePyError:  # a file that cannot be read must not end a copy that needs nothing from it
        return True


def bars_in_file() -> bool | None:
    """Return what the configuration file says of bars, None for nothing."""
    from bioimage_py.runner.slurm import config_file_path, file_content  # not where it is said in the call

    said = file_content().get("progress")
    if said is not None and not isinstance(said, bool):
        raise InvalidArgumentError(
            f"progress in {str(config_file_path())!r} must be true or false, got {said!r}"
        )
    return said


@contextlib.contextmanager
def reporting(progress: Report | bool | None, verb: str) -> Iterator[Report | None]:
    """Provide what is called with the progress of a run: the user's function, a bar, or None.

    True is a bar, or lines; None is a bar in notebooks and on terminals, unless the user has turned them off.
    """
    if callable(progress):
        yield progress
    elif progress or (progress is None and (in_notebook() or _on_terminal()) and bars_are_wanted()):
        with ProgressBar(verb, delay=0.0 if progress else _DELAY) as bar:
            yield bar
    else:
        yield None


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
