"""Other dtypes, other ranges, other labels."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.sources import from_spec
from bioimage_py.wrapper.values import CastSource, LabelLookupSource, PercentileNormalizeSource, RescaleSource
from tests.sources.contract import textured
from tests.wrapper.stored import DTYPES, ChunkedSource, arrays, check_reads, saved

several = settings(max_examples=80, deadline=None)
ALL = (*DTYPES, "uint32", "uint64", "complex64")


def cast_one(value: Any, dtype: np.dtype) -> Any:
    """Cast by Python's own numbers."""
    if dtype.kind == "c":
        return value
    value = value.real
    if dtype.kind == "f":
        return value
    if dtype.kind == "b":
        return value > 0.5
    info = np.iinfo(dtype)
    if np.isnan(value):
        return 0
    if np.isinf(value):
        return info.max if value > 0 else info.min
    return max(info.min, min(info.max, round(value)))


@several
@given(st.data(), arrays(dtypes=ALL), st.sampled_from(ALL), st.booleans())
def test_cast(data: st.DataObject, array: np.ndarray, dtype: str, odd: bool) -> None:
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            array = array * array.dtype.type(300)
    if odd and array.dtype.kind == "f" and array.size > 2:
        array.flat[:3] = np.nan, np.inf, -np.inf
    wanted = np.dtype(dtype).newbyteorder("=")
    with np.errstate(over="ignore"):
        expected = np.array([cast_one(v, wanted) for v in array.ravel().tolist()], wanted).reshape(
            array.shape
        )
    check_reads(CastSource(array, dtype), expected, data)


@pytest.mark.parametrize(
    ("given", "dtype", "expected"),
    [
        (np.array([2**63 - 1, -5]), "uint64", [2**63 - 1, 0]),
        (np.array([2**64 - 1], "uint64"), "int64", [2**63 - 1]),
        (np.array([1e30, -1e30, 2.0**63]), "int64", [2**63 - 1, -(2**63), 2**63 - 1]),
        (np.array([1e30, -1e30, 0.5, 1.5]), "uint64", [2**64 - 1, 0, 0, 2]),
        (np.array([1e30]), "float32", [np.float32(1e30)]),
        (np.array([1e300]), "float32", [np.inf]),
        (np.array([300, -3], "int16"), "bool", [True, False]),
        (np.array([True, False]), "int8", [1, 0]),
        (np.array([1 + 2j]), "uint8", [1]),
    ],
)
def test_casts_at_the_edges(given: np.ndarray, dtype: str, expected: list[Any]) -> None:
    assert CastSource(given, dtype)[...].tolist() == expected


def test_cast_refuses_what_is_no_number() -> None:
    with pytest.raises(InvalidArgumentError, match="dtype must be"):
        CastSource(np.zeros(3), "U5")


@several
@given(
    st.data(), arrays(dtypes=DTYPES), st.sampled_from(["uint8", "int16", "float32", "bool"]), st.booleans()
)
def test_rescale(data: st.DataObject, array: np.ndarray, dtype: str, clip: bool) -> None:
    low, high = data.draw(st.integers(-300, 300)), data.draw(st.floats(301, 1000))
    source = RescaleSource(array, (low, high), dtype=dtype, clip=clip)
    begin, end = source.out_range
    part = (array.astype("float64") - low) / (high - low)
    exact = (np.clip(part, 0, 1) if clip else part) * (end - begin) + begin
    whole = source[...]
    if dtype == "bool":
        assert (whole == (exact > 0.5))[np.abs(exact - 0.5) > 1e-9].all()
    elif dtype == "float32":
        np.testing.assert_allclose(whole, exact, rtol=1e-5, atol=1e-6)
    else:
        info = np.iinfo(dtype)
        assert np.abs(whole - np.clip(exact, info.min, info.max)).max(initial=0) <= 0.5 + 1e-6
    check_reads(source, whole, data)


def test_rescale_reaches_both_ends_and_inverts() -> None:
    image = np.array([0, 100, 200, 4095], "uint16")
    assert RescaleSource(image, (100, 200))[...].tolist() == [0, 0, 65535, 65535]
    assert RescaleSource(image, (200, 100), dtype="uint8")[...].tolist() == [255, 255, 0, 0]
    assert RescaleSource(image, (100, 200), (-1, 1), "float32")[...].tolist() == [-1, -1, 1, 1]
    assert RescaleSource(np.array([np.nan, 1]), (0, 1), dtype="uint8")[...].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (((5, 5),), "must have an extent"),
        ((5,), "in_range must be two numbers"),
        (((0, np.inf),), "finite"),
        (((0, 1j),), "finite real"),
        (((0, "a"),), "percentiles are two texts"),
        (((0, 1), (0, 256)), r"out_range \(0, 256\) does not fit the dtype uint8"),
        (((0, 1), (0, 256), "complex64"), "dtype must be one of"),
    ],
)
def test_rescale_refuses(arguments: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        RescaleSource(np.zeros(3, "uint8"), *arguments)
    with pytest.raises(InvalidArgumentError, match="complex"):
        RescaleSource(np.zeros(3, "complex64"), (0, 1), dtype="float32")


def smallest_with_share(values: np.ndarray, percent: int) -> Any:
    """The inverted CDF in exact fractions: numpy takes 0.81 × 300 for a little more than 243."""
    place = max(1, math.ceil(Fraction(percent, 100) * values.size))
    return np.sort(values.ravel())[place - 1].item()


@several
@given(st.data(), arrays(min_side=1, dtypes=DTYPES), st.integers(0, 40), st.integers(60, 100))
def test_percentiles(data: st.DataObject, array: np.ndarray, lower: int, upper: int) -> None:
    if array.dtype.kind == "f":
        array.flat[0] = np.nan
    source = PercentileNormalizeSource(ChunkedSource(array, (2,) * array.ndim), lower, upper)
    finite = array[np.isfinite(array)]
    limits = [smallest_with_share(finite, percent) for percent in (lower, upper)] if finite.size else [0, 1]
    assert list(source.limits) == limits
    whole = source[...]
    low, high = (float(limit) for limit in limits)
    if low < high:
        np.testing.assert_allclose(
            whole, np.clip((array.astype("float64") - low) / (high - low), 0, 1), rtol=1e-5, atol=1e-6
        )
    check_reads(source, whole, data)


def test_limits_are_found_once_and_travel(tmp_path: Any) -> None:
    source = ChunkedSource(textured((20, 30), "uint16"), (5, 10))
    normalized = PercentileNormalizeSource(source)
    normalized[0]
    reads = len(source.reads)
    normalized[1]
    assert len(source.reads) == reads + 1
    with saved(source.array, tmp_path) as file:
        spec = PercentileNormalizeSource(file, 5, 95, dtype="float64", clip=False).to_spec()
        with from_spec(spec) as again:
            assert spec["parameters"]["limits"] == {"$tuple": list(again.limits)}
            assert (again.dtype, again.clip) == ("float64", False)
    fixed = PercentileNormalizeSource(source, limits=(0, 65535))
    assert fixed.limits == (0, 65535)
    assert len(source.reads) == reads + 1


def test_one_value_only() -> None:
    image = np.array([3, 3, 3, 7], "uint8")
    assert PercentileNormalizeSource(image, 1, 60)[...].tolist() == [0, 0, 0, 1]
    nothing = PercentileNormalizeSource(np.array([2.0, np.nan]), 1, 60)[...]
    np.testing.assert_array_equal(nothing, np.array([0, np.nan], "float32"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lower": 99, "upper": 1}, "0 <= lower < upper <= 100"),
        ({"upper": 101}, "0 <= lower < upper <= 100"),
        ({"limits": 3}, "limits must be two numbers"),
        ({"dtype": "uint8"}, "dtype must be one of float"),
    ],
)
def test_percentiles_refuse(options: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        PercentileNormalizeSource(np.zeros(3), **options)


@several
@given(
    st.data(),
    arrays(dtypes=("bool", "uint8", "int16", ">u2", "int64", "uint64")),
    st.dictionaries(st.integers(-3, 5) | st.integers(2**63 - 3, 2**64 - 1), st.integers(0, 127), max_size=5),
    st.none() | st.integers(0, 9),
)
def test_lookup(data: st.DataObject, array: np.ndarray, table: dict[int, int], default: int | None) -> None:
    few = array if array.dtype == bool else array % array.dtype.type(7)
    table = table if min(table, default=0) >= 0 else {k: v for k, v in table.items() if k < 2**63}
    source = LabelLookupSource(few, table, default)
    looked = [table.get(v, v if default is None else default) for v in few.ravel().tolist()]
    check_reads(source, np.array(looked, source.dtype).reshape(few.shape), data)


def test_lookup_is_exact_beyond_2_to_the_53() -> None:
    labels = np.array([2**63 + 1, 2**63 + 2, 5], "uint64")
    assert LabelLookupSource(labels, {2**63 + 1: 2**64 - 1})[...].tolist() == [2**64 - 1, 2**63 + 2, 5]
    assert LabelLookupSource(labels, ([5, 2**63 + 2], [1, 2]), 0)[...].tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("table", "options", "dtype"),
    [
        ({1: 2}, {}, "uint8"),
        ({1: 300}, {}, "int64"),
        ({1: 0.5}, {}, "float64"),
        ({1: True}, {"default": False}, "uint8"),
        ({1: True}, {"default": False, "dtype": "bool"}, "bool"),
        ({1: 2.0}, {"dtype": "uint16"}, "uint16"),
        ({}, {}, "uint8"),
        ({-1: 5, 700: 5}, {}, "uint8"),
    ],
)
def test_dtype_of_a_lookup(table: Any, options: Any, dtype: str) -> None:
    assert LabelLookupSource(np.zeros(3, "uint8"), table, **options).dtype == dtype


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LabelLookupSource(np.zeros(3), {}), "float64: labels are integers"),
        (lambda: LabelLookupSource(np.zeros(3, int), [1, 2, 3]), "table must be a dict"),
        (lambda: LabelLookupSource(np.zeros(3, int), ([1], [2, 3])), "equally long"),
        (lambda: LabelLookupSource(np.zeros(3, int), ([1, 1], [2, 3])), "1 is repeated"),
        (lambda: LabelLookupSource(np.zeros(3, int), {0.5: 2}), "labels must be integers"),
        (lambda: LabelLookupSource(np.zeros(3, int), {1: "a"}), "values real numbers"),
        (
            lambda: LabelLookupSource(np.zeros(3, int), {1: 0.5}),
            "a default for labels that are not in the table",
        ),
        (lambda: LabelLookupSource(np.zeros(3, int), {1: 300}, dtype="uint8"), "uint8 cannot hold"),
        (lambda: LabelLookupSource(np.zeros(3, int), {1: 1.5}, 0, "int64"), "int64 cannot hold"),
    ],
)
def test_lookup_refuses(make: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        make()


def test_percentiles_of_a_sample_are_the_same_everywhere_and_close() -> None:
    image = np.random.default_rng(0).random((80, 512, 512), "float32")  # 80 MiB
    image[0, 0, :9] = np.nan, np.inf, -np.inf, *range(6)
    source = RescaleSource(image, ("1%", "99%"), dtype="uint8")
    assert np.allclose(source.in_range, (0.01, 0.99), atol=1e-3)
    assert source.parameters()["in_range"] == RescaleSource(image, ["1%", "99%"]).in_range
    for wrong, message in (
        (("1%", 3), "two texts"),
        (("9%", "1%"), "lower < upper"),
        (("a", "1%"), "two texts"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            RescaleSource(image, wrong)
    with pytest.raises(InvalidArgumentError, match="must have an extent"):
        RescaleSource(np.ones(5), ("1%", "99%"))
