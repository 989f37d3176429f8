from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bioimage_py.errors import InvalidIndexError
from bioimage_py.geometry import basic_index


@st.composite
def indexes(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    """A shape and a basic index for it, not always in bounds."""
    shape = tuple(draw(st.lists(st.integers(0, 6), max_size=5)))
    bound = st.none() | st.integers(-8, 8)
    item = (
        st.integers(-7, 7)
        | st.integers(-7, 7).map(np.int64)
        | st.builds(slice, bound, bound, st.sampled_from([None, 1]))
    )
    items: list[Any] = draw(st.lists(item, max_size=len(shape) + 1))
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), Ellipsis)
    return shape, items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@settings(max_examples=200)
@given(indexes())
def test_it_selects_what_numpy_selects(drawn: tuple[tuple[int, ...], Any]) -> None:
    shape, index = drawn
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    try:
        expected = array[index]
    except IndexError:
        with pytest.raises(InvalidIndexError):
            basic_index(index, shape)
        return
    found = basic_index(index, shape)
    got = array[(*found.box.slices, ...)][found.squeeze]
    assert found.shape == np.shape(expected)
    assert type(got) is type(expected)
    np.testing.assert_array_equal(got, expected)
    assert all(0 <= b <= e <= n for b, e, n in zip(*found.box, shape, strict=True))


@pytest.mark.parametrize(
    "index",
    [
        slice(None, None, 2),
        slice(None, None, -1),
        slice(None, None, 0),
        slice(0.5, None),
        slice("a", None),
        None,
        True,
        np.True_,
        1.0,
        "a",
        [0],
        np.array([0]),
        np.zeros((4, 5), bool),
        (Ellipsis, Ellipsis),
        (0, 0, 0),
        4,
        -5,
    ],
)
def test_everything_else_is_refused_with_an_index_error(index: Any) -> None:
    with pytest.raises(InvalidIndexError) as raised:
        basic_index(index, (4, 5))
    assert isinstance(raised.value, IndexError)
