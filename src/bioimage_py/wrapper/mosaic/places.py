"""Where tiles lie: from a table, from a grid and the names of files, from what the files state."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bioimage_py.errors import Hint, InvalidArgumentError, SourceNotFoundError, StorageError
from bioimage_py.metadata import normalise_unit, unit_ratio
from bioimage_py.sources import Source
from bioimage_py.sources.slices import NamePattern, list_slices
from bioimage_py.storage import inner_name, is_url

_FILE = ("file", "filename", "path")
_COLUMN = re.compile(r"([xyz])[\s_]*[(\[]?\s*([^\s()\[\]]*)\s*[)\]]?", re.IGNORECASE)
_VOXELS = ("", "px", "pixel", "pixels", "voxel", "voxels")
_ROWS, _COLUMNS = ("row", "y"), ("col", "column", "x")
_NUMBERS = ("tile", "series", "pos", "position", "site", "field", "fov", "m")
_MOST_LISTED = 8


class Table(NamedTuple):
    """The files of a table, and for each axis the positions and their unit, None for voxels."""

    files: list[str]
    lines: list[int]
    places: dict[str, list[float]]
    units: dict[str, str | None]


def read_table(path: str) -> Table:
    """Read a table of tiles; files are named in relation to its folder, and lie in or below it unless the name is absolute."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(f"table {path!r} is not a text in UTF-8: {error}") from error
    except OSError as error:
        raise StorageError(f"table {path!r} cannot be read: {error.strerror}") from error
    lines = [line if line.strip() and not line.startswith("#") else "" for line in text.splitlines()]
    head = next((line for line in lines if line), "")
    delimiter = max("\t;,", key=head.count)
    rows = [
        (n, [one.strip() for one in row])
        for n, row in enumerate(csv.reader(lines, delimiter=delimiter), 1)
        if row
    ]
    names = rows[0][1] if rows else []
    file = next((n for n, name in enumerate(names) if name.lower() in _FILE), None)
    columns: dict[str, int] = {}
    units: dict[str, str | None] = {}
    for n, name in enumerate(names):
        found = _COLUMN.fullmatch(name)
        unit = None if found is None or found[2].lower() in _VOXELS else normalise_unit(found[2])
        if found is not None and (unit is not None or found[2].lower() in _VOXELS):
            if found[1].lower() in columns:
                raise InvalidArgumentError(
                    f"table {path!r} has two columns for {found[1].lower()}: {', '.join(names)}"
                )
            columns[found[1].lower()], units[found[1].lower()] = n, unit
    lacking = ["file"] * (file is None) + [axis for axis in "yx" if axis not in columns]
    if file is None or lacking:
        raise InvalidArgumentError(
            f"table {path!r} has no column {' and '.join(lacking)}: its first line names {', '.join(names) or 'nothing'}",
            hints=[
                Hint(
                    "name its columns file, x, y and, if need be, z, with a unit as in 'x_um' where they are not voxels"
                )
            ],
        )
    if len(rows) < 2:
        raise InvalidArgumentError(f"table {path!r} has no tiles below its first line")
    places: dict[str, list[float]] = {axis: [] for axis in columns}
    files = []
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise InvalidArgumentError(
                f"line {line} of table {path!r} has {len(row)} columns, its first line has {len(names)}"
            )
        files.append(_file_at(path, row[file], line))
        for axis, n in columns.items():
            places[axis].append(_number(row[n], f"{names[n]} in line {line} of table {path!r}"))
    return Table(files, [line for line, _ in rows[1:]], places, units)


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidArgumentError(f"{what} is not a number but {text!r}")
    return value


def _file_at(table: str, name: str, line: int) -> str:
    if is_url(name) or os.path.isabs(name):  # noqa: PTH117
        return name
    folder = os.path.dirname(os.path.abspath(table))  # noqa: PTH100, PTH120 - follows no links
    try:
        return os.path.join(folder, inner_name(name.removeprefix("./"), folder, folders=False))  # noqa: PTH118
    except InvalidArgumentError as error:
        hint = Hint("name a file in the folder of the table or below it, or its absolute path")
        raise InvalidArgumentError(
            f"line {line} of table {table!r}: {error.message}", hints=[hint]
        ) from error


def in_voxels(
    tiles: Sequence[Source], places: Mapping[str, Sequence[float]], units: Mapping[str, str | None]
) -> tuple[list[tuple[int, ...]], float | None]:
    """Return the positions of tiles in voxels, one entry per axis, and the distance of planes in z's unit where z is a new axis."""
    first = tiles[0]
    metadata = first.metadata.fitting(first.ndim)
    axes = list(metadata.axes or "zyx"[max(0, 3 - first.ndim) :])
    if len(axes) != first.ndim:
        raise InvalidArgumentError(
            f"tile {first.name} does not state its {first.ndim} axes, along which positions are given"
        )
    columns = [np.zeros(len(tiles)) for _ in axes]
    new: list[np.ndarray] = []
    step = None
    for axis, values in places.items():
        given, unit = np.array(values, float), units.get(axis)
        if axis in axes:
            n = axes.index(axis)
            size = None if metadata.voxel_size is None else metadata.voxel_size[n]
            ratio = None if unit is None else unit_ratio(unit, (metadata.units or (None,) * len(axes))[n])
            if unit is not None and (size is None or ratio is None):
                raise InvalidArgumentError(
                    f"positions along {axis} are in {unit}, and tile {first.name} states no voxel size in a unit along it: give positions in voxels"
                )
            columns[n] = given if unit is None or size is None or ratio is None else given * ratio / size
        elif axis != "z":
            raise InvalidArgumentError(
                f"tile {first.name} has no axis {axis}, along which positions are given; its axes are {', '.join(axes)}"
            )
        elif np.ptp(given):
            # Each tile is one plane.
            step = None if unit is None else float(np.diff(np.unique(given)).min())
            new = [given if step is None else (given - given.min()) / step]
    rounded = np.rint(np.stack([*new, *columns], axis=1))
    return [tuple(map(int, row)) for row in rounded.tolist()], step


def stated(tiles: Sequence[Source]) -> list[tuple[int, ...]]:
    """Return the positions in voxels that the metadata of tiles state."""
    found = []
    for tile in tiles:
        metadata = tile.metadata.fitting(tile.ndim)
        if metadata.origin is None or metadata.voxel_size is None:
            raise InvalidArgumentError(
                f"tile {tile.name} does not state where it lies: its metadata have no position in a unit of length, or no voxel size",
                hints=[Hint("give the positions in a table with the columns file, x and y")],
            )
        found.append(
            tuple(round(at / size) for at, size in zip(metadata.origin, metadata.voxel_size, strict=True))
        )
    return found


class Grid(NamedTuple):
    """Rows and columns, how much neighbours share, and in which order tiles are numbered."""

    rows: int = 0
    columns: int = 0
    share: float = 0.0
    voxels: int = 0
    snake: bool = False
    by_columns: bool = False

    @classmethod
    def parse(cls, text: str) -> Grid:
        """Read a text such as `"4x6,10%,snake"`."""
        grid = cls()
        for part in (one.strip().lower() for one in str(text).split(",")):
            if found := re.fullmatch(r"(\d+)x(\d+)", part):
                grid = grid._replace(rows=int(found[1]), columns=int(found[2]))
            elif found := re.fullmatch(r"(\d+(?:\.\d+)?)%", part):
                grid = grid._replace(share=float(found[1]) / 100)
            elif found := re.fullmatch(r"(\d+)px", part):
                grid = grid._replace(voxels=int(found[1]))
            elif part in ("snake", "columns"):
                grid = grid._replace(**{"snake" if part == "snake" else "by_columns": True})
            else:
                raise InvalidArgumentError(
                    f"grid must be 'stage', or rows and columns, overlap and order such as '4x6,10%,snake', '10%', '4x6,200px,columns'; got {text!r}"
                )
        if grid.share >= 1:
            raise InvalidArgumentError(f"the overlap of a grid must be less than 100%, got {text!r}")
        return grid

    def cell(self, n: int) -> tuple[int, int]:
        """Return row and column of the tile of a number, from 0."""
        line, place = divmod(n, self.rows if self.by_columns else self.columns)
        if self.snake and line % 2:
            place = (self.rows if self.by_columns else self.columns) - 1 - place
        return (place, line) if self.by_columns else (line, place)

    def positions(self, tiles: Sequence[Source], cells: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
        """Return the positions of tiles in voxels."""
        first = tiles[0]
        for tile in tiles:
            if tile.shape != first.shape:
                raise InvalidArgumentError(
                    f"tiles on a grid must have one shape: {first.name} has {first.shape}, and {tile.name} has {tile.shape}"
                )
        axes = first.metadata.fitting(first.ndim).axes or "zyx"[max(0, 3 - first.ndim) :]
        if "y" not in axes or "x" not in axes or len(axes) != first.ndim:
            raise InvalidArgumentError(f"tile {first.name} does not state which of its axes are y and x")
        extents = [first.shape[list(axes).index(axis)] for axis in "yx"]
        pitch = [n - self.voxels - round(n * self.share) for n in extents]
        if min(pitch) < 1:
            raise InvalidArgumentError(
                f"tiles of {extents[0]} x {extents[1]} voxels cannot overlap by that much"
            )
        places = {axis: [cell[n] * pitch[n] for cell in cells] for n, axis in enumerate("yx")}
        return in_voxels(tiles, places, {})[0]


def on_grid(
    folder: str, pattern: NamePattern, grid: Grid, *, fill: bool
) -> tuple[list[tuple[str, str | None]], list[tuple[int, int]]]:
    """Return folder and pattern, or path, of each tile whose files match a pattern, and its row and column."""
    fields = [field.lower() for field in pattern.fields]
    rows, columns, numbers = (
        [n for n, field in enumerate(fields) if field in those] for those in (_ROWS, _COLUMNS, _NUMBERS)
    )
    chosen = [*rows, *columns, *numbers]
    if (
        (rows or columns)
        and (len(rows) != 1 or len(columns) != 1 or numbers or grid.snake or grid.by_columns)
    ) or len(numbers) > 1:
        raise InvalidArgumentError(
            f"{pattern.text!r} must have {{row}} and {{col}}, or one number of the tile such as {{tile}}, for which grid states rows, columns and order"
        )
    tiles: dict[tuple[object, ...], tuple[str, str | None]] = {}
    for n, (name, found) in enumerate(list_slices(folder, pattern).items()):
        place = tuple(found.numbers[c].value for c in chosen) if chosen else (n,)
        rest = len(fields) > len(chosen)
        text = "".join(
            _literal(before) + (_literal(number.text) if c in chosen else f"{{{number.word}}}")
            for c, (before, number) in enumerate(zip(found.texts, found.numbers, strict=False))
        ) + _literal(found.texts[-1])
        there = (folder, text) if rest else (os.path.join(folder, name), None)  # noqa: PTH118
        if tiles.setdefault(place, there) != there:
            raise InvalidArgumentError(
                f"{tiles[place][1] or tiles[place][0]!r} and {text!r} are the same tile {place} of {pattern.text!r}"
            )
    if any(not isinstance(n, int) for place in tiles for n in place):
        raise InvalidArgumentError(
            f"rows, columns and numbers of tiles are integers, and {pattern.text!r} matches others"
        )
    places = np.array(sorted(tiles), np.int64)
    cells = places - places.min(axis=0)
    if not (rows and columns):
        if not grid.rows:
            raise InvalidArgumentError(
                "grid must state rows and columns of the tiles, such as '4x6,10%', unless their names have {row} and {col}"
            )
        cells = np.array([grid.cell(n) for n in cells[:, 0].tolist()])
    size = (grid.rows, grid.columns) if grid.rows else tuple(cells.max(axis=0) + 1)
    there_are = {tuple(cell) for cell in cells.tolist()}
    whole = {(r, c) for r in range(size[0]) for c in range(size[1])}
    if there_are - whole:
        raise InvalidArgumentError(
            f"a grid of {size[0]} x {size[1]} has no place for all {len(tiles)} tiles that match {pattern.text!r}"
        )
    missing = sorted(whole - there_are)
    if missing and not fill:
        listed = "; ".join(f"row {r} column {c}" for r, c in missing[:_MOST_LISTED])
        more = f"; … ({len(missing)} in all)" if len(missing) > _MOST_LISTED else ""
        raise SourceNotFoundError(
            f"of a grid of {size[0]} x {size[1]} tiles that match {pattern.text!r} in {folder!r}, some are missing: {listed}{more}",
            hints=[
                Hint("bring them back"),
                Hint.of("or, to leave gaps, open it with {}", missing_planes="fill"),
            ],
        )
    return [tiles[place] for place in sorted(tiles)], [tuple(cell) for cell in cells.tolist()]


def _literal(text: str) -> str:
    """Return a text as it is in a pattern."""
    return re.sub(r"[\[*?]", r"[\g<0>]", text).replace("{", "{{").replace("}", "}}")
