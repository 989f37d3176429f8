"""Comparing voxels of two dtypes by the numbers they stand for, without rounding either."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray


def differing(a: AnyArray, b: AnyArray) -> npt.NDArray[np.bool_]:
    """Return where two arrays of one shape hold different numbers, whatever their dtypes; NaN equals NaN."""
    with np.errstate(all="ignore"):
        differs = np.asarray(a != b)
        for whole, other in ((a, b), (b, a)):
            # numpy compares these as float64, which rounds integers beyond 2**53.
            if whole.dtype.kind in "iu" and whole.dtype.itemsize == 8 and other.dtype.kind in "fc":
                differs = differs | _rounded(whole, other.real)
        if a.dtype.kind in "fc" or b.dtype.kind in "fc":
            differs = differs & ~((a != a) & (b != b))  # noqa: PLR0124 - NaN is not itself
    return np.asarray(differs)


def _rounded(whole: AnyArray, real: AnyArray) -> Any:
    """Return where a number is not the integer, though it may be after rounding."""
    # As a float the largest integer is rounded up to the first one that does not fit.
    inside = real < float(np.iinfo(whole.dtype).max)
    return ~inside | (np.where(inside, real, 0).astype(whole.dtype) != whole)
