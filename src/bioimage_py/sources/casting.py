"""The cast of a write: numpy's assignment, and a result of our own where numpy leaves it open."""

from __future__ import annotations

from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray

_LEAST, _BEYOND = -(2.0**63), 2.0**63


def cast_values(values: Any, dtype: np.dtype[Any]) -> AnyArray:
    """Return values in a dtype, as assignment into a numpy array casts them, without its warnings; the array itself if it has the dtype.

    numpy leaves open what integers NaN, infinities and floats beyond 64 bits become: it depends on the processor, and
    on how many voxels are cast at once. Here NaN becomes 0, and the others the least or the greatest integer of the
    dtype. Of complex numbers only the real part goes into a real dtype.
    """
    array = np.asarray(values)
    if array.dtype == dtype:
        return array
    # Taking the real part first keeps numpy from warning; filters of warnings are not for use in many threads.
    if array.dtype.kind == "c" and dtype.kind not in "cb":
        array = array.real
    with np.errstate(all="ignore"):
        if array.dtype.kind == "f" and dtype.kind in "iu" and not _is_defined(array, dtype):
            return _defined(array, dtype)
        return array.astype(dtype, copy=False)


def saturated(values: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """As `cast_values`, but what an integer dtype cannot hold becomes its least or greatest value, and NaN 0."""
    if values.dtype.kind == "c" and dtype.kind not in "cb":
        values = values.real
    if dtype.kind in "iu" and values.dtype.kind in "iuf" and not np.can_cast(values.dtype, dtype, "safe"):
        info = np.iinfo(dtype)
        low, high = info.min, info.max
        if values.dtype.kind != "f":
            given = np.iinfo(values.dtype)
            values = np.clip(values, max(low, given.min), min(high, given.max))
        else:
            # Small floats do not hold the ends; the greatest integer of 64 bits no float does, and that is for the cast.
            wide = np.float64 if values.dtype.itemsize <= dtype.itemsize else values.dtype
            values = np.clip(values.astype(wide, copy=False), low, high if dtype.itemsize < 8 else None)
    return cast_values(values, dtype)


def _is_defined(array: AnyArray, dtype: np.dtype[Any]) -> bool:
    """Whether numpy has one result for every value, whatever else is in the array."""
    if not array.size:
        return True
    if array.dtype == np.float16:  # which holds no number that is too large; numpy compares it slowly
        return not (np.bitwise_and(array.view(np.uint16), 0x7C00) == 0x7C00).any()
    least, beyond = _LEAST, _BEYOND
    if dtype.kind == "u" and dtype.itemsize == 4:  # cast by 32 or by 64 bits, as the shape has it
        least, beyond = -(2.0**31), 2.0**32
    elif dtype.kind == "u" and dtype.itemsize == 8:
        beyond = 2.0**64
    # NaN is the least and the greatest value of what holds one, and compares as false.
    return float(array.min()) >= least and float(array.max()) < beyond


def _defined(array: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    info = np.iinfo(dtype)
    beyond = 2.0**64 if info.max > 2**63 else _BEYOND
    wide = (
        np.dtype(np.float64) if array.dtype.itemsize < 8 else array.dtype
    )  # float16 does not hold the bounds
    array = array.astype(wide, copy=False)
    above, below = array >= beyond, array < _LEAST
    inside = np.where(above | below | np.isnan(array), 0, array)
    if dtype.kind == "u" and dtype.itemsize == 4:
        inside = inside.astype(np.int64)
    result = inside.astype(dtype)
    result[above], result[below] = info.max, info.min
    return result
