"""`create_output`: new arrays with good defaults."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import ChunkEncoding, UnknownEncoding
from bioimage_py.errors import InvalidArgumentError, UnsupportedFormatError
from bioimage_py.metadata import ImageMetadata, Level, axes_for_ngff, ngff_order, overridden, plain_value
from bioimage_py.sources.array_like import checked_dtype
from bioimage_py.sources.array_spec import ArraySpec, Codec
from bioimage_py.sources.base import FileSource, Source
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.location import Location, locate
from bioimage_py.sources.new.grids import checked_extents, new_grids
from bioimage_py.sources.new.kept_encoding import keeping
from bioimage_py.sources.ome_zarr import FULL_SIZE, ImageGroup
from bioimage_py.sources.opening import as_source
from bioimage_py.sources.registry import FAMILIES, family, family_module

_WHOLE = (".zip", ".gz")
_FILLED_WITH_ZERO = ("n5", "precomputed")


class PlannedOutput(NamedTuple):
    """A new array before it exists: where, in which family, and how it shall look.

    Attributes
    ----------
    location
        Path, key and family.
    kind
        The family's name.
    spec
        How the array looks.
    image_key
        For the full-size array of a new OME-Zarr image: key of the image's group, `""` for the container itself. Else None.
    """

    location: Location
    kind: str
    spec: ArraySpec
    image_key: str | None = None

    @property
    def name(self) -> str:
        """Path, and key where there is one."""
        return self.location.path if not self.location.key else f"{self.location.path}:{self.location.key}"

    def check(self, coarser: Sequence[Level] = (), *, overwrite: bool) -> None:
        """Raise what `create`, or `create_levels`, would raise before it makes anything."""
        replaces = checked_overwrite(overwrite)
        if self.image_key is None:
            module = family_module(self.kind, "check_create")
            module.check_create(self.location.path, self.location.key, self.spec, overwrite=replaces)
            return
        from bioimage_py.sources.ome_zarr import check_image

        check_image(*self._image(coarser), overwrite=replaces)

    def create(self, *, overwrite: bool, unfinished: bool = False) -> Source:
        """Make the array, and the image around it where it is one of an OME-Zarr, and return it opened for writing.

        With `unfinished` a file that holds it gets its name by the source's `finish`, where the family can do that.
        """
        if self.image_key is not None:
            return self.create_levels((), overwrite=overwrite)[0]
        module = family_module(self.kind, "create")
        make = getattr(module, "create_unfinished", module.create) if unfinished else module.create
        return cast(
            "Source",
            make(self.location.path, self.location.key, self.spec, overwrite=checked_overwrite(overwrite)),
        )

    def create_levels(self, coarser: Sequence[Level], *, overwrite: bool) -> list[Source]:
        """Make an OME-Zarr image of the full-size array and of coarser ones, and return all opened for writing."""
        from bioimage_py.sources.ome_zarr import make_image

        return make_image(*self._image(coarser), overwrite=checked_overwrite(overwrite))

    def _image(self, coarser: Sequence[Level]) -> tuple[ImageGroup, ArraySpec, list[Level]]:
        group = ImageGroup(self.location.path, self.image_key or None)
        full = Level(FULL_SIZE, (1.0,) * len(self.spec.shape))
        return group, self.spec, [full, *coarser]


def finish_images(written: Iterable[Source]) -> None:
    """Write into the metadata of OME-Zarr images what their voxels tell: contrast limits, where nobody has chosen any.

    Parameters
    ----------
    written
        The arrays of one image; others are left as they are.
    """
    stored = [one for one in written if isinstance(one, FileSource) and one.kind == "zarr" and one.key]
    if stored:
        from bioimage_py.sources.ome_zarr import set_contrast_limits

        set_contrast_limits(stored)


def checked_overwrite(overwrite: Any) -> bool:
    """Return it, or raise InvalidArgumentError if it is no truth value."""
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
    shards: Sequence[int] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
    zarr_format: int | None = None,
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
        Where: `"out.ome.zarr"` (an OME-Zarr image, of which this is the full-size array), `"out.zarr"`, `"out.zarr/raw"`, `"out.n5/raw"`, `"out.h5:/raw"`, `"out.precomputed"`, `"out.npy"`, or a URL. The ending
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
        3 or 2. Default: that of the group which the array is put into, else 3.
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
        axes=axes,
        voxel_size=voxel_size,
        units=units,
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
    zarr_format: int | None = None,
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
    kind = writable_kind(location)
    if zarr_format not in (None, 2, 3):
        raise InvalidArgumentError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
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
    image_key = None
    if kind == "zarr":
        location, image_key = _in_image(location, voxel)
        if zarr_format is None:
            zarr_format = family_module(kind, "format_around").format_around(location.path, location.key)
    zarr_format = zarr_format or 3
    if image_key is not None:
        metadata = replace(metadata, axes=axes_for_ngff(metadata.axes, len(full), location.path))
    grid, shard_grid = new_grids(kind, full, voxel, chunks, shards, kept, metadata, zarr_format)
    if fill_value is None and kept is not None and kind not in _FILLED_WITH_ZERO:
        fill_value = _castable(kept.fill_value, voxel)
    elif fill_value is not None:
        fill_value = checked_fill(fill_value, voxel, kind)
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
    if kind == "precomputed" and like is not None:
        spec = family_module(kind, "following").following(spec, like)
    spec = keeping(encoding, kind, spec, grid=chunks is None, codec=codec is None)
    return PlannedOutput(location, kind, spec, image_key)


def wanted_order(path: str | os.PathLike[str], source: Source) -> tuple[int, ...] | None:
    """Return the order in which the output at a path wants the axes of a source, as numbers, or None for the one they have.

    OME-Zarr images and precomputed volumes want time, channels, and z, y, x. Nothing is opened.
    """
    location = locate(path)
    axes = source.metadata.fitting(source.ndim).axes
    ordered = location.family is not None and location.family.kind == "precomputed"
    if axes is None or not (ordered or ImageGroup.at(location.path, location.key) is not None):
        return None
    return ngff_order(axes)


def _in_image(location: Location, dtype: np.dtype[Any]) -> tuple[Location, str | None]:
    """Return where the full-size array is, and the key of the group, if the place is one of an OME-Zarr image."""
    group = ImageGroup.at(location.path, location.key)
    if group is None:
        return location, None
    group.check_dtype(dtype)
    return location._replace(key=group.level_key(FULL_SIZE)), group.key or ""


def writable_kind(location: Location) -> str:
    """Return the family that an output at a place will have; raises UnsupportedFormatError where it cannot be written."""
    found = location.family
    if location.path.lower().endswith(_WHOLE):
        raise UnsupportedFormatError(
            f"output {location.path!r} would be compressed as a whole, which can be read but not written block by block: "
            "write it uncompressed and compress it afterwards"
        )
    if found is None or not found.writes:
        can = ", ".join(
            f"{f.title} ({' '.join(s for s in f.suffixes if not s.endswith(_WHOLE))})"
            for f in FAMILIES
            if f.writes
        )
        what = (
            "has no ending that names a format"
            if found is None
            else f"ends as {found.title}, which cannot be written"
        )
        raise UnsupportedFormatError(f"output {location.path!r} {what}; formats that can be written: {can}")
    return found.kind


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


def checked_fill(value: Any, dtype: np.dtype[Any], kind: str = "memory") -> Any:
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
            f"fill_value {value!r} cannot be held by {dtype}: give a number that it has, or another dtype"
        )
    if kind in _FILLED_WITH_ZERO and became != 0:
        raise InvalidArgumentError(
            f"{family(kind).title} has no fill value but 0 (got {value!r}): leave fill_value out, or use Zarr"
        )
    return became[()]


def _castable(value: Any, dtype: np.dtype[Any]) -> Any:
    if value is None:
        return None
    given = np.asarray(value)
    if given.dtype.kind == "c" and dtype.kind not in "cb":
        if given.imag != 0:
            return None
        given = given.real
    cast_value = cast_values(given, dtype)
    same = cast_value == value or (cast_value != cast_value and value != value)  # noqa: PLR0124 - NaN is not itself
    return cast_value[()] if same else None
