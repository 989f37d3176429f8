"""The parameters of a wrapper as plain JSON, and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.wrapper.callables import import_named, unpickle, write_callable


def write_parameter(value: Any) -> Any:
    """Return a parameter as plain JSON; what JSON has no word for becomes a dict with one key that begins with `$`.

    Parameters
    ----------
    value
        None, bool, str, number (numpy's too, complex and non-finite ones too), slice, Ellipsis, dtype, `Box`, a
        function, or a list, tuple or dict of these.

    Raises
    ------
    InvalidArgumentError
        For anything else.

    Examples
    --------
    >>> write_parameter((slice(0, 4), float("inf"), np.dtype("uint8")))
    {'$tuple': [{'$slice': [0, 4, None]}, {'$float': 'inf'}, {'$dtype': '|u1'}]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str, float, complex)):
        return _write_plain(value)
    if isinstance(value, slice):
        return {"$slice": [write_parameter(n) for n in (value.start, value.stop, value.step)]}
    if isinstance(value, np.dtype) or value is Ellipsis:
        return {"$ellipsis": True} if value is Ellipsis else {"$dtype": value.str}
    if isinstance(value, (Box, list, tuple, dict)):
        return _write_container(value)
    if callable(value):
        return write_callable(value)
    raise InvalidArgumentError(
        f"a wrapper's parameter of type {type(value).__name__} cannot be written as JSON; "
        "use numbers, strings, slices, dtypes, functions, and lists or dicts of them"
    )


def _write_plain(value: complex | str | None) -> Any:
    if isinstance(value, complex):
        return {"$complex": [_write_plain(value.real), _write_plain(value.imag)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    return value


def _write_container(value: Any) -> Any:
    if isinstance(value, Box):
        return {"$box": [list(value.begin), list(value.end)]}
    if isinstance(value, dict):
        if not all(isinstance(key, str) and not key.startswith("$") for key in value):
            raise InvalidArgumentError(
                f"keys of a dict must be strings that do not begin with '$', got {list(value)}"
            )
        return {key: write_parameter(item) for key, item in value.items()}
    items = [write_parameter(item) for item in value]
    return {"$tuple": items} if isinstance(value, tuple) else items


def read_parameter(written: Any) -> Any:
    """Return what `write_parameter` was given. Functions are imported or unpickled, which runs code.

    Raises
    ------
    InvalidArgumentError
        If it was not written by `write_parameter`, or a function cannot be restored here.
    """
    if isinstance(written, list):
        return [read_parameter(item) for item in written]
    if not isinstance(written, dict):
        return written
    tags = [key for key in written if key.startswith("$")]
    if not tags:
        return {key: read_parameter(item) for key, item in written.items()}
    reader = _READERS.get(tags[0])
    if reader is None or len(written) != 1:
        raise InvalidArgumentError(
            f"{written!r} is no parameter of a wrapper; tags are {', '.join(_READERS)}"
        )
    try:
        return reader(written[tags[0]])
    except (TypeError, ValueError) as error:
        if isinstance(error, InvalidArgumentError):
            raise
        raise InvalidArgumentError(f"{written!r} is no parameter of a wrapper: {error}") from error


_READERS: dict[str, Any] = {
    "$tuple": lambda items: tuple(read_parameter(item) for item in items),
    "$slice": lambda bounds: slice(*bounds),
    "$ellipsis": lambda _: Ellipsis,
    "$dtype": np.dtype,
    "$float": float,
    "$complex": lambda parts: complex(*(read_parameter(part) for part in parts)),
    "$box": lambda ends: Box(tuple(ends[0]), tuple(ends[1])),
    "$function": import_named,
    "$pickle": unpickle,
}
