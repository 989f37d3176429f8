from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bioimage_py as bp
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
    np.testing.assert_array_equal(RoiSource(ARRAY, roi, squeeze=True)[...], ARRAY[index])
    kept = RoiSource(ARRAY, roi)
    assert kept.ndim == 3
    np.testing.assert_array_equal(kept[...].reshape(ARRAY[index].shape), ARRAY[index])


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
    RoiSource(source, (1, slice(3, 9)), squeeze=True)[2, 4:6]
    assert source.reads == [Box((1, 5, 4), (2, 6, 6))]


def test_keeps_chunks_off_the_grid_and_drops_those_of_dropped_axes() -> None:
    assert RoiSource(ChunkedSource(ARRAY, (1, 5, 4)), (1, slice(3, 9)), squeeze=True).chunks == (5, 4)
    assert RoiSource(ARRAY, 0).chunks is None


def test_metadata_moves_with_the_region() -> None:
    source = ChunkedSource(ARRAY, metadata=ZYX)
    metadata = RoiSource(source, (slice(1, 3), slice(4, 8), slice(2, None))).metadata
    assert metadata.origin == (0.0, 12.0, 20.5)  # a channel has no place
    assert metadata.axes == ("c", "y", "x")
    assert metadata.channel_names == ("green", "blue")
    assert metadata.attributes == {"made_by": "test"}
    plane = RoiSource(source, (1, slice(4, 8)), squeeze=True).metadata
    assert (plane.axes, plane.voxel_size, plane.origin) == (("y", "x"), (0.5, 0.25), (12.0, 20.0))
    assert plane.channel_names is None


@pytest.mark.parametrize("squeeze", [False, True])
def test_what_is_written_is_written_into_the_source(squeeze: bool) -> None:
    array = np.zeros((3, 4, 5))
    region = RoiSource(RoiSource(array, np.s_[1:, 1:]), (0, slice(1, 3)), squeeze)
    region[...] = np.arange(10).reshape(2, 5)
    expected = np.zeros((3, 4, 5))
    expected[1, 2:4] = np.arange(10).reshape(2, 5)
    np.testing.assert_array_equal(array, expected)


def test_a_region_of_what_cannot_be_written_is_read_only() -> None:
    source = ChunkedSource(ARRAY)
    source.writable = False
    region = RoiSource(source, slice(1, 3))
    assert not region.writable
    with pytest.raises(ReadOnlyError):
        region[0] = 1


def grid(folder: Path, **layout: Any) -> zarr.Array[Any]:
    return zarr.create_array(folder / "grid.zarr", shape=(32, 32), dtype="uint16", fill_value=7, **layout)


VALUES = np.arange(1, 32 * 32 + 1, dtype="uint16").reshape(32, 32)


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"job_type": "subprocess", "num_workers": 2}])
@pytest.mark.parametrize(
    "layout", [{"chunks": (8, 8)}, {"chunks": (4, 4), "shards": (8, 16)}], ids=["chunks", "shards"]
)
def test_blocks_go_into_a_region_on_the_grid(
    layout: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    array = grid(tmp_path, **layout)
    roi = np.s_[8:24, 16:30]
    bp.copy(VALUES[roi], tmp_path / "values.zarr")
    region = RoiSource(array, roi)
    assert bp.copy(tmp_path / "values.zarr", region, **options) is region
    expected = np.full((32, 32), 7, "uint16")
    expected[roi] = VALUES[roi]
    np.testing.assert_array_equal(array[:], expected)


def test_blocks_do_not_go_into_a_region_that_cuts_chunks(tmp_path: Path) -> None:
    array = grid(tmp_path, chunks=(8, 8))
    region = RoiSource(array, np.s_[4:20, :])
    for workers in (1, 2):
        with pytest.raises(
            InvalidArgumentError, match=r"begins inside a chunk or shard of .*multiples of \(8, 8\)"
        ):
            bp.copy(VALUES[4:20], region, block_shape=(8, 8), num_workers=workers)
    bp.copy(VALUES[4:20], tmp_path / "values.zarr")
    with pytest.raises(InvalidArgumentError, match="begins inside"):
        bp.copy(tmp_path / "values.zarr", region, job_type="subprocess")
    with pytest.raises(InvalidArgumentError, match="begins inside"):
        bp.get_runner("local").run(print, [VALUES[4:20]], [region], block_shape=(8, 8))
    assert (array[:] == 7).all()
    bp.copy(VALUES[4:20], region)
    np.testing.assert_array_equal(array[4:20], VALUES[4:20])
    assert (array[:4] == 7).all()
    assert (array[20:] == 7).all()


def test_a_plane_goes_into_chunks_that_are_thicker(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", shape=(8, 32, 32), chunks=(8, 16, 16), dtype="uint16")
    bp.copy(VALUES, RoiSource(array, 3, squeeze=True), num_workers=2)
    np.testing.assert_array_equal(array[3], VALUES)
    assert not array[:3].any()
    assert not array[4:].any()
