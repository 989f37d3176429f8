"""Ids of blocks or items as a user gives them, checked."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import IdSet


def ids_in_order(ids: Iterable[int] | None, n: int | None, name: str) -> tuple[IdSet, tuple[int, ...] | None]:
    """Return the ids as a set, and as they were given where that is another order or repeats some; raises as `ids_from`."""
    if isinstance(ids, Iterable) and not isinstance(ids, (IdSet, range)) and getattr(ids, "ndim", 1) != 0:
        ids = list(ids)
    found = ids_from(ids, n, name)
    if ids is None or isinstance(ids, IdSet) or (isinstance(ids, range) and ids.step > 0):
        return found, None
    order = tuple(map(int, ids))
    return found, None if order == tuple(found) else order


def ids_from(ids: Iterable[int] | None, n: int | None, name: str) -> IdSet:
    """Return the ids as a set, all of `0 … n-1` for None; raises InvalidArgumentError for what is not an integer or out of range."""
    if ids is None:
        return IdSet.from_range(n or 0)
    if isinstance(ids, (IdSet, range)):
        if isinstance(ids, range) and ids and min(ids[0], ids[-1]) < 0:
            raise InvalidArgumentError(f"{name} out of range: {min(ids[0], ids[-1])} is negative")
        found = IdSet.from_ids(ids)
    else:
        # An array without axes has an iterator that fails when it is used.
        if not isinstance(ids, Iterable) or getattr(ids, "ndim", 1) == 0:
            raise InvalidArgumentError(f"{name} must be a list or a range of integers, got {ids!r}")
        numbers = list(ids)
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, Integral):
                raise InvalidArgumentError(f"{name} must be integers, got {number!r}")
            if number < 0 or (n is not None and number >= n):
                raise InvalidArgumentError(
                    f"{name} out of range: {number} is not in 0 … {'' if n is None else n - 1}"
                )
        found = IdSet.from_ids(numbers)
    if n is not None and found and found.runs[-1][1] > n:
        raise InvalidArgumentError(f"{name} out of range: {found.runs[-1][1] - 1} is not in 0 … {n - 1}")
    return found
