"""The TIFF family: opens, lists and makes images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bioimage_py.errors import InvalidArgumentError, UnsupportedFormatError
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.base import SourceSpec
from bioimage_py.sources.family import Family
from bioimage_py.sources.tiff.array import TiffSource
from bioimage_py.sources.tiff.parsing import file_xml, parse_tiff, series_titles, several_series
from bioimage_py.storage import FileBytes, check_new_file, is_url


class TiffFamily(Family):
    """TIFF: each series is an array; new ones are OME-TIFFs or ImageJ hyperstacks, each of one image with its levels."""

    chunked = True
    time_first = True
    level_axes = "yx"
    drops_axes = True

    def open_path(
        self,
        path: str,
        key: str | None = None,
        mode: str = "r",
        *,
        series: int | str | None = None,
        level: int = 0,
        missing_planes: str = "error",
    ) -> TiffSource:
        """Open a series of a TIFF, by number or name where there are several, at a level of its pyramid; no voxel is read.

        Pages that are marked as smaller copies or masks of others do not count, nor do smaller images called thumbnail, label,
        macro, overview or preview. With `missing_planes="fill"` planes that are not stored read as the fill value, and the pages
        of a TIFF whose companion file is not there are read as they are.
        """
        if is_url(path):
            raise UnsupportedFormatError(
                f"TIFF over the network is not supported: copy {path!r} to a local file first"
            )
        if missing_planes not in ("error", "fill"):
            raise InvalidArgumentError(f"missing_planes must be 'error' or 'fill', got {missing_planes!r}")
        if mode != "r":
            from bioimage_py.sources.tiff.write import opened_file

            return opened_file(path, level)
        parsed = parse_tiff(path, key, series, level, fill=missing_planes == "fill")
        return TiffSource(path, parsed, missing_planes=missing_planes)

    def list_coarser(self, spec: SourceSpec) -> list[SourceSpec]:
        level, fill = spec.get("level", 0), spec.get("missing_planes") == "fill"
        n_levels = parse_tiff(spec["path"], spec.get("key"), None, level, fill=fill).n_levels
        return [{**spec, "level": n} for n in range(level + 1, n_levels)]

    def images_in(self, path: str) -> list[tuple[str, str]]:
        return several_series(path)

    def ome_xml_of(self, path: str) -> str | None:
        return file_xml(path)

    def list_arrays(self, path: str, **options: Any) -> list[str]:
        """Return number, name, shape and dtype of each series in a TIFF."""
        del options
        return series_titles(path)

    # New files

    def settled(self, spec: ArraySpec, path: str, *, grid: bool) -> ArraySpec:
        from bioimage_py.sources.tiff.new_file import settled

        return settled(super().settled(spec, path, grid=grid), grid=grid)

    def check_create(self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False) -> None:
        del spec
        if is_url(path):
            raise UnsupportedFormatError(f"TIFF is written to local files only, not to {path!r}")
        if key:
            raise InvalidArgumentError(
                f"{path!r} becomes a TIFF, which holds one image: leave out the key {key!r}"
            )
        check_new_file(path, self.title, self._is_own, overwrite=overwrite)

    def create(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False, *args: Any, **options: Any
    ) -> TiffSource:
        """Make a new file of one image; a tile takes up no disk space of its own until it is written."""
        del args, options
        made = self.create_unfinished(path, key, spec, overwrite)
        made.finish()
        return made

    def create_unfinished(
        self, path: str, key: str | None, spec: ArraySpec, overwrite: bool = False
    ) -> TiffSource:
        return self.create_levels(path, key, spec, (), overwrite)[0]

    def create_levels(
        self,
        path: str,
        key: str | None,
        spec: ArraySpec,
        coarser: Sequence[ArraySpec],
        overwrite: bool = False,
    ) -> Sequence[TiffSource]:
        from bioimage_py.sources.tiff.write import made_file

        self.check_create(path, key, spec, overwrite)
        return made_file(path, spec, coarser, overwrite=overwrite)

    def format_of(self, spec: ArraySpec) -> str:
        return "imagej tiff" if spec.imagej else "ome-tiff"

    def _is_own(self, path: str) -> bool:
        file = FileBytes.open(path)
        return (0, file.read(0, min(4, file.size))) in self.entry.magic
