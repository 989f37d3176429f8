"""Cases in which every pair of values of two parameters occurs, for tests that need no full product."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any


def pairwise(*parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return few rows, one value of each parameter in a row, so that any two values of different parameters meet in one."""
    wanted = {
        ((a, m), (b, n))
        for a, b in itertools.combinations(range(len(parameters)), 2)
        for m, n in itertools.product(range(len(parameters[a])), range(len(parameters[b])))
    }

    def pairs(row: tuple[int, ...]) -> Iterable[tuple[tuple[int, int], tuple[int, int]]]:
        return itertools.combinations(enumerate(row), 2)

    rows = list(itertools.product(*(range(len(values)) for values in parameters)))
    chosen = []
    while wanted:
        best = max(rows, key=lambda row: sum(pair in wanted for pair in pairs(row)))
        wanted -= set(pairs(best))
        chosen.append(best)
    return [tuple(values[n] for values, n in zip(parameters, row, strict=True)) for row in chosen]
