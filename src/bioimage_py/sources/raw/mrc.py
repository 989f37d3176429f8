"""MRC files (.mrc, .map, .rec, .st, .mrcs): electron microscopy volumes, tomograms and image stacks, read by region."""

from __future__ import annotations

import sys
import warnings
from contextlib import suppress
from pathlib import PurePath
from typing import Any

import mrcfile.dtypes
import mrcfile.utils
import numpy as np

from bioimage_py.errors import BioimagePyWarning, Hint, StorageError, UnsupportedFormatError
from bioimage_py.metadata import ImageMetadata, without_nonsense
from bioimage_py.sources.base import Source
from bioimage_py.sources.family import Family
from bioimage_py.sources.raw.voxels import RawFileSource, RawLayout, check_single_array, open_file
from bioimage_py.storage import first_bytes, without_compression

_HEADER_BYTES = 1024
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


class MrcFamily(Family):
    """MRC, read only."""

    def open_path(self, path: str, key: str | None = None, mode: str = "r", **options: Any) -> Source:
        check_single_array(self.title, path, key, mode, writable=False, options=options)
        file = open_file(path, mode)
        head, compression = first_bytes(file, path, _HEADER_BYTES)
        header = _header(path, head, sys.maxsize if compression else file.size)
        layout = _layout(path, header)
        if layout.dtype == np.int8 and _imod_says_unsigned(header):
            layout = layout._replace(dtype=np.dtype(np.uint8))
        metadata = _metadata(header, len(layout.shape), path)
        return MrcSource(path, "r", file, layout, compression, metadata)


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
