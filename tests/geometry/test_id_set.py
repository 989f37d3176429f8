from __future__ import annotations

import itertools
import json
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import IdSet, IdSetBuilder, id_set

ids = st.lists(st.integers(0, 60) | st.integers(0, 2**63 - 2), max_size=40)


@pytest.fixture(scope="module", params=["loops", "numpy"], autouse=True)
def ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs as for few runs, and as for many."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(id_set, "_MANY", 1)
            patch.setattr(id_set, "_SLICE", 4)
        yield


@given(ids)
def test_it_is_the_sorted_set(numbers: list[int]) -> None:
    found, expected = IdSet.from_ids(numbers), sorted(set(numbers))
    assert list(found) == expected
    assert len(found) == len(expected)
    assert bool(found) == bool(expected)
    assert found == expected
    assert found == tuple(expected)
    assert [found[i] for i in range(-len(expected), len(expected))] == expected * 2
    assert found[1:-1] == expected[1:-1]
    assert found[::-2] == expected[::-2]
    for wrong in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError, match=f"index {wrong} "):
            found[wrong]


@given(ids)
def test_runs_are_apart_and_in_order(numbers: list[int]) -> None:
    found = IdSet.from_ids(np.array(numbers, np.int64))
    runs = tuple(found.runs)
    assert all(b < e for b, e in runs)
    assert all(first[1] < second[0] for first, second in itertools.pairwise(runs))
    assert len(runs) == len(found.runs) == found.n_runs
    assert found.runs[1:] == runs[1:]
    assert found == IdSet.from_arrays(*found.to_arrays()) == IdSet(reversed(runs)) == IdSet.from_ids(numbers)


@given(st.lists(ids, max_size=4))
def test_a_union_is_that_of_all(several: list[list[int]]) -> None:
    assert set(IdSet.union(map(IdSet.from_ids, several))) == set().union(*several)


@given(ids, st.integers(-70, 70))
def test_ids_are_shifted(numbers: list[int], offset: int) -> None:
    found = IdSet.from_ids(numbers)
    moved = [number + offset for number in found]
    if moved and not (moved[0] >= 0 and moved[-1] < 2**63 - 1):
        with pytest.raises(InvalidArgumentError, match="shifted by"):
            found.shifted(offset)
    else:
        assert found.shifted(offset) == moved


@given(ids, ids)
def test_algebra_is_that_of_sets(a: list[int], b: list[int]) -> None:
    one, other = IdSet.from_ids(a), IdSet.from_ids(b)
    assert set(one | other) == set(a) | set(b)
    assert set(one & other) == set(a) & set(b)
    assert set(one - other) == set(a) - set(b)
    assert (one == other) == (set(a) == set(b))
    assert (one | other) - other == one - other
    if one == other:
        assert hash(one) == hash(other)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=12))
def test_runs_are_taken_in_any_order_and_overlapping(runs: list[tuple[int, int]]) -> None:
    assert set(IdSet(runs)) == {i for b, e in runs for i in range(b, e)}


@given(ids, st.integers(0, 70))
def test_membership(numbers: list[int], asked: int) -> None:
    found = IdSet.from_ids(numbers)
    assert (asked in found) == (asked in set(numbers))
    assert (np.int64(asked) in found) == (asked in set(numbers))
    assert "1" not in found
    assert all(n in found for n in numbers)


@given(ids)
def test_it_comes_back_from_json_bytes_and_pickles(numbers: list[int]) -> None:
    found = IdSet.from_ids(numbers)
    assert IdSet.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert pickle.loads(pickle.dumps(found)) == found
    assert IdSet.from_bytes(memoryview(found.to_bytes())) == found
    assert len(found.to_bytes()) == 16 * found.n_runs


@pytest.mark.parametrize("edges", [(0,), (0, 0), (3, 2), (0, 2, 2, 3), (0, 2**63), (2**63, 2**63 + 1)])
def test_bytes_that_are_not_of_a_set_are_refused(edges: tuple[int, ...]) -> None:
    data = np.array(edges, "<u8").tobytes()
    for wrong in (data, data + b"1"):
        with pytest.raises(InvalidArgumentError, match=f"these {len(wrong)} bytes"):
            IdSet.from_bytes(wrong)


@given(ids, st.integers(0, 50))
def test_parts_are_all_of_it_and_nearly_equal(numbers: list[int], n_parts: int) -> None:
    found = IdSet.from_ids(numbers)
    parts = found.split(n_parts)
    assert len(parts) == min(n_parts, len(found))
    assert not parts or [number for part in parts for number in part] == found
    assert len({len(part) for part in parts}) <= 2
    assert not any(part.n_runs > found.n_runs for part in parts)


@given(st.permutations(range(40)), st.integers(0, 40))
def test_the_builder_collects_in_any_order(order: list[int], cut: int) -> None:
    builder = IdSetBuilder()
    for number in order[:cut]:
        builder.add(number)
    assert len(builder) == cut
    assert builder.build() == sorted(order[:cut])


@given(st.sets(st.integers(0, 30)), st.randoms(use_true_random=False))
def test_the_builder_merges_runs(cuts: set[int], random: Any) -> None:
    edges = sorted(cuts)
    runs = [run for run in itertools.pairwise(edges) if random.random() < 0.7]
    random.shuffle(runs)
    builder = IdSetBuilder()
    for begin, end in runs:
        builder.add_run(begin, end)
    assert builder.build() == IdSet(runs)
    assert len(builder) == len(IdSet(runs))


def test_a_billion_ids_take_a_few_bytes() -> None:
    found = IdSet.from_ids(range(10**9)) - IdSet.from_ids([5, 10**8])
    assert len(found) == 10**9 - 2
    assert found[10**9 - 3] == 10**9 - 1
    assert 10**8 not in found
    assert len(json.dumps(found.to_json())) < 100
    assert sys.getsizeof(pickle.dumps(found)) < 500
    assert IdSet.from_range(10**9, 7)[0] == 7


@pytest.mark.parametrize("wrong", [[-1], [1.5], ["a"], [2**63], [2**63 - 1], [None], range(-2, 2)])
def test_what_is_no_id_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="ids must"):
        IdSet.from_ids(wrong)


def test_it_prints_well() -> None:
    assert repr(IdSet.from_ids([1, 2, 3, 9])) == "IdSet(1…3, 9)"
    assert repr(IdSet.from_ids(range(0, 100, 2))) == "IdSet(50 ids in 50 runs, 0 … 98)"
    assert repr(IdSet()) == "IdSet()"


def test_parts_are_neighbours_of_nearly_equal_size() -> None:
    assert [repr(part) for part in IdSet.from_range(10).split(3)] == [
        "IdSet(0…3)",
        "IdSet(4…6)",
        "IdSet(7…9)",
    ]
