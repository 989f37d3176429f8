from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bioimage_py.errors import InvalidArgumentError, ReadOnlyError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.wrapper.shape import RoiSource
from tests.wrapper.stored import ZYX, ChunkedSource

ARRAY = np.arange(3 * 10 * 12).reshape(3, 10, 12)


@pytest.mark.parametrize(
    ("roi", "index"),
    [
        (Box((1, 2, 3), (2, 8, 9)), np.s_[1:2, 2:8, 3:9]),
        (Blocking(ARRAY.shape, (2, 4, 5)).block(3), np.s_[0:2, 4:8, 0:5]),
        (Blocking(ARRAY.shape, (2, 4, 5)).block_with_halo(3, (1, 1, 1)), np.s_[0:3, 3:9, 0:6]),
        (np.int64(-1), np.s_[-1]),
        ((..., slice(-5, -2)), np.s_[..., 7:10]),
        ((), np.s_[...]),
        ((slice(np.int32(1), None), 2), np.s_[1:, 2]),
    ],
)
def test_ways_to_give_a_region(roi: Any, index: Any) -> None:
    np.testing.assert_array_equal(RoiSource(ARRAY, roi)[...], ARRAY[index])


@pytest.mark.parametrize(
    ("roi", "says"),
    [
        ((0, 0, 0, 0), "4 for an array of 3 axes"),
        ((slice(0, 4),), r"axis 0: slice 0:4 of 3 voxels"),
        ((..., slice(-13, None)), r"axis 2: slice -13:None of 12"),
        (3, "out of bounds"),
        ((slice(0, 3, 2),), "step 2"),
        (([0, 1],), "integers, slices"),
        ((None,), "integers, slices"),
        (1.5, "integers, slices"),
        ("a", "integers, slices"),
        ((..., ...), "one Ellipsis"),
        (Box((0, 0), (1, 1)), "not a region"),
        (Box((0, 0, 0), (3, 10, 13)), "not a region"),
        (Box((-1, 0, 0), (3, 10, 12)), "not a region"),
    ],
)
def test_refuses_what_is_no_region(roi: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        RoiSource(ARRAY, roi)


def test_a_region_of_a_region_must_fit_the_inner_one() -> None:
    with pytest.raises(InvalidArgumentError, match="of 4 voxels"):
        RoiSource(RoiSource(ARRAY, (slice(None), slice(2, 6))), (0, slice(0, 5)))


def test_reads_only_the_region() -> None:
    source = ChunkedSource(ARRAY, (1, 5, 5))
    RoiSource(source, (1, slice(3, 9)))[2, 4:6]
    assert source.reads == [Box((1, 5, 4), (2, 6, 6))]


def test_keeps_chunks_off_the_grid_and_drops_those_of_dropped_axes() -> None:
    assert RoiSource(ChunkedSource(ARRAY, (1, 5, 4)), (1, slice(3, 9))).chunks == (5, 4)
    assert RoiSource(ARRAY, 0).chunks is None


def test_metadata_moves_with_the_region() -> None:
    source = ChunkedSource(ARRAY, metadata=ZYX)
    metadata = RoiSource(source, (slice(1, 3), slice(4, 8), slice(2, None))).metadata
    assert metadata.origin == (1.0, 12.0, 20.5)
    assert metadata.axes == ("c", "y", "x")
    assert metadata.channel_names == ("green", "blue")
    assert metadata.attributes == {"made_by": "test"}
    plane = RoiSource(source, (1, slice(4, 8))).metadata
    assert (plane.axes, plane.voxel_size, plane.origin) == (("y", "x"), (0.5, 0.25), (12.0, 20.0))
    assert plane.channel_names is None


def test_cannot_be_written() -> None:
    region = RoiSource(np.zeros((4, 4)), slice(1, 3))
    assert not region.writable
    with pytest.raises(ReadOnlyError):
        region[0] = 1
