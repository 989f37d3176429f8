"""Checks of what users pass to wrappers, and numbers as a dtype holds them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import checked_whole
from bioimage_py.sources import saturated


def checked_dtype(dtype: npt.DTypeLike, kinds: str = "biufc") -> np.dtype[Any]:
    """Return a dtype of one of these kinds in native byte order, or raise InvalidArgumentError."""
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError) as error:
        raise InvalidArgumentError(f"dtype must be a numpy dtype such as 'float32', got {dtype!r}") from error
    if found.kind not in kinds:
        names = {"b": "bool", "i": "integer", "u": "unsigned integer", "f": "float", "c": "complex"}
        raise InvalidArgumentError(
            f"dtype must be one of {', '.join(names[kind] for kind in kinds)}, got {found}"
        )
    return found.newbyteorder("=")


def checked_extents(value: Any, ndim: int, what: str, minimum: int = 0) -> tuple[int, ...]:
    """Return one integer of at least `minimum` per axis, from such a sequence or from one integer for all axes."""
    if not isinstance(value, (list, tuple)) and np.ndim(value) == 0:
        value = (value,) * ndim
    if len(value) != ndim:
        raise InvalidArgumentError(
            f"{what} must be one integer, or one per axis: got {len(value)} for {ndim} axes: {value!r}"
        )
    return tuple(checked_whole(one, f"{what} of axis {axis}", minimum) for axis, one in enumerate(value))


def checked_number(value: Any, what: str) -> Any:
    """Return a number as Python's own bool, int, float or complex, or raise InvalidArgumentError."""
    if isinstance(value, (np.generic, np.ndarray)) and np.ndim(value) == 0:
        value = value.item()
    if not isinstance(value, (bool, int, float, complex)):
        raise InvalidArgumentError(f"{what} must be a number, got {type(value).__name__} {value!r}")
    return value


def checked_real(value: Any, what: str) -> float:
    """Return a finite real number, or raise InvalidArgumentError."""
    number = checked_number(value, what)
    try:
        finite = math.isfinite(number)
    except (TypeError, OverflowError):
        finite = False  # complex, or an integer beyond all floats
    if not finite:
        raise InvalidArgumentError(f"{what} must be a finite real number, got {number!r}")
    return float(number) if isinstance(number, bool) else number


def checked_flag(value: Any, what: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise InvalidArgumentError(f"{what} must be True or False, got {value!r}")
    return bool(value)


def checked_range(value: Any, what: str) -> tuple[float, float]:
    """Return two finite real numbers, or raise InvalidArgumentError that names them as `what`."""
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != 2:
        raise InvalidArgumentError(f"{what} must be two numbers (low, high), got {value!r}")
    low, high = (checked_real(one, f"each end of {what}") for one in value)
    return low, high


def checked_sources(sources: Any, cls: type) -> tuple[Any, ...]:
    """Return a list of sources as a tuple, or raise InvalidArgumentError if it is a single one, or not iterable."""
    one = isinstance(sources, (str, os.PathLike)) or hasattr(sources, "shape")
    if one or not isinstance(sources, Iterable):
        raise InvalidArgumentError(f"{cls.__name__} takes a list of sources, got {type(sources).__name__}")
    return tuple(sources)


def checked_order(order: Any) -> int:
    """Return the order of a spline, 0 to 5, or raise InvalidArgumentError."""
    if (degree := checked_whole(order, "order")) > 5:
        raise InvalidArgumentError(f"order must be 0 to 5, got {degree}")
    return degree


def holds(dtype: np.dtype[Any], value: complex) -> bool:
    """Whether a dtype can hold a number; floats may round it, but not to infinity."""
    kind: str = dtype.kind
    if isinstance(value, complex):
        return kind == "c"
    if kind == "b":
        return value in (0, 1)
    if kind in "iu":
        info = np.iinfo(dtype)
        return math.isfinite(value) and int(value) == value and info.min <= value <= info.max
    return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)


def rounded(values: AnyArray, dtype: np.dtype[Any]) -> AnyArray:
    """Return numbers in another dtype, each as near to what it was as the dtype allows.

    Integers are rounded half to even and kept inside the dtype's range, NaN becomes 0; booleans are true above one
    half; of complex numbers only the real part goes into a real dtype; floats beyond the range become infinite.
    """
    if values.dtype == dtype:
        return values
    if values.dtype.kind == "c" and dtype.kind != "c":
        values = values.real
    if dtype.kind == "b":
        return np.asarray(values > 0.5)
    if dtype.kind in "iu":
        return saturated(values if values.dtype.kind in "biu" else np.rint(values, dtype=np.float64), dtype)
    with np.errstate(over="ignore"):
        return values.astype(dtype)
