"""A source brought into the range from 0 to 1."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.sources import Source
from bioimage_py.wrapper.arguments import checked_dtype, checked_number
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.registration import register_wrapper

_SCAN_BYTES = 32 * 2**20


@register_wrapper("normalize")
class NormalizeSource(WrapperSource):
    """The voxels `(source - min) / (max - min)`, between 0 and 1.

    `min` and `max` are those of the whole source, never of the region asked for, so every region reads the same as from
    the whole. Where they are not given, the first read (or `to_spec`, or `range`) goes through the whole source once,
    block by block: give them where they are known, as for large volumes this takes as long as reading them.

    Parameters
    ----------
    source
        Source, array, handle or path, of real numbers.
    min, max
        The values that become 0 and 1. Default: the least and the greatest value of the source, NaN and infinities left
        out.
    dtype
        dtype of the result: float16, float32 or float64.
    clip
        Whether voxels outside `min` and `max` become 0 and 1. Otherwise they are scaled like all others.

    Raises
    ------
    InvalidArgumentError
        If the source is complex, `min` or `max` is no finite number, `min` is above `max`, or `dtype` is no float.

    Notes
    -----
    Where `min` equals `max` everything becomes 0, but 1 what is above them if clipped. NaN stays NaN. It is computed in float64, and in float32 where that is
    exact enough for the source's dtype.

    Examples
    --------
    >>> image = np.array([[0, 50], [100, 200]], "uint8")
    >>> NormalizeSource(image)[0].tolist()
    [0.0, 0.25]
    >>> NormalizeSource(image, min=0, max=100)[1].tolist()
    [1.0, 1.0]
    """

    keeps_values = False
    working_bytes = 16

    def __init__(
        self,
        source: Any,
        min: float | None = None,
        max: float | None = None,
        *,
        dtype: npt.DTypeLike = "float32",
        clip: bool = True,
    ) -> None:
        low, high = _checked_bound(min, "min"), _checked_bound(max, "max")
        if low is not None and high is not None and low > high:
            raise InvalidArgumentError(f"min must not be above max, got min={low} and max={high}")
        result_dtype = checked_dtype(dtype, "f")
        super().__init__(source)
        with self.closing_on_error():
            if self.dtype.kind == "c":
                raise InvalidArgumentError(
                    f"{self.inputs[0].name} is {self.dtype}: complex voxels have no min and max"
                )
        self.dtype = result_dtype
        self.clip = bool(clip)
        self._bounds = _Bounds(self.inputs[0], low, high)

    @property
    def range(self) -> tuple[float, float]:
        """The values that become 0 and 1; found by reading the whole source once if they were not given."""
        return self._bounds.get()

    def parameters(self) -> dict[str, Any]:
        """Return min and max, found now if need be so that no worker repeats it, the dtype and whether to clip."""
        low, high = self.range
        return {"min": low, "max": high, "dtype": self.dtype, "clip": self.clip}

    def _read(self, box: Box) -> AnyArray:
        low, high = self.range
        block = self.read_input(box)
        scaled = block.astype(_working_dtype(block.dtype, self.dtype, low, high))
        with np.errstate(over="ignore", invalid="ignore"):
            if low == high:
                scaled = np.where(np.isnan(scaled), scaled, (scaled > high) & self.clip)
            else:
                half = 2 if math.isinf(high - low) else 1
                scaled /= half
                scaled -= low / half
                scaled /= high / half - low / half
            if self.clip:
                np.clip(scaled, 0, 1, out=scaled)
            return scaled.astype(self.dtype, copy=False)


class _Bounds:
    """Least and greatest value of a source, found once, whichever thread asks first."""

    def __init__(self, source: Source, low: float | None, high: float | None) -> None:
        self._source = source
        self._low = low
        self._high = high
        self._found: tuple[float, float] | None = None if low is None or high is None else (low, high)
        self._lock = threading.Lock()

    def get(self) -> tuple[float, float]:
        if self._found is None:
            with self._lock:
                if self._found is None:
                    self._found = self._combined(*_extremes(self._source))
        return self._found

    def _combined(self, least: float, greatest: float) -> tuple[float, float]:
        if self._low is not None:
            return self._low, max(self._low, greatest)
        return (least, greatest) if self._high is None else (min(least, self._high), self._high)


def _extremes(source: Source) -> tuple[float, float]:
    """Return the least and the greatest finite value, 0 and 0 where there is none."""
    least: float | None = None
    greatest: float | None = None
    if source.size:
        for block in Blocking(source.shape, _scan_shape(source)):
            values = np.asarray(source.read(block))
            low, high = values.min(), values.max()
            if not (np.isfinite(low) and np.isfinite(high)):
                values = values[np.isfinite(values)]
                if not values.size:
                    continue
                low, high = values.min(), values.max()
            least = low.item() if least is None else min(least, low.item())
            greatest = high.item() if greatest is None else max(greatest, high.item())
    return (0, 0) if least is None or greatest is None else (least, greatest)


def _scan_shape(source: Source) -> tuple[int, ...]:
    """Return whole chunks, as many along the last axes as a few megabytes hold."""
    chunks = source.chunks or (1,) * source.ndim
    shape = [min(c, n) for c, n in zip(chunks, source.shape, strict=True)]
    for axis in reversed(range(source.ndim)):
        times = _SCAN_BYTES // (math.prod(shape) * source.dtype.itemsize)
        if times > 1:
            shape[axis] = min(shape[axis] * times, source.shape[axis])
    return tuple(shape)


def _working_dtype(source: np.dtype[Any], result: np.dtype[Any], low: float, high: float) -> np.dtype[Any]:
    """Return float32 where it holds every voxel and both bounds exactly and the result is no finer, else float64."""
    exact = np.can_cast(source, np.float32, "safe") and source != np.float32
    whole = all(abs(bound) <= 2**24 and float(bound).is_integer() for bound in (low, high))
    return np.dtype(np.float32 if exact and whole and result.itemsize <= 4 else np.float64)


def _checked_bound(value: Any, what: str) -> float | None:
    if value is None:
        return None
    number = checked_number(value, what)
    try:
        finite = math.isfinite(number)
    except (TypeError, OverflowError):
        finite = False
    if not finite:
        raise InvalidArgumentError(f"{what} must be a finite real number, got {number!r}")
    return float(number) if isinstance(number, bool) else number
