"""`create_output`: new arrays with good defaults."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from bioimage_py.errors import InvalidArgumentError, UnsupportedFormatError
from bioimage_py.geometry.chunk_shape import default_chunks, sensible_chunks
from bioimage_py.metadata import ImageMetadata, plain_value
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.base import Source
from bioimage_py.sources.location import Location, locate
from bioimage_py.sources.opening import as_source
from bioimage_py.sources.registry import FAMILIES, family_module

__all__ = ["PlannedOutput", "create_output", "plan_output"]

_CHUNKED = ("zarr", "n5", "precomputed", "hdf5")
_FILLED_WITH_ZERO = ("n5", "precomputed")


class PlannedOutput(NamedTuple):
    """A new array before it exists: where, in which family, and how it shall look."""

    location: Location
    kind: str
    spec: ArraySpec

    @property
    def name(self) -> str:
        """Path, and key where there is one."""
        return self.location.path if not self.location.key else f"{self.location.path}:{self.location.key}"

    def create(self, *, overwrite: bool) -> Source:
        """Make the array and return it opened for writing."""
        if not isinstance(overwrite, (bool, np.bool_)):
            # What is not empty counts as true, "no" as well, and what is removed is gone.
            raise InvalidArgumentError(f"overwrite must be True or False, got {overwrite!r}")
        module = family_module(self.kind, "create")
        return cast(
            "Source",
            module.create(self.location.path, self.location.key, self.spec, overwrite=bool(overwrite)),
        )


def create_output(
    path: str | os.PathLike[str],
    *,
    like: Any = None,
    shape: Sequence[int] | None = None,
    dtype: npt.DTypeLike | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
    zarr_format: int = 3,
    fill_value: Any = None,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    key: str | None = None,
) -> Source:
    """Make a new stored array and return it opened for writing.

    Parameters
    ----------
    path
        Where: `"out.zarr"`, `"out.zarr/raw"`, `"out.n5/raw"`, `"out.h5:/raw"`, `"out.precomputed"`, `"out.npy"`, or a URL. The ending
        names the format.
    like
        A source, array or path that gives shape, dtype, chunks, fill value, axes, voxel size and attributes, as far
        as they are not given here.
    shape, dtype
        Shape in voxels and numpy dtype; needed without `like`.
    chunks
        Shape of a chunk in voxels. Default: those of `like` where they are sensible, else 0.25 to 1 MiB near to cubes.
    shards
        Shape of a shard in voxels (Zarr v3), a multiple of the chunks. Default: none, or those of `like`.
    codec
        Compression: `"zstd:3"`, `"gzip"`, `"none"`, `{"name": "blosc", "cname": "lz4", "level": 5}`. Default: the store's, for
        Zarr zstd with shuffle for integers.
    zarr_format
        3 or 2.
    fill_value
        What voxels read as that were never written. Default: that of `like` where the store can have one, else 0.
    attributes
        Attributes of the array, added to those of `like`.
    overwrite
        Whether an array that is there already is removed first. Anything that is not such an array is never removed.
    key
        Name of the array in a container, if the path does not say it.

    Raises
    ------
    OutputExistsError
        If the output is there and `overwrite` is False; nothing is touched.
    UnsupportedFormatError
        If the ending is none that can be written, or the store cannot hold the dtype.
    InvalidArgumentError
        For shapes, chunks, shards or codecs that do not fit.

    Examples
    --------
    >>> import tempfile, os
    >>> out = create_output(os.path.join(tempfile.mkdtemp(), "a.zarr"), shape=(100, 200, 300), dtype="uint16")
    >>> out.chunks, out.dtype
    ((64, 64, 64), dtype('uint16'))
    """
    planned = plan_output(
        path,
        like=None if like is None else as_source(like),
        shape=shape,
        dtype=dtype,
        chunks=chunks,
        shards=shards,
        codec=codec,
        zarr_format=zarr_format,
        fill_value=fill_value,
        attributes=attributes,
        key=key,
    )
    return planned.create(overwrite=overwrite)


def plan_output(
    path: str | os.PathLike[str],
    *,
    like: Source | None = None,
    shape: Sequence[int] | None = None,
    dtype: npt.DTypeLike | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
    zarr_format: int = 3,
    fill_value: Any = None,
    attributes: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> PlannedOutput:
    """Decide all that `create_output` decides, and make nothing."""
    location = locate(path, key)
    kind = _writable_kind(location)
    if zarr_format not in (2, 3):
        raise InvalidArgumentError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
    if like is None and (shape is None or dtype is None):
        raise InvalidArgumentError("create_output needs shape and dtype, or like=")
    full = _extents("shape", shape if like is None or shape is not None else like.shape, least=0)
    kept = like if like is not None and like.shape == full else None
    voxel = _dtype(dtype if dtype is not None or like is None else like.dtype)
    metadata = ImageMetadata() if like is None else like.metadata.fitting(len(full))
    if attributes is not None and not isinstance(attributes, Mapping):
        raise InvalidArgumentError(f"attributes must be a dict of names and JSON values, got {attributes!r}")
    if attributes:
        metadata = replace(metadata, attributes={**metadata.attributes, **plain_value(attributes)})
    grid, shard_grid = _grids(kind, full, voxel, chunks, shards, kept, metadata, zarr_format)
    if fill_value is None and kept is not None and kind not in _FILLED_WITH_ZERO:
        fill_value = _castable(kept.fill_value, voxel)
    if np.ndim(fill_value) != 0:
        raise InvalidArgumentError(f"fill_value must be one number, got {fill_value!r}")
    spec = ArraySpec(
        shape=full,
        dtype=voxel,
        chunks=grid,
        shards=shard_grid,
        codec=None if codec is None else Codec.parse(codec),
        zarr_format=zarr_format,
        fill_value=fill_value,
        metadata=metadata,
    )
    return PlannedOutput(location, kind, spec)


def _writable_kind(location: Location) -> str:
    found = location.family
    if location.path.lower().endswith((".zip", ".gz")):
        raise UnsupportedFormatError(
            f"output {location.path!r} would be compressed as a whole, which can be read but not written block by block: "
            "write it uncompressed and compress it afterwards"
        )
    if found is None or not found.writes:
        can = ", ".join(f"{f.title} ({' '.join(f.suffixes)})" for f in FAMILIES if f.writes)
        what = (
            "has no ending that names a format"
            if found is None
            else f"would be {found.title}, which is read only here"
        )
        raise UnsupportedFormatError(f"output {location.path!r} {what}; formats that can be written: {can}")
    return found.kind


def _grids(
    kind: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: Sequence[int] | None,
    shards: Sequence[int] | None,
    like: Source | None,
    metadata: ImageMetadata,
    zarr_format: int,
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    if kind not in _CHUNKED:
        if chunks is not None or shards is not None:
            raise InvalidArgumentError(
                f"{kind} files have no chunks or shards; leave out chunks= and shards="
            )
        return None, None
    grid = None if chunks is None else _extents("chunks", chunks, least=1, ndim=len(shape))
    shard_grid = None if shards is None else _extents("shards", shards, least=1, ndim=len(shape))
    if grid is None:
        old = None if like is None else like.chunks
        keep = old is not None and sensible_chunks(old, shape, dtype.itemsize, metadata.axes)
        grid = old if keep and old is not None else default_chunks(shape, dtype.itemsize, metadata.axes)
        if shard_grid is not None and not _divides(grid, shard_grid):
            grid = tuple(_nearest_divisor(s, c) for c, s in zip(grid, shard_grid, strict=True))
    if shard_grid is None and chunks is None and like is not None and grid == like.chunks:
        shard_grid = like.shards if kind == "zarr" and zarr_format == 3 else None
    if shard_grid is not None and not _divides(grid, shard_grid):
        raise InvalidArgumentError(
            f"shards {shard_grid} must be a multiple of the chunks {grid} on every axis"
        )
    return grid, shard_grid


def _nearest_divisor(shard: int, chunk: int) -> int:
    """Return the extent of a chunk that divides a shard's and is, as a ratio, nearest to the one wished for."""
    small = [n for n in range(1, math.isqrt(shard) + 1) if shard % n == 0]
    divisors = {*small, *(shard // n for n in small)}
    return min(divisors, key=lambda n: (max(n / chunk, chunk / n), n))


def _divides(chunks: tuple[int, ...], shards: tuple[int, ...]) -> bool:
    return all(s % c == 0 for c, s in zip(chunks, shards, strict=True))


def _extents(what: str, given: Any, *, least: int, ndim: int | None = None) -> tuple[int, ...]:
    try:
        extents = tuple(given)
        fine = all(not isinstance(n, bool) and int(n) == n and least <= n < 2**63 for n in extents)
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise InvalidArgumentError(f"{what} must be one integer of at least {least} per axis, got {given!r}")
    if ndim is not None and len(extents) != ndim:
        raise InvalidArgumentError(f"{what} {extents} has {len(extents)} axes, but the array has {ndim}")
    return tuple(int(n) for n in extents)


def _dtype(dtype: Any) -> np.dtype[Any]:
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise InvalidArgumentError(
            f"{dtype!r} is no numpy dtype; those for voxels are bool, uint8, uint16, int32, float32 and the like"
        ) from error
    return found.newbyteorder("=") if found.byteorder == ">" else found


def _castable(value: Any, dtype: np.dtype[Any]) -> Any:
    if value is None:
        return None
    given = np.asarray(value)
    if given.dtype.kind == "c" and dtype.kind not in "cb":
        if given.imag != 0:
            return None
        given = given.real
    with np.errstate(all="ignore"):
        cast_value = given.astype(dtype)
    same = cast_value == value or (cast_value != cast_value and value != value)  # noqa: PLR0124 - NaN is not itself
    return cast_value[()] if same else None
