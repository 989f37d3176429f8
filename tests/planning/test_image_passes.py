"""Two passes in an image of many arrays: the same blocks, under one limit, in what one disk has left."""

from __future__ import annotations

import numpy as np
from hypothesis import event, given, reject, settings, strategies as st

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.planning import (
    MOST_READS_OF_ONE_PASS,
    ArrayLayout,
    ImagePlan,
    PlannedArray,
    PlanOptions,
    RoomBeside,
    image_in_passes,
    plan_copy,
)

PLACE = "/data/out.ome.zarr.rechunk-XXXXXXXX"


def layout(shape, chunks):
    return ArrayLayout("a", "zarr v3", tuple(shape), np.dtype("uint16"), chunks)


@st.composite
def images(draw):
    """An image of a few levels in pages that becomes one in cubes."""
    n, side, count = draw(st.integers(16, 64)), draw(st.sampled_from([64, 128, 256])), draw(st.integers(1, 4))
    cube, threads = (draw(st.sampled_from([8, 16])),) * 3, draw(st.integers(1, 2))
    options = PlanOptions(
        memory_limit=threads * side**2 * draw(st.sampled_from([8, 10, 14, 20])), num_workers=threads
    )
    arrays = []
    for level in range(count):
        shape = (n, side >> level, side >> level)
        source = layout(shape, (1, *shape[1:]))
        try:
            planned = plan_copy(source, layout(shape, cube), None, options)
        except InvalidArgumentError:
            reject()  # the limit holds no block
        arrays.append(PlannedArray(str(level), planned))
    n_blocks = sum(array.plan.n_blocks for array in arrays)
    ids = draw(st.none() | st.integers(0, n_blocks - 1).map(lambda begin: IdSet.from_range(n_blocks, begin)))
    plan = ImagePlan.of(("a", "b"), "1 image", arrays, ids, threads)
    return plan, [options] * count


@given(problem=images(), percent=st.sampled_from([0, 120, 160, 200, 250]))
@settings(max_examples=150)
def test_blocks_stay_and_the_limit_and_the_room_are_kept(problem, percent):
    plan, options = problem
    room = plan.bytes_out * percent // 100
    found = image_in_passes(plan, options, "unsafe", RoomBeside(PLACE, room))
    assert (found.n_blocks, found.block_ids, found.offsets) == (plan.n_blocks, plan.block_ids, plan.offsets)
    assert [a.plan.block_shape for a in found.arrays] == [a.plan.block_shape for a in plan.arrays]
    assert [a.plan.block_ids for a in found.arrays] == [a.plan.block_ids for a in plan.arrays]
    assert found.peak_memory <= found.memory_limit
    assert 1 <= found.in_flight <= found.threads
    twice = [n for n, array in enumerate(found.arrays) if array.plan.passes is not None]
    event(f"{len(twice)} of {len(found.arrays)} in two passes")
    if twice:
        through = sum(found.arrays[n].plan.passes.n_bytes for n in twice)
        assert through + found.bytes_out <= room + len(found.arrays)  # shares are rounded up
    for number in twice:
        passes = found.arrays[number].plan.passes
        assert passes.one_pass_reads > MOST_READS_OF_ONE_PASS
        first = Blocking(passes.shape, passes.block_shape)
        begin, end = found.offsets[number : number + 2]
        asked = {i - begin for i in found.block_ids if begin <= i < end}
        needed = {n for n in range(first.n_blocks) if not asked.isdisjoint(found.arrays[number].plan.blocking.ids_in(first[n]))}  # fmt: skip
        assert set(passes.block_ids) == needed
