"""Rows copied as single items are what numpy's assignment gives, whatever the arrays look like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bioimage_py.chunks import copy_rows
from tests.sources.contract import textured


@given(st.data())
def test_as_assignment(data: st.DataObject) -> None:
    dtypes = ["bool", "uint8", "uint16", ">u2", "float32", "complex128"]
    shape = tuple(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    arrays = []
    dtype = data.draw(st.sampled_from(dtypes))
    for seed in range(2):
        whole = tuple(n + data.draw(st.integers(0, 3)) for n in shape)
        array = textured(
            whole, data.draw(st.sampled_from([dtype, dtype, data.draw(st.sampled_from(dtypes))])), seed
        )
        if data.draw(st.booleans()):
            array = np.asfortranarray(array)
        begins = tuple(data.draw(st.integers(0, w - n)) for w, n in zip(whole, shape, strict=True))
        part: Any = array[tuple(slice(b, b + n) for b, n in zip(begins, shape, strict=True))]
        arrays.append((array, part))
    (_, target), (_, values) = arrays
    if values.dtype.kind == "c" and target.dtype.kind != "c":
        values = values.real
    if data.draw(st.booleans()):
        values = np.broadcast_to(values[:1], shape)
    with np.errstate(all="ignore"):
        copy_rows(target, values)
        expected_part = values.astype(target.dtype)
    assert np.ascontiguousarray(target).tobytes() == np.ascontiguousarray(expected_part).tobytes()


@pytest.mark.parametrize("extent", [1, 2, 64, 256, 257, 2000])
def test_nothing_beside_the_part_changes(extent: int) -> None:
    whole = np.zeros((4, 5, extent + 2), "uint16")
    copy_rows(whole[1:3, 1:4, 1:-1], np.full((2, 3, extent), 7, "uint16"))
    assert whole.sum() == 7 * 2 * 3 * extent
    assert (whole[1:3, 1:4, 1:-1] == 7).all()


def test_a_read_only_target_refuses() -> None:
    target = np.zeros((4, 4), "uint16")
    target.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        copy_rows(target, np.ones((4, 4), "uint16"))
