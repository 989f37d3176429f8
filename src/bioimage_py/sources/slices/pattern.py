"""Names of files with a number for each axis, such as `c{c}/img_{z:04}.tif`: one grammar for reading and writing."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from fractions import Fraction

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.storage import has_fields

_WILD = re.compile(r"(\[!?\]?[^\]/]*\]|[*?])")


class NamePattern:
    """Names that match a text with `*`, `?` and `[...]` as in a shell, upper and lower case alike, and fields for numbers.

    `{z}` is a number with or without sign and decimals, `{z:04}` an integer. A field that another one follows at once has as many digits as
    it says.

    Attributes
    ----------
    fields
        The names of the fields; empty for a pattern without any.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            parts: list[tuple[str, str | None, str | None, str | None]] = [(text, None, None, None)]
            if has_fields(text):
                parts = list(string.Formatter().parse(text))
        except ValueError:
            parts = [("", "", None, None)]
        named = [(field, how or "") for _, field, how, _ in parts if field is not None]
        self.fields = tuple(field for field, _ in named)
        plain = all(turned is None and re.fullmatch(r"0?\d*d?", how or "") for _, _, how, turned in parts)
        if (
            not plain
            or len(set(self.fields)) < len(named)
            or not all(field.isidentifier() for field in self.fields)
        ):
            raise InvalidArgumentError(
                f"{text!r} must have each field once, with a name and at most a width, such as {{z}} or {{z:04}}"
            )
        regex = ""
        for n, (before, field, how, _) in enumerate(parts):
            regex += "".join(_translated(piece) for piece in _WILD.split(before))
            if field is not None:
                width = (how or "").rstrip("d").lstrip("0")
                follows = n + 1 < len(parts) and parts[n + 1][1] is not None and not parts[n + 1][0]
                if follows and not width:
                    raise InvalidArgumentError(
                        f"{text!r} does not say where {field} ends and {parts[n + 1][1]} begins: give a text between them, or a width as in "
                        f"{{{field}:03}}"
                    )
                digits = f"[0-9]{{{width}}}" if follows else "[-+]?[0-9]+"
                regex += f"({digits})" if how else f"({digits}(?:[.,][0-9]+)?)"
        self._regex = re.compile(regex, re.IGNORECASE | re.DOTALL)

    def match(self, name: str) -> re.Match[str] | None:
        """Match a name as a whole; the groups are the texts of the numbers."""
        return self._regex.fullmatch(name)

    def levels(self) -> list[NamePattern]:
        """Return a pattern for each folder on the way to the files, and one for these."""
        return [NamePattern(level) for level in self.text.split("/")]


def _translated(piece: str) -> str:
    if not _WILD.fullmatch(piece):
        return re.escape(piece)
    if piece[0] == "[":
        return "[" + piece[1:].replace("\\", r"\\").replace("!", "^", piece.startswith("[!"))
    return "[^/]*?" if piece == "*" else "[^/]"


def number(text: str) -> int | Fraction:
    value = Fraction(text.replace(",", ".").lower())
    return int(value) if value.denominator == 1 else value


def are_counted(fractions: Iterable[str]) -> bool:
    """Whether digits behind a point count: 1.9 and 1.10 are counters, 1.5 and 1.25 are measured, as 1.10 would be written 1.1."""
    found = set(fractions)
    return len({len(f) for f in found}) > 1 and any(re.match(r"[1-9][0-9]*0$", f) for f in found)
