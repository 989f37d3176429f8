"""Which groups hold which blocks, against the blocks of each group one by one."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings, strategies as st

from bioimage_py.geometry import Blocking, Box, IdSet
from bioimage_py.runner.work import BlockGroups


@st.composite
def blockings_with_groups(draw: st.DrawFn) -> tuple[Blocking, tuple[int, ...]]:
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    block_shape = tuple(draw(st.integers(1, 3)) for _ in shape)
    begin = tuple(draw(st.integers(0, n - 1)) for n in shape)
    end = tuple(draw(st.integers(b + 1, n)) for b, n in zip(begin, shape, strict=True))
    groups = (draw(st.sampled_from((b, 2 * b, 3 * b, n))) for b, n in zip(block_shape, shape, strict=True))
    return Blocking(shape, block_shape, roi=Box(begin, end)), tuple(map(max, groups, block_shape))


@settings(max_examples=300)
@given(blockings_with_groups(), st.data())
def test_groups_and_blocks_are_found_from_each_other(case: Any, data: Any) -> None:
    blocking, group_shape = case
    groups = BlockGroups(blocking, group_shape)
    wanted = IdSet.from_ids(i for i in range(blocking.n_blocks) if data.draw(st.booleans()))
    # With any blocks at hand a group has all of its own.
    whole = IdSet.from_range(blocking.n_blocks)
    of_group = {n: groups.blocks_in(n, whole) for n in groups.group_ids(whole)}
    assert sorted(i for blocks in of_group.values() for i in blocks) == whole
    found = groups.group_ids(wanted)
    assert found == [n for n, blocks in of_group.items() if any(i in wanted for i in blocks)]
    if not groups.single:
        assert all(groups.blocks_in(n, wanted) == tuple(i for i in of_group[n] if i in wanted) for n in found)
    asked = IdSet.from_ids(n for n in of_group if data.draw(st.booleans()))
    expected = sorted(i for n in asked for i in of_group[n] if i in wanted)
    assert groups.blocks_of(asked, wanted) == expected
