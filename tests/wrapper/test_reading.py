"""Any region read from any wrapper is that region of what numpy makes of the whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import assume, given, settings, strategies as st

from bioimage_py.wrapper import (
    MultiTransformationSource,
    SimpleTransformationSource,
    SimpleTransformationWithHaloSource,
    ThresholdSource,
    TransformationSource,
)
from bioimage_py.wrapper.shape import ExpandDimsSource, PadSource, RoiSource
from bioimage_py.wrapper.values import NormalizeSource
from tests.wrapper import stored
from tests.wrapper.stored import ChunkedSource, arrays, check_reads

several = settings(max_examples=60, deadline=None)
OPERATORS = (np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal)


@several
@given(st.data(), arrays(), st.sampled_from(OPERATORS), st.integers(-300, 300) | st.floats(-2, 2))
def test_threshold(data: st.DataObject, array: np.ndarray, operator: np.ufunc, threshold: float) -> None:
    check_reads(ThresholdSource(array, threshold, operator), operator(array, threshold), data)


@several
@given(st.data(), arrays(), st.booleans())
def test_normalize(data: st.DataObject, array: np.ndarray, with_nan: bool) -> None:
    if with_nan and array.dtype.kind == "f" and array.size:
        array.flat[0] = np.nan
        array.flat[-1] = np.inf
    finite = array[np.isfinite(array)].astype("float64")
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    with np.errstate(invalid="ignore"):
        scaled = (
            (array.astype("float64") - low) / (high - low)
            if high > low
            else (array > high) * 1.0 + array * 0.0
        )
        expected = np.where(np.isnan(array), np.nan, np.clip(np.where(array == np.inf, 1, scaled), 0, 1))
    source = NormalizeSource(array)
    assert source.dtype == "float32"
    whole = source[...]
    np.testing.assert_allclose(whole, expected, rtol=1e-6, atol=1e-7)
    check_reads(NormalizeSource(array), whole, data)


@st.composite
def numpy_index(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    items: list[Any] = []
    for n in shape[: draw(st.integers(0, len(shape)))]:
        start, stop = sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n))))
        choices: list[Any] = [slice(None), slice(start, stop), slice(None, stop - n if stop < n else None)]
        if n:
            choices.append(draw(st.integers(-n, n - 1)))
        items.append(draw(st.sampled_from(choices)))
    if draw(st.booleans()):
        rest = len(shape) - len(items)
        at = draw(st.integers(0, len(items)))
        if at == len(items) or rest == 0:
            items.insert(at, Ellipsis)
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@several
@given(st.data(), arrays())
def test_roi_and_roi_of_it(data: st.DataObject, array: np.ndarray) -> None:
    source, expected = ChunkedSource(array, (2,) * array.ndim), array
    roi: Any = source
    for _ in range(3):
        index = data.draw(numpy_index(expected.shape))
        roi, expected = RoiSource(roi, index, squeeze=True), np.asarray(expected[index])
        assert roi.inputs == (source,)
        assert roi.chunks == (2,) * roi.ndim
        check_reads(roi, expected, data)
        np.testing.assert_array_equal(RoiSource(source, **roi.parameters())[...], expected)


@several
@given(st.data(), arrays(min_side=1), st.sampled_from(["constant", "edge", "reflect", "symmetric"]))
def test_pad(data: st.DataObject, array: np.ndarray, mode: str) -> None:
    widths = [data.draw(st.tuples(st.integers(0, 15), st.integers(0, 15))) for _ in array.shape]
    assume(math.prod(a + n + b for n, (a, b) in zip(array.shape, widths, strict=True)) < 10**5)
    check_reads(PadSource(array, widths, mode), np.pad(array, widths, mode=mode), data)


@several
@given(st.data(), arrays(), st.integers(0, 1))
def test_pad_with_a_constant(data: st.DataObject, array: np.ndarray, value: int) -> None:
    width = data.draw(st.integers(0, 3))
    check_reads(
        PadSource(array, width, constant_value=value), np.pad(array, (0, width), constant_values=value), data
    )


@several
@given(st.data(), arrays(), st.integers(1, 2))
def test_expand_dims(data: st.DataObject, array: np.ndarray, count: int) -> None:
    total = array.ndim + count
    axes = tuple(data.draw(st.lists(st.integers(0, total - 1), min_size=count, max_size=count, unique=True)))
    axes = tuple(a - total if data.draw(st.booleans()) else a for a in axes)
    source = ExpandDimsSource(ChunkedSource(array, (3,) * array.ndim), axes if count > 1 else axes[0])
    check_reads(source, np.expand_dims(array, axes), data)
    assert source.chunks == tuple(1 if n in [a % total for a in axes] else 3 for n in range(total))


@several
@given(st.data(), arrays(dtypes=("uint8", "int16", ">u2", "float32", ">f8")))
def test_functions_of_a_block(data: st.DataObject, array: np.ndarray) -> None:
    check_reads(SimpleTransformationSource(array, stored.doubled), array * 2, data)
    check_reads(MultiTransformationSource([array, array], stored.summed), stored.summed(array, array), data)
    check_reads(TransformationSource(array, stored.flipped), array[::-1], data)


@several
@given(st.data(), arrays(min_side=1), st.integers(1, 3))
def test_function_with_a_halo(data: st.DataObject, array: np.ndarray, halo: int) -> None:
    expected = stored.smoothed(array)
    check_reads(SimpleTransformationWithHaloSource(array, stored.smoothed, halo), expected, data)
    per_axis = (halo,) * array.ndim
    check_reads(SimpleTransformationWithHaloSource(array, stored.smoothed, per_axis), expected, data)


@several
@given(st.data(), arrays(min_side=1, dtypes=("uint8", ">u2", "float32")))
def test_a_stack_of_wrappers(data: st.DataObject, array: np.ndarray) -> None:
    region = RoiSource(PadSource(array, 2, "symmetric"), slice(1, None))
    mask = ThresholdSource(ExpandDimsSource(SimpleTransformationSource(region, stored.doubled), 0), 100)
    expected = np.pad(array, (0, 2), mode="symmetric")[1:][None] * 2 > 100
    check_reads(mask, expected, data)
    check_reads(mask.for_run(2, 1000), expected, data)
