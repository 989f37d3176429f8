"""A user's function over items as work for a backend; no array is needed for that, so numpy is not imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Self

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import IdSet
from bioimage_py.runner.work.given_ids import ids_in_order
from bioimage_py.runner.worker_threads import is_ctrl_c

if TYPE_CHECKING:
    from bioimage_py.runner.journal import BlockJournal


class ItemFunctionWork:
    """`function(item_id)` for each item.

    Parameters
    ----------
    function
        What is called.
    block_ids
        The items.
    keep_results
        Whether what it returns is recorded.
    order
        The items as they were given, where that is not in ascending order, each once.
    """

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

    @property
    def outputs(self) -> tuple[()]:
        """What is written: nothing that is known."""
        return ()

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

    def group_ids(self) -> IdSet:
        """Return the items: each is a group."""
        return self.block_ids

    def blocks_in(self, group_id: int) -> tuple[int, ...]:
        """Return the item."""
        return (group_id,)

    def narrowed(self, block_ids: IdSet) -> Self:
        """Return the same work on fewer items."""
        return type(self)(self.function, block_ids, self.keep_results, self.order)

    def process(self, blocks: tuple[int, ...], journal: BlockJournal) -> None:
        """Call the function for the item."""
        for item in blocks:
            try:
                result = self.function(item)
                if self.keep_results:
                    journal.done_with(item, result)
            except BaseException as error:
                if is_ctrl_c(error):
                    raise
                journal.failed((item,), error)
                continue
            if not self.keep_results:
                journal.done((item,))
