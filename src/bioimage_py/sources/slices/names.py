"""The slices in a folder: their order, and the axes that their names state."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from bioimage_py.errors import (
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    SourceNotFoundError,
    StorageError,
)
from bioimage_py.sources.slices.pattern import NamePattern, are_counted, number

_IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
_THUMBNAIL = re.compile(r"(?<![a-z])thumb(nail)?s?(?![a-z])", re.IGNORECASE)
_PREVIEW = re.compile(r"(?<![a-z])(preview|overview)(?![a-z])", re.IGNORECASE)
_SUFFIX = re.compile(r"\.(tiff?|png|jpe?g|btf|tf[28])$", re.IGNORECASE)
_DATE = re.compile(r"(?<![0-9])(19|20)[0-9]{2}([-_.]?)[01]?[0-9]\2[0-3]?[0-9](?![0-9])")
_MOST_LISTED = 8

_AXES = {
    "t": "t", "tp": "t", "time": "t", "timepoint": "t",
    "c": "c", "ch": "c", "chan": "c", "channel": "c", "w": "c", "wavelength": "c",
    "z": "z", "slice": "z", "plane": "z", "section": "z", "zslice": "z",
}  # fmt: skip
"""Words before a number that state its axis."""
_PLACES = frozenset(
    {"p", "pos", "position", "s", "site", "stage", "scene", "series", "f", "fov", "field", "m", "tile", "v", "view", "x", "y", "xy"}
    | {"r", "row", "col", "column", "well", "a", "l"}
)  # fmt: skip
"""Words before a number that state which of several images a file belongs to."""
_ORDER = ("t", "c", "z")
_IN_PLANE = ("y", "x", "row", "col", "column")
FILL_HINT = Hint.of("or, to read them as 0, open the folder with {}", missing_planes="fill")


@dataclass(frozen=True)
class Arrangement:
    """Slices on a grid."""

    # of the files, in C order of the grid; None where there is none and the slice is filled
    names: Sequence[str | None]
    shape: tuple[int, ...]  # of the grid
    axes: tuple[str | None, ...]  # of the grid, as the names state them, else None
    remarks: Sequence[BioimagePyWarning] = ()  # what a user should be told


def list_slices(folder: str, pattern: NamePattern) -> dict[str, Name]:
    """Return the names of the files in a folder that match a pattern, taken apart, in natural order.

    Folders below are searched as far as the pattern names them. Files whose name begins with a dot are left out as in a shell, and so
    are thumbnails, unless the pattern asks for them or there is nothing else.
    """
    *levels, last = pattern.levels()
    below = [""]
    for level in levels:
        below = [f"{b}{e.name}/" for b in below for e in _listed(folder, b, level) if level.match(e.name) and e.is_dir()]  # fmt: skip
    entries = {f"{b}{e.name}": e for b in below for e in _listed(folder, b, last)}
    names = [name for name, e in entries.items() if pattern.match(name) and _is_file(e, name, folder)]
    if "thumb" not in pattern.text.lower():
        names = [n for n in names if not _THUMBNAIL.search(n)] or names
    if not names:
        visible = [n for n in entries if os.path.isfile(os.path.join(folder, n))]  # noqa: PTH113, PTH118
        endings = Counter(os.path.splitext(n)[1] or "(none)" for n in visible)  # noqa: PTH122
        there = ", ".join(f"{n} x {ending}" for ending, n in endings.most_common(6)) or "no files"
        raise SourceNotFoundError(
            f"no file in folder {folder!r} matches {pattern.text!r}; there are: {there}",
            hints=[Hint("give a pattern that matches the slices, or another folder")],
        )
    parsed = _by_fields(names, pattern) if pattern.fields else take_apart(names)
    return dict(sorted(parsed.items(), key=lambda item: (item[1].key, item[0])))


def _listed(folder: str, below: str, level: NamePattern) -> list[os.DirEntry[str]]:
    place = os.path.join(folder, below) if below else folder  # noqa: PTH118
    try:
        with os.scandir(place) as found:
            return [e for e in found if not e.name.startswith(".") or level.text.startswith(".")]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceNotFoundError(f"there is no folder {place!r} to look for {level.text!r} in") from error
    except PermissionError as error:
        raise StorageError(
            f"folder {place!r} cannot be read: {error.strerror}; ask its owner for access"
        ) from error


def _by_fields(names: Sequence[str], pattern: NamePattern) -> dict[str, Name]:
    """Return names taken apart by the fields of a pattern that they match."""
    parsed: dict[str, Name] = {}
    for name in names:
        found = pattern.match(name)
        if found is not None:
            texts = [name[a:b] for a, b in itertools.pairwise([0, *(n for g in range(1, len(pattern.fields) + 1) for n in found.span(g)), len(name)])]  # fmt: skip
            numbers = (_Number(field, text, number(text), dated=False) for field, text in zip(pattern.fields, found.groups(), strict=True))  # fmt: skip
            parsed[name] = Name(tuple(texts[::2]), tuple(numbers))
    for n, field in enumerate(pattern.fields):
        if are_counted(re.split("[.,]", one.numbers[n].text)[1] for one in parsed.values() if re.search("[.,]", one.numbers[n].text)):  # fmt: skip
            raise InvalidArgumentError(
                f"{{{field}}} in {pattern.text!r} would read 1.9 and 1.10 as decimals, and the names count so: give a field to each of both numbers, "
                "as in {t}.{z}"
            )
    return parsed


def _is_file(entry: os.DirEntry[str], name: str, folder: str) -> bool:
    """Whether an entry is a file; raises if it is neither a file nor a folder."""
    try:
        if entry.is_file() or entry.is_dir():
            return entry.is_file()
    except OSError as error:
        raise StorageError(
            f"slice {name!r} in folder {folder!r} cannot be reached: {error.strerror}"
        ) from error
    path = os.path.join(folder, name)  # noqa: PTH118
    if entry.is_symlink() and not os.path.exists(path):  # noqa: PTH110
        raise SourceNotFoundError(
            f"slice {name!r} in folder {folder!r} is a link to {os.readlink(path)!r}, and nothing is there: "  # noqa: PTH115
            "bring that file back, or give a pattern that leaves it out"
        )
    raise StorageError(
        f"slice {name!r} in folder {folder!r} is not a file but a pipe, socket or device: give a pattern that leaves it out"
    )


def image_suffixes_in(folder: str) -> list[str]:
    """Return the image endings found in a folder, such as `[".tif"]`; hidden files and thumbnails do not count."""
    with os.scandir(folder) as entries:
        found = {
            os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
            for entry in entries
            if not entry.name.startswith(".")
            and not _THUMBNAIL.search(entry.name)
            and (entry.is_symlink() or entry.is_file())
        }
    return sorted(s for s in found if s in _IMAGE_SUFFIXES)


def is_preview(name: str) -> bool:
    """Whether a file is named as a preview, which is not a slice if its shape differs."""
    return bool(_PREVIEW.search(name))


class _Number(NamedTuple):
    """A number in a name: the word before it that may be a label, its text, its value, and whether it is of a date."""

    word: str
    text: str
    value: int | Fraction
    dated: bool


class Name(NamedTuple):
    """A name as texts and numbers in turn, beginning and ending with a text."""

    texts: tuple[str, ...]
    numbers: tuple[_Number, ...]

    @property
    def key(self) -> tuple[object, ...]:
        """Sorts numbers by their value, and texts without regard to case."""
        texts = [text.lower() for text in self.texts]
        values = [one.value for one in self.numbers]
        return tuple(x for pair in itertools.zip_longest(texts, values) for x in pair)[:-1]


def take_apart(names: Sequence[str]) -> dict[str, Name]:
    """Return names taken apart; all of them together decide whether "1.25" is one number or two, and whether "-2" has a sign."""
    stems = {name: _SUFFIX.sub("", name) for name in names}
    # Most folders have no such names, and then the single numbers are not looked at.
    together = "/".join(stems.values())
    signed_exponent = re.search(r"[0-9]e[-+][0-9]{1,3}(?![0-9a-z])", together, re.IGNORECASE)
    exponent = "(e[-+]?[0-9]{1,3}(?![0-9a-z]))?" if signed_exponent else "()"
    pattern = re.compile(rf"([-+]?)([0-9]+(?:[.,][0-9]+)*){exponent}", re.IGNORECASE)
    fractions = {
        part
        for stem in (stems.values() if re.search("[0-9][.,][0-9]", together) else ())
        for found in pattern.finditer(stem)
        if len(parts := re.split("[.,]", found[2])) == 2
        for part in parts[1:]
    }
    counted = are_counted(fractions)
    unsigned = {
        _generic(stem[: found.start()])
        for stem in (stems.values() if re.search("[a-z ][-+][0-9]", together, re.IGNORECASE) else ())
        for found in pattern.finditer(stem)
        if not found[1]
    }
    return {name: _taken_apart(stem, pattern, unsigned, counted=counted) for name, stem in stems.items()}


def _generic(text: str) -> str:
    return re.sub(r"[-+]?[0-9]+", "0", text.lower())


def _taken_apart(stem: str, pattern: re.Pattern[str], unsigned: set[str], *, counted: bool) -> Name:
    texts: list[str] = []
    numbers: list[_Number] = []
    at = 0
    dates = [found.span() for found in _DATE.finditer(stem)]
    for found in pattern.finditer(stem):
        begin = found.start(2)
        sign = found[1]
        before = stem[: found.start()]
        if sign and before[-1:].isdigit():
            sign = ""
        elif sign and (before[-1:].isalpha() or before[-1:] == " ") and _generic(before) not in unsigned:
            sign = ""  # "z-1", "z-2" are separated, "z-1", "z0" have a sign
        if sign:
            begin = found.start()
        dated = any(b <= found.start(2) < e for b, e in dates)
        whole = stem[begin : found.end()].replace(",", ".").lower()
        if whole.isdecimal():
            runs: list[tuple[int, int, int | Fraction]] = [(begin, found.end(), int(whole))]
        elif whole.count(".") == 0 or (whole.count(".") == 1 and not counted and not dated):
            runs = [(begin, found.end(), number(whole))]
        else:
            first = found.start(2)
            inner = re.finditer("[0-9]+", found[2])
            runs = [(first + m.start(), first + m.end(), int(m[0])) for m in inner]
        for b, e, value in runs:
            text = stem[at:b]
            # The T before a time of day, 20240105T101200, does not state an axis.
            word = "" if text == "T" and numbers and numbers[-1].dated else _word(text)
            texts.append(text)
            numbers.append(_Number(word, stem[b:e], value, dated))
            at = e
    return Name((*texts, stem[at:]), tuple(numbers))


@lru_cache(4096)
def _word(text: str) -> str:
    """Return the word at the end of a text, in lower case, which may name the number behind it."""
    found = re.search(r"([A-Za-z]+)[\s_=#.-]*$", text)
    if found is None:
        return ""
    word = found[1]
    if word.lower() not in _AXES and re.search(r"[a-z][A-Z]$", word):
        word = word[-1]
    return word.lower()


def arrange(parsed: Mapping[str, Name], fields: Sequence[str] = (), *, fill: bool = False) -> Arrangement:
    """Arrange slices, given in natural order, along the axes that their names state, or one after the other.

    Where their names were taken apart by the fields of a pattern, these are the axes. With `fill`, slices that are missing are filled: combinations of numbers, and numbers that are left out.
    """
    if fields:
        return _by_axes(_Columns(parsed), fields, fill=fill)
    names = list(parsed)
    numbers = {
        name: (found.texts, tuple(one.value for one in found.numbers))
        for name, found in parsed.items()
        if found.numbers
    }
    if same := _same_place(numbers.items()):
        raise InvalidArgumentError(
            f"slices {same[0]!r} and {same[1]!r} have the same number: give a pattern that leaves one of them out, or rename it"
        )
    columns = _Columns(parsed)
    odd = columns.odd_one
    if odd is not None:
        if len(_Columns(columns.alike).stated()) > 1:
            raise InvalidArgumentError(
                f"the names of the slices state their axes, such as {next(iter(columns.alike))!r}, but {odd!r} does not: give a "
                "pattern that leaves it out"
            )
        return Arrangement(names, (len(names),), (None,))
    axes = columns.axes()
    if axes:
        return _on_grid(columns, axes, fill=fill)
    varying = columns.varying
    remarks = []
    unique = [c for c in varying if columns.tell_apart([c]) and not columns.is_dated(c)]
    gaps = {c: _gaps(sorted(columns.values(c))) for c in unique}
    if gaps and all(gaps.values()):
        column = min(unique, key=lambda c: len(gaps[c]))
        if fill:
            return _on_grid(columns, {"": column}, fill=True)
        remarks.append(_gap_remark(columns, column, gaps[column], ""))
    elif len(varying) > 1 and math.prod(len(set(columns.values(c))) for c in varying) == len(names):
        first = columns.example(varying[0])
        remarks.append(
            BioimagePyWarning(
                f"the names of the slices hold {len(varying)} numbers, of which no axis is known; all slices are stacked in the order "
                "of their numbers",
                hints=[Hint(f"if they are several images, choose one with a pattern such as {first!r}")],
            )
        )
    return Arrangement(names, (len(names),), (None,), tuple(remarks))


def _by_axes(columns: _Columns, fields: Sequence[str], *, fill: bool) -> Arrangement:
    axes = {_AXES.get(field.lower(), field): column for column, field in enumerate(fields)}
    if wrong := [field for field in fields if field.lower() in _IN_PLANE]:
        raise InvalidArgumentError(
            f"the field {{{wrong[0]}}} is not an axis along which slices are stacked: each file holds its y and x"
        )
    if len(axes) < len(fields):
        raise InvalidArgumentError(f"two of the fields {', '.join(fields)} state the same axis")
    places = zip(*(columns.values(c) for c in axes.values()), strict=True)
    if same := _same_place(zip(columns.names, places, strict=True)):
        raise InvalidArgumentError(
            f"slices {same[0]!r} and {same[1]!r} have the same place along {', '.join(axes)}: give a pattern that leaves one of them out"
        )
    order = [*(axis for axis in axes if axis not in _ORDER), *(axis for axis in _ORDER if axis in axes)]
    return _on_grid(columns, {axis: axes[axis] for axis in order}, fill=fill)


def _same_place(places: Iterable[tuple[str, object]]) -> tuple[str, str] | None:
    """Return the first two names with the same place."""
    seen: dict[object, str] = {}
    for name, place in places:
        if seen.setdefault(place, name) != name:
            return seen[place], name
    return None


class _Columns:
    """The numbers in all names as a table: a row per name, a column per place in it."""

    def __init__(self, parsed: Mapping[str, Name]) -> None:
        counts = Counter(len(found.numbers) for found in parsed.values())
        usual = counts.most_common(1)[0][0]
        self.alike = {name: found for name, found in parsed.items() if len(found.numbers) == usual}
        self.odd_one = next((name for name in parsed if name not in self.alike), None)
        self._table = [found.numbers for found in self.alike.values()]
        self.names = list(self.alike)
        self.varying = [c for c in range(usual) if len(set(self.values(c))) > 1]
        self._words = {c: words.pop() if len(words := {row[c].word for row in self._table}) == 1 else "" for c in range(usual)}  # fmt: skip

    def values(self, column: int) -> list[int | Fraction]:
        return [row[column].value for row in self._table]

    def stated(self) -> dict[str, int]:
        """Return the columns that vary and whose word names an axis, by axis."""
        words = dict(self._words)
        run = [words[c] for c in sorted(words)]
        for n in range(len(run) - 3):
            if run[n : n + 4] == ["r", "c", "f", "p"]:  # row, column, field and plane of a plate
                words[n + 1], words[n + 3] = "column", "z"
        found: dict[str, int] = {}
        for column in self.varying:
            axis = _AXES.get(words[column])
            if axis and (axis not in found or len(words[found[axis]]) < len(words[column])):
                found[axis] = column
        return {axis: found[axis] for axis in _ORDER if axis in found}

    def axes(self) -> dict[str, int]:
        """Return the column of each axis; nothing if the names do not state axes."""
        found = self.stated()
        alone = [axis for axis, column in found.items() if self.tell_apart([column])]
        if len(alone) > 1 and len(self._table) > 2:
            # Each slice has its own z and its own time: both count slices and do not make a grid.
            return {alone[-1]: found[alone[-1]]}
        if not found or self.tell_apart(found.values()):
            return found
        rest = [c for c in self.varying if c not in found.values()]
        if "z" not in found:
            # A number without a word, as in "t00_000", is that of the slice.
            for column in reversed(rest):
                if self._words[column] not in _PLACES and self.tell_apart([*found.values(), column]):
                    # A number that goes on from one time to the next numbers the files.
                    return {} if self.tell_apart([column]) else {**found, "z": column}
        stated = " and ".join(found)
        if not rest:
            places = zip(*(self.values(c) for c in found.values()), strict=True)
            words = _same_place(zip(self.names, places, strict=True)) or ("", "")
            raise InvalidArgumentError(
                f"the names of the slices state {stated}, and {words[0]!r} and {words[1]!r} the same place along it: choose with a pattern"
            )
        other = rest[0]
        numbers = ", ".join(_text(v) for v in sorted(set(self.values(other)))[:_MOST_LISTED])
        raise InvalidArgumentError(
            f"the names of the slices state {stated}, and a further number {self._words[other]!r} ({numbers}), so they are several "
            f"images: choose one with a pattern such as {self.example(other)!r}"
        )

    def tell_apart(self, columns: Collection[int]) -> bool:
        places = set(zip(*(self.values(c) for c in columns), strict=True))
        return len(places) == len(self._table)

    def is_dated(self, column: int) -> bool:
        """Whether a column is part of a date, in which days may be left out."""
        return any(row[column].dated for row in self._table)

    def example(self, column: int) -> str:
        """Return a pattern that chooses one of the numbers in a column."""
        name = self.names[0]
        found = self.alike[name]
        text = re.search(r"[^\W_]*[\W_]*$", found.texts[column])
        suffix = _SUFFIX.search(name)
        behind = found.texts[column + 1][:1]
        before = text[0] if text else ""
        head = "" if column == 0 and before == found.texts[0] else "*"
        return f"{head}{before}{found.numbers[column].text}{behind}*{suffix[0] if suffix else ''}"


def _on_grid(columns: _Columns, axes: Mapping[str, int], *, fill: bool) -> Arrangement:
    remarks = []
    numbers: list[list[int | Fraction]] = []
    for axis, column in axes.items():
        present = sorted(set(columns.values(column)))
        gaps = _gaps(present)
        if gaps and not fill:
            remarks.append(_gap_remark(columns, column, gaps, axis))
        numbers.append(sorted([*present, *gaps]) if fill else present)
    places = zip(*(columns.values(c) for c in axes.values()), strict=True)
    by_place = dict(zip(places, columns.names, strict=True))
    grid = list(itertools.product(*numbers))
    missing = [place for place in grid if place not in by_place]
    if missing and not fill:
        listed = "; ".join(
            " ".join(f"{axis}={_text(v)}" for axis, v in zip(axes, place, strict=True))
            for place in missing[:_MOST_LISTED]
        )
        more = f"; … ({len(missing)} in all)" if len(missing) > _MOST_LISTED else ""
        raise SourceNotFoundError(
            f"the names of {len(by_place)} slices, such as {columns.names[0]!r}, state the axes {', '.join(axes)}, and some are missing: "
            f"{listed}{more}",
            hints=[Hint("bring them back"), Hint("choose a part with a pattern"), FILL_HINT],
        )
    shape = tuple(len(values) for values in numbers)
    return Arrangement([by_place.get(place) for place in grid], shape, tuple(a or None for a in axes), tuple(remarks))  # fmt: skip


def _gaps(values: Sequence[int | Fraction]) -> list[int | Fraction]:
    """Return the numbers that are missing between the first and the last, if they have a regular step."""
    steps = [b - a for a, b in itertools.pairwise(values)]
    if len(set(steps)) < 2:
        return []
    counts = Counter(steps)
    step = min(steps, key=lambda s: (-counts[s], s))
    most = 10 * len(values)
    if any(isinstance(s, Fraction) for s in steps) and 2 * counts[step] <= len(steps):
        return []
    if any(s % step for s in steps):
        if any(isinstance(s, Fraction) for s in steps):
            return []
        step, most = math.gcd(*(int(s) for s in steps)), len(values) - 1
    n_missing = (values[-1] - values[0]) / step + 1 - len(values)
    if n_missing > most:
        return []
    return [
        a + step * n
        for a, b in itertools.pairwise(values)
        for n in range(1, int((b - a) / step))
    ]  # fmt: skip


def _gap_remark(
    columns: _Columns, column: int, gaps: Sequence[int | Fraction], axis: str
) -> BioimagePyWarning:
    listed = ", ".join(map(_text, gaps[:_MOST_LISTED]))
    more = f", … ({len(gaps)} in all)" if len(gaps) > _MOST_LISTED else ""
    along = f" along {axis}" if axis else ""
    shown = sorted(columns.values(column))
    return BioimagePyWarning(
        f"between slices {_text(shown[0])} and {_text(shown[-1])}{along}, such as {columns.names[0]!r}, number {listed}{more} is "
        "missing; the others are stacked without a gap",
        hints=[Hint.of("to read them as 0, open the folder with {}", missing_planes="fill")],
    )


def _text(value: int | Fraction) -> str:
    return str(int(value) if value.denominator == 1 else float(value))
