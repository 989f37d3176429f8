"""Windows of voxels reduced to one voxel each: mean, median, mode, min, max, or the first one.

Everything is done on whole planes of voxels, one per place in the window, in an order that does not depend on the block. It is
done piece by piece, each small enough for a processor's cache: on two cores that is two to four times faster than block by block.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError

METHODS = ("mean", "median", "mode", "min", "max", "stride")

_IN_CACHE = 2**20
"""Bytes of voxels that are reduced at a time."""
_NETWORK_SIZE = 32
"""Up to how many voxels a window is sorted by exchanging planes, which is faster than sorting many short rows."""


def check_method(method: str, dtype: np.dtype[Any]) -> None:
    """Raise InvalidArgumentError if a method is not known, or needs an order that complex numbers do not have."""
    if method not in METHODS:
        raise InvalidArgumentError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if dtype.kind == "c" and method not in ("mean", "stride"):
        raise InvalidArgumentError(
            f"{dtype} voxels have no {method}, as they have no order; use 'mean' or 'stride'"
        )


def reduce_windows(block: AnyArray, window: Sequence[int], method: str) -> AnyArray:
    """Return one voxel per window, in the block's dtype, which is native; windows that the end cuts use the voxels they have.

    `"mean"`: of integers exact and rounded half to even; of floats, summed in float64; of booleans, true where more than half
    are. `"median"`: of an even count the mean of the two in the middle, rounded likewise. `"mode"`: the most frequent value,
    the smallest of several. `"min"`, `"max"`. `"stride"`: the window's first voxel.
    """
    if method == "stride" or all(size == 1 for size in window):
        return block[tuple(slice(None, None, size) for size in window)]
    out = np.empty(tuple(-(-n // size) for n, size in zip(block.shape, window, strict=True)), block.dtype)
    if out.size:
        _reduce_into(out, block, tuple(window), method)
    return out


def _reduce_into(out: AnyArray, block: AnyArray, window: tuple[int, ...], method: str) -> None:
    """Reduce a block, cut in two as often as it takes for the parts to fit the cache."""
    axis = next((axis for axis, n in enumerate(out.shape) if n > 1), None)
    if block.nbytes <= _IN_CACHE or axis is None:
        out[...] = _reduced(block, window, method)
        return
    middle = out.shape[axis] // 2
    step = (slice(None),) * axis
    cut = middle * window[axis]
    _reduce_into(out[(*step, slice(0, middle))], block[(*step, slice(0, cut))], window, method)
    _reduce_into(out[(*step, slice(middle, None))], block[(*step, slice(cut, None))], window, method)


def _reduced(block: AnyArray, window: tuple[int, ...], method: str) -> AnyArray:
    if method in _FOLDS:
        return _folded(block, window, _FOLDS[method], block.dtype)
    out = np.empty(tuple(-(-n // size) for n, size in zip(block.shape, window, strict=True)), block.dtype)
    for pieces in itertools.product(*map(_pieces, block.shape, window)):
        target = tuple(piece[0] for piece in pieces)
        source = tuple(piece[1] for piece in pieces)
        out[target] = _REDUCTIONS[method](block[source], tuple(piece[2] for piece in pieces))
    return out


def _pieces(extent: int, size: int) -> Iterator[tuple[slice, slice, int]]:
    """Yield the whole windows of an axis, then the one that is cut: (windows, voxels, extent of a window)."""
    whole, rest = divmod(extent, size)
    if whole:
        yield slice(0, whole), slice(0, whole * size), size
    if rest:
        yield slice(whole, whole + 1), slice(whole * size, extent), rest


def _folded(block: AnyArray, window: Sequence[int], combine: np.ufunc, dtype: np.dtype[Any]) -> AnyArray:
    """Return the windows combined axis after axis."""
    for axis, size in enumerate(window):
        if size > 1 and block.shape[axis] > 1:
            step = (slice(None),) * axis
            first, last = block[(*step, slice(0, None, size))], min(size, block.shape[axis])
            if block.shape[axis] % size == 0:
                # Widened and added in one go.
                total, rest = (
                    combine(first, block[(*step, slice(1, None, size))], dtype=dtype),
                    range(2, last),
                )
            else:
                total, rest = first.astype(dtype), range(1, last)
            for k in rest:
                plane = block[(*step, slice(k, None, size))]
                held = total[(*step, slice(0, plane.shape[axis]))]
                combine(held, plane, out=held)
            block = total
    return block


def _mean(block: AnyArray, window: tuple[int, ...]) -> AnyArray:
    count = math.prod(window)
    dtype = block.dtype
    if dtype.kind in "fc":
        wide = np.dtype("float64" if dtype.kind == "f" else "complex128")
        with np.errstate(all="ignore"):
            return (_folded(block.astype(wide, copy=False), window, np.add, wide) / count).astype(dtype)
    if dtype.kind == "b":
        return _mean(block.view("uint8"), window).astype(bool)
    if dtype.itemsize == 8:
        return _mean_of_64_bit(block, window)
    bits = 8 * dtype.itemsize + (count - 1).bit_length()
    wide = np.dtype(f"{dtype.kind}{2 if bits <= 16 else 4 if bits <= 32 else 8}")
    total = _folded(block, window, np.add, wide)
    if count == 1:
        return total.astype(dtype)
    if count & (count - 1) == 0:
        return _shifted_half_to_even(total, count.bit_length() - 1).astype(dtype)
    quotient = total // count
    return _half_to_even(quotient, total - quotient * count, count).astype(dtype)


def _mean_of_64_bit(block: AnyArray, window: tuple[int, ...]) -> AnyArray:
    """Add high and low halves on their own, as the sum itself may need more than 64 bits, and divide in two steps."""
    count = math.prod(window)
    high, low = (
        _folded(half, window, np.add, block.dtype)
        for half in (block >> 32, block & block.dtype.type(2**32 - 1))
    )
    upper, rest = np.divmod(high, count)
    lower, rest = np.divmod((rest << 32) + low, count)
    return _half_to_even((upper << 32) + lower, rest, count)


def _shifted_half_to_even(total: AnyArray, bits: int) -> AnyArray:
    """Divide by a power of two: half of it is added before its bits are dropped, and one less where the quotient is even."""
    odd = total >> bits
    odd &= 1
    total += odd
    total += (1 << bits >> 1) - 1
    total >>= bits
    return total


def _half_to_even(quotient: AnyArray, rest: AnyArray, count: int) -> AnyArray:
    twice = 2 * rest
    up: AnyArray = (twice > count) | ((twice == count) & (quotient & 1 == 1))
    return np.add(quotient, up, out=quotient)


def _median(block: AnyArray, window: tuple[int, ...]) -> AnyArray:
    if block.dtype.kind == "b":
        return _median(block.view("uint8"), window).astype(bool)
    ranked = _sorted(list(_planes(block, window)))
    low, high = ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2]
    if block.dtype.kind != "f":
        if len(ranked) % 2:
            return low
        middle: AnyArray = (low & high) + ((low ^ high) >> 1)
        middle += (low ^ high) & middle & 1
        return middle
    with np.errstate(all="ignore"):
        middle = (low if len(ranked) % 2 else (low.astype("float64") + high) / 2).astype(block.dtype)
        greatest = _folded(block, window, np.maximum, block.dtype)
    return np.where(np.isnan(greatest), greatest, middle)


def _mode(block: AnyArray, window: tuple[int, ...]) -> AnyArray:
    """Sort only windows of several values: most windows of labels have one."""
    planes = list(_planes(block, window))
    result = planes[0].copy()
    mixed = np.zeros(result.shape, bool)
    for plane in planes[1:]:
        mixed |= plane != planes[0]
    if mixed.any():
        result[mixed] = _most_frequent(_sorted([plane[mixed] for plane in planes]))
    return result


def _most_frequent(ranked: Sequence[AnyArray]) -> AnyArray:
    best = ranked[0].copy()
    longest = np.ones(best.shape, "int32")
    run = np.ones(best.shape, "int32")
    for before, value in itertools.pairwise(ranked):
        run *= value == before
        run += 1
        longer = run > longest
        np.copyto(best, value, where=longer)
        np.maximum(longest, run, out=longest)
    return best


def _planes(block: AnyArray, window: tuple[int, ...]) -> Iterator[AnyArray]:
    """Yield the first voxel of every window, then the second one, and so on, as views."""
    for place in itertools.product(*map(range, window)):
        yield block[tuple(slice(k, None, size) for k, size in zip(place, window, strict=True))]


def _sorted(planes: list[AnyArray]) -> Sequence[AnyArray]:
    """Return the planes with the values of every window in ascending order, NaN anywhere unless the last are sorted."""
    if len(planes) > _NETWORK_SIZE or planes[0].dtype.kind == "f":
        rows = np.stack(planes, axis=-1)
        rows.sort(axis=-1)
        return [rows[..., k] for k in range(len(planes))]
    for a, b in _exchanges(len(planes)):
        planes[a], planes[b] = np.minimum(planes[a], planes[b]), np.maximum(planes[a], planes[b])
    return planes


def _exchanges(count: int) -> Iterator[tuple[int, int]]:
    """Yield which pairs to put in order, one after the other, to sort `count` values: Batcher's merge exchange."""
    top = 1 << ((count - 1).bit_length() - 1) if count > 1 else 0
    size = top
    while size:
        apart, step, phase = size, top, 0
        while True:
            yield from ((i, i + apart) for i in range(count - apart) if i & size == phase)
            if step == size:
                break
            apart, step, phase = step - size, step >> 1, size
        size >>= 1


_FOLDS: dict[str, np.ufunc] = {"min": np.minimum, "max": np.maximum}
_REDUCTIONS: dict[str, Callable[[AnyArray, tuple[int, ...]], AnyArray]] = {
    "mean": _mean,
    "median": _median,
    "mode": _mode,
}
