"""A source brought into the range from 0 to 1 by percentiles of its values."""

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
from bioimage_py.wrapper.arguments import checked_dtype
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.registration import register_wrapper
from bioimage_py.wrapper.tiling import READ_BYTES
from bioimage_py.wrapper.values.cast import RescaleSource, checked_range

_SAMPLE = 2**22


@register_wrapper("percentile_normalize")
class PercentileNormalizeSource(WrapperSource):
    """The voxels scaled so that two percentiles of the whole source become 0 and 1.

    The limits are found once, by going through the whole source on the first read (or `to_spec`, or `limits`), and are the
    same for every region. Given as `limits` they are fixed from the start, so that several volumes are treated alike.

    Parameters
    ----------
    source
        Source, array, handle or path, of real numbers.
    lower, upper
        The percentiles, 0 to 100.
    limits
        `(low, high)`: the values that become 0 and 1, instead of percentiles.
    dtype
        dtype of the result: float16, float32 or float64.
    clip
        Whether voxels beyond the limits become 0 and 1.

    Raises
    ------
    InvalidArgumentError
        If the source is complex, the percentiles are not in order between 0 and 100, `limits` is not two finite numbers,
        or `dtype` is no float.

    Notes
    -----
    Percentiles are values that occur (`numpy.percentile(..., method="inverted_cdf")`), exact for booleans and integers of 8
    and 16 bits, which are counted; of others about 4 million voxels are taken, evenly spaced over the whole source, and
    NaN and infinities left out. Where both limits are one value, voxels above it become 1 and all others 0.

    Examples
    --------
    >>> image = np.arange(101, dtype="uint8")
    >>> source = PercentileNormalizeSource(image, 10, 90)
    >>> source.limits, source[50:52].tolist()
    ((10, 90), [0.5, 0.512499988079071])
    """

    keeps_values = False
    working_bytes = 32

    def __init__(
        self,
        source: Any,
        lower: float = 1.0,
        upper: float = 99.8,
        *,
        limits: Any = None,
        dtype: npt.DTypeLike = "float32",
        clip: bool = True,
    ) -> None:
        wanted = checked_dtype(dtype, "f")
        low, high = checked_range((lower, upper), "percentiles")
        if not 0 <= low < high <= 100:
            raise InvalidArgumentError(
                f"percentiles must be 0 <= lower < upper <= 100, got {lower!r} and {upper!r}"
            )
        super().__init__(source)
        with self.closing_on_error():
            if self.dtype.kind == "c":
                raise InvalidArgumentError(
                    f"{self.inputs[0].name} is {self.dtype}: complex voxels have no percentiles"
                )
            self._limits = _Limits(self.inputs[0], (low, high), limits)
        self.dtype = wanted
        self.clip = bool(clip)

    @property
    def limits(self) -> tuple[float, float]:
        """The values that become 0 and 1; found by reading the whole source once if they were not given."""
        return self._limits.get()

    def parameters(self) -> dict[str, Any]:
        """Return the limits, found now if need be so that no worker repeats it, the percentiles, the dtype and whether to clip."""
        lower, upper = self._limits.percentiles
        return {"lower": lower, "upper": upper, "limits": self.limits, "dtype": self.dtype, "clip": self.clip}

    def _read(self, box: Box) -> AnyArray:
        low, high = self.limits
        if low == high:
            block = self.read_input(box)
            above = np.where(np.isnan(block), block, block > low) if block.dtype.kind == "f" else block > low
            return above.astype(self.dtype)
        return RescaleSource(self.inputs[0], (low, high), (0, 1), self.dtype, self.clip).read(box)


class _Limits:
    """Two percentiles of a source, found once, whichever thread asks first."""

    def __init__(self, source: Source, percentiles: tuple[float, float], limits: Any) -> None:
        self.percentiles = percentiles
        self._source = source
        self._found = None if limits is None else checked_range(limits, "limits")
        self._lock = threading.Lock()

    def get(self) -> tuple[float, float]:
        if self._found is None:
            with self._lock:
                if self._found is None:
                    self._found = self._find()
        return self._found

    def _find(self) -> tuple[float, float]:
        values, counts = _histogram(self._source)
        if not values.size:
            return 0, 1
        ranks = np.cumsum(counts)
        low, high = (values[_rank(ranks, percentile)].item() for percentile in self.percentiles)
        return low, high


def _rank(ranks: AnyArray, percentile: float) -> int:
    """Return the first value that at least this share of all voxels do not pass."""
    return int(np.searchsorted(ranks, max(1, math.ceil(int(ranks[-1]) * percentile / 100))))


def _histogram(source: Source) -> tuple[AnyArray, AnyArray]:
    """Return values in ascending order and how often each occurs."""
    dtype = source.dtype.newbyteorder("=")
    blocks = (np.asarray(source.read(block), dtype) for block in _scan(source)) if source.size else iter(())
    if dtype.itemsize <= 2 and dtype.kind in "biu":
        offset = np.iinfo(dtype).min if dtype.kind == "i" else 0
        counts = np.zeros(2 ** (8 * dtype.itemsize), np.int64)
        for block in blocks:
            counts += np.bincount(block.ravel().astype(np.int64) - offset, minlength=counts.size)
        present = np.flatnonzero(counts)
        return (present + offset).astype(dtype), counts[present]
    step, at = max(1, source.size // _SAMPLE), 0
    taken = [np.empty(0, dtype)]
    for block in blocks:
        taken.append(block.ravel()[at % step :: step])
        at -= block.size
    sample = np.concatenate(taken)
    if dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    values, counts = np.unique(sample, return_counts=True)
    return values, counts


def _scan(source: Source) -> Blocking:
    """Return blocks of whole chunks, as many along the last axes as the memory for reading holds."""
    shape = [min(c, n) for c, n in zip(source.chunks or (1,) * source.ndim, source.shape, strict=True)]
    for axis in reversed(range(source.ndim)):
        times = READ_BYTES // max(1, math.prod(shape) * source.dtype.itemsize)
        shape[axis] = min(shape[axis] * max(1, times), source.shape[axis])
    return Blocking(source.shape, tuple(shape))
