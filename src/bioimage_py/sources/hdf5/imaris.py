"""Imaris 5.5 files: an HDF5 file of one image with its resolution levels, whose volumes are padded to whole chunks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, cast

import h5py
import numpy as np

from bioimage_py.errors import Hint, StorageError, UnsupportedFormatError
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.base import FileSource
from bioimage_py.sources.hdf5.files import FOREIGN_ERRORS, hdf5_errors, reading
from bioimage_py.sources.hdf5.links import OtherFiles, follow
from bioimage_py.sources.hdf5.volumes import AXES, Volumes, VolumesFamily, check_level, hdf5_volumes
from bioimage_py.sources.registry import family_of

_DATA, _INFO = "DataSet", "DataSetInfo"
_SAID = re.compile(r"[XYZ]|Ext(Min|Max)[012]|Unit|Color|ColorRange|Name")
"""Attributes that are read into the metadata that all formats have."""


class ImarisFamily(VolumesFamily):
    """Imaris: the image, or by a key any dataset of the file."""

    def open_path(
        self,
        path: str,
        key: str | None = None,
        mode: str = "r",
        *,
        level: int = 0,
        external_files: bool = False,
    ) -> FileSource:
        if key is None:
            return super().open_path(path, None, mode, level=level, external_files=external_files)
        found = family_of("hdf5").open_path(path, key, mode, external_files=external_files)
        return cast("FileSource", found)

    def list_arrays(self, path: str, **options: Any) -> list[str]:
        return family_of("hdf5").list_arrays(path, **options)

    def volumes(self, path: str, key: str | None, level: int, others: OtherFiles) -> Volumes:
        del key
        file = _Groups(path, others)
        levels = file.numbers(_DATA, "ResolutionLevel")
        if not levels:
            hint = Hint.of("a dataset of it opens by its name, for example {}", "open_source", path, "Data")
            text = f"{path!r} is not an Imaris 5.5 file: it has no group {_DATA}/ResolutionLevel 0"
            raise UnsupportedFormatError(text, hints=[hint])
        check_level(path, level, len(levels))
        top = f"{_DATA}/ResolutionLevel {level}"
        times, channels = file.numbers(top, "TimePoint"), file.numbers(f"{top}/TimePoint 0", "Channel")
        if not times or not channels:
            raise StorageError(f"{path!r} has no TimePoint 0 with a Channel 0 at resolution level {level}")
        keys = (f"{top}/TimePoint {t}/Channel {c}/Data" for t in times for c in channels)
        full, size = file.size(0), file.size(level)
        return Volumes(
            format="imaris",
            container=path,
            outer=(len(times), len(channels)),
            keys=tuple(keys),
            open=hdf5_volumes(path, others),
            full=full,
            shape=size,
            metadata=_metadata(file, len(times), len(channels), full, size),
            n_levels=len(levels),
        )


class _Groups:
    """The groups of a file, and their attributes as texts."""

    def __init__(self, path: str, others: OtherFiles) -> None:
        self._path, self._others = path, others

    @contextmanager
    def _group(self, key: str) -> Iterator[Any]:
        place, inner = follow(self._path, key, self._others)
        with reading(place) as file, hdf5_errors(f"reading {key!r} of {self._path!r} failed"):
            found = file.get(inner)
            yield found if isinstance(found, h5py.Group) else None

    def numbers(self, key: str, word: str) -> range:
        """Return the numbers in the names of the groups that begin with a word; StorageError if one between them is missing."""
        with self._group(key) as group:
            names = (re.fullmatch(rf"{word} (\d+)", name) for name in group or ())
            found = {int(name[1]) for name in names if name is not None}
        missing = sorted({*range(max(found, default=-1))} - found) if max(found, default=0) < 2**20 else ["…"]
        if missing:
            raise StorageError(
                f"{self._path!r} is damaged: {key!r} has no {word} {missing[0]}, but {word} {max(found)}"
            )
        return range(len(found))

    def texts(self, key: str) -> dict[str, str]:
        found = {}
        with self._group(key) as group:
            for name in group.attrs if group is not None else ():
                with suppress(*FOREIGN_ERRORS):
                    found[name] = _text(group.attrs[name])
        return found

    def size(self, level: int) -> tuple[int, ...]:
        """Return the extents of a level along z, y, x; its datasets are padded."""
        key = f"{_DATA}/ResolutionLevel {level}/TimePoint 0/Channel 0"
        own, whole = self.texts(key), self.texts(f"{_INFO}/Image") if level == 0 else {}
        said = [own.get(f"ImageSize{axis}", whole.get(axis, "")) for axis in "ZYX"]
        if not all(one.isdecimal() and int(one) for one in said):
            shown = ", ".join(map(repr, said))
            raise StorageError(
                f"{self._path!r} does not say how large level {level} is: ImageSizeZ, …Y and …X of {key!r} are {shown}"
            )
        return tuple(map(int, said))


def _text(value: Any) -> str:
    """Return the text of an attribute, which is an array of single characters."""
    if isinstance(value, np.ndarray):
        value = value.astype("S").tobytes() if value.dtype.kind in "SU" else value.ravel()[:1].tolist()[0]
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip("\0 ")


def _numbers(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(map(float, (text or "").split()))
    except ValueError:
        return ()


def _metadata(
    file: _Groups, n_times: int, n_channels: int, full: tuple[int, ...], size: tuple[int, ...]
) -> ImageMetadata:
    image = file.texts(f"{_INFO}/Image")
    channels = [file.texts(f"{_INFO}/Channel {c}") for c in range(n_channels)]
    ends = [_numbers(f"{image.get(f'ExtMin{axis}')} {image.get(f'ExtMax{axis}')}") for axis in (2, 1, 0)]
    interval = _interval(file.texts(f"{_INFO}/TimeInfo"), n_times)
    sizes, origin = [interval or 1.0, 1.0], [0.0, 0.0]
    units = ["second" if interval else None, None]
    for pair, n, m in zip(ends, full, size, strict=True):
        known = len(pair) == 2 and pair[1] > pair[0]  # of a plane, z can have no extent
        voxel, factor = (pair[1] - pair[0]) / n if known else 1.0, _factor(n, m)
        sizes.append(voxel * factor)
        origin.append((pair[0] if known else 0.0) + (factor - 1) / 2 * voxel)
        units.append(image.get("Unit") or None if known else None)
    colors = tuple(_color(one.get("Color")) for one in channels)
    names = tuple(one.get("Name", "") for one in channels)
    limits = [_numbers(one.get("ColorRange")) for one in channels]
    groups = {"Image": image, **{f"Channel {n}": one for n, one in enumerate(channels)}}
    left = {
        name: rest
        for name, one in groups.items()
        if (rest := {k: v for k, v in one.items() if not _SAID.fullmatch(k)})
    }
    return ImageMetadata(
        axes=AXES,
        voxel_size=tuple(sizes) if any(units) else None,
        units=tuple(units),
        origin=tuple(origin) if any(origin) else None,
        channel_names=names if all(names) else None,
        channel_colors=tuple(one for one in colors if one) if all(colors) else None,
        contrast_limits=tuple((low, high) for low, high in limits)
        if all(len(one) == 2 and one[0] < one[1] for one in limits)
        else None,
        attributes={"imaris": left} if left else {},
    )


def _factor(full: int, size: int) -> float:
    """Return by how much voxels are larger: a whole number where windows of so many give the size, at the far end cut or not.

    Imaris halves, so a power of two comes first.
    """
    ratio = max(1.0, full / size)
    fitting = (f for f in (2 ** int(math.log2(ratio)), round(ratio)) if size in (full // f, -(-full // f)))
    return float(next(fitting, ratio))


def _color(text: str | None) -> str | None:
    parts = _numbers(text)
    fits = len(parts) == 3 and all(0 <= part <= 1 for part in parts)
    return "".join(f"{round(255 * part):02X}" for part in parts) if fits else None


def _interval(said: Mapping[str, str], n_times: int) -> float | None:
    """Return the seconds between two time points; None where they are not known."""
    try:
        first, last = (datetime.fromisoformat(said[f"TimePoint{n}"]) for n in (1, n_times))
        return (last - first).total_seconds() / (n_times - 1) if last > first else None
    except (KeyError, ValueError, TypeError):
        return None
