"""Voxels in another dtype, as they are or with their values rescaled; always clipped, never wrapped around."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.wrapper.arguments import checked_dtype, checked_range, holds, rounded
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.spec import register_wrapper


@register_wrapper("cast")
class CastSource(WrapperSource):
    """The source in another dtype, each voxel as near to what it was as the dtype allows.

    Unlike numpy's `astype` nothing wraps around: integers are rounded half to even and clipped to the dtype's range, NaN
    becomes 0 there, and booleans are true above one half.

    Parameters
    ----------
    source
        Source, array, handle or path.
    dtype
        A boolean, integer, float or complex dtype; of complex voxels a real dtype keeps the real part.

    Raises
    ------
    InvalidArgumentError
        If `dtype` is another one.

    Examples
    --------
    >>> CastSource(np.array([-1.0, 2.5, 300.0]), "uint8")[...].tolist()
    [0, 2, 255]
    """

    working_bytes = 16

    def __init__(self, source: Any, dtype: npt.DTypeLike) -> None:
        wanted = checked_dtype(dtype)
        super().__init__(source)
        self.dtype = wanted

    def _read(self, box: Box) -> AnyArray:
        return rounded(self.read_input(box), self.dtype)


@register_wrapper("rescale")
class RescaleSource(WrapperSource):
    """The source with one range of values stretched linearly onto another, and clipped to that.

    Parameters
    ----------
    source
        Source, array, handle or path, of real numbers.
    in_range
        `(low, high)`: the values that become the ends of `out_range`; `high` may be below `low`, which inverts.
    out_range
        `(low, high)`. Default: the whole range of an integer dtype; 0 and 1 of a float or boolean one.
    dtype
        dtype of the result. Default: that of the source.
    clip
        Whether values outside `in_range` become the ends of `out_range`. Integers are kept inside their dtype's range anyway.

    Raises
    ------
    InvalidArgumentError
        If the source is complex, a range is not two finite numbers, `in_range` has no extent, or the dtype cannot hold
        `out_range`.

    Notes
    -----
    Computed in float64; integers are rounded half to even. NaN stays NaN in floats and becomes 0 in integers.

    Examples
    --------
    >>> image = np.array([100, 150, 200, 4095], "uint16")
    >>> RescaleSource(image, (100, 200), dtype="uint8")[...].tolist()
    [0, 128, 255, 255]
    >>> RescaleSource(image, (100, 200), (0, 1), dtype="float32", clip=False)[1:].tolist()
    [0.5, 1.0, 39.95000076293945]
    """

    keeps_values = False
    working_bytes = 32

    def __init__(
        self,
        source: Any,
        in_range: Any,
        out_range: Any = None,
        dtype: npt.DTypeLike | None = None,
        clip: bool = True,
    ) -> None:
        given = None if dtype is None else checked_dtype(dtype, "biuf")
        low, high = checked_range(in_range, "in_range")
        if low == high:
            raise InvalidArgumentError(f"in_range must have an extent, got {in_range!r}")
        super().__init__(source)
        with self.closing_on_error():
            self._refuse_complex("range")
            self.dtype = given or self.dtype
            ends = _whole_range(self.dtype) if out_range is None else checked_range(out_range, "out_range")
            if not all(holds(self.dtype, end) for end in ends):
                raise InvalidArgumentError(f"out_range {ends} does not fit the dtype {self.dtype}")
        self.in_range = (low, high)
        self.out_range = ends
        self.clip = bool(clip)

    def _read(self, box: Box) -> AnyArray:
        (a, b), (c, d) = self.in_range, self.out_range
        with np.errstate(all="ignore"):
            part = (self.read_input(box).astype(np.float64) - a) / (float(b) - a)
            if self.clip:
                np.clip(part, 0, 1, out=part)
            # Both ends come out exactly, however far they are apart.
            return rounded(part * d + (1 - part) * c, self.dtype)


def _whole_range(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind not in "iu":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
