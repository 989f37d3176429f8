"""Doing the same with many things where each waits for a server, a few of them at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from bioimage_py.storage import give_up_waiting

_T = TypeVar("_T")
_R = TypeVar("_R")


def side_by_side(
    function: Callable[[_T], _R], things: Iterable[_T], pool: ThreadPoolExecutor | None, at_once: int
) -> Iterator[_R]:
    """Yield what a function returns for each thing, in order, with at most `at_once` calls under way; without a pool, lazily.

    After an error no further call begins; those under way are waited for.
    """
    if pool is None:
        yield from map(function, things)
        return
    waiting: deque[Future[_R]] = deque()
    try:
        for thing in things:
            waiting.append(pool.submit(function, thing))
            if len(waiting) >= at_once:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except KeyboardInterrupt:
        give_up_waiting()
        raise
    finally:
        wait([future for future in waiting if not future.cancel()])
