"""Arrays in memory, and which of the array-like sources an object becomes."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import AmbiguousSourceError, InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources.array_like import (
    ArrayLikeSource,
    DaskSource,
    XarraySource,
    checked_dtype,
    metadata_of,
)
from bioimage_py.sources.base import Source
from bioimage_py.sources.casting import cast_values
from bioimage_py.sources.family import Family
from bioimage_py.storage import Identity, file_identity
from bioimage_py.system import device_number, mapped_files

_EXACT_WORK = 100_000
"""How many candidates numpy may try to find an overlap of two views before it is assumed (about a millisecond)."""


class NumpySource(Source):
    """A numpy array: any strides, byte order or memory map; writable if the array is."""

    format = "numpy"

    def __init__(self, array: AnyArray, metadata: ImageMetadata | None = None) -> None:
        if isinstance(array, np.ma.MaskedArray):
            raise InvalidArgumentError(
                f"a masked array of shape {array.shape} would lose its mask: give array.filled(value), or array.data "
                "together with mask=~numpy.ma.getmaskarray(array)"
            )
        # A subclass such as numpy.matrix keeps its own ideas of shape when it is indexed.
        self.array = np.asarray(array)
        self.shape = tuple(array.shape)
        self.dtype = checked_dtype(array.dtype, self.format)
        self.writable = bool(array.flags.writeable)
        self._metadata = metadata or ImageMetadata()

    @property
    def metadata(self) -> ImageMetadata:
        return self._metadata

    def _read(self, box: Box) -> AnyArray:
        voxels: AnyArray = self.array[box.view]
        return voxels

    def _write(self, box: Box, values: AnyArray) -> None:
        self.array[box.view] = cast_values(values, self.array.dtype)

    def identities(self) -> frozenset[Identity]:
        owner, mapped = _owner_and_map(self.array)
        tokens: set[Identity] = {("memory", id(owner))}
        if isinstance(mapped, np.memmap) and mapped.filename is not None:
            tokens.add(file_identity(str(mapped.filename)))
        place = None if mapped is None else _place_in_file(self.array)
        if place is not None:
            tokens.add(("file", *place[0], None))
        return frozenset(tokens)

    def overlaps(self, other: Source) -> bool | None:
        """Whether another array in memory shares a byte with this one; None where the other is not in memory."""
        if not isinstance(other, NumpySource):
            return None
        ours, theirs = _owner_and_map(self.array), _owner_and_map(other.array)
        if ours[1] is None or theirs[1] is None or ours[0] is theirs[0]:
            return _shares_memory(self.array, other.array)
        # Two maps of one file, or two attachments of shared memory, lie at two addresses: what counts is the place in the file.
        a, b = _place_in_file(self.array), _place_in_file(other.array)
        if a is None or b is None:
            return bool(self.identities() & other.identities()) or _shares_memory(self.array, other.array)
        return a[0] == b[0] and a[1] < b[2] and b[1] < a[2]


def _owner_and_map(array: AnyArray) -> tuple[object, object | None]:
    """Follow the views down to the object that owns the memory, and to the map of a file that they are views of."""
    owner: Any = array
    mapped = None
    while True:
        if isinstance(owner, (np.memmap, mmap.mmap)):
            mapped = owner if mapped is None else mapped
        if isinstance(owner, np.ndarray) and owner.base is not None:
            owner = owner.base
        elif isinstance(owner, memoryview) and owner.obj is not None:
            owner = owner.obj
        else:
            return owner, mapped


def _shares_memory(a: AnyArray, b: AnyArray) -> bool:
    try:
        return bool(np.shares_memory(a, b, max_work=_EXACT_WORK))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _place_in_file(array: AnyArray) -> tuple[tuple[int, int], int, int] | None:
    """Return device and inode of the file that an array is mapped from, and its first byte and end in it, if the system says so."""
    low, high = _extent(array)
    for addresses, offset, device, inode in mapped_files():
        if low in addresses:
            first = offset - addresses.start
            return (device_number(*device), inode), first + low, first + high
    return None


def _extent(array: AnyArray) -> tuple[int, int]:
    address = int(array.ctypes.data)
    if not array.size:
        return address, address
    reach = [(n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)]
    return address + sum(min(0, r) for r in reach), address + sum(max(0, r) for r in reach) + array.itemsize


class MemoryFamily(Family):
    """Arrays in memory, and whatever else has a shape, a dtype and numpy's indexing: dask and xarray arrays, for example."""

    def from_handle(self, handle: Any) -> Source | None:
        """Wrap an array; None for what has no shape, dtype or indexing.

        Raises InvalidArgumentError for a masked array, a single number, or an unknown shape, and UnsupportedFormatError for a
        dtype that is not numeric.
        """
        if isinstance(handle, np.ndarray):
            return NumpySource(handle)
        if isinstance(handle, np.generic):
            raise InvalidArgumentError(
                f"{handle!r} is a single number: give numpy.asarray({handle!r}) for an array with no axes"
            )
        package = type(handle).__module__.partition(".")[0]
        if package == "xarray" and hasattr(handle, "data_vars"):
            raise AmbiguousSourceError(
                f"an xarray.Dataset holds several arrays: give one of them, such as dataset[name], name being one of "
                f"{', '.join(map(repr, handle.data_vars)) or 'none'}"
            )
        if package == "xarray" and hasattr(handle, "variable"):
            return _from_xarray(handle)
        if not all(hasattr(handle, name) for name in ("shape", "dtype", "__getitem__")):
            return None
        return (
            DaskSource(handle)
            if package == "dask" and hasattr(handle, "compute")
            else ArrayLikeSource(handle)
        )


def _from_xarray(array: Any) -> Source:
    metadata = metadata_of(array)
    if array.chunks is not None:
        return DaskSource(array.data, metadata)
    # `.data` of an array that is still in its file would load it whole, and there is no public way to ask.
    if array.variable._in_memory:  # noqa: SLF001
        return (
            NumpySource(array.data, metadata)
            if isinstance(array.data, np.ndarray)
            else ArrayLikeSource(array.data)
        )
    return XarraySource(array, metadata)
