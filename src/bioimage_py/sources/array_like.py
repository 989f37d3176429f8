"""Objects that are indexed as numpy arrays are: dask, xarray, and whatever else has shape, dtype and indexing."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    InvalidArgumentError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, normalise_unit, plain_value
from bioimage_py.sources.base import Source
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.identity import identities_below
from bioimage_py.storage import Identity


class ArrayLikeSource(Source):
    """Any object with shape, dtype and numpy's basic indexing.

    A `chunks` attribute that is a tuple of integers is taken as its chunk shape. Nothing else is known about such an object, so it is used by one thread at a time and what it returns is checked. It is
    writable if it has `__setitem__` and does not say otherwise (`read_only`, `readonly`, or `flags.writeable`).
    """

    format = "array-like"
    _one_thread = True

    def __init__(self, array: Any, metadata: ImageMetadata | None = None) -> None:
        self.array = array
        self._what = f"{type(array).__module__.partition('.')[0]}.{type(array).__name__}"
        self.shape = checked_shape(array.shape, self._what)
        self.dtype = checked_dtype(array.dtype, self._what)
        self.chunks = self._chunk_hint()
        self.writable = self._is_writable()
        self._metadata = metadata or ImageMetadata()
        self._lock = _lock_of(array) if self._one_thread else None

    @property
    def name(self) -> str:
        return f"{self._what} of shape {self.shape}"

    @property
    def metadata(self) -> ImageMetadata:
        return self._metadata

    def identities(self) -> frozenset[Identity]:
        return frozenset({("object", id(self.array))})

    def _chunk_hint(self) -> tuple[int, ...] | None:
        chunks = getattr(self.array, "chunks", None)
        if not isinstance(chunks, tuple) or len(chunks) != len(self.shape):
            return None
        ok = all(isinstance(c, (int, np.integer)) and not isinstance(c, bool) and c >= 1 for c in chunks)
        return tuple(int(c) for c in chunks) if ok else None

    def _is_writable(self) -> bool:
        array = self.array
        refused = (
            getattr(array, "read_only", False) is True
            or getattr(array, "readonly", False) is True
            or getattr(getattr(array, "flags", None), "writeable", True) is False
        )
        return hasattr(array, "__setitem__") and not refused

    def _fetch(self, slices: tuple[slice, ...]) -> Any:
        return self.array[slices]

    def _read(self, box: Box) -> AnyArray:
        with self._lock or nullcontext(), _failing(f"reading {box.text} from {self.name}"):
            found = self._fetch(box.slices)
            masked = isinstance(found, np.ma.MaskedArray)
            values = np.asarray(found)
        if masked:
            raise StorageError(f"{self.name} returned a masked array for {box.text}: its mask would be lost")
        if values.shape != box.shape:
            raise StorageError(
                f"{self.name} returned shape {values.shape} for {box.text}, which has shape {box.shape}: it does not index as "
                "numpy does"
            )
        if values.dtype != self.dtype and not np.can_cast(values.dtype, self.dtype, "equiv"):
            raise StorageError(
                f"{self.name} says that it is of dtype {self.dtype}, but reading returned {values.dtype}: give an object "
                "whose dtype is that of its voxels"
            )
        return values.astype(self.dtype, copy=False)

    def _write(self, box: Box, values: AnyArray) -> None:
        with self._lock or nullcontext(), _failing(f"writing {box.text} into {self.name}"):
            # The object may keep what it is given.
            self.array[box.slices] = np.array(cast_values(values, self.dtype))


class DaskSource(ArrayLikeSource):
    """A dask array: each region is computed in the thread that reads it, and never written.

    Dask's own scheduler is not used, because its threads would come on top of those of the run. Chunks that are regular
    are reported; others are not.
    """

    format = "dask"
    _one_thread = False

    def _chunk_hint(self) -> tuple[int, ...] | None:
        regular = all(len(set(c[:-1])) <= 1 and (len(c) < 2 or c[-1] <= c[0]) for c in self.array.chunks)
        return tuple(max(1, int(c[0])) for c in self.array.chunks) if regular else None

    def _is_writable(self) -> bool:
        return False

    def identities(self) -> frozenset[Identity]:
        return super().identities() | identities_below(self.array)

    def _fetch(self, slices: tuple[slice, ...]) -> Any:
        return self.array[slices].compute(scheduler="synchronous")


class XarraySource(ArrayLikeSource):
    """A DataArray whose voxels are still in its file: each region is loaded as it is read, and never written."""

    format = "xarray"
    _one_thread = False

    def _chunk_hint(self) -> tuple[int, ...] | None:
        chunks = self.array.encoding.get("preferred_chunks", {})
        found = [chunks.get(name) for name in self.array.dims]
        return tuple(found) if found and all(type(c) is int and c >= 1 for c in found) else None

    def _is_writable(self) -> bool:
        return False

    def identities(self) -> frozenset[Identity]:
        return super().identities() | identities_below(self.array.variable._data)  # noqa: SLF001 - `.data` would load it

    def _fetch(self, slices: tuple[slice, ...]) -> Any:
        # Indexing the DataArray itself would cut all of its coordinates too.
        return self.array.variable[slices].values


def checked_shape(shape: Any, what: str) -> tuple[int, ...]:
    try:
        extents = tuple(shape)
        if all(int(n) == n and n >= 0 for n in extents):
            return tuple(int(n) for n in extents)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InvalidArgumentError(
        f"{what} has shape {shape!r}, which is not one known extent per axis; for a dask array call "
        "compute_chunk_sizes() first"
    )


def checked_dtype(dtype: Any, what: str) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise UnsupportedFormatError(
            f"{what} has dtype {dtype!r}, which is not a numpy dtype: convert it to a numpy array first"
        ) from error
    if found.kind not in "biufc" and found.type.__module__ != "ml_dtypes":
        raise UnsupportedFormatError(
            f"{what} has dtype {found}, but voxels are bool, integers, floats or complex numbers"
        )
    return found


_LOCKS: WeakValueDictionary[int, Any] = WeakValueDictionary()
_LOCKS_LOCK = threading.Lock()


def _lock_of(obj: object) -> Any:
    """Return the lock of an object, the same for all sources that wrap it."""
    with _LOCKS_LOCK:
        lock = _LOCKS.get(id(obj))
        if lock is None:
            lock = _LOCKS[id(obj)] = threading.RLock()
        return lock


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Raise whatever an object raises as a StorageError."""
    try:
        yield
    except BioimagePyError:
        raise
    except Exception as error:
        raise StorageError(f"{what} failed: {type(error).__name__}: {error}") from error


_EVEN = 1e-3
"""By which part of a step coordinates may be uneven: what rounding to a few digits makes of even ones."""


def metadata_of(array: Any) -> ImageMetadata:
    """Return the axes of a DataArray, and voxel size, units and origin where its coordinates are numbers evenly spaced.

    Attributes that JSON cannot hold are left out with a BioimagePyWarning.
    """
    axes = tuple(str(name) for name in array.dims)
    spacing = [_spacing(array, name) for name in array.dims]
    units = [_unit(array, name) for name in array.dims]
    known = any(s is not None for s in spacing)
    origin = tuple(0.0 if s is None else s[0] for s in spacing)
    return ImageMetadata(
        axes=axes,
        voxel_size=tuple(1.0 if s is None else s[1] for s in spacing) if known else None,
        units=tuple(units) if any(units) else None,
        origin=origin if any(origin) else None,
        channel_names=_channel_names(array),
        attributes=_plain(array.attrs),
    ).fitting(array.ndim)


def _spacing(array: Any, name: Any) -> tuple[float, float] | None:
    """Return where the coordinates of a dimension start and their step, or None where they are not evenly spaced."""
    if name not in array.coords:
        return None
    values = np.asarray(array.coords[name].values)
    if values.ndim != 1 or values.size < 2 or values.dtype.kind not in "iuf":
        return None
    values = values.astype(float)
    step = (values[-1] - values[0]) / (values.size - 1)
    # A voxel has no negative size; coordinates that descend cannot be told.
    if not np.isfinite(values).all() or step <= 0 or np.abs(np.diff(values) - step).max() > _EVEN * step:
        return None
    return float(values[0]), float(step)


def _unit(array: Any, name: Any) -> str | None:
    unit = array.coords[name].attrs.get("units") if name in array.coords else None
    return normalise_unit(unit) if isinstance(unit, str) else None


def _channel_names(array: Any) -> tuple[str, ...] | None:
    if "c" not in array.dims or "c" not in array.coords:
        return None
    names = array.coords["c"].values.tolist()
    return tuple(names) if all(isinstance(n, str) for n in names) else None


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    plain, lost = {}, []
    for name, value in attributes.items():
        try:
            plain[str(name)] = plain_value(value)
        except InvalidArgumentError:
            lost.append(str(name))
    if lost:
        warnings.warn(
            f"attributes that are not plain JSON are left out: {', '.join(lost)}",
            BioimagePyWarning,
            stacklevel=4,
        )
    return plain
