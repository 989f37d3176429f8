"""Sets of so many runs that they are worked on with numpy, and must not take much memory."""

from __future__ import annotations

import tracemalloc

import numpy as np

from bioimage_py.geometry import IdSet, IdSetBuilder


def test_scattered_ids_take_some_16_bytes_each_and_neighbours_none() -> None:
    n = 30_000
    order = np.random.default_rng(0).permutation(n).tolist()
    tracemalloc.start()
    try:
        builder = IdSetBuilder()
        for number in order:
            builder.add(2 * number)
        evens = builder.build()
        assert tracemalloc.get_traced_memory()[0] < 20 * n
        odds = IdSetBuilder()
        for number in range(n):
            odds.add(2 * number + 1)
            if number % 2:
                odds.add_run(2 * number - 2, 2 * number - 1)
                odds.add_run(2 * number, 2 * number + 1)
        assert odds.build() == IdSet.from_range(2 * n)
        del odds, builder
        everything = evens | evens.shifted(1)
        assert tracemalloc.get_traced_memory()[0] < 20 * n
    finally:
        tracemalloc.stop()
    assert everything == IdSet.from_range(2 * n)
    assert everything - evens == evens.shifted(1)
    assert evens.n_runs == n
