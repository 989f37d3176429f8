from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.wrapper.shape import PadSource
from tests.wrapper.stored import ZYX, ChunkedSource

ARRAY = np.arange(3 * 4, dtype="uint8").reshape(3, 4)


@pytest.mark.parametrize(
    ("width", "pairs"),
    [
        (2, ((0, 2), (0, 2))),
        ((1, 2), ((0, 1), (0, 2))),
        (np.array([[0, 3], [1, 0]]), ((0, 3), (1, 0))),
        ([0, (2, np.int16(1))], ((0, 0), (2, 1))),
    ],
)
def test_ways_to_give_widths(width: Any, pairs: Any) -> None:
    source = PadSource(ARRAY, width, "edge")
    assert source.pad_width == pairs
    np.testing.assert_array_equal(source[...], np.pad(ARRAY, pairs, mode="edge"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((-1,), "pad_width must be 0 or more, got -1"),
        (([1, -2],), "axis 1 must be 0 or more, got -2"),
        (([1, (1, -2)],), "axis 1 must be 0 or more, got -2"),
        (([1],), "got 1 entries for 2 axes"),
        (([1, (1, 2, 3)],), r"a pair \(before, after\)"),
        ((1.5,), "integer, got 1.5"),
        ((True,), "integer, got True"),
        ((1, "wrap"), "one of constant, edge, reflect, symmetric, got 'wrap'"),
        ((1, "constant", 256), "256 does not fit the dtype uint8"),
        ((1, "constant", -1), "does not fit"),
        ((1, "constant", 0.5), "does not fit"),
        ((1, "constant", float("nan")), "does not fit"),
        ((1, "constant", 1j), "does not fit"),
        ((1, "constant", "0"), "must be a number"),
    ],
)
def test_refuses(arguments: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        PadSource(ARRAY, *arguments)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric"])
def test_axes_without_voxels_have_nothing_to_repeat(mode: str) -> None:
    empty = np.zeros((2, 0), "uint8")
    with pytest.raises(InvalidArgumentError, match="axis 1"):
        PadSource(empty, 1, mode)
    assert PadSource(empty, (1, 0), mode).shape == (3, 0)
    assert PadSource(empty, 1)[...].tolist() == np.pad(empty, (0, 1)).tolist()


@pytest.mark.parametrize(
    ("dtype", "value"), [("float32", np.nan), ("float32", 0.1), ("complex64", 2j), ("bool", True)]
)
def test_constants_that_fit(dtype: str, value: Any) -> None:
    array = np.ones((2, 2), dtype)
    np.testing.assert_array_equal(
        PadSource(array, 1, constant_value=value)[...], np.pad(array, (0, 1), constant_values=value)
    )
    if dtype == "float32":
        with pytest.raises(InvalidArgumentError, match="does not fit"):
            PadSource(array, 1, constant_value=1e39)


@pytest.mark.parametrize(
    ("mode", "region", "reads"),
    [
        ("constant", np.s_[0:5, 0:5], []),
        ("constant", np.s_[8:14, 9:11], [Box((0, 0), (4, 1))]),
        ("edge", np.s_[0:5, 12:14], [Box((0, 2), (1, 4))]),
        ("reflect", np.s_[7:10, 10:12], [Box((1, 0), (4, 2))]),
        ("symmetric", np.s_[7:10, 10:12], [Box((0, 0), (3, 2))]),
    ],
)
def test_reads_only_what_it_needs(mode: str, region: Any, reads: list[Box]) -> None:
    source = ChunkedSource(np.arange(400).reshape(20, 20))
    PadSource(source, ((10, 10), (10, 10)), mode)[region]
    assert source.reads == reads


def test_metadata_begins_at_the_padding() -> None:
    source = ChunkedSource(np.zeros((3, 10, 12)), (1, 5, 6), ZYX)
    padded = PadSource(source, (0, (2, 0), 4))
    assert padded.metadata.origin == (0.0, 9.0, 20.0)
    assert padded.metadata.channel_names == ZYX.channel_names
    assert padded.chunks == (1, 5, 6)
    assert PadSource(source, (1, 0, 0)).metadata.channel_names is None
