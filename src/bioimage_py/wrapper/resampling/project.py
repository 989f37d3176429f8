"""A source seen along one of its axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.wrapper.shape import axis_number
from bioimage_py.wrapper.spec import register_wrapper
from bioimage_py.wrapper.tiling import READ_BYTES, PartedSource

_METHODS = ("max", "min", "mean", "sum")


@register_wrapper("projection")
class ProjectionSource(PartedSource):
    """The maximum, minimum, mean or sum along an axis, which is dropped, as numpy's methods of these names give it.

    Parameters
    ----------
    source
        Source, array, handle or path.
    axis
        Number of the axis or, where the metadata name it, its name.
    method
        `"max"`, `"min"`, `"mean"` or `"sum"`.

    Raises
    ------
    InvalidArgumentError
        If there is no such axis or it has no voxels, the method is not known, or the maximum or minimum of complex voxels is
        asked for.

    Notes
    -----
    The dtype is the source's, but for sums of integers and booleans, which are int64 or uint64, and for means of them, which
    are float64. Floats are added in float64.

    A region is read slab by slab along the axis, so that no more than some megabytes of it, or one chunk's thickness, are held.

    Examples
    --------
    >>> image = np.array([[1, 5, 2], [4, 0, 9]], "uint8")
    >>> ProjectionSource(image, 0)[...].tolist(), ProjectionSource(image, 1, "mean")[...].tolist()
    ([4, 5, 9], [2.6666666666666665, 4.333333333333333])
    """

    def __init__(self, source: Any, axis: int | str, method: str = "max") -> None:
        if method not in _METHODS:
            raise InvalidArgumentError(f"method must be one of {', '.join(_METHODS)}, got {method!r}")
        super().__init__(source)
        with self.closing_on_error():
            self.axis = axis_number(axis, self.inputs[0])
            if self.shape[self.axis] == 0:
                raise InvalidArgumentError(f"axis {axis!r} of {self.inputs[0].name} has no voxels to project")
            if self.dtype.kind == "c" and method in ("max", "min"):
                raise InvalidArgumentError(f"{self.dtype} voxels have no {method}, as they have no order")
        self.method = method
        self._combine: np.ufunc = {"max": np.maximum, "min": np.minimum}.get(method, np.add)
        self._wide = _wide(self.dtype) if method in ("mean", "sum") else self.dtype
        if method == "sum" and self.dtype.kind in "biu":
            self.dtype = self._wide
        elif method == "mean" and self.dtype.kind in "biu":
            self.dtype = np.dtype("float64")
        chunks = self.inputs[0].chunks
        self._thick = 1 if chunks is None else chunks[self.axis]
        self._take_axes([axis for axis in range(self.ndim) if axis != self.axis])
        self._cell = self.chunks

    @property
    def metadata(self) -> ImageMetadata:
        source = self.inputs[0]
        metadata = source.metadata.fitting(source.ndim)
        if metadata.axes is not None and metadata.axes[self.axis] == "c":
            metadata = metadata.with_channels_selected(None)
        return metadata.with_axes_selected([axis for axis in range(source.ndim) if axis != self.axis])

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        part = Box.whole(self._largest_part(shape))
        thick = min(self._read_at_once(part), self.inputs[0].shape[self.axis])
        yield part.with_new_axis(self.axis, 0, thick).shape

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        (slab,) = self.read_shapes(shape)
        read = math.prod(slab) * self.inputs[0].dtype.itemsize + self.inputs[0].scratch_bytes(slab)
        added = self._wide.itemsize * math.prod(slab) if self._wide.kind in "fc" else 0
        plane = math.prod(slab) // max(1, slab[self.axis])
        return read + added + 2 * plane * self._wide.itemsize

    def _held(self, part: Box) -> int:
        return part.size * self._thick * self.inputs[0].dtype.itemsize

    def _read_at_once(self, part: Box) -> int:
        """Return how many planes are read at once: as many as a chunk is thick, or times that."""
        return self._thick * max(1, READ_BYTES // max(1, self._held(part)))

    def _part(self, part: Box) -> AnyArray:
        total: AnyArray | None = None
        extent, thick = self.inputs[0].shape[self.axis], self._read_at_once(part)
        with np.errstate(all="ignore"):
            for begin in range(0, extent, thick):
                slab = part.with_new_axis(self.axis, begin, min(extent, begin + thick))
                for plane in self._planes(self.read_input(slab)):
                    total = np.array(plane) if total is None else self._combine(total, plane, out=total)
            assert total is not None
            mean = total / extent if self.method == "mean" else total
        return mean.astype(self.dtype, copy=False)

    def _planes(self, slab: AnyArray) -> Iterable[AnyArray]:
        """Return the slab as one plane, or, where the order of adding matters, as its planes in their order."""
        if self._wide.kind in "fc" and self._combine is np.add:
            return np.moveaxis(slab, self.axis, 0).astype(self._wide)
        return [self._combine.reduce(slab, axis=self.axis, dtype=self._wide)]


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return what voxels are added in."""
    return np.dtype({"u": "uint64", "f": "float64", "c": "complex128"}.get(dtype.kind, "int64"))
