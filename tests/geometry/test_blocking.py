from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Block, Blocking, Box, IdSet, to_roi


@st.composite
def boxes_in(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    begin = tuple(draw(st.integers(0, n)) for n in shape)
    return Box(begin, tuple(draw(st.integers(b, n)) for b, n in zip(begin, shape, strict=True)))


@st.composite
def blockings(draw: st.DrawFn) -> Blocking:
    shape = tuple(draw(st.lists(st.integers(0, 9), max_size=4)))
    block_shape = tuple(draw(st.integers(1, 11)) for _ in shape)
    return Blocking(shape, block_shape, roi=draw(st.none() | boxes_in(shape)))


@given(blockings())
def test_blocks_tile_the_region_exactly_once(blocking: Blocking) -> None:
    hits = np.zeros(blocking.shape, int)
    for block in blocking:
        assert isinstance(block, Block)
        assert not block.is_empty()
        hits[block.slices] += 1
    expected = np.zeros(blocking.shape, int)
    expected[blocking.roi.slices] = 1
    np.testing.assert_array_equal(hits, expected)


@given(blockings())
def test_blocks_are_numbered_in_c_order(blocking: Blocking) -> None:
    positions = list(itertools.product(*map(range, blocking.grid_shape)))
    assert len(blocking) == blocking.n_blocks == len(positions)
    for block_id, position in enumerate(positions):
        assert blocking.position(block_id) == position
        assert blocking.block_id(position) == block_id
        assert blocking.block_at(position) == blocking.block(block_id) == blocking[block_id]
    for wrong in (-1, len(positions)):
        with pytest.raises(InvalidArgumentError, match="block id"):
            blocking.block(wrong)


@settings(max_examples=300)
@given(blockings(), st.data())
def test_ids_over_another_grid_are_the_blocks_that_share_a_voxel(other: Blocking, data: Any) -> None:
    block_shape = tuple(data.draw(st.integers(1, 11)) for _ in other.shape)
    blocking = Blocking(other.shape, block_shape, roi=other.roi)
    ids = IdSet.from_ids(i for i in range(other.n_blocks) if data.draw(st.booleans()))
    expected = [i for i, block in enumerate(blocking) if any(j in ids for j in other.ids_in(block))]
    assert blocking.ids_over(other, ids) == expected


def test_blockings_of_different_regions_are_not_compared() -> None:
    one, other = Blocking((4,), (2,)), Blocking((4,), (2,), roi=Box((1,), (4,)))
    with pytest.raises(InvalidArgumentError, match="the blockings are of"):
        one.ids_over(other, IdSet())


@settings(max_examples=200)
@given(blockings(), st.data())
def test_ids_in_a_box_are_the_blocks_that_share_a_voxel(blocking: Blocking, data: Any) -> None:
    box = data.draw(boxes_in(blocking.shape))
    expected = [i for i, block in enumerate(blocking) if not block.intersect(box).is_empty()]
    assert list(blocking.ids_in(box)) == expected


@given(blockings(), st.data())
def test_halo_is_cut_at_the_array(blocking: Blocking, data: Any) -> None:
    halo = tuple(data.draw(st.integers(0, 4)) for _ in blocking.shape)
    array = np.arange(np.prod(blocking.shape, dtype=int)).reshape(blocking.shape)
    for block_id, block in enumerate(blocking):
        with_halo = blocking.block_with_halo(block_id, halo)
        assert with_halo.inner_block == block
        assert with_halo.outer_block == block.grow(halo, blocking.shape)
        assert (with_halo.begin, with_halo.end) == tuple(with_halo.outer_block)
        outer = array[to_roi(with_halo)]
        assert outer.shape == with_halo.shape
        np.testing.assert_array_equal(outer[with_halo.inner_block_local.slices], array[to_roi(block)])


def test_a_domain_without_axes_is_one_block() -> None:
    blocking = Blocking((), ())
    assert list(blocking) == [Block((), ())]
    assert list(blocking.ids_in(Box.whole(()))) == [0]


def test_a_billion_blocks_cost_nothing() -> None:
    blocking = Blocking((10**5, 10**5, 10**5), (100, 100, 100))
    assert blocking.n_blocks == 10**9
    assert blocking.block(10**9 - 1).end == (10**5,) * 3
    box = blocking.block(123_456_789)
    assert list(blocking.ids_in(box)) == [123_456_789]


@pytest.mark.parametrize(
    ("block_shape", "says"),
    [((2,), "2"), ((2, 2, 2), "3 axes"), ((0, 2), "at least 1"), ((2, -1), "at least 1"), ((2, 1.5), "integer"),
     ((True, 2), "integer"), (4, "integer"), ("ab", "integer"), (None, "integer")],
)  # fmt: skip
def test_block_shapes_that_are_none(block_shape: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        Blocking((4, 5), block_shape)


@pytest.mark.parametrize("roi", [Box((0, 0), (5, 5)), Box((-1, 0), (4, 5))])
def test_a_region_outside_the_array_is_refused(roi: Box) -> None:
    with pytest.raises(InvalidArgumentError, match="leaves the array"):
        Blocking((4, 5), (2, 2), roi=roi)


def test_numpy_integers_become_plain_ones() -> None:
    blocking = Blocking(tuple(np.array([4, 5])), tuple(np.array([2, 2])))  # type: ignore[arg-type]
    assert all(
        type(n) is int for n in (*blocking.shape, *blocking.block_shape, *blocking[3].begin, *blocking[3].end)
    )
