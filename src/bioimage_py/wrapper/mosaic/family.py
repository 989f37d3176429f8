"""Mosaics by a path: a table, names on a grid, or files that state where they lie."""

from __future__ import annotations

import os

from bioimage_py.errors import InvalidArgumentError, ReadOnlyError, SourceNotFoundError
from bioimage_py.sources import Family, Source, SourceSpec, family_by_content, with_metadata
from bioimage_py.sources.slices import NamePattern, list_slices
from bioimage_py.storage import is_url
from bioimage_py.wrapper.mosaic.places import Grid, in_voxels, on_grid, read_table, stated
from bioimage_py.wrapper.mosaic.source import MosaicSource
from bioimage_py.wrapper.mosaic.tile import Tile


class MosaicFamily(Family):
    """Tiles in files that become one volume."""

    def open_path(
        self,
        path: str,
        key: str | None = None,
        mode: str = "r",
        *,
        grid: str | None = None,
        overlap: str = "first",
        fill_value: float = 0,
        missing_planes: str = "error",
    ) -> Source:
        """Open tiles at their positions as one volume, see `MosaicSource`.

        A table has a line for each tile: its file, and x, y and z in voxels, or in a unit that the name of the column has (`x_um`). With `grid="stage"` the
        files that match a pattern, or the images of a file, lie where their metadata state. With a grid such as `"4x6,10%,snake"`, names
        have the number of a tile (`{tile}`) or its `{row}` and `{col}`; the order is row by row, column by column with `columns`, and there
        and back with `snake`. Tiles that are missing are an error, or gaps with `missing_planes="fill"`.
        """
        if mode != "r":
            raise ReadOnlyError(f"the mosaic {path!r} can only be read; open it with mode='r'")
        if is_url(path):
            raise InvalidArgumentError(f"tables and patterns of tiles are in local folders, not at {path!r}")
        label = path if key is None else os.path.join(path, key)  # noqa: PTH118
        step = None
        if path.lower().endswith(self.entry.suffixes) and key is None:
            if grid is not None:
                raise InvalidArgumentError(
                    f"table {path!r} states where tiles lie: leave out the grid {grid!r}"
                )
            table = read_table(path)
            told = [f"line {line} of table {path!r}: " for line in table.lines]
            tiles = Tile.all_at([(file, None) for file in table.files], told)
            places, step = in_voxels(tiles, table.places, table.units)
            unit = table.units.get("z")
        elif grid == "stage":
            tiles = Tile.all_at(_images(path, key))
            places = stated(tiles)
        elif grid is None or key is None:
            raise InvalidArgumentError(
                f"{path!r} is neither a table of tiles nor a pattern of their names: overlap and grid need one of them, or grid='stage'"
            )
        else:
            parsed = Grid.parse(grid)
            found, cells = on_grid(path, NamePattern(key), parsed, fill=missing_planes == "fill")
            tiles = Tile.all_at(found)
            places = parsed.positions(tiles, cells)
        made = MosaicSource(tiles, places, overlap, fill_value, label)
        made.owned = made.inputs
        if step is None:
            return made
        sizes, units = (
            list(made.metadata.voxel_size or (1.0,) * made.ndim),
            list(made.metadata.units or (None,) * made.ndim),
        )
        sizes[0], units[0] = step, unit
        return with_metadata(made, voxel_size=sizes, units=units)

    def open_spec(self, spec: SourceSpec) -> Source:
        """Return a tile, which is opened when it is read."""
        return Tile(
            spec["input"], **{name: spec[name] for name in ("shape", "dtype", "chunks", "format", "codec")}
        )


def _images(path: str, key: str | None) -> list[tuple[str, str | None]]:
    """Return the images in a file, or in those that match a pattern."""
    files = [path]
    if key is not None:
        files = [os.path.join(path, name) for name in list_slices(path, NamePattern(key))]  # noqa: PTH118 - a text stays a text
    found: list[tuple[str, str | None]] = []
    for file in files:
        family = family_by_content(file)
        if family is None:
            raise SourceNotFoundError(f"{file!r} is not an image that states where it lies")
        found += [(file, name) for name, _ in family.load().images_in(file)] or [(file, None)]
    return found
