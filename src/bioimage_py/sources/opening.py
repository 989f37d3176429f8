"""Turning what a user has into a source: `as_source`, `open_source`, `from_spec`."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, Level, overridden, plain_value
from bioimage_py.sources.base import FileSource, Source, SourceSpec, StandIn
from bioimage_py.sources.family import Family
from bioimage_py.sources.location import Location, family_by_content, locate, unsupported
from bioimage_py.sources.registry import FamilyEntry, families, family_entry, family_of, from_spec
from bioimage_py.sources.slices import image_suffixes_in
from bioimage_py.sources.stores import unfinished_at
from bioimage_py.storage import (
    StoreFolder,
    check_key,
    is_url,
    local_text,
    looks_like_pattern,
    path_text,
    unknown_options,
)

_MOST_AXES = 64


def as_source(obj: Any) -> Source:
    """Return a source for an array, a handle, a path or a URL; a `Source` is returned as it is.

    Parameters
    ----------
    obj
        A `Source`; a numpy array; a live zarr, z5py, h5py or TensorStore array (reopened through the fast engine where
        it is stored in files); a path or URL; or any object with `shape`, `dtype` and numpy indexing.

    Raises
    ------
    InvalidArgumentError
        For anything else.

    Examples
    --------
    >>> import numpy as np
    >>> as_source(np.zeros((3, 4), "uint8")).shape
    (3, 4)
    """
    if isinstance(obj, Source):
        return obj
    if isinstance(obj, (str, os.PathLike)):
        return open_source(obj)
    package = type(obj).__module__.partition(".")[0]
    for found in families():
        if package in found.handles:
            source = found.load().from_handle(obj)
            if source is not None:
                return _of_few_axes(source)
    source = family_of("memory").from_handle(obj)
    if source is None:
        raise InvalidArgumentError(
            f"cannot read voxels from {type(obj).__name__} {str(obj)[:80]!r}: give an array, a path, or an object with "
            "shape, dtype and indexing"
        )
    return _of_few_axes(source)


def open_source(
    path: str | os.PathLike[str],
    key: str | None = None,
    mode: str = "r",
    *,
    axes: Sequence[str] | None = None,
    voxel_size: float | Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
    **options: Any,
) -> Source:
    """Open a stored array by its path; nothing but metadata is read.

    Parameters
    ----------
    path
        A file, a folder or a URL: `"stack.tif"`, `"data.n5/raw"`, `"file.h5:/volumes/raw"`, `"s3://bucket/a.zarr"`, or a
        pattern such as `"slices/*.tif"` or, with a field for each axis, `"run/pos{c}/img_t{t}_z{z}.tif"`.
    key
        Name of the array in a container, or a pattern such as `"*.tif"` for the slices in a folder.
    mode
        `"r"` to read, `"r+"` to write into what exists.
    axes, voxel_size, units
        What the file does not say, or says wrongly, as for `with_metadata`. The file stays as it is.
    **options
        Options of the storage family, such as `series=` for TIFF.

    Returns
    -------
    Source
        The array, lazily.

    Raises
    ------
    SourceNotFoundError
        If the path, the key or the pattern leads to nothing.
    AmbiguousSourceError
        If a container holds several arrays and no key is given; the message lists them.
    UnsupportedFormatError
        If neither the ending nor the content is known.
    InvalidArgumentError
        If `axes`, `voxel_size` or `units` do not fit the array.

    Warns
    -----
    BioimagePyWarning
        If a copy into the array has not ended yet, or ended early, and it is opened for reading.
    """
    if mode not in ("r", "r+"):
        raise InvalidArgumentError(f"mode must be 'r' or 'r+', got {mode!r}; create_output makes new arrays")
    check_key(key)
    text = local_text(path_text(path))
    try:
        location = _stack_location(text, key) or locate(text, key)
        found = _family_at(location, options)
    except SourceNotFoundError as error:
        place = None if is_url(text) else StoreFolder.beside(text)
        if place is None or not (unfinished := unfinished_at(place)):
            raise
        raise SourceNotFoundError(f"{text!r} is {unfinished}") from error
    except BioimagePyError:
        raise
    except OSError as error:
        raise StorageError(f"cannot look at {text[:200]!r}: {error.strerror}") from error
    opened = found.load()
    _check_options(found.title, opened.open_path, options)
    source = _of_few_axes(opened.open_path(location.path, location.key, mode, **options))
    if mode == "r" and (unfinished := opened.unfinished(source)):
        warnings.warn(f"{source.name} is {unfinished}", BioimagePyWarning, stacklevel=2)
    return override_metadata(source, owned=True, axes=axes, voxel_size=voxel_size, units=units)


def with_metadata(
    source: Any,
    *,
    axes: Sequence[str] | None = None,
    voxel_size: float | Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
) -> Source:
    """Return a source with other axes, voxel size or units than its file says; voxels and store stay the same.

    Parameters
    ----------
    source
        Source, array, handle or path.
    axes
        One name per axis, slowest first: `"zyx"` or `("z", "y", "x")`.
    voxel_size
        One number for all axes of space, one per axis of space, or one per axis.
    units
        One unit for all axes of space, one per axis of space, or one per axis, such as `"um"`.

    Raises
    ------
    InvalidArgumentError
        If there is not one value per axis, a size is not a positive number, a unit is not known, or an axis is named twice.

    Examples
    --------
    >>> import numpy as np
    >>> image = with_metadata(np.zeros((5, 6, 7), "uint8"), axes="zyx", voxel_size=(2, 0.5, 0.5), units="um")
    >>> image.metadata.voxel_size, image.metadata.units[0]
    ((2.0, 0.5, 0.5), 'micrometer')
    """
    found = as_source(source)
    return override_metadata(found, axes=axes, voxel_size=voxel_size, units=units, owned=found is not source)


def _of_few_axes(source: Source) -> Source:
    if source.ndim > _MOST_AXES:
        raise UnsupportedFormatError(
            f"{source.name} has {source.ndim} axes, and numpy has arrays of at most {_MOST_AXES}"
        )
    return source


def _check_options(title: str, open_path: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Raise for an option that a family does not have; families that check their own take any."""
    parameters = list(inspect.signature(open_path).parameters.values())[3:]
    known = [p.name for p in parameters]
    unknown = [name for name in options if name not in known]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise unknown_options(title, unknown, known)


def _family_at(location: Location, options: Mapping[str, Any]) -> FamilyEntry:
    """Name the family of a path or URL: by its content if it is local, else by its ending."""
    # Those of other distributions take a while to be found.
    chosen = next((found for found in families() if found.chosen_by in options), None) if options else None
    if chosen is not None:
        return chosen
    if is_url(location.path):
        return location.family or _family_behind_url(location.path, options)
    if location.family is not None and location.family.patterns and looks_like_pattern(location.key or ""):
        return location.family
    found = family_by_content(location.path) or location.family
    if found is None:
        raise unsupported(location.path)
    return found


def _family_behind_url(url: str, options: Mapping[str, Any]) -> FamilyEntry:
    """Ask a URL without a known ending for the metadata files of each family."""
    folder = StoreFolder.at(url, options)
    for found in families():
        if any(folder.read(name) is not None for name in found.markers):
            return found
    asked = ", ".join(name for found in families() for name in found.markers)
    raise SourceNotFoundError(
        f"there is no Zarr, N5 or precomputed array at {folder.path}: none of {asked} is there"
    )


def _stack_location(path: str, key: str | None) -> Location | None:
    """Recognise a folder of slices: by a pattern, or by holding images of one kind only."""
    if is_url(path):
        return None
    stack, place, pattern = family_entry("stack"), Path(path), None
    if key is not None and looks_like_pattern(key) and (place.is_dir() or not place.exists()):
        pattern = None if _names_an_array(place, key) else key
    elif key is None and looks_like_pattern(path) and not place.exists() and locate(path).key is None:
        n = next((n for n, part in enumerate(place.parts) if looks_like_pattern(part) and not Path(*place.parts[: n + 1]).exists()), None)  # fmt: skip
        if n is not None:
            place, pattern = Path(*place.parts[:n]), "/".join(place.parts[n:])
    if pattern is not None:
        if not place.is_dir():
            raise SourceNotFoundError(f"there is no folder {str(place)!r} to look for {pattern!r} in")
        return Location(str(place), pattern, stack)
    if (
        key is None
        and place.is_dir()
        and locate(path).family is None
        and family_by_content(str(place)) is None
    ):
        suffixes = image_suffixes_in(str(place))
        if len(suffixes) == 1:
            return Location(str(place), f"*{suffixes[0]}", stack)
        if suffixes:
            raise InvalidArgumentError(
                f"folder {path!r} holds images of several kinds ({', '.join(suffixes)})",
                hints=[Hint.of("give a pattern, for example {}", "open_source", path, f"*{suffixes[0]}")],
            )
    return None


def _names_an_array(place: Path, key: str) -> bool:
    """Whether a key with the characters of a pattern is a name in a container: one that is there, or in what is known to hold arrays."""
    found = family_by_content(str(place)) if place.is_dir() else None
    return found is not None or (place / key.strip("/")).is_dir()


def coarser_levels(source: Source) -> list[Source]:
    """Open the levels that are coarser than a stored array, finest first; none where there are none.

    They are opened for reading, and closed by whoever asked. A level that cannot be opened, or that is not a smaller copy of the
    array, is left out with a BioimagePyWarning.
    """
    if not isinstance(source, FileSource):
        return []
    try:
        spec = source.to_spec()
    except InvalidArgumentError:  # a live handle, or voxels in memory
        return []
    found: list[Source] = []
    try:
        for coarser in family_of(source.kind).list_coarser({**spec, "mode": "r"}):
            level = _opened(coarser, source)
            if level is not None:
                found.append(level)
    except BaseException:
        for level in found:
            level.close()
        raise
    return found


def _opened(spec: dict[str, object], source: Source) -> Source | None:
    warn = partial(warnings.warn, category=BioimagePyWarning, stacklevel=3)
    try:
        level = from_spec(spec)
    except BioimagePyError as error:
        warn(f"a coarser level of {source.name} is left out, it cannot be opened: {error}")
        return None
    smaller = level.ndim == source.ndim and all(
        0 < n <= full for n, full in zip(level.shape, source.shape, strict=True)
    )
    if smaller and level.dtype == source.dtype:
        return level
    level.close()
    warn(
        f"{level.name} is left out: with shape {level.shape} and dtype {level.dtype} it is not a smaller copy of {source.name} "
        f"of shape {source.shape} and dtype {source.dtype}"
    )
    return None


def place_of_level(full: Source, level: Source) -> Level:
    """Return how a stored level lies in the full size: by the voxel sizes of both, else by their shapes."""
    size, own = full.metadata.voxel_size, level.metadata.voxel_size
    if size is None or own is None:
        return Level("", tuple(float(round(n / m)) for n, m in zip(full.shape, level.shape, strict=True)))
    nowhere = (0.0,) * full.ndim
    at, first = level.metadata.origin or nowhere, full.metadata.origin or nowhere
    factors = tuple(a / b for a, b in zip(own, size, strict=True))
    return Level("", factors, tuple((a - b) / s for a, b, s in zip(at, first, size, strict=True)))


_SAME = (
    "shape", "dtype", "chunks", "shards", "writable", "concurrent_writes", "format", "one_file", "codec", "storage_order", "fill_value",
)  # fmt: skip


class OverriddenSource(StandIn):
    """Another source with other metadata; everything else is that source's."""

    kind = "described"
    reads_others = True

    def __init__(self, source: Source, said: Mapping[str, Any], *, owned: bool) -> None:
        self.stands_for, self.inputs = source, (source,)
        self._said = {k: value if isinstance(value, str) else plain_value(value) for k, value in said.items()}
        self._owned = owned
        self._metadata = overridden(source.metadata, source.ndim, **said)
        for name in _SAME:
            setattr(self, name, getattr(source, name))

    @property
    def metadata(self) -> ImageMetadata:
        return self._metadata

    @property
    def name(self) -> str:
        return self.stands_for.name

    def _read(self, box: Box) -> AnyArray:
        return self.stands_for.read(box)

    def _write(self, box: Box, values: AnyArray) -> None:
        self.stands_for.write(box, values)

    def to_spec(self) -> SourceSpec:
        inner = self.stands_for.to_spec()
        mode = {"mode": inner["mode"]} if "mode" in inner else {}
        return {"kind": self.kind, "input": inner, **mode, "said": self._said}

    def for_run(self, threads: int, cache_bytes: int) -> Source:
        twin = self.stands_for.for_run(threads, cache_bytes)
        return self if twin is self.stands_for else twin

    def close(self) -> None:
        if self._owned:
            self.stands_for.close()


def override_metadata(source: Source, *, owned: bool, **said: Any) -> Source:
    """Return the source itself where nothing is said, else one with other metadata; it is closed if that fails."""
    given = {name: value for name, value in said.items() if value is not None}
    if not given:
        return source
    try:
        return OverriddenSource(source, given, owned=owned)
    except BaseException:
        if owned:
            source.close()
        raise


class OverrideFamily(Family):
    """Arrays with other metadata, in specs."""

    def open_spec(self, spec: SourceSpec) -> Source:
        inner = dict(spec["input"])
        if "mode" in inner:
            inner["mode"] = spec.get("mode", "r")
        return override_metadata(from_spec(inner), owned=True, **spec["said"])
