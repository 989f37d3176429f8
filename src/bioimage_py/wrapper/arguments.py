"""Checks of what users pass to wrappers; each says what was given and what is expected."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from bioimage_py.errors import InvalidArgumentError


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


def checked_whole(value: Any, what: str, minimum: int = 0) -> int:
    """Return an integer of at least `minimum`, or raise InvalidArgumentError that names it as `what`."""
    try:
        number = None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise InvalidArgumentError(f"{what} must be an integer, got {value!r}")
    if number < minimum:
        raise InvalidArgumentError(f"{what} must be {minimum} or more, got {number}")
    return number


def checked_extents(value: Any, ndim: int, what: str) -> tuple[int, ...]:
    """Return one non-negative integer per axis, from such a sequence or from one integer for all axes."""
    if not isinstance(value, (list, tuple)) and np.ndim(value) == 0:
        return (checked_whole(value, what),) * ndim
    if len(value) != ndim:
        raise InvalidArgumentError(
            f"{what} must be one integer, or one per axis: got {len(value)} for {ndim} axes: {value!r}"
        )
    return tuple(checked_whole(one, f"{what} of axis {axis}") for axis, one in enumerate(value))


def checked_number(value: Any, what: str) -> Any:
    """Return a number as Python's own bool, int, float or complex, or raise InvalidArgumentError."""
    if isinstance(value, (np.generic, np.ndarray)) and np.ndim(value) == 0:
        value = value.item()
    if not isinstance(value, (bool, int, float, complex)):
        raise InvalidArgumentError(f"{what} must be a number, got {type(value).__name__} {value!r}")
    return value


def holds(dtype: np.dtype[Any], value: complex) -> bool:
    """Whether a dtype can hold a number; floats may round it, but not to infinity.

    Examples
    --------
    >>> holds(np.dtype("uint8"), 255), holds(np.dtype("uint8"), -1), holds(np.dtype("int8"), 0.5)
    (True, False, False)
    """
    kind: str = dtype.kind
    if isinstance(value, complex):
        return kind == "c"
    if kind == "b":
        return value in (0, 1)
    if kind in "iu":
        info = np.iinfo(dtype)
        return math.isfinite(value) and int(value) == value and info.min <= value <= info.max
    return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
