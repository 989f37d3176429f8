"""A user's function over items as work for a backend, and ids as users give them. No array is needed, so numpy is not imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.run import load_function, store_function
from bioimage_py.runner.work.work import Work
from bioimage_py.runner.worker_threads import is_ctrl_c

if TYPE_CHECKING:
    from bioimage_py.runner.journal import BlockJournal
    from bioimage_py.runner.run import RunFolder


class ItemFunctionWork(Work):
    """`function(item_id)` for each item."""

    kind = "map"
    block_ids: IdSet
    outputs = ()

    def __init__(
        self,
        function: Callable[[int], Any],
        block_ids: IdSet,
        keep_results: bool,
        order: tuple[int, ...] | None = None,
    ) -> None:
        self.function = function
        self.block_ids = block_ids
        self.keep_results = keep_results
        self.order = order

    @classmethod
    def prepare(
        cls,
        function: Callable[[int], Any],
        n_items: int | None,
        item_ids: Iterable[int] | None,
        *,
        keep_results: bool,
    ) -> Self:
        """Check the arguments; one of `n_items` and `item_ids` says what the items are."""
        if not callable(function):
            raise InvalidArgumentError(f"function must be callable, got {function!r}")
        if n_items is None and item_ids is None:
            raise InvalidArgumentError("map needs n_items or item_ids")
        if n_items is not None and (isinstance(n_items, bool) or not isinstance(n_items, int) or n_items < 0):
            raise InvalidArgumentError(f"n_items must be a non-negative integer, got {n_items!r}")
        ids, order = ids_in_order(item_ids, n_items, "item_ids")
        return cls(function, ids, keep_results, order)

    def narrowed(self, block_ids: IdSet) -> Self:
        return type(self)(self.function, block_ids, self.keep_results, self.order)

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        process_singly(self.function, blocks, journal, keep_results=self.keep_results)

    def to_json(self, folder: RunFolder) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "function_check": store_function(self.function, folder),
            "keep_results": self.keep_results,
            "order": None if self.order is None else list(self.order),
            "block_ids": folder.store_ids(self.block_ids),
        }

    @classmethod
    def from_json(
        cls, stored: dict[str, Any], folder: RunFolder, threads: int, cache_bytes: int
    ) -> ItemFunctionWork:
        function = load_function(stored["function_check"], folder)
        return cls(
            function, folder.stored_ids(stored["block_ids"]), stored["keep_results"], stored_order(stored)
        )


def process_singly(
    call: Callable[[int], Any], ids: Iterable[int], journal: BlockJournal, *, keep_results: bool
) -> None:
    """Call a function of the user for each id and record it; one that fails does not stop the others."""
    for one in ids:
        try:
            result = call(one)
            if keep_results:
                journal.done_with(one, result)
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            journal.failed((one,), error)
            continue
        if not keep_results:
            journal.done((one,))


def stored_order(stored: dict[str, Any]) -> tuple[int, ...] | None:
    return None if stored["order"] is None else tuple(stored["order"])


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
    if n is not None and found and found[-1] >= n:
        raise InvalidArgumentError(f"{name} out of range: {found[-1]} is not in 0 … {n - 1}")
    return found
