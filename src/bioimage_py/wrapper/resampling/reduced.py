"""A source made smaller: one voxel per window of whole factors, or a whole axis as one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.wrapper.arguments import checked_extents
from bioimage_py.wrapper.resampling.window_reduction import check_method, reduce_windows
from bioimage_py.wrapper.shape import axis_number
from bioimage_py.wrapper.spec import register_wrapper
from bioimage_py.wrapper.tiling import READ_BYTES, PartedSource


@register_wrapper("reduced")
class ReducedSource(PartedSource):
    """The source cut into windows of `factors` voxels, each reduced to one voxel; windows at the end may be cut.

    The shape is the ceiling of the division. A window that the array's end cuts is reduced over the voxels that it has.

    NaN in a window gives NaN, but for `"mode"`, where each counts as a value of its own, the greatest. Minimum, maximum
    and stride of a reduced source by the same method read the first source directly. The metadata have the new voxel
    size, and the origin at the centre of the first window; for `"stride"` at its first voxel.

    Parameters
    ----------
    source
        Source, array, handle or path.
    factors
        Extent of a window: one integer for all axes, or one per axis.
    method
        `"mean"`: integers exact and rounded half to even, floats summed in float64, booleans true where more than half
        are. `"median"`: of an even count the mean of the two in the middle, rounded likewise. `"mode"`: the most
        frequent value, the smallest of several; for labels. `"min"`, `"max"`. `"stride"`: the window's first voxel.

    Raises
    ------
    InvalidArgumentError
        If a factor is below 1 or larger than its axis, their number is not that of the axes, the method is not known, or
        complex voxels are to be put in order.

    Examples
    --------
    >>> labels = np.array([[1, 1, 2], [1, 3, 2], [5, 4, 4]], "uint32")
    >>> ReducedSource(labels, 2, "mode")[...].tolist()
    [[1, 2], [4, 4]]
    >>> ReducedSource(labels, (1, 3), "max")[1:].tolist()
    [[3], [5]]
    """

    factors: tuple[int, ...]
    method: str

    def __init__(self, source: Any, factors: Any, method: str = "mean") -> None:
        # Reducing twice in these ways is reducing once by the product of the factors.
        composes = type(source) is ReducedSource and source.method == method in ("min", "max", "stride")
        inner = source if composes else None
        super().__init__(source if inner is None else inner.inputs[0])
        with self.closing_on_error():
            check_method(method, self.dtype)
            self.factors = checked_factors(factors, self.shape if inner is None else inner.shape)
        if inner is not None:
            self.factors = tuple(a * b for a, b in zip(self.factors, inner.factors, strict=True))
        self.method = method
        old, chunks = self.shape, self.chunks
        self.shape = tuple(-(-n // f) for n, f in zip(old, self.factors, strict=True))
        if chunks is not None:
            # Windows that fill whole chunks; as many of them as make a chunk's extent are a grid that cuts no chunk too.
            self._cell = tuple(c // math.gcd(c, f) for c, f in zip(chunks, self.factors, strict=True))
            self.chunks = tuple(min(c, max(1, n)) for c, n in zip(chunks, self.shape, strict=True))

    @property
    def metadata(self) -> ImageMetadata:
        return self._rescaled(
            self.factors, [0.0 if self.method == "stride" else (f - 1) / 2 for f in self.factors]
        )

    def read_shapes(self, shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        part, whole = self._largest_part(shape), self.inputs[0].shape
        yield tuple(min(n * f, most) for n, f, most in zip(part, self.factors, whole, strict=True))

    def _held(self, part: Box) -> int:
        """Return the most that reducing a part holds: its input as read and as what is sorted or added, and what is counted."""
        if self.method == "mean":
            copies, counted = (5 if self.dtype.kind in "fc" or self.dtype.itemsize == 8 else 3), 40
        else:
            copies, counted = {"stride": (1, 0), "min": (2, 0), "max": (2, 0)}.get(self.method, (4, 16))
        return part.size * (math.prod(self.factors) * self.dtype.itemsize * copies + counted)

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        whole = self.inputs[0].shape
        begin = tuple(b * f for b, f in zip(box.begin, self.factors, strict=True))
        yield (
            0,
            Box(begin, tuple(min(e * f, n) for e, f, n in zip(box.end, self.factors, whole, strict=True))),
        )

    def _part(self, part: Box) -> AnyArray:
        ((_, region),) = self.input_boxes(part)
        return reduce_windows(self.read_input(region), self.factors, self.method)


def checked_factors(factors: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return one factor per axis, of at least 1 and at most its extent, or raise InvalidArgumentError."""
    checked = checked_extents(factors, len(shape), "the factor", 1)
    for axis, (factor, extent) in enumerate(zip(checked, shape, strict=True)):
        if factor > extent > 0:
            raise InvalidArgumentError(
                f"the factor {factor} of axis {axis} is larger than the axis, which has {extent} voxels (shape {shape}); "
                "give one factor per axis, 1 for axes that are kept"
            )
    return checked


_METHODS = ("max", "min", "mean", "sum")


@register_wrapper("projection")
class ProjectionSource(PartedSource):
    """The maximum, minimum, mean or sum along an axis, which is dropped, as numpy's methods of these names give it.

    The dtype is the source's, but for sums of integers and booleans, which are int64 or uint64, and for means of them, which
    are float64. Floats are added in float64.

    A region is read slab by slab along the axis, so that no more than some megabytes of it, or one chunk's thickness, are held.

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

    def input_boxes(self, box: Box) -> Iterator[tuple[int, Box]]:
        yield 0, box.with_new_axis(self.axis, 0, self.inputs[0].shape[self.axis])

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
