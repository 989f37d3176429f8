from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from bioimage_py.geometry import Box, default_chunks

SHAPE = (5, 6, 4)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Boxes in and around an array of SHAPE, some empty."""
    begin = tuple(draw(st.integers(0, n)) for n in SHAPE)
    return Box(begin, tuple(draw(st.integers(b, n)) for b, n in zip(begin, SHAPE, strict=True)))


def voxels(box: Box) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[box.slices] = True
    return mask


@given(boxes())
def test_shape_and_size_are_those_of_the_slices(box: Box) -> None:
    assert np.empty(SHAPE)[box.slices].shape == box.shape
    assert voxels(box).sum() == box.size
    assert box.is_empty() == (box.size == 0)


@given(boxes(), boxes())
def test_intersection_is_the_voxels_in_both(a: Box, b: Box) -> None:
    both = a.intersect(b)
    np.testing.assert_array_equal(voxels(both), voxels(a) & voxels(b))
    assert both.is_empty() == b.intersect(a).is_empty()
    assert a.contains(both)
    assert b.contains(both)


@given(boxes(), boxes())
def test_contains_is_the_subset(a: Box, b: Box) -> None:
    assert a.contains(b) == bool(np.all(voxels(a) | ~voxels(b)))


@given(boxes(), st.tuples(*[st.integers(-9, 9)] * 3))
def test_moving_there_and_back(box: Box, offset: tuple[int, ...]) -> None:
    assert box.shift(offset).relative_to(offset) == box
    assert box.shift(offset).shape == box.shape


@given(boxes(), st.tuples(*[st.integers(0, 3)] * 3))
def test_growing_adds_the_halo_inside_the_array(box: Box, halo: tuple[int, ...]) -> None:
    grown = box.grow(halo, SHAPE)
    assert Box.whole(SHAPE).contains(grown)
    assert grown.contains(box)
    for axis in range(3):
        inside = range(max(0, box.begin[axis] - halo[axis]), min(SHAPE[axis], box.end[axis] + halo[axis]))
        assert range(grown.begin[axis], grown.end[axis]) == inside


@given(boxes(), st.tuples(*[st.integers(1, 4)] * 3))
def test_snapping_gives_the_smallest_box_of_whole_cells(box: Box, grid: tuple[int, ...]) -> None:
    snapped = box.snap(grid, SHAPE)
    assert snapped.contains(box)
    assert Box.whole(SHAPE).contains(snapped)
    for axis in range(3):
        assert snapped.begin[axis] % grid[axis] == 0
        assert snapped.end[axis] % grid[axis] == 0 or snapped.end[axis] == SHAPE[axis]
        assert box.begin[axis] - snapped.begin[axis] < grid[axis]
        assert snapped.end[axis] - box.end[axis] < grid[axis]


def test_a_box_with_no_axes_holds_one_voxel() -> None:
    box = Box.whole(())
    assert (box.shape, box.size, box.ndim, box.is_empty()) == ((), 1, 0, False)
    assert box.contains(box.intersect(box))


def test_default_chunks_are_near_to_cubes() -> None:
    assert default_chunks((300, 2048, 2048), 2) == (64, 64, 64)
    assert default_chunks((10, 2, 300, 2048, 2048), 1) == (1, 1, 64, 64, 64)
    assert default_chunks((4096, 4096), 1) == (512, 512)
