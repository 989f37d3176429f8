"""numpy basic indexing, turned into a box and the axes that an integer index removes."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np

from bioimage_py.errors import InvalidArgumentError, InvalidIndexError
from bioimage_py.geometry.box import Box


class BasicIndex(NamedTuple):
    """An index in normal form: the box to read, and how to drop the axes indexed by an integer."""

    box: Box
    squeeze: tuple[slice | int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what numpy would return for the index."""
        return tuple(n for n, s in zip(self.box.shape, self.squeeze, strict=False) if isinstance(s, slice))


def basic_index(index: Any, shape: tuple[int, ...], *, inside: bool = False) -> BasicIndex:
    """Normalise a numpy basic index: int, slice with step 1, Ellipsis, or a tuple of them; with `inside`, no slice is cut."""
    items = list(index) if isinstance(index, tuple) else [index]
    ellipses = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(ellipses) > 1:
        raise InvalidIndexError(f"an index can have one Ellipsis ('...'), not {len(ellipses)}: {index!r}")
    given = len(items) - len(ellipses)
    if given > len(shape):
        raise InvalidIndexError(
            f"too many indices: {given} for an array of {len(shape)} axes with shape {shape}"
        )
    fill = [slice(None)] * (len(shape) - given)
    at = ellipses[0] if ellipses else len(items)
    items[at : at + 1] = fill
    begin: list[int] = []
    end: list[int] = []
    squeeze: list[slice | int] = []
    for axis, (item, extent) in enumerate(zip(items, shape, strict=True)):
        if isinstance(item, slice):
            start, stop = _slice(item, extent, axis)
            squeeze.append(slice(None))
            if inside and any(n is not None and not -extent <= n <= extent for n in (item.start, item.stop)):
                raise InvalidIndexError(
                    f"it leaves axis {axis}: slice {item.start}:{item.stop} of {extent} voxels"
                )
        else:
            start = _integer(item, extent, axis)
            stop = start + 1
            squeeze.append(0)
        begin.append(start)
        end.append(stop)
    box = Box(tuple(begin), tuple(end))
    return BasicIndex(box, (*squeeze, Ellipsis) if ellipses else tuple(squeeze))  # type: ignore[arg-type]


def _slice(item: slice, extent: int, axis: int) -> tuple[int, int]:
    try:
        start, stop, step = item.indices(extent)
    except TypeError:
        raise InvalidIndexError(f"slice bounds must be integers, got {item} for axis {axis}") from None
    except ValueError:
        raise InvalidIndexError(f"a slice cannot have step 0, got {item} for axis {axis}") from None
    if step != 1:
        raise InvalidIndexError(
            f"only slices with step 1 are supported, got step {step} for axis {axis}; "
            "read the region and take every n-th voxel of the result"
        )
    return start, max(start, stop)


def _integer(item: Any, extent: int, axis: int) -> int:
    number = None if int(getattr(item, "ndim", 0)) > 0 else as_integer(item)
    if number is None:
        raise InvalidIndexError(
            f"only integers, slices with step 1 and '...' can index a source, got {item!r} for axis {axis}"
        )
    if not -extent <= number < extent:
        raise InvalidIndexError(f"index {number} is out of bounds for axis {axis} with {extent} voxels")
    return number + extent if number < 0 else number


def as_integer(value: Any) -> int | None:
    """Return an integer as Python's own, None for anything else; booleans are not integers."""
    try:
        return None if isinstance(value, (bool, np.bool_)) else operator.index(value)
    except TypeError:
        return None


def checked_whole(value: Any, what: str, minimum: int = 0) -> int:
    """Return an integer of at least `minimum`, or raise InvalidArgumentError that names it as `what`."""
    if (number := as_integer(value)) is None:
        raise InvalidArgumentError(f"{what} must be an integer, got {value!r}")
    if number < minimum:
        raise InvalidArgumentError(f"{what} must be {minimum} or more, got {number}")
    return number
