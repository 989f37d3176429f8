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
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.registration import register_wrapper
from bioimage_py.wrapper.shape import axis_number
from bioimage_py.wrapper.tiling import READ_BYTES, largest_part, parts_of

_METHODS = ("max", "min", "mean", "sum")


@register_wrapper("projection")
class ProjectionSource(WrapperSource):
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
        self.shape = (*self.shape[: self.axis], *self.shape[self.axis + 1 :])
        if self.chunks is not None:
            self.chunks = (*self.chunks[: self.axis], *self.chunks[self.axis + 1 :])

    def parameters(self) -> dict[str, Any]:
        """Return the axis, as a number, and the method."""
        return {"axis": self.axis, "method": self.method}

    @property
    def metadata(self) -> ImageMetadata:
        """Metadata of the input, without the axis."""
        source = self.inputs[0]
        metadata = source.metadata.fitting(source.ndim)
        if metadata.axes is not None and metadata.axes[self.axis] == "c":
            metadata = metadata.with_channels_selected(None)
        return metadata.with_axes_selected([axis for axis in range(source.ndim) if axis != self.axis])

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """Yield the thickest slab that is read at once for one part of a region."""
        thick = self._thickness()
        part = Box.whole(largest_part(shape, self.chunks, self._slab_bytes))
        thick = min(thick * self._repeats(part, thick), self.inputs[0].shape[self.axis])
        yield (*part.shape[: self.axis], thick, *part.shape[self.axis :])

    def scratch_bytes(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a slab, of what it is added in, and what the input holds meanwhile."""
        (slab,) = self.read_shapes(shape)
        added = self._wide.itemsize * math.prod(slab) if self._wide.kind in "fc" else 0
        plane = math.prod(slab) // max(1, slab[self.axis])
        return super().scratch_bytes(shape) + added + 2 * plane * self._wide.itemsize

    def _read(self, box: Box) -> AnyArray:
        thick = self._thickness()
        out = np.empty(box.shape, self.dtype)
        for part in parts_of(box, self.chunks, self._slab_bytes):
            out[part.relative_to(box.begin).view] = self._part(part, thick)
        return out

    def _thickness(self) -> int:
        chunks = self.inputs[0].chunks
        return 1 if chunks is None else chunks[self.axis]

    def _slab_bytes(self, part: Box) -> int:
        return part.size * self._thickness() * self.inputs[0].dtype.itemsize

    def _repeats(self, part: Box, thick: int) -> int:
        """Return how many times the thickness of a chunk is read at once."""
        return max(1, READ_BYTES // max(1, part.size * self.inputs[0].dtype.itemsize * thick))

    def _part(self, box: Box, thick: int) -> AnyArray:
        total: AnyArray | None = None
        with np.errstate(all="ignore"):
            for slab in self._slabs(box, thick):
                for plane in self._planes(self.read_input(slab)):
                    total = np.array(plane) if total is None else self._combine(total, plane, out=total)
            assert total is not None
            return total / self.inputs[0].shape[self.axis] if self.method == "mean" else total

    def _planes(self, slab: AnyArray) -> Iterable[AnyArray]:
        """Return the slab as one plane, or, where the order of adding matters, as its planes in their order."""
        if self._wide.kind in "fc" and self._combine is np.add:
            return np.moveaxis(slab, self.axis, 0).astype(self._wide)
        return [self._combine.reduce(slab, axis=self.axis, dtype=self._wide)]

    def _slabs(self, box: Box, thick: int) -> Iterator[Box]:
        extent = self.inputs[0].shape[self.axis]
        thick *= self._repeats(box, thick)
        for begin in range(0, extent, thick):
            yield Box(
                (*box.begin[: self.axis], begin, *box.begin[self.axis :]),
                (*box.end[: self.axis], min(extent, begin + thick), *box.end[self.axis :]),
            )


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return what voxels are added in."""
    return np.dtype({"u": "uint64", "f": "float64", "c": "complex128"}.get(dtype.kind, "int64"))
