"""NIfTI files (.nii, .nii.gz): medical volumes, scaled as nibabel scales them, read by region."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import BioimagePyWarning, StorageError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, without_nonsense
from bioimage_py.sources.base import Source
from bioimage_py.sources.family import Family
from bioimage_py.sources.raw.voxels import RawFileSource, RawLayout, check_single_array, open_file
from bioimage_py.storage import FileBytes, first_bytes

_AXES = ("x", "y", "z", "t", "u", "v", "w")
_HEAD = 544
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

    def __init__(self, path: str, file: FileBytes, layout: RawLayout, compression: str, header: Any) -> None:
        metadata = _metadata(header, len(layout.shape), path)
        super().__init__(path, "r", file, layout, compression, metadata)
        slope, inter = header.get_slope_inter()
        self._slope = np.asanyarray(1.0 if slope is None else slope)
        self._inter = np.asanyarray(0.0 if inter is None else inter)
        self.dtype = self._scale(np.zeros((1,) * len(layout.shape), layout.dtype)).dtype

    def _read(self, box: Box) -> AnyArray:
        return self._scale(super()._read(box))

    def _scale(self, stored: AnyArray) -> AnyArray:
        scaled: AnyArray = apply_read_scaling(stored, self._slope, self._inter)
        return scaled


class NiftiFamily(Family):
    """NIfTI, read only."""

    def open_path(self, path: str, key: str | None = None, mode: str = "r", **options: Any) -> Source:
        check_single_array(self.title, path, key, mode, writable=False, options=options)
        file = open_file(path, "r")
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
        return NiftiSource(path, file, layout, compression, header)


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
        attributes={"nifti": own} if own else {},
        orientations=_orientations(affine, ndim) if placed else None,
    )
    return without_nonsense(found, ndim, name)


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
