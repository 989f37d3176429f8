"""What a user types after an option, turned into values: shapes, block ids, codecs, worker counts."""

from __future__ import annotations

import contextlib
import json
import re
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

Runs = tuple[tuple[int, int], ...]
"""Half-open runs of block ids; kept free of numpy so that `--help` stays quick."""

_SECONDS = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*([a-z]*)$", re.IGNORECASE)
_RANGE = re.compile(r"^(\d+)(?:\s*-\s*(\d+))?$")


def shape(text: str) -> tuple[int, ...]:
    """Read `64,64,64`, `64x64x64`, or one number that stands for every axis."""
    parts = [part.strip() for part in re.split(r"[,xX\u00d7]", text)]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ArgumentTypeError(
            f"give one positive number per axis, such as 64,64,64 or 64x64x64, or one number for all axes, "
            f"not {text!r}"
        )
    return tuple(int(part) for part in parts)


def shards(text: str) -> tuple[int, ...] | str:
    """Read a shape, or `auto`."""
    return text if text == "auto" else shape(text)


def for_axes(extents: tuple[int, ...] | None, ndim: int) -> tuple[int, ...] | None:
    """Return a shape as typed with a single number repeated for every axis of an array."""
    return extents * ndim if extents is not None and len(extents) == 1 else extents


def block_ids(text: str) -> Runs:
    """Read block numbers as ranges, `0-99,120`, both ends included; `@FILE` reads them from a text file."""
    if text.startswith("@"):
        try:
            text = ",".join(Path(text[1:]).read_text(encoding="utf-8").split())
        except (OSError, UnicodeDecodeError) as error:
            raise ArgumentTypeError(f"cannot read block numbers from {text[1:]!r}: {error}") from None
    runs = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _RANGE.match(part)
        if match is None:
            raise ArgumentTypeError(f"give block numbers and ranges such as 0-99,120, not {part[:80]!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ArgumentTypeError(f"the range {part} runs backwards; write {last}-{first}")
        runs.append((first, last + 1))
    if not runs:
        raise ArgumentTypeError("no block numbers given; write them as in 0-99,120")
    return tuple(runs)


def scale_factors(text: str) -> list[int | tuple[int, ...]]:
    """Read one factor per level: `2,2,4`, or `1x2x2,2x2x2` where axes differ."""
    found: list[int | tuple[int, ...]] = []
    for part in text.split(","):
        numbers = re.split(r"[xX×]", part.strip())
        if not all(number.strip().isdecimal() for number in numbers):
            raise ArgumentTypeError(f"give one factor per level, such as 2,2,2 or 1x2x2,2x2x2, not {text!r}")
        factors = tuple(map(int, numbers))
        found.append(factors if len(factors) > 1 else factors[0])
    return found


def sizes(text: str) -> float | tuple[float, ...]:
    """Read `2,0.5,0.5`, or one number for every axis of space."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = (-1.0,)
    if not all(0 < size < float("inf") for size in found):
        raise ArgumentTypeError(f"give positive numbers, such as 2,0.5,0.5 or 0.5, not {text!r}")
    return found if len(found) > 1 else found[0]


def indices(text: str) -> tuple[int, ...]:
    """Read `0,2`: indices from 0 on."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ArgumentTypeError(f"give indices from 0, such as 0,2, not {text!r}")
    return tuple(int(part) for part in parts)


def position(text: str) -> tuple[int, ...] | dict[str, int]:
    """Read a position as indices, `64,256,256`, or by the names of axes, `z=64,x=256`."""
    if "=" not in text:
        return indices(text)
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(name.strip() and index.strip().isdecimal() for name, _, index in pairs):
        raise ArgumentTypeError(f"give an index for each axis, such as z=64,x=256, not {text!r}")
    return {name.strip(): int(index) for name, _, index in pairs}


def pair(text: str) -> tuple[float, float]:
    """Read two numbers, `100,4000`."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"give two numbers, such as 100,4000, not {text!r}") from None
    return low, high


def limits(text: str) -> tuple[float | str, float | str]:
    """Read two ascending numbers, `100,4000`, or percentages, `1%,99%`."""
    parts = [part.strip() for part in text.split(",")]
    try:
        low, high = (float(part.removesuffix("%")) for part in parts)
    except ValueError:
        low = high = 0
    alike = len({part.endswith("%") for part in parts}) == 1
    if not (low < high and alike and (not parts[0].endswith("%") or 0 <= low < high <= 100)):
        raise ArgumentTypeError(
            f"give two numbers, the lower one first, such as 100,4000 or 1%,99%, not {text!r}"
        )
    return (parts[0], parts[1]) if parts[0].endswith("%") else (number(parts[0]), number(parts[1]))


def number(text: str) -> int | float:
    """Read a number: `-1`, `0.5`, `nan`, `inf`."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    raise ArgumentTypeError(f"give a number, such as 0, -1 or nan, not {text!r}")


def codec(text: str) -> str | dict[str, Any]:
    """Read a codec as a name with a level, `zstd:3`, or as JSON with its options."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        return dict(json.loads(text))
    except json.JSONDecodeError as error:
        raise ArgumentTypeError(f"this is not valid JSON: {error}") from None


def workers(text: str) -> int:
    """Read a count of at least 1."""
    return _count(text, 1)


def count(text: str) -> int:
    """Read a count of at least 0."""
    return _count(text, 0)


def _count(text: str, least: int) -> int:
    if not (text.strip().isdecimal() and int(text) >= least):
        raise ArgumentTypeError(f"give a number of {least} or more, not {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Read a duration as seconds, `90`, or with its unit, `15min`."""
    match = _DURATION.match(text.strip())
    unit = _SECONDS.get(match[2].lower()) if match else None
    if match is None or unit is None or float(match[1]) == 0:
        raise ArgumentTypeError(f"give a time such as 90s, 15min or 2h, not {text!r}")
    return float(match[1]) * unit
