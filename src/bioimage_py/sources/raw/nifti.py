"""NIfTI files (.nii, .nii.gz): medical volumes, scaled as nibabel scales them, read and written by region."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import (
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.metadata import PER_CHANNEL, ImageMetadata, unit_ratio, without_nonsense
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.raw.making import RawFamily, check_dtype
from bioimage_py.sources.raw.voxels import RawFileSource, RawLayout
from bioimage_py.storage import FileBytes, first_bytes

_AXES = ("x", "y", "z", "t", "u", "v", "w")
_HEAD = 544
_NEW_AXES = "xyztc"
_DTYPES = (
    "uint8", "int16", "int32", "float32", "complex64", "float64", "int8", "uint16", "uint32", "int64", "uint64", "complex128",
)  # fmt: skip
_MOST_IN_NIFTI_1 = 2**15 - 1
_UNITS = {"meter": "meter", "millimeter": "mm", "micrometer": "micron", "second": "sec", None: "unknown"}
_WAYS = {"R": "left-to-right", "L": "right-to-left", "A": "posterior-to-anterior", "P": "anterior-to-posterior"} | {
    "S": "inferior-to-superior", "I": "superior-to-inferior",
}  # fmt: skip


class NiftiSource(RawFileSource):
    """A NIfTI-1 or NIfTI-2 file, with nibabel's axes (x, y, z, t, …) and nibabel's values.

    `source[...]` equals `numpy.asanyarray(nibabel.load(path).dataobj)` in shape, dtype and values. The first axis varies
    fastest in the file, so regions that are thin along the last axes are the cheap ones.

    The metadata have the affine and the description under the attribute `"nifti"`.
    """

    kind = "nifti"
    format = "nifti"

    def __init__(
        self, path: str, mode: str, file: FileBytes, layout: RawLayout, compression: str, header: Any
    ) -> None:
        metadata = _metadata(header, len(layout.shape), path)
        super().__init__(path, mode, file, layout, compression, metadata)
        slope, inter = header.get_slope_inter()
        self._slope = np.asanyarray(1.0 if slope is None else slope)
        self._inter = np.asanyarray(0.0 if inter is None else inter)
        self.dtype = self._scale(np.zeros((1,) * len(layout.shape), layout.dtype)).dtype
        if slope is not None and (slope, inter) != (1, 0):
            self.writable, self.read_only_because = False, "its values are scaled when they are read"

    def _read(self, box: Box) -> AnyArray:
        return self._scale(super()._read(box))

    def _scale(self, stored: AnyArray) -> AnyArray:
        scaled: AnyArray = apply_read_scaling(stored, self._slope, self._inter)
        return scaled


class NiftiFamily(RawFamily):
    """NIfTI, read and written."""

    name = "NIfTI"
    storage_order = "F"

    def source(self, path: str, mode: str, file: FileBytes) -> NiftiSource:
        head, compression = first_bytes(file, path, _HEAD)
        header = _header(path, head)
        try:
            shape = tuple(int(n) for n in header.get_data_shape())
            dtype = header.get_data_dtype()
            offset = int(header.get_data_offset())
            scaling = header.get_slope_inter()
        except (HeaderDataError, ValueError, KeyError) as error:
            raise StorageError(f"the header of {path!r} contradicts itself: {error}") from error
        if dtype.kind not in "biufc":
            raise UnsupportedFormatError(
                f"{path!r} has voxels of dtype {dtype}, such as colours, which cannot be read; bool, integers, floats and "
                "complex can"
            )
        if (
            any(n < 0 for n in shape)
            or not all(s is None or math.isfinite(s) for s in scaling)
            or offset < header.template_dtype.itemsize
        ):
            raise StorageError(
                f"the header of {path!r} contradicts itself: shape {shape}, scaling {scaling}, voxels from byte {offset} on"
            )
        layout = RawLayout(offset, shape, dtype, "F")
        return NiftiSource(path, mode, file, layout, compression, header)

    def wanted_order(self, axes: Sequence[str]) -> tuple[int, ...] | None:
        """Return the order x, y, z, t, c; None for axes that are in it, or have other names."""
        names = [axis.lower() for axis in axes]
        order = sorted(range(len(names)), key=lambda n: _NEW_AXES.find(names[n]))
        return None if order == sorted(order) or not set(names) <= set(_NEW_AXES) else tuple(order)

    def settled(self, spec: ArraySpec, path: str, *, grid: bool) -> ArraySpec:
        spec = super().settled(spec, path, grid=grid)
        axes = tuple(axis.lower() for axis in spec.metadata.axes or _AXES[: len(spec.shape)])
        known = [axis for axis in (_NEW_AXES if "c" in axes else _AXES) if axis in axes]
        if tuple(known) != axes or not 1 <= len(spec.shape) <= 7 or 0 in spec.shape:
            raise InvalidArgumentError(
                f"a NIfTI file has the axes x, y, z, t, c, of which some may be left out, and is not empty; this array has {', '.join(axes)}, and "
                f"shape {spec.shape}",
                hints=[
                    Hint.of("if these names are wrong, give others, such as {}", axes="zyx"),
                    Hint("or select one of them"),
                ],
            )
        near = {"bool": "uint8", "float16": "float32"}
        check_dtype("NIfTI", spec.dtype.name, _DTYPES, near.get(spec.dtype.name, "float64"))
        return replace(spec, metadata=replace(spec.metadata, axes=axes))

    def header(self, spec: ArraySpec) -> tuple[bytes, RawLayout]:
        axes = spec.metadata.axes or _AXES[: len(spec.shape)]
        every = _NEW_AXES if "c" in axes else "".join(_AXES)
        # Axes that are left out before others have one voxel.
        names = every[: every.index(axes[-1]) + 1]
        extents = dict(zip(axes, spec.shape, strict=True))
        large = max(spec.shape) > _MOST_IN_NIFTI_1
        header = (nibabel.Nifti2Header if large else nibabel.Nifti1Header)(endianness="<")
        header.set_data_dtype(spec.dtype)
        header.set_data_shape([extents.get(axis, 1) for axis in names])
        space, time, sizes, places = _new_sizes(spec.metadata)
        header.set_xyzt_units(space, time)
        affine = _kept_affine(spec.metadata, sizes, len(spec.shape))
        if affine is None:
            affine = np.eye(4)
            affine[:3, :3] = _directions(spec.metadata) * [sizes.get(axis, 1.0) for axis in "xyz"]
            affine[:3, 3] = [places.get(axis, 0.0) for axis in "xyz"]
        header.set_qform(affine, code="aligned")
        header.set_sform(affine, code="aligned")
        header.set_zooms([sizes.get(axis, 1.0) for axis in names])
        if len(spec.metadata.contrast_limits or ()) == 1:
            ((header["cal_min"], header["cal_max"]),) = spec.metadata.contrast_limits or ()
        own = spec.metadata.attributes.get("nifti")
        if isinstance(own, Mapping) and isinstance(own.get("description"), str):
            header["descrip"] = own["description"].encode("latin-1", "replace")[:79]
        offset = -(-(header.template_dtype.itemsize + 4) // 16) * 16
        header["magic"], header["vox_offset"] = header.single_magic, offset
        data = header.binaryblock
        return data + bytes(offset - len(data)), RawLayout(
            offset, spec.shape, spec.dtype.newbyteorder("<"), "F"
        )

    def lost(self, spec: ArraySpec) -> list[str]:
        metadata = spec.metadata
        found = [name for name in PER_CHANNEL if getattr(metadata, name)]
        if len(metadata.contrast_limits or ()) == 1:
            found.remove("contrast_limits")
        if metadata.origin is None and _own_affine(metadata) is not None:
            kept = _kept_affine(metadata, _new_sizes(metadata)[2], len(spec.shape))
            found += [] if kept is not None else ["the affine"]
        return found + sorted(set(metadata.attributes) - {"nifti", "tiff_description"})


def _new_sizes(
    metadata: ImageMetadata,
) -> tuple[str, str, dict[str, float], dict[str, float]]:
    """Return the units of space and time that NIfTI has, and voxel size and origin by axis in these."""
    axes, own = metadata.axes or (), metadata.voxel_size or ()
    units = dict(zip(axes, metadata.units or (None,) * len(axes), strict=False))
    first = next((units[axis] for axis in "xyz" if units.get(axis)), None)
    in_own = first if first in ("meter", "millimeter") else "micrometer"
    space = in_own if unit_ratio(first, in_own) is not None else None
    time = "second" if unit_ratio(units.get("t"), "second") is not None else None
    ratios = {axis: unit_ratio(units.get(axis), time if axis == "t" else space) or 1.0 for axis in axes}
    each = list(zip(axes, own, metadata.origin or (0.0,) * len(own), strict=False))
    sizes = {axis: size * ratios[axis] for axis, size, _ in each}
    places = {axis: place * ratios[axis] for axis, _, place in each}
    return _UNITS[space], _UNITS[time], sizes, places


def _directions(metadata: ImageMetadata) -> AnyArray:
    """Return which way x, y and z go in space, as columns of 1 and -1: as the orientations say where all three are known."""
    found = np.zeros((3, 3))
    known = dict(zip(metadata.axes or (), metadata.orientations or (), strict=False))
    for column, axis in enumerate("xyz"):
        value = (known.get(axis) or {}).get("value")
        code = next((code for code, way in _WAYS.items() if way == value), "")
        row, sign = "RAS".find(code), 1
        if row < 0 and code:
            row, sign = "LPI".find(code), -1
        if row >= 0:
            found[row, column] = sign
    return found if np.count_nonzero(found.any(axis=1)) == 3 else np.eye(3)


def _own_affine(metadata: ImageMetadata) -> AnyArray | None:
    """Return the affine of the NIfTI that an image comes from, if it comes from one."""
    own = metadata.attributes.get("nifti")
    try:
        affine = np.asarray(own["affine"] if isinstance(own, Mapping) else None, float)
    except (KeyError, TypeError, ValueError):
        return None
    return affine if affine.shape == (4, 4) and np.isfinite(affine).all() else None


def _kept_affine(metadata: ImageMetadata, sizes: Mapping[str, float], ndim: int) -> AnyArray | None:
    """Return the affine of the NIfTI that these voxels come from, if they still lie where they lay in it."""
    affine = _own_affine(metadata)
    if affine is None:
        return None
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    same_size = np.allclose(lengths, [sizes.get(axis, 1.0) for axis in "xyz"], rtol=1e-4)
    place = _origin(affine, [float(n) for n in lengths], ndim)
    turned = metadata.axes is None or metadata.axes[:3] != ("x", "y", "z")
    same_place = place == metadata.origin and _orientations(affine, ndim) == metadata.orientations
    return affine if same_size and same_place and not turned else None


def _header(path: str, head: bytes) -> Any:
    kinds = ((nibabel.Nifti1Header, head[344:348] == b"n+1\0"), (nibabel.Nifti2Header, head[4:8] == b"n+2\0"))
    for header_class, matches in kinds:
        if not matches:
            continue
        size = header_class.template_dtype.itemsize
        if len(head) < size:
            raise StorageError(f"{path!r} is truncated: a NIfTI header has {size} bytes, found {len(head)}")
        try:
            return header_class(head[:size], check=False)
        except (HeaderDataError, ValueError) as error:
            raise StorageError(f"the header of {path!r} cannot be read: {error}") from error
    raise UnsupportedFormatError(
        f"{path!r} is not a single-file NIfTI: its header does not say 'n+1' or 'n+2'; pairs of .hdr and .img are converted "
        "with nibabel.save(nibabel.load('x.hdr'), 'x.nii')"
    )


def _metadata(header: Any, ndim: int, name: str) -> ImageMetadata:
    zooms = [float(z) for z in header.get_zooms()][:ndim]
    space, time = _units(header, name)
    units = ([space] * 3 + [time] + [None] * 3)[:ndim]
    affine = np.asarray(header.get_best_affine(), float)
    placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    if placed and ndim >= 3 and np.isfinite(affine).all() and _is_turned(affine):
        warnings.warn(
            f"{name}: its affine rotates or shears the image, which axes and a voxel size cannot express: voxels stay in the order of the "
            "file, and the affine is kept in the attribute 'nifti'",
            BioimagePyWarning,
            stacklevel=4,
        )
    description = bytes(header["descrip"]).split(b"\0")[0].decode("latin-1").strip()
    own: dict[str, Any] = {"affine": affine.tolist()} if np.isfinite(affine).all() else {}
    if description:
        own["description"] = description
    found = ImageMetadata(
        axes=_AXES[:ndim],
        # Axes beyond space are 0 if they were not measured; that must not discard the known sizes.
        voxel_size=tuple(_exact(z) if z > 0 or axis < 3 else 1.0 for axis, z in enumerate(zooms)),
        units=tuple(units) if any(units) else None,
        origin=_origin(affine, zooms, ndim),
        contrast_limits=_shown(header),
        attributes={"nifti": own} if own else {},
        orientations=_orientations(affine, ndim) if placed else None,
    )
    return without_nonsense(found, ndim, name)


def _shown(header: Any) -> tuple[tuple[float, float], ...] | None:
    """Return the values that are shown as black and white, where the header says them."""
    low, high = float(header["cal_min"]), float(header["cal_max"])
    return ((low, high),) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _units(header: Any, name: str) -> tuple[str | None, str | None]:
    try:
        space, time = (None if unit == "unknown" else str(unit) for unit in header.get_xyzt_units())
    except KeyError:
        warnings.warn(
            f"{name!r}: xyzt_units={int(header['xyzt_units'])} names no units of NIfTI, so the voxel size has none; say them "
            "with units=",
            BioimagePyWarning,
            stacklevel=5,
        )
        return None, None
    return space, time


def _is_turned(affine: AnyArray) -> bool:
    """Whether an axis of the image is not along one of space."""
    linear = np.abs(affine[:3, :3])
    return bool((np.sort(linear, axis=0)[:2] > 1e-3 * linear.max(axis=0, initial=0)).any())


def _orientations(affine: AnyArray, ndim: int) -> tuple[Mapping[str, Any] | None, ...] | None:
    """Return the nearest anatomical direction of each axis; NIfTI's space goes to the right, to the front and up."""
    if not np.isfinite(affine).all():
        return None
    codes = nibabel.aff2axcodes(affine)
    found = [{"type": "anatomical", "value": _WAYS[code]} if code in _WAYS else None for code in codes]
    fitted = tuple([*found, *[None] * ndim][:ndim])
    return fitted if any(fitted) else None


def _exact(size: float) -> float:
    """Return a size to the 7 digits that the file's float32 holds."""
    return float(f"{size:.7g}")


def _origin(affine: AnyArray, zooms: Sequence[float], ndim: int) -> tuple[float, ...] | None:
    """Return the position of the first voxel; None for an image that is rotated in space."""
    if ndim < 3 or not np.allclose(affine[:3, :3], np.diag(zooms[:3]), rtol=1e-5, atol=0):
        return None
    place = (*(_exact(float(n)) for n in affine[:3, 3]), *(0.0 for _ in range(ndim - 3)))
    return place if any(place) else None
