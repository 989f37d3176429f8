"""From computed numbers to a dtype: rounded to the nearest, kept inside its range."""

from __future__ import annotations

from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray


def rounded(values: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """Return numbers in another dtype, each as near to what it was as the dtype allows.

    Integers are rounded half to even and kept inside the dtype's range, NaN becomes 0; booleans are true above one
    half; of complex numbers only the real part goes into a real dtype; floats beyond the range become infinite.

    Examples
    --------
    >>> rounded(np.array([-3.0, 0.5, 1.5, 254.6, 1e9, np.nan]), np.dtype("uint8")).tolist()
    [0, 0, 2, 255, 255, 0]
    """
    if values.dtype == dtype:
        return values
    if values.dtype.kind == "c" and dtype.kind != "c":
        values = values.real
    if dtype.kind == "b":
        return np.asarray(values > 0.5)
    if dtype.kind in "iu":
        return _clipped(values, dtype) if values.dtype.kind in "biu" else _whole(values, dtype)
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def _clipped(values: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    if np.can_cast(values.dtype, dtype, "safe"):
        return values.astype(dtype)
    given, wanted = np.iinfo(values.dtype), np.iinfo(dtype)
    low, high = max(given.min, wanted.min), min(given.max, wanted.max)
    return np.clip(values, low, high).astype(dtype)


def _whole(values: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    info = np.iinfo(dtype)
    low, high = float(info.min), float(info.max)
    whole = np.nan_to_num(np.rint(values, dtype=np.float64), copy=False, nan=0.0)
    if int(high) == info.max:
        return np.clip(whole, low, high, out=whole).astype(dtype)
    # 64-bit: the greatest integer is no float, and the nearest float is out of range.
    above = whole >= high
    result = np.clip(whole, low, np.nextafter(high, 0), out=whole).astype(dtype)
    result[above] = info.max
    return result
