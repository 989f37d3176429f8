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
