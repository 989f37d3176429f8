"""`create_output`: new arrays with good defaults."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import ChunkEncoding, UnknownEncoding
from bioimage_py.errors import Hint, InvalidArgumentError, UnsupportedFormatError
from bioimage_py.geometry import checked_extents, default_chunks, sensible_chunks
from bioimage_py.metadata import (
    ImageMetadata,
    Level,
    axes_for_ngff,
    axis_type,
    ngff_order,
    overridden,
    plain_value,
    zarr_format_for,
)
from bioimage_py.sources.array_like import checked_dtype
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.base import FileSource, Source
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.family import Family
from bioimage_py.sources.location import Location, locate
from bioimage_py.sources.ome_zarr import FULL_SIZE, ImageGroup
from bioimage_py.sources.opening import as_source
from bioimage_py.sources.registry import FamilyEntry, families, family_of
from bioimage_py.storage import COMPRESSED_SUFFIXES, check_names

_WHOLE = (".zip", *COMPRESSED_SUFFIXES)


class PlannedOutput(NamedTuple):
    """A new array before it exists: where, in which family, and how it shall look.

    `image_key` is that of the group of a new OME-Zarr image whose full-size array it is, `""` for the container itself; else None.
    """

    location: Location
    family: Family
    spec: ArraySpec
    image_key: str | None = None

    @property
    def name(self) -> str:
        return self.location.path if not self.location.key else f"{self.location.path}:{self.location.key}"

    def check(self, coarser: Sequence[Level] = (), *, overwrite: bool) -> None:
        """Raise what `create`, or `create_levels`, would raise before it makes anything."""
        replaces = checked_overwrite(overwrite)
        if self.image_key is None:
            self.family.check_create(self.location.path, self.location.key, self.spec, replaces)
            return
        from bioimage_py.sources.ome_zarr import check_image

        check_image(*self._image(coarser), overwrite=replaces)

    def create(self, *, overwrite: bool, unfinished: bool = False) -> Source:
        """Make the array, and the image around it where it is one of an OME-Zarr, and return it opened for writing.

        With `unfinished` a file that holds it gets its name by the source's `finish`, where the family can do that.
        """
        if self.image_key is not None:
            return self.create_levels((), overwrite=overwrite)[0]
        make = self.family.create_unfinished if unfinished else self.family.create
        made = make(self.location.path, self.location.key, self.spec, checked_overwrite(overwrite))
        if not self.family.entry.in_folders:
            made.forget_digest()  # which stands beside a file that is replaced
        return made

    def create_levels(self, coarser: Sequence[Level], *, overwrite: bool) -> list[Source]:
        if self.image_key is None:
            return self.create_specs([self.level_spec(one) for one in coarser], overwrite=overwrite)
        from bioimage_py.sources.ome_zarr import make_image

        return make_image(*self._image(coarser), overwrite=checked_overwrite(overwrite))

    def level_spec(self, level: Level, shape: tuple[int, ...] | None = None) -> ArraySpec:
        """Return a smaller level as a new array; where the size of a voxel is not known, its own is its factor."""
        full, metadata = self.spec.shape, self.spec.metadata
        size, origin = level.placed(metadata.voxel_size, metadata.origin)
        shape = shape or tuple(-int(-n // f) for n, f in zip(full, level.factors, strict=True))
        return replace(self.spec, shape=shape, metadata=replace(metadata, voxel_size=size, origin=origin))

    def create_specs(self, coarser: Sequence[ArraySpec], *, overwrite: bool) -> list[Source]:
        """Make an image with smaller levels where the family keeps levels by itself."""
        path, key, _ = self.location
        made = list(self.family.create_levels(path, key, self.spec, coarser, checked_overwrite(overwrite)))
        made[0].forget_digest()
        return made

    def _image(self, coarser: Sequence[Level]) -> tuple[ImageGroup, ArraySpec, list[Level]]:
        group = ImageGroup(self.location.path, self.image_key or None)
        return group, self.spec, [Level(FULL_SIZE, (1.0,) * len(self.spec.shape)), *coarser]


def finish_images(written: Iterable[Source]) -> None:
    """Complete the metadata of the image that some arrays are of, such as its contrast limits, where nobody has chosen any."""
    stored = [one for one in written if isinstance(one, FileSource) and one.key]
    if stored:
        family_of(stored[0].kind).finish_image(stored)


def checked_overwrite(overwrite: Any) -> bool:
    if not isinstance(overwrite, (bool, np.bool_)):
        # What is not empty counts as true, "no" as well, and what is removed is gone.
        raise InvalidArgumentError(f"overwrite must be True or False, got {overwrite!r}")
    return bool(overwrite)


def create_output(
    path: str | os.PathLike[str],
    *,
    like: Any = None,
    shape: Sequence[int] | None = None,
    dtype: npt.DTypeLike | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | Literal["auto"] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
    zarr_format: int | None = None,
    ome_zarr_version: str | None = None,
    imagej: bool | None = None,
    skip_zeros: bool | None = None,
    fill_value: Any = None,
    attributes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    key: str | None = None,
    axes: Sequence[str] | None = None,
    voxel_size: float | Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
) -> Source:
    """Make a new stored array and return it opened for writing.

    Parameters
    ----------
    path
        Where: `"out.ome.zarr"` (an OME-Zarr image, of which this is the full-size array), `"out.zarr"`, `"out.zarr/raw"`, `"out.n5/raw"`, `"out.h5:/raw"`, `"out.precomputed"`, `"out.npy"`, `"out.ome.tif"`, `"slices/{z:04}.tif"`, or a URL. The ending
        names the format.
    like
        A source, array or path that gives shape, dtype, chunks, fill value, axes, voxel size and attributes, as far
        as they are not given here.
    shape, dtype
        Shape in voxels and numpy dtype; needed without `like`.
    chunks
        Shape of a chunk in voxels. Default: those of `like` where they are sensible, else 0.25 to 1 MiB near to cubes.
    shards
        Shape of a shard in voxels (Zarr v3, precomputed), a multiple of the chunks; `"auto"` for shards of up to 16 MiB of voxels. Default: none, or
        those of `like`.
    codec
        Compression: `"zstd:3"`, `"bitround:10+zstd"`, `"none"`, `{"name": "blosc", "cname": "lz4", "level": 5}`; for precomputed also
        `"png"`, `"jpeg:90"`, which changes voxels, and `{"name": "compressed_segmentation", "block_size": (8, 8, 8)}`. Default: the store's, for
        Zarr zstd with shuffle for integers.
    zarr_format
        3 or 2. Default: that of the group which the array is put into, else 3.
    ome_zarr_version
        Of an OME-Zarr image: `"0.4"` (Zarr v2), `"0.5"` or `"0.6"` (Zarr v3). Default: 0.4 with Zarr v2, 0.5 with v3; labels have that
        of their image.
    imagej
        True for a TIFF that is an ImageJ hyperstack, without compression. Default: an OME-TIFF.
    skip_zeros
        True for a precomputed volume without its chunks of zeros. Default: they are stored.
    fill_value
        What voxels read as that were never written, a number that the dtype holds. Default: that of `like` where the store can
        have one, else 0.
    attributes
        Attributes of the array, added to those of `like`.
    overwrite
        Whether an array that is there already is removed first. Anything that is not such an array is never removed.
    key
        Name of the array in a container, if the path does not say it.
    axes
        Names of the axes, slowest first, such as `"czyx"`. Default: those of `like`.
    voxel_size
        Physical size of a voxel: one number for all axes of space, one per axis of space, or one per axis. Default: that of
        `like`.
    units
        Unit of the voxel size, such as `"um"`: one, or one per axis as for `voxel_size`. Default: those of `like`.

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
    given = {name: value for name, value in locals().items() if name not in ("path", "like", "overwrite")}
    source = None if like is None else as_source(like)
    return plan_output(path, like=source, **given).create(overwrite=overwrite)


def plan_output(
    path: str | os.PathLike[str],
    *,
    like: Source | None = None,
    shape: Sequence[int] | None = None,
    dtype: npt.DTypeLike | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
    zarr_format: int | None = None,
    ome_zarr_version: str | None = None,
    imagej: bool | None = None,
    skip_zeros: bool | None = None,
    fill_value: Any = None,
    attributes: Mapping[str, Any] | None = None,
    key: str | None = None,
    axes: Sequence[str] | None = None,
    voxel_size: float | Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
    encoding: ChunkEncoding | UnknownEncoding | None = None,
) -> PlannedOutput:
    """Decide all that `create_output` decides, and make nothing.

    With `encoding`, chunks, codec and byte order that are not given are those of chunks which will be copied into it, so
    that they need not be decoded.
    """
    location = locate(path, key)
    found = writable_family(location).load()
    if zarr_format not in (None, 2, 3):
        raise InvalidArgumentError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
    zarr_format = zarr_format_for(ome_zarr_version, zarr_format)
    if like is None and (shape is None or dtype is None):
        raise InvalidArgumentError("create_output needs shape and dtype, or like=")
    full = checked_extents("shape", shape if like is None or shape is not None else like.shape, least=0)
    if math.prod(full) >= 2**63:
        raise InvalidArgumentError(f"shape {full} has {math.prod(full):.3g} voxels, which is more than 2**63")
    kept = like if like is not None and like.shape == full else None
    voxel = checked_new_dtype(dtype if dtype is not None or like is None else like.dtype)
    metadata = ImageMetadata() if like is None else like.metadata.fitting(len(full))
    if attributes is not None and not isinstance(attributes, Mapping):
        raise InvalidArgumentError(f"attributes must be a dict of names and JSON values, got {attributes!r}")
    if attributes:
        metadata = replace(metadata, attributes={**metadata.attributes, **plain_value(attributes)})
    metadata = overridden(metadata, len(full), axes=axes, voxel_size=voxel_size, units=units)
    image = found.image_group(location.path, location.key)
    if image is not None:
        image.check_dtype(voxel)
        location = location._replace(key=image.level_key(FULL_SIZE))
        metadata = replace(metadata, axes=axes_for_ngff(metadata.axes, len(full), location.path))
    elif ome_zarr_version is not None:
        raise InvalidArgumentError(
            f"ome_zarr_version is for OME-Zarr images, and {location.path!r} is not a place for one: give a path that ends in .ome.zarr",
            hints=[Hint.of("or leave out {}", ome_zarr_version=...)],
        )
    zarr_format = zarr_format or found.format_around(location.path, location.key) or 3
    grid, shard_grid = new_grids(found, full, voxel, chunks, shards, kept, metadata, zarr_format)
    if fill_value is not None:
        fill_value = checked_fill(fill_value, voxel, found)
    elif kept is not None and not found.only_zero_fill:
        with suppress(InvalidArgumentError):  # the default is taken where the dtype cannot hold it
            fill_value = None if kept.fill_value is None else checked_fill(kept.fill_value, voxel)
    spec = ArraySpec(
        shape=full,
        dtype=voxel,
        chunks=grid,
        shards=shard_grid,
        codec=None if codec is None else Codec.parse(codec),
        zarr_format=zarr_format,
        ome_zarr_version=ome_zarr_version,
        imagej=bool(imagej),
        skip_zeros=bool(skip_zeros),
        fill_value=fill_value,
        metadata=metadata,
        ome_xml=kept.ome_xml if kept is not None and kept.dtype == voxel else None,
    )
    if like is not None:
        spec = found.following(spec, like)
    if isinstance(encoding, ChunkEncoding):
        spec = found.keeping(spec, encoding, grid=chunks is None, codec=codec is None)
    spec = found.settled(spec, location.path, grid=chunks is not None)
    check_names(location.path, location.key)
    return PlannedOutput(location, found, spec, None if image is None else image.key or "")


def wanted_order(path: str | os.PathLike[str], source: Source) -> tuple[int, ...] | None:
    """Return the order in which the output at a path wants the axes of a source, as numbers, or None for the one they have.

    OME-Zarr images and precomputed volumes want time, channels, and z, y, x. Nothing is opened.
    """
    location = locate(path)
    axes = source.metadata.fitting(source.ndim).axes
    if axes is None or location.family is None or not location.family.writes:
        return None
    found = location.family.load()
    is_image = found.image_group(location.path, location.key) is not None
    return ngff_order(axes) if is_image else found.wanted_order(axes)


def writable_family(location: Location) -> FamilyEntry:
    """Return the family that an output at a place will have; raises UnsupportedFormatError where it cannot be written."""
    found = location.family
    gzips = found is not None and found.gzips and location.path.lower().endswith(".gz")
    if location.path.lower().endswith(_WHOLE) and not gzips:
        raise UnsupportedFormatError(
            f"output {location.path!r} would be compressed as a whole, which can be read but not written block by block: "
            "write it uncompressed and compress it afterwards"
        )
    if location.path.lower().endswith(".ozx"):
        raise UnsupportedFormatError(
            f"output {location.path!r} is a zip file, which is written as a whole by copy and pyramid only, to a path without a key"
        )
    if found is None or not found.writes:
        can = ", ".join(
            f"{f.title} ({' '.join(s for s in f.suffixes if not s.endswith(_WHOLE))})"
            for f in families()
            if f.writes
        )
        what = (
            "has no ending that names a format"
            if found is None
            else f"ends as {found.title}, which cannot be written"
        )
        raise UnsupportedFormatError(f"output {location.path!r} {what}; formats that can be written: {can}")
    return found


def checked_new_dtype(dtype: Any) -> np.dtype[Any]:
    """Return the dtype of a new array, in this machine's byte order, or raise InvalidArgumentError if voxels cannot have it."""
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise InvalidArgumentError(
            f"{dtype!r} is not a numpy dtype; those for voxels are bool, uint8, uint16, int32, float32 and the like"
        ) from error
    found = checked_dtype(found, "the new array")
    return found.newbyteorder("=") if found.byteorder == ">" else found


def checked_fill(value: Any, dtype: np.dtype[Any], store: Family | None = None) -> Any:
    """Return a fill value that was given in the dtype, or raise InvalidArgumentError if it, or the store, cannot have it."""
    given = np.asarray(value)
    if given.ndim != 0 or (given.dtype.kind not in "biufc" and not isinstance(value, int)):
        raise InvalidArgumentError(f"fill_value must be one number, got {value!r}")
    became = cast_values(given, dtype) if given.dtype != object else np.zeros((), dtype)
    if dtype.kind in "fc":  # may round it, but not to infinity
        held = bool(np.isfinite(became)) or not np.isfinite(given)
        held = held and (dtype.kind == "c" or given.imag == 0) and given.dtype != object
    else:
        held = bool(became.item() == given.item())
    if not held:
        raise InvalidArgumentError(
            Hint.of(
                f"{{}} cannot be held by {dtype}: give a number that it has, or another dtype",
                fill_value=value,
            )
        )
    if store is not None and store.only_zero_fill and became != 0:
        raise InvalidArgumentError(
            f"{store.title} has no fill value but 0 (got {value!r})",
            hints=[Hint.of("leave out {}", fill_value=...), Hint("or use Zarr")],
        )
    return became[()]


def new_grids(
    family: Family,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: Sequence[int] | None,
    shards: Sequence[int] | str | None,
    like: Source | None,
    metadata: ImageMetadata,
    zarr_format: int,
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """Return chunks and shards of a new array of a family, None where there are none; `like` is a source of this shape to follow.

    Raises InvalidArgumentError if what is given does not fit the shape, each other, or the family.
    """
    if not family.chunked:
        if chunks is not None or shards is not None:
            raise InvalidArgumentError(
                f"{family.entry.kind} files have no chunks or shards",
                hints=[Hint.of("leave out {}", chunks=..., shards=...)],
            )
        return None, None
    chosen = isinstance(shards, str)
    if chosen and shards != "auto":
        raise InvalidArgumentError(f"shards must be a shape or 'auto', got {shards!r}")
    shards = None if isinstance(shards, str) else shards
    grid = None if chunks is None else checked_extents("chunks", chunks, least=1, ndim=len(shape))
    shard_grid = None if shards is None else checked_extents("shards", shards, least=1, ndim=len(shape))
    old_shards = like.shards if like is not None and family.has_shards(zarr_format) else None
    if grid is None:
        old = None if like is None else like.chunks
        # Small chunks are no burden where shards hold them, so they are kept together.
        keep = old_shards is not None or (
            old is not None and sensible_chunks(old, shape, dtype.itemsize, metadata.axes)
        )
        grid = old if keep and old is not None else default_chunks(shape, dtype.itemsize, metadata.axes)
        if shard_grid is not None and not _divides(grid, shard_grid):
            grid = tuple(_nearest_divisor(s, c) for c, s in zip(grid, shard_grid, strict=True))
    if shard_grid is None and chunks is None and like is not None and grid == like.chunks:
        shard_grid = old_shards
    if shard_grid is None and chosen and family.has_shards(zarr_format):
        shard_grid = _default_shards(grid, shape, dtype.itemsize, metadata.axes)
    if shard_grid is not None and not _divides(grid, shard_grid):
        raise InvalidArgumentError(
            f"shards {shard_grid} must be a multiple of the chunks {grid} on every axis"
        )
    return grid, shard_grid


_SHARD_BYTES = 2**24


def _default_shards(
    grid: tuple[int, ...], shape: tuple[int, ...], itemsize: int, axes: Sequence[str] | None
) -> tuple[int, ...] | None:
    """Return chunks put together to nearly cubes along the axes of space, None where one chunk is all or enough."""
    shard = list(grid)
    space = [n for n in range(len(shape)) if axes is None or axis_type(axes[n]) == "space"]
    while 2 * math.prod(shard) * itemsize <= _SHARD_BYTES:
        open_axes = [n for n in space if shard[n] < shape[n]]
        if not open_axes:
            break
        shard[min(open_axes, key=lambda n: (shard[n], -n))] *= 2
    return tuple(shard) if tuple(shard) != grid else None


def _nearest_divisor(shard: int, chunk: int) -> int:
    """Return the extent of a chunk that divides a shard's and is, as a ratio, nearest to the one wished for."""
    small = [n for n in range(1, math.isqrt(shard) + 1) if shard % n == 0]
    divisors = {*small, *(shard // n for n in small)}
    return min(divisors, key=lambda n: (max(n / chunk, chunk / n), n))


def _divides(chunks: tuple[int, ...], shards: tuple[int, ...]) -> bool:
    return all(s % c == 0 for c, s in zip(chunks, shards, strict=True))
