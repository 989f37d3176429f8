"""How the help is laid out: no line is wider than the terminal, and commands stay commands that can be copied."""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

from bioimage_py.cli.failure import PROGRAM

_WIDEST = 100
_LEAST = 24
_TWO_COLUMNS = re.compile(r"( +)(\S.*?) {2,}(?=\S)")


class HelpFormatter(argparse.HelpFormatter):
    """Wraps descriptions and epilogs to the width of the terminal: paragraphs as a whole, indented lines one by one."""

    def __init__(self, prog: str, **options: Any) -> None:
        options.setdefault("width", min(shutil.get_terminal_size().columns, _WIDEST) - 2)
        super().__init__(prog, **options)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.indent("\n".join(wrapped(text, width - len(indent))), indent)

    def _format_usage(self, *parts: Any) -> str:
        usage = super()._format_usage(*parts)
        return "\n".join(wrapped("  " + usage.strip(), self._width)).strip() + "\n\n"


def wrapped(text: str, width: int) -> Iterator[str]:
    r"""Yield the lines of a text, none of them longer than a width if its words allow that.

    Lines that begin with a blank stay apart; those with two columns keep them where the second one has room.

    Examples
    --------
    >>> print(*wrapped("an\nexample\n  bioimage-py copy in.tif out.zarr --verify", 36), sep="\n")
    an example
      bioimage-py copy in.tif out.zarr \
          --verify
    """
    for kind, group in itertools.groupby(text.splitlines(), lambda line: line[:1].isspace() or not line):
        if not kind:
            yield from textwrap.wrap(" ".join(group), width, break_on_hyphens=False)
            continue
        for line in group:
            yield from [line] if len(line) <= width else _broken(line, width)


def _broken(line: str, width: int) -> Iterator[str]:
    columns = _TWO_COLUMNS.match(line)
    if columns is None:
        yield from _hanging(line, width)
        return
    before, beside = line[: columns.end()], width - columns.end() >= _LEAST
    if not beside:
        yield from _hanging(columns[1] + columns[2], width)
        before = columns[1] + "    "
    yield from textwrap.wrap(
        line[columns.end() :], width, initial_indent=before, subsequent_indent=" " * len(before), break_on_hyphens=beside
    )  # fmt: skip


def _hanging(line: str, width: int) -> Iterator[str]:
    indent = line[: len(line) - len(line.lstrip())]
    lines = textwrap.wrap(
        line.strip(), width - 2, initial_indent=indent, subsequent_indent=indent + "    ",
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip
    is_command = line.strip().startswith(f"{PROGRAM} ")
    for n, part in enumerate(lines):
        yield part + (" \\" if is_command and n + 1 < len(lines) else "")
