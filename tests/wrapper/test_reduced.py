"""Windows reduced to one voxel equal what plain Python makes of each window, exactly."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.wrapper.resampling import ReducedSource
from bioimage_py.wrapper.resampling.window_reduction import _exchanges
from tests.sources.contract import textured
from tests.wrapper.stored import ZYX, ChunkedSource, arrays, boxes, check_reads, parts

several = settings(max_examples=100, deadline=None)
WHOLE = ("bool", "uint8", "int8", "int16", ">u2", "uint32", "int64", "uint64")


def of_windows(array: np.ndarray, factors: tuple[int, ...], reduce: Callable[[list[Any]], Any]) -> np.ndarray:
    """The reference: one window after the other, in Python's own numbers."""
    out = np.empty(
        [-(-n // f) for n, f in zip(array.shape, factors, strict=True)], array.dtype.newbyteorder("=")
    )
    for place in itertools.product(*map(range, out.shape)):
        window = array[tuple(slice(p * f, p * f + f) for p, f in zip(place, factors, strict=True))]
        out[place] = reduce(window.ravel().tolist())
    return out


def mean(values: list[int]) -> int:
    return round(Fraction(sum(values), len(values)))


def median(values: list[int]) -> int:
    ranked = sorted(values)
    return round(Fraction(ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2], 2))


def mode(values: list[int]) -> int:
    counts = Counter(values)
    return min(value for value in counts if counts[value] == max(counts.values()))


REFERENCES = {"mean": mean, "median": median, "mode": mode, "min": min, "max": max, "stride": lambda v: v[0]}


def factors_for(shape: tuple[int, ...]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*(st.integers(1, max(1, n)) for n in shape))


@several
@pytest.mark.parametrize("method", REFERENCES)
@given(st.data(), arrays(dtypes=WHOLE), st.booleans())
def test_whole_numbers_are_exact(method: str, data: st.DataObject, array: np.ndarray, few: bool) -> None:
    if few and array.dtype != bool:
        array = array % array.dtype.type(3)
    factors = data.draw(factors_for(array.shape))
    source = ReducedSource(ChunkedSource(array, (2,) * array.ndim), factors, method)
    check_reads(source, of_windows(array, factors, REFERENCES[method]), data)


@several
@pytest.mark.parametrize("method", REFERENCES)
@given(st.data(), arrays(dtypes=("float16", "float32", ">f8")), st.booleans())
def test_floats(method: str, data: st.DataObject, array: np.ndarray, odd: bool) -> None:
    if odd and array.size:
        array.flat[0], array.flat[-1] = np.nan, np.inf
    factors = data.draw(factors_for(array.shape))

    def reduce(values: list[float]) -> float:
        with np.errstate(all="ignore"):
            if method in ("mean", "median", "min", "max"):
                return getattr(np, method)(np.array(values))
        return values[0] if method == "stride" else mode(values) if not np.isnan(values).any() else np.nan

    source = ReducedSource(array, factors, method)
    whole = source[...]
    with np.errstate(over="ignore"):
        expected = of_windows(array, factors, reduce)
    known = ~np.isnan(expected) if method == "mode" else np.ones(whole.shape, bool)
    np.testing.assert_allclose(whole[known], expected[known], rtol=1e-3 if array.dtype == "float16" else 1e-6)
    assert whole.shape == expected.shape
    for box in (data.draw(boxes(source.shape)) for _ in range(3)):
        np.testing.assert_array_equal(source.read(box), whole[box.view])


def test_mode_of_floats_counts_each_nan_by_itself() -> None:
    array = np.array([np.nan, 1, np.nan, 1, 0, 0, np.nan, np.nan, np.nan, np.nan], "float32")
    np.testing.assert_array_equal(ReducedSource(array, 4, "mode")[...], [1, 0, np.nan])


def test_sums_of_64_bit_integers_do_not_overflow() -> None:
    for dtype, ends in (
        ("uint64", (2**64 - 1, 2**64 - 2)),
        ("int64", (2**63 - 1, 2**63 - 2)),
        ("int64", (-(2**63), -(2**63) + 1)),
    ):
        array = np.array([ends[0], ends[1]] * 4 + [ends[0]], dtype)
        for method in ("mean", "median"):
            got = ReducedSource(array, 4, method)[...].tolist()
            assert got == [round(Fraction(sum(ends), 2))] * 2 + [ends[0]]


def test_complex_numbers() -> None:
    array = textured((6,), "complex64")
    np.testing.assert_allclose(ReducedSource(array, 2)[...], array.reshape(3, 2).mean(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(ReducedSource(array, 2, "stride")[...], array[::2])
    for method in ("median", "mode", "min", "max"):
        with pytest.raises(InvalidArgumentError, match=f"no {method}"):
            ReducedSource(array, 2, method)


@pytest.mark.parametrize("count", range(1, 13))
def test_exchanges_sort(count: int) -> None:
    """What sorts all zeros and ones sorts everything."""
    lanes = (np.arange(2**count) >> np.arange(count)[:, None]) & 1
    for a, b in _exchanges(count):
        lanes[a], lanes[b] = lanes[[a, b]].min(axis=0), lanes[[a, b]].max(axis=0)
    assert (np.diff(lanes, axis=0) >= 0).all()


@pytest.mark.parametrize("method", ["median", "mode"])
def test_large_windows(method: str) -> None:
    array = np.random.default_rng(0).integers(0, 40, (21, 17, 12)).astype("uint16")
    expected = of_windows(array, (5, 4, 3), REFERENCES[method])
    np.testing.assert_array_equal(ReducedSource(array, (5, 4, 3), method)[...], expected)


@pytest.mark.parametrize("chunks", [None, (4, 6, 8)])
@pytest.mark.parametrize("method", REFERENCES)
def test_parts_leave_no_seams_and_cut_no_chunk(
    method: str, chunks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.random.default_rng(1).integers(0, 9, (24, 37, 41)).astype("uint8")
    whole = ReducedSource(array, (2, 3, 5), method)[...]
    monkeypatch.setattr(parts.parts_of, "__defaults__", (3000,))
    source = ReducedSource(ChunkedSource(array, chunks), (2, 3, 5), method)
    np.testing.assert_array_equal(source[...], whole)
    reads = source.inputs[0].reads
    assert len(reads) > 3
    if chunks:
        assert all(b % c == 0 for read in reads for b, c in zip(read.begin, chunks, strict=True))


def test_the_chunk_hint_reads_whole_chunks() -> None:
    source = ReducedSource(ChunkedSource(np.zeros((128, 128, 100)), (64, 32, 48)), (2, 3, 4))
    assert source.chunks == (64, 32, 25)
    assert source.chunks[0] * 2 % 64 == source.chunks[1] * 3 % 32 == 0


@pytest.mark.parametrize("method", ["min", "max", "stride"])
def test_chains_fold_where_that_is_the_same(method: str) -> None:
    source = ChunkedSource(textured((23, 10), "int16"), (4, 4))
    twice = ReducedSource(ReducedSource(source, (2, 1), method), (3, 4), method)
    assert twice.inputs == (source,)
    assert twice.factors == (6, 4)
    step_by_step = ReducedSource(ReducedSource(source.array, (2, 1), method)[...], (3, 4), method)
    np.testing.assert_array_equal(twice[...], step_by_step[...])


def test_rounded_means_do_not_fold() -> None:
    inner = ReducedSource(np.zeros((8, 8), "uint8"), 2)
    assert ReducedSource(inner, 2).inputs == (inner,)


def test_metadata_follow() -> None:
    image = ChunkedSource(np.zeros((3, 8, 13)), (1, 4, 6), ZYX)
    reduced = ReducedSource(image, (1, 2, 4)).metadata
    assert (reduced.voxel_size, reduced.origin) == ((1.0, 1.0, 1.0), (0.0, 10.25, 20.375))
    assert reduced.channel_names == ("red", "green", "blue")
    assert ReducedSource(image, (1, 2, 4), "stride").metadata.origin == (0.0, 10.0, 20.0)
    assert ReducedSource(image, (3, 1, 1)).metadata.channel_names is None


def test_reads_only_the_windows() -> None:
    source = ChunkedSource(np.arange(400).reshape(20, 20))
    ReducedSource(source, (3, 7))[6, 1:]
    assert source.reads == [Box((18, 7), (20, 20))]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((0,), "factor of axis 0 must be 1 or more, got 0"),
        (((1, -2),), "factor of axis 1 must be 1 or more, got -2"),
        (((2, 9),), r"factor 9 of axis 1 is larger than the axis, which has 6 voxels \(shape \(4, 6\)\)"),
        (((2,),), "got 1 for 2 axes"),
        ((1.5,), "must be an integer"),
        ((2, "average"), "one of mean, median, mode, min, max, stride, got 'average'"),
    ],
)
def test_refuses(arguments: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        ReducedSource(np.zeros((4, 6)), *arguments)


@several
@given(st.data(), st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(1, 500))
def test_parts_tile_a_box(data: st.DataObject, shape: list[int], limit: int) -> None:
    box = data.draw(boxes(tuple(shape)).filter(lambda box: not box.is_empty()))
    grid = data.draw(st.none() | st.tuples(*(st.integers(1, 9) for _ in shape)))
    seen = np.zeros(shape, int)
    for part in parts.parts_of(box, grid, lambda part: part.size, limit):
        seen[part.slices] += 1
        whole = math.prod(grid) if grid else 1
        assert part.size <= max(limit, whole)
    assert (seen[box.slices] == 1).all()
    assert seen.sum() == box.size
