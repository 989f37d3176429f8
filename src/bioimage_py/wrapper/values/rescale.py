"""Voxels in another dtype, as they are or rescaled, by given ranges, by their least and greatest value or by percentiles."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.sources import Source
from bioimage_py.wrapper.arguments import checked_dtype, checked_range, checked_real, holds, rounded
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

    Computed in float64; integers are rounded half to even. NaN stays NaN in floats and becomes 0 in integers.

    Parameters
    ----------
    source
        Source, array, handle or path, of real numbers.
    in_range
        `(low, high)`: the values that become the ends of `out_range`; `high` may be below `low`, which inverts. Or percentiles,
        `("1%", "99%")`, which are measured once, now, in a sample of at most 64 MiB of blocks spread over the source; the attribute
        `in_range` has the values.
    out_range
        `(low, high)`. Default: the whole range of an integer dtype; 0 and 1 of a float or boolean one.
    dtype
        dtype of the result. Default: that of the source.
    clip
        Whether values outside `in_range` become the ends of `out_range`. Integers are kept inside their dtype's range anyway.

    Raises
    ------
    InvalidArgumentError
        If the source is complex, a range is not two finite numbers, `in_range` has no extent, also as measured, or the dtype
        cannot hold `out_range`.

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
        super().__init__(source)
        with self.closing_on_error():
            self._refuse_complex("range")
            measured = isinstance(in_range, (list, tuple)) and any(isinstance(one, str) for one in in_range)
            found = sampled_percentiles(self.inputs[0], in_range) if measured else in_range
            low, high = checked_range(found, "in_range")
            if low == high:
                of = f", {low} to {high} in a sample of {self.inputs[0].name}" if measured else ""
                raise InvalidArgumentError(f"in_range must have an extent, got {in_range!r}{of}")
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


_SCAN_BYTES = 2**25

_SAMPLE = 2**22

_BLOCK_BYTES, _LEAST_BLOCKS = 2**20, 16
"""What is measured by a sample is read in blocks of this size, or single chunks if they are larger, and in so many at least."""


@register_wrapper("normalize")
class NormalizeSource(WrapperSource):
    """The voxels `(source - min) / (max - min)`, between 0 and 1.

    `min` and `max` are those of the whole source, never of the region asked for, so every region reads the same as from
    the whole. Where they are not given, the first read (or `to_spec`, or `range`) goes through the whole source once,
    block by block: give them where they are known, as for large volumes this takes as long as reading them.

    Where `min` equals `max` everything becomes 0, and what is above them 1 if clipped. NaN stays NaN. It is computed in
    float64, and in float32 where that is exact enough for the source's dtype.

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
        If the source is complex, `min` or `max` is not a finite number, `min` is above `max`, or `dtype` is not a float.

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
        low = None if min is None else checked_real(min, "min")
        high = None if max is None else checked_real(max, "max")
        if low is not None and high is not None and low > high:
            raise InvalidArgumentError(f"min must not be above max, got min={low} and max={high}")
        result_dtype = checked_dtype(dtype, "f")
        super().__init__(source)
        with self.closing_on_error():
            self._refuse_complex("min and max")
        self.dtype = result_dtype
        self.clip = bool(clip)
        given = None if low is None or high is None else (low, high)
        self._range = FoundOnce(given, partial(_range, self.inputs[0], low, high))

    @property
    def range(self) -> tuple[float, float]:
        """The values that become 0 and 1; found by reading the whole source once if they were not given."""
        return self._range.get()

    def parameters(self) -> dict[str, Any]:
        low, high = self.range  # found now if need be, so that no worker repeats it
        return {"min": low, "max": high, **super().parameters()}

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


@register_wrapper("percentile_normalize")
class PercentileNormalizeSource(WrapperSource):
    """The voxels scaled so that two percentiles of the whole source become 0 and 1.

    The limits are found once, by going through the whole source on the first read (or `to_spec`, or `limits`), and are the
    same for every region. Given as `limits` they are fixed from the start, so that several volumes are treated alike.

    Percentiles are values that occur (`numpy.percentile(..., method="inverted_cdf")`), exact for booleans and integers of 8
    and 16 bits, which are counted; of others about 4 million voxels are taken, evenly spaced over the whole source, and
    NaN and infinities left out. Where both limits are one value, voxels above it become 1 and all others 0.

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
        or `dtype` is not a float.

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
            self._refuse_complex("percentiles")
            given = None if limits is None else checked_range(limits, "limits")
        self.lower, self.upper = low, high
        self._limits = FoundOnce(given, partial(_percentiles, self.inputs[0], low, high))
        self.dtype = wanted
        self.clip = bool(clip)

    @property
    def limits(self) -> tuple[float, float]:
        """The values that become 0 and 1; found by reading the whole source once if they were not given."""
        return self._limits.get()

    def _read(self, box: Box) -> AnyArray:
        low, high = self.limits
        if low == high:
            block = self.read_input(box)
            above = np.where(np.isnan(block), block, block > low) if block.dtype.kind == "f" else block > low
            return above.astype(self.dtype)
        return RescaleSource(self.inputs[0], (low, high), (0, 1), self.dtype, self.clip).read(box)


class FoundOnce:
    """Two limits, given or found by reading a source once, whichever thread asks first."""

    def __init__(self, given: tuple[float, float] | None, find: Callable[[], tuple[float, float]]) -> None:
        self._found = given
        self._find = find
        self._lock = threading.Lock()

    def get(self) -> tuple[float, float]:
        if self._found is None:
            with self._lock:
                if self._found is None:
                    self._found = self._find()
        return self._found


def _range(source: Source, low: float | None, high: float | None) -> tuple[float, float]:
    """Return the least and the greatest finite value, 0 and 0 where there is none, but for the one that is given."""
    ends: list[float] = []
    for block in _blocks(source):
        values = block
        if not (np.isfinite(values.min()) and np.isfinite(values.max())):
            values = values[np.isfinite(values)]
        if values.size:
            ends = [min([*ends, values.min().item()]), max([*ends, values.max().item()])]
    least, greatest = ends or (0, 0)
    if low is not None:
        return low, max(low, greatest)
    return (least, greatest) if high is None else (min(least, high), high)


def _percentiles(source: Source, lower: float, upper: float) -> tuple[float, float]:
    values, counts = _histogram(source)
    if not values.size:
        return 0, 1
    ranks = np.cumsum(counts)
    # The first value that at least this share of all voxels do not pass.
    wanted = (max(1, math.ceil(int(ranks[-1]) * percentile / 100)) for percentile in (lower, upper))
    low, high = (values[int(np.searchsorted(ranks, rank))].item() for rank in wanted)
    return low, high


def sampled_percentiles(source: Source, texts: Sequence[Any]) -> tuple[float, float]:
    """Return two percentiles, given as `"1%"`, of blocks that are spread over a source; always the same ones."""
    try:
        wanted = checked_range([float(text.removesuffix("%")) for text in texts], "percentiles")
    except (AttributeError, ValueError) as error:
        raise InvalidArgumentError(
            f"percentiles are two texts such as ('1%', '99%'), got {texts!r}"
        ) from error
    if not 0 <= wanted[0] < wanted[1] <= 100:
        raise InvalidArgumentError(f"percentiles must be 0 <= lower < upper <= 100, got {texts!r}")
    blocking = _blocking(source, _BLOCK_BYTES)
    n_blocks = blocking.n_blocks if source.size else 0
    most = max(
        _LEAST_BLOCKS, 2 * _SCAN_BYTES // max(1, math.prod(blocking.block_shape) * source.dtype.itemsize)
    )
    chosen: Sequence[int] = range(n_blocks)
    if n_blocks > most:  # multiples of the golden ratio are spread evenly, whatever the grid of blocks is
        chosen = sorted({int(n_blocks * (n * 0.6180339887498949 % 1)) for n in range(most)})
    parts = [np.empty(0, source.dtype.newbyteorder("="))]
    for number in chosen:
        part = np.asarray(source.read(blocking[number]), parts[0].dtype).ravel()
        parts.append(part[:: max(1, part.size * len(chosen) // _SAMPLE)])
    values = np.concatenate(parts)
    values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not values.size:
        raise InvalidArgumentError(f"{source.name} has no voxels to measure a range by")
    low, high = np.percentile(values, wanted, method="inverted_cdf").tolist()
    return low, high


def _histogram(source: Source) -> tuple[AnyArray, AnyArray]:
    """Return values in ascending order and how often each occurs."""
    dtype = source.dtype.newbyteorder("=")
    if dtype.itemsize <= 2 and dtype.kind in "biu":
        offset = np.iinfo(dtype).min if dtype.kind == "i" else 0
        counts = np.zeros(2 ** (8 * dtype.itemsize), np.int64)
        for block in _blocks(source):
            counts += np.bincount(block.ravel().astype(np.int64) - offset, minlength=counts.size)
        present = np.flatnonzero(counts)
        return (present + offset).astype(dtype), counts[present]
    step, at = max(1, source.size // _SAMPLE), 0
    taken = [np.empty(0, dtype)]
    for block in _blocks(source):
        taken.append(block.ravel()[at % step :: step])
        at -= block.size
    sample = np.concatenate(taken)
    if dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
    values, counts = np.unique(sample, return_counts=True)
    return values, counts


def _blocking(source: Source, n_bytes: int) -> Blocking:
    """Return blocks of whole chunks, as many along the last axes as some bytes hold."""
    shape = [
        max(1, min(c, n)) for c, n in zip(source.chunks or (1,) * source.ndim, source.shape, strict=True)
    ]
    for axis in reversed(range(source.ndim)):
        times = n_bytes // (math.prod(shape) * source.dtype.itemsize)
        shape[axis] = max(1, min(shape[axis] * max(1, times), source.shape[axis]))
    return Blocking(source.shape, tuple(shape))


def _blocks(source: Source) -> Iterator[AnyArray]:
    """Yield a whole source block by block."""
    if not source.size:
        return
    for block in _blocking(source, _SCAN_BYTES):
        yield np.asarray(source.read(block), source.dtype.newbyteorder("="))


def _working_dtype(source: np.dtype[Any], result: np.dtype[Any], low: float, high: float) -> np.dtype[Any]:
    """Return float32 where it holds every voxel and both bounds exactly and the result is no finer, else float64."""
    exact = np.can_cast(source, np.float32, "safe") and source != np.float32
    whole = all(abs(bound) <= 2**24 and float(bound).is_integer() for bound in (low, high))
    return np.dtype(np.float32 if exact and whole and result.itemsize <= 4 else np.float64)
