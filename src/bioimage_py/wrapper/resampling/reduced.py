"""A source made smaller by whole factors, one voxel per window."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.wrapper.arguments import checked_whole
from bioimage_py.wrapper.resampling.window_reduction import check_method, reduce_windows
from bioimage_py.wrapper.spec import register_wrapper
from bioimage_py.wrapper.tiling import PartedSource


@register_wrapper("reduced")
class ReducedSource(PartedSource):
    """The source cut into windows of `factors` voxels, each reduced to one voxel; windows at the end may be cut.

    The shape is the ceiling of the division. A window that the array's end cuts is reduced over the voxels that it has.

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

    Notes
    -----
    NaN in a window gives NaN, but for `"mode"`, where each counts as a value of its own, the greatest. Minimum, maximum
    and stride of a reduced source by the same method read the first source directly. The metadata have the new voxel
    size, and the origin at the centre of the first window; for `"stride"` at its first voxel.

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

    def _part(self, part: Box) -> AnyArray:
        whole = self.inputs[0].shape
        begin = tuple(b * f for b, f in zip(part.begin, self.factors, strict=True))
        end = tuple(min(e * f, n) for e, f, n in zip(part.end, self.factors, whole, strict=True))
        return reduce_windows(self.read_input(Box(begin, end)), self.factors, self.method)


def checked_factors(factors: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return one factor per axis, of at least 1 and at most its extent, or raise InvalidArgumentError."""
    if not isinstance(factors, (list, tuple)) and np.ndim(factors) == 0:
        factors = (factors,) * len(shape)
    if len(factors) != len(shape):
        raise InvalidArgumentError(
            f"the factor must be one integer, or one per axis: got {len(factors)} for {len(shape)} axes: {factors!r}"
        )
    checked = tuple(checked_whole(f, f"the factor of axis {axis}", 1) for axis, f in enumerate(factors))
    for axis, (factor, extent) in enumerate(zip(checked, shape, strict=True)):
        if factor > extent > 0:
            raise InvalidArgumentError(
                f"the factor {factor} of axis {axis} is larger than the axis, which has {extent} voxels (shape {shape}); "
                "give one factor per axis, 1 for axes that are kept"
            )
    return checked
