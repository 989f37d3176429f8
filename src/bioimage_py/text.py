"""Rates, durations, counts and labelled rows as people read them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

_LONGEST = 480


class Rows(ABC):
    """A value that is shown as labelled rows, which notebooks show as a table."""

    @abstractmethod
    def _rows(self) -> Iterable[tuple[str, str]]:
        """Return labels and their texts."""

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return all that is shown, as labels and texts."""
        return self._rows()

    def _repr_html_(self) -> str:
        return rows_html(self._rows())


def rows_html(rows: Iterable[tuple[str, str]]) -> str:
    """Return labelled rows as a table; a long text is cut."""
    cell = '<{0} style="text-align:left">{1}</{0}>'
    lines = ((cell.format("th", escaped(label)), cell.format("td", escaped(text))) for label, text in rows)
    return f"<table>{''.join(f'<tr>{label}{text}</tr>' for label, text in lines)}</table>"


def escaped(text: str) -> str:
    """Return a text for HTML; a long one is cut."""
    import html  # not for workers

    return html.escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…", quote=True)


def ids_text(runs: Iterable[tuple[int, int]]) -> str:
    """Return half-open runs of ids as people write them.

    Examples
    --------
    >>> ids_text([(0, 100), (120, 121)])
    '0-99,120'
    """
    return ",".join(str(begin) if end == begin + 1 else f"{begin}-{end - 1}" for begin, end in runs)


def rate(n_bytes: float, seconds: float) -> str:
    """Return a speed in MB/s (10⁶ bytes per second); dashes where no time has passed."""
    if seconds <= 0:
        return "-- MB/s"
    return f"{_three_digits(n_bytes / seconds / 1e6)} MB/s"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as `2 h 1 min`."""
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 0.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def counted(n: int, thing: str) -> str:
    """Return `1 file`, `2,000 files`."""
    return f"{n:,} {thing}{'' if n == 1 else 's'}"


def shortened(text: str, width: int) -> str:
    """Return a text on one line, cut to `width` characters with an ellipsis."""
    flat = one_line(text)
    return flat if len(flat) <= width else flat[: max(0, width - 1)] + "…"


def one_line(text: str) -> str:
    """Return a text with every run of white space, line breaks included, as one blank."""
    return " ".join(text.split())


def _three_digits(number: float) -> str:
    if number >= 99.95:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
