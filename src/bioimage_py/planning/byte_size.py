"""Sizes and numbers as users write them and as plans print them, and how much memory there is."""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from bioimage_py.errors import Call, Hint, InvalidArgumentError
from bioimage_py.system import available_memory
from bioimage_py.text import Rows, rows_html

_UNITS = {"": 1, "b": 1}

for _power, _letter in enumerate("kmgtp", start=1):
    _UNITS.update({_letter: 1024**_power, f"{_letter}ib": 1024**_power, f"{_letter}b": 1000**_power})

_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", re.IGNORECASE)


def parse_bytes(size: int | str, name: str = "memory_limit") -> int:
    """Return a positive number of bytes from `536870912`, `"512MiB"`, `"2 GB"` or `"1.5G"` (K, M, G, T alone are binary)."""
    n_bytes: float = -1
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        if match and match[2].lower() in _UNITS:
            n_bytes = float(match[1]) * _UNITS[match[2].lower()]
    elif isinstance(size, (int, float)) and not isinstance(size, bool) and size == size // 1:
        n_bytes = size
    if not 1 <= n_bytes < math.inf:
        raise InvalidArgumentError(
            f"{name} must be a positive number of bytes or a text such as '512MiB' or '2GB', got {size!r}"
        )
    return int(n_bytes)


def format_bytes(n_bytes: float) -> str:
    """Return a size for people, in binary units."""
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.3g} {unit}" if size < 100 else f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.3g} PiB" if size < 100 else f"{size:.0f} PiB"


def default_memory_limit() -> int:
    """Return 2 GiB, or half of the free memory where that is less."""
    return max(2**26, min(2**31, available_memory() // 2))


def times(extents: Sequence[int] | None) -> str:
    """Return extents as people write them: `64×128`."""
    return "none" if extents is None else "×".join(map(str, extents)) or "1"


def often(times: float) -> str:
    return "once" if times < 1.005 else f"{times:.3g} times"


def counted(n: int, thing: str) -> str:
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def at_most_files(n: int) -> str:
    """Return a number of files that is the most there can be."""
    return counted(n, "file") if n < 2 else f"at most {n:,} files"


class Reported:
    """A value that is told as plain JSON: the fields and properties that its class lists."""

    _told: ClassVar[tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {name: _plain(getattr(self, name)) for name in self._told}


def _plain(value: Any) -> Any:
    if isinstance(value, Hint):
        return str(value)
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return getattr(value, "str", value)  # of a dtype


class Plan(Reported, Rows):
    """What all plans print alike."""

    casts: str = ""  # what is known of the input's values where the output cannot hold all
    assumed: tuple[Hint, ...] = ()  # what the output will say because it is assumed of the input

    @property
    @abstractmethod
    def bill(self) -> Reported:
        """What the run asks of its stores."""

    @property
    @abstractmethod
    def hints(self) -> tuple[Hint, ...]:
        """What would make the run better."""

    def told(self, written: Callable[[Call], str]) -> str:
        """Return the text of the plan, with calls as a function writes them."""
        return "\n".join(f"{label + ':' if label else '':9}{text}" for label, text in self._all_rows(written))

    def _all_rows(self, written: Callable[[Call], str] = str) -> Iterator[tuple[str, str]]:
        yield from self._rows()
        if self.casts:
            yield "casts", self.casts
        yield from (("hint", hint.told(written)) for hint in self.hints)
        for n, hint in enumerate(self.assumed):
            yield "" if n else "assumed", hint.told(written)

    def _repr_html_(self) -> str:
        return rows_html(self._all_rows())

    def __str__(self) -> str:
        return self.told(str)

    def _amounts(self: Any, repeats: str = "", at_once: int | None = None) -> list[tuple[str, str]]:
        blocks = counted(self.in_flight if at_once is None else at_once, "block")
        files = at_most_files(self.n_files)
        return [
            ("reads", f"{format_bytes(self.bytes_in)}{repeats}"),
            ("writes", f"{format_bytes(self.bytes_out)} before compression, in {files}"),
            *([("bill", str(self.bill))] if str(self.bill) else []),
            (
                "memory",
                f"{format_bytes(self.peak_memory)} at most, of {format_bytes(self.memory_limit)} allowed",
            ),
            ("workers", f"{blocks} at a time; {counted(self.threads, 'thread')} for decoding and encoding"),
        ]
