"""MRC files (.mrc, .map, .rec, .st, .mrcs): electron microscopy volumes, tomograms and image stacks, read and written by region."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import mrcfile.constants
import mrcfile.dtypes
import mrcfile.utils
import numpy as np

from bioimage_py.errors import (
    BioimagePyWarning,
    Hint,
    InvalidArgumentError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import PER_CHANNEL, ImageMetadata, unit_ratio, without_nonsense
from bioimage_py.sources.array_spec import ArraySpec
from bioimage_py.sources.raw.making import RawFamily, check_dtype
from bioimage_py.sources.raw.voxels import RawFileSource, RawLayout
from bioimage_py.storage import FileBytes, first_bytes, without_compression

_HEADER_BYTES = 1024
_MODES = {"int8": 0, "int16": 1, "float32": 2, "complex64": 4, "uint16": 6, "float16": 12}
_STACK_SUFFIXES = (".st", ".mrcs", ".ali")
_IMOD_STAMP = 1146047817
_ORDERS = {"<": "little-endian", ">": "big-endian"}


class MrcSource(RawFileSource):
    """An MRC file, with the axes in the order in which they are stored.

    Voxels of mode 0 are signed bytes, but unsigned ones in files in which IMOD says so. The shape is mrcfile's: (y, x) for one
    image, (z, y, x) for a volume or a stack of images, (n, z, y, x) for a stack of volumes. Axes of a map whose columns are not
    along x are named by what they are. The metadata have the labels and the space group under the attribute `"mrc"`.
    """

    kind = "mrc"
    format = "mrc"


class MrcFamily(RawFamily):
    """MRC, read and written."""

    name = "MRC"
    time_first = True

    def source(self, path: str, mode: str, file: FileBytes) -> MrcSource:
        head, compression = first_bytes(file, path, _HEADER_BYTES)
        header = _header(path, head, sys.maxsize if compression else file.size)
        layout = _layout(path, header)
        if layout.dtype == np.int8 and _imod_says_unsigned(header):
            layout = layout._replace(dtype=np.dtype(np.uint8))
        metadata = _metadata(header, len(layout.shape), path)
        return MrcSource(path, mode, file, layout, compression, metadata)

    def settled(self, spec: ArraySpec, path: str, *, grid: bool) -> ArraySpec:
        spec = super().settled(spec, path, grid=grid)
        ndim = len(spec.shape)
        axes = tuple(axis.lower() for axis in spec.metadata.axes or "nzyx"[-ndim:])
        inner = axes[-3:] if ndim > 2 else axes
        if (
            not 2 <= ndim <= 4
            or 0 in spec.shape
            or axes[-2:] != ("y", "x")
            or (ndim == 4 and inner[0] != "z")
        ):
            raise InvalidArgumentError(
                f"an MRC file has the axes y, x, or z, y, x, or those of several volumes, n, z, y, x, and is not empty; this array has {ndim}, "
                f"{', '.join(axes)}, and shape {spec.shape}",
                hints=[
                    Hint.of("if these names are wrong, give others, such as {}", axes="zyx"),
                    Hint("or select one volume"),
                ],
            )
        near = {"uint8": "uint16", "bool": "int8", "complex128": "complex64"}
        check_dtype("MRC", spec.dtype.name, _MODES, near.get(spec.dtype.name, "float32"))
        return replace(spec, metadata=replace(spec.metadata, axes=axes))

    def header(self, spec: ArraySpec) -> tuple[bytes, RawLayout]:
        header = np.zeros((), mrcfile.dtypes.HEADER_DTYPE.newbyteorder("<")).view(np.recarray)
        full = (*(1 for _ in range(4 - len(spec.shape))), *spec.shape)
        axes = ("n", "z", "y", "x")[-len(spec.shape) :] if spec.metadata.axes is None else spec.metadata.axes
        # A stack of images has no z; that of volumes has a space group of its own.
        is_stack = len(spec.shape) == 3 and axes[0] != "z"
        samples = (full[3], full[2], 1 if is_stack else full[1])
        header.nx, header.ny, header.nz = full[3], full[2], full[0] * full[1]
        header.mx, header.my, header.mz = samples
        header.ispg = 401 if len(spec.shape) == 4 else 1 if axes[0] == "z" else 0
        header.mode = _MODES[spec.dtype.name]
        sizes, places = _in_angstrom(spec.metadata)
        for name, n in zip("xyz", samples, strict=True):
            header.cella[name] = sizes.get(name, max(sizes.values(), default=0)) * n
            header.origin[name] = places.get(name, 0.0)
            header.cellb[{"x": "alpha", "y": "beta", "z": "gamma"}[name]] = 90.0
        header.mapc, header.mapr, header.maps = 1, 2, 3
        header.map, header.nversion = mrcfile.constants.MAP_ID, 20141
        header.machst = mrcfile.utils.machine_stamp_from_byte_order("<")
        # As the standard says that nobody has measured them.
        header.dmin, header.dmax, header.dmean, header.rms = 0, -1, -2, -1
        own = spec.metadata.attributes.get("mrc")
        labels = list(own.get("labels", ())) if isinstance(own, Mapping) else []
        labels = [
            str(label).encode("ascii", "replace")[:80] for label in (*labels[:9], "Created by bioimage_py")
        ]
        header.nlabl = len(labels)
        header.label[: len(labels)] = labels
        return header.tobytes(), RawLayout(_HEADER_BYTES, spec.shape, spec.dtype.newbyteorder("<"))

    def lost(self, spec: ArraySpec) -> list[str]:
        metadata = spec.metadata
        lost = [name for name in (*PER_CHANNEL, "orientations") if getattr(metadata, name)]
        if any(size != 1 for size in metadata.voxel_size or ()) and not _in_angstrom(metadata)[0]:
            lost.append("the voxel size, which has no unit,")
        return lost + sorted(set(metadata.attributes) - {"mrc", "tiff_description"})


def _in_angstrom(metadata: ImageMetadata) -> tuple[dict[str, float], dict[str, float]]:
    """Return size of a voxel and origin along axes of space; of sizes without a unit nothing is known."""
    sizes, units = metadata.voxel_size or (), metadata.units or ()
    each = zip(metadata.axes or (), sizes, units, metadata.origin or (0.0,) * len(sizes), strict=False)
    found, places = {}, {}
    for axis, size, unit, place in each:
        ratio = unit_ratio(unit, "angstrom")
        if axis in "xyz" and ratio is not None:
            found[axis], places[axis] = size * ratio, place * ratio
    return found, places


def _header(path: str, head: bytes, file_bytes: int) -> Any:
    marked = head[208:211] == b"MAP"
    if len(head) < _HEADER_BYTES:
        if marked:
            raise StorageError(
                f"{path!r} is truncated: an MRC header has {_HEADER_BYTES} bytes, found {len(head)}"
            )
        raise UnsupportedFormatError(
            f"{path!r} is not an MRC file: it has {len(head)} bytes, less than the header"
        )
    stamped = None
    with suppress(ValueError):  # there is no machine stamp, as in files of old programs
        stamped = str(mrcfile.utils.byte_order_from_machine_stamp(head[212:216]))
    for order in ("<", ">") if stamped is None else (stamped, "<>".replace(stamped, "")):
        # An array without axes, as in mrcfile: its fields keep the byte order, which is that of the voxels.
        header = (
            np.frombuffer(head, mrcfile.dtypes.HEADER_DTYPE.newbyteorder(order)).reshape(()).view(np.recarray)
        )
        if _is_plausible(header) and (marked or file_bytes >= _expected_bytes(header)):
            if stamped not in (None, order):
                warnings.warn(
                    f"the machine stamp of {path!r} is wrong: it says {_ORDERS[stamped]}, but only as {_ORDERS[order]} "
                    "is the header one of an MRC file; it is read so",
                    BioimagePyWarning,
                    stacklevel=4,
                )
            return header
    raise UnsupportedFormatError(
        f"{path!r} is not an MRC file: its header has no sensible shape, mode and axes"
        + ("" if marked else " and does not say 'MAP ' at byte 208")
    )


def _is_plausible(header: Any) -> bool:
    axes = sorted(int(header[name]) for name in ("mapc", "mapr", "maps"))
    return (
        all(0 < int(header[name]) < 2**24 for name in ("nx", "ny", "nz"))
        and 0 <= int(header.mode) <= 101
        and axes in ([1, 2, 3], [0, 0, 0])
        and int(header.nsymbt) >= 0
    )


def _expected_bytes(header: Any) -> int:
    try:
        layout = _layout("", header)
    except UnsupportedFormatError:
        return _HEADER_BYTES
    return layout.offset + layout.nbytes


def _layout(path: str, header: Any) -> RawLayout:
    try:
        dtype = mrcfile.utils.data_dtype_from_header(header)
    except ValueError as error:
        raise UnsupportedFormatError(
            f"{path!r} has MRC mode {int(header.mode)}, which cannot be read; 0, 1, 2, 4, 6 and 12 can"
        ) from error
    if mrcfile.utils.spacegroup_is_volume_stack(header.ispg):
        volumes, rest = divmod(int(header.nz), max(1, int(header.mz)))
        if rest or int(header.mz) < 1:
            raise StorageError(
                f"the header of {path!r} contradicts itself: a stack of volumes with nz={int(header.nz)} sections of which "
                f"mz={int(header.mz)} make a volume"
            )
        shape: tuple[int, ...] = (volumes, int(header.mz), int(header.ny), int(header.nx))
    else:
        shape = tuple(int(n) for n in mrcfile.utils.data_shape_from_header(header))
    return RawLayout(_HEADER_BYTES + int(header.nsymbt), shape, np.dtype(dtype))


def _imod_says_unsigned(header: Any) -> bool:
    """Whether IMOD wrote the file and did not set its flag for signed bytes, as it always does since version 4.2.23."""
    stamp, flags = np.frombuffer(
        header.tobytes()[152:160], np.dtype("i4").newbyteorder(header.mode.dtype.byteorder)
    )
    return int(stamp) == _IMOD_STAMP and not int(flags) & 1


def _metadata(header: Any, ndim: int, path: str) -> ImageMetadata:
    order = [int(header[name]) - 1 for name in ("maps", "mapr", "mapc")]
    if sorted(order) != [0, 1, 2]:
        order = [2, 1, 0]
    names = ["xyz"[axis] for axis in order]
    # In this format a cell of size 0 means that the voxel size is not known.
    known = any(float(header.cella[name]) != 0 for name in "xyz")
    sizes = [_voxel_size(header, name) for name in names]
    units: list[str | None] = ["angstrom"] * 3
    starts = [_start(header, stored, name) for stored, name in zip("zyx", names, strict=True)]
    is_stack = PurePath(without_compression(path)).suffix.lower() in _STACK_SUFFIXES
    assumed: list[Hint] = []
    if int(header.ispg) == 0 and ndim == 3 and int(header.nz) > 1:
        what = (
            "a stack of images, by its ending"
            if is_stack
            else "one volume, though the header says a stack of images"
        )
        given = "".join(names if not is_stack else ("n", *names[1:]))
        assumed.append(Hint.of(f"its sections are taken for {what}: state the axes with {{}}", axes=given))
    if is_stack and int(header.ispg) == 0 and ndim == 3:
        names[0], sizes[0], units[0], starts[0] = "n", 1.0, None, 0.0
    axes, extra = (names, 0) if ndim <= 3 else (["n", *names], 1)
    origin = tuple([0.0] * extra + starts)[-ndim:]
    found = ImageMetadata(
        axes=tuple(axes)[-ndim:],
        voxel_size=tuple([1.0] * extra + sizes)[-ndim:] if known else None,
        units=tuple([None] * extra + units)[-ndim:] if known else None,
        origin=origin if known and any(origin) else None,
        attributes={"mrc": _attributes(header)},
        assumed=tuple(assumed),
    )
    return without_nonsense(found, ndim, path)


def _voxel_size(header: Any, axis: str) -> float:
    """Return the cell length over its samples, to the 7 digits that the file's float32 holds."""
    samples = int(header[f"m{axis}"])
    return float(f"{float(header.cella[axis]) / samples:.7g}") if samples > 0 else 0.0


def _start(header: Any, stored: str, axis: str) -> float:
    """Return the position of the first voxel: the origin where it is set, else the start index times the voxel size."""
    if any(float(header.origin[name]) for name in "xyz"):
        return float(header.origin[axis])
    return int(header[f"n{stored}start"]) * _voxel_size(header, axis)


def _attributes(header: Any) -> dict[str, Any]:
    count = min(max(0, int(header.nlabl)), 10)
    labels = [bytes(label).decode("ascii", "replace").rstrip(" \0") for label in header.label[:count]]
    angles = [float(header.cellb[name]) for name in ("alpha", "beta", "gamma")]
    found: dict[str, Any] = {"space_group": int(header.ispg), "labels": labels}
    if all(map(np.isfinite, angles)) and any(angles):
        found["cell_angles"] = angles
    return found
