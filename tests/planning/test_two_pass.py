"""Two passes: each voxel once, no write unit shared, little read, under the limit, and only where one pass reads too much."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Blocking, IdSet
from bioimage_py.planning import (
    ArrayLayout,
    CopyPlan,
    MemoryModel,
    PlanOptions,
    RoomBeside,
    in_one_or_two_passes,
    plan_copy,
    read_amplification,
    reads_through_cache,
)

ROOM = RoomBeside("/data/out.zarr.rechunk-XXXXXXXX", 10**18)


def layout(shape, chunks, shards=None, dtype="uint16"):
    return ArrayLayout("a", "zarr v3", tuple(shape), np.dtype(dtype), chunks, shards)


def planned(source, target, options, *, casting="unsafe", room=ROOM, mask=None) -> CopyPlan:
    return in_one_or_two_passes(plan_copy(source, target, mask, options), options, casting, room)


def pages(n=2048, side=4096, cube=64, **options) -> CopyPlan:
    source, target = layout((n, side, side), (1, side, side)), layout((n, side, side), (cube,) * 3)
    return planned(source, target, PlanOptions(**options))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_pages_into_cubes_are_decoded_once_under_a_gibibyte(threads):
    plan = pages(memory_limit=2**30, num_workers=threads)
    assert plan.passes is not None
    assert plan.passes.one_pass_reads >= 4
    assert (plan.read_amplification, plan.passes.second_reads) == (1.0, 1.0)
    assert plan.peak_memory <= 2**30
    assert plan.passes.n_files < 20_000
    assert plan.passes.n_bytes == plan.bytes_in == 2048 * 4096**2 * 2


def test_the_plan_says_so_and_so_does_its_json():
    plan = pages(n=256, side=2048, memory_limit=2**26)
    text = str(plan)
    assert "passes:  2, because one would decode each chunk of the input 32 times on average" in text
    assert "temp:    /data/out.zarr.rechunk-XXXXXXXX: at most 2 GiB before compression" in text
    assert "each chunk of the input decoded once" in text
    assert "larger memory_limit" not in text
    stored = json.loads(json.dumps(plan.to_json()))
    assert stored["passes"] == 2
    assert stored["temporary_store"]["read_amplification"] == [1.0, 1.0]
    assert stored["temporary_store"]["one_pass_read_amplification"] == 32.0


@st.composite
def problems(draw):
    """Slabs into cubes, or cubes into slabs, under a limit that holds a few of either."""
    ndim = draw(st.integers(2, 4))
    shape = draw(st.tuples(*[st.integers(2, {2: 400, 3: 90, 4: 30}[ndim])] * ndim))
    flat = draw(st.integers(0, ndim - 1))
    slab = tuple(draw(st.integers(1, 3)) if axis == flat else n for axis, n in enumerate(shape))
    cube = tuple(draw(st.sampled_from([1, 2, 4, 5, 8])) for _ in shape)
    read, chunks = draw(st.permutations([slab, cube]))
    shards = draw(st.none() | st.tuples(*[st.integers(1, 3)] * ndim))
    if shards is not None:
        shards = tuple(s * c for s, c in zip(shards, chunks, strict=True))
    dtypes = [draw(st.sampled_from(["uint8", "uint16", "float64"])) for _ in range(2)]
    source, target = (
        layout(shape, read, dtype=dtypes[0]),
        layout(shape, chunks, shards, dtype=dtypes[1]),
    )
    workers = draw(st.integers(1, 2))
    least = MemoryModel(source, target, None, workers)
    limit = least.base() + least.block(target.write_unit)
    return source, target, PlanOptions(memory_limit=limit * draw(st.integers(1, 6)), num_workers=workers)


@settings(max_examples=300, deadline=None)
@given(problems(), st.sampled_from(["unsafe", "check"]), st.data())
def test_both_passes_write_every_voxel_once_and_read_little_under_the_limit(problem, casting, data):
    source, target, options = problem
    try:
        one = plan_copy(source, target, None, options)
    except InvalidArgumentError:
        assume(False)
    plan = in_one_or_two_passes(one, options, casting, ROOM)
    # The numbers of the blocks do not depend on the passes, nor on the room that there is.
    assert (plan.block_shape, plan.group_shape, plan.n_blocks) == (
        one.block_shape,
        one.group_shape,
        one.n_blocks,
    )
    if plan.passes is None:
        return
    passes = plan.passes
    between = layout(source.shape, passes.chunks, passes.shards, dtype=passes.dtype)
    first = Blocking(source.shape, passes.block_shape)
    assert len(first) == passes.n_blocks
    assert passes.block_ids == IdSet.from_range(passes.n_blocks)
    # Blocks tile; that no two of them share a write unit is that units lie in one block each.
    units = Blocking(source.shape, between.write_unit)
    for number in data.draw(st.lists(st.integers(0, len(units) - 1), min_size=1, max_size=5)):
        assert len(list(first.ids_in(units[number]))) == 1
    assert read_amplification(source.shape, passes.block_shape, source.chunks) == plan.read_amplification <= 2
    assert read_amplification(source.shape, plan.block_shape, passes.chunks) <= 2
    for model, block in (
        (MemoryModel(source, between, None, plan.threads), passes.block_shape),
        (MemoryModel(between, target, None, plan.threads), plan.block_shape),
    ):
        assert model.base() + plan.in_flight * model.block(block) <= plan.peak_memory <= options.memory_limit
    smaller = min(source.itemsize, target.itemsize) if casting == "unsafe" else source.itemsize
    assert passes.dtype.itemsize == smaller


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 31), min_size=1))
def test_the_first_pass_fetches_what_the_asked_blocks_need_and_no_more(wanted):
    source, target = layout((64, 256, 256), (1, 256, 256)), layout((64, 256, 256), (16, 16, 16))
    options = PlanOptions(memory_limit=2**20, block_ids=IdSet.from_ids(wanted))
    plan = planned(source, target, options)
    assert plan.n_blocks == 32
    layers = {number // 8 for number in wanted}
    # A layer of which few blocks are asked for is read less often in one pass.
    assert (plan.passes is not None) == (len(wanted) / len(layers) > 2)
    if plan.passes is None:
        return
    first, second = Blocking(source.shape, plan.passes.block_shape), plan.blocking
    needed = {number for number in range(len(first)) if not wanted.isdisjoint(second.ids_in(first[number]))}
    assert set(plan.passes.block_ids) == needed
    assert plan.passes.n_bytes == source.nbytes * len(layers) // 4


@pytest.mark.parametrize(
    ("room", "why"),
    [
        (RoomBeside("/data/out.zarr.rechunk-XXXXXXXX", 2**31), "has 2 GiB left"),
        (RoomBeside(None, why_not="the output is behind a URL"), "the output is behind a URL"),
    ],
)
def test_without_room_it_is_one_pass_with_the_same_blocks_and_a_hint(room, why):
    source, target = layout((256, 2048, 2048), (1, 2048, 2048)), layout((256, 2048, 2048), (64, 64, 64))
    options = PlanOptions(memory_limit=2**26)
    plan = planned(source, target, options, room=room)
    assert plan.passes is None
    assert plan.block_shape == planned(source, target, options).block_shape
    assert why in str(plan.hints[-1])
    assert plan.to_json()["passes"] == 1


def test_one_pass_where_it_is_good_enough():
    assert pages(n=64, side=512, memory_limit=2**30).passes is None
    # A whole row of blocks is decoded once, as long as the cache holds its pages.
    source, target = layout((64, 256, 256), (1, 64, 64)), layout((64, 256, 256), (16, 16, 16))
    assert planned(source, target, PlanOptions(memory_limit=2**20)).passes is None
    # Small blocks are what the user wants here: larger ones would do.
    assert pages(n=64, side=512, memory_limit=2**30, block_shape=(64, 64, 64)).passes is None
    # Here they would not.
    assert pages(n=256, side=2048, memory_limit=2**26, block_shape=(64, 64, 64)).passes is not None
    odd = layout((256, 2048, 2048), (1, 2048, 2048), dtype="S2")
    assert planned(odd, odd, PlanOptions(memory_limit=2**26)).passes is None


def test_what_the_cache_keeps_is_not_read_again():
    source, target = layout((8, 64, 64), (1, 32, 64)), layout((8, 64, 64), (8, 8, 8))
    plan = plan_copy(source, target, None, PlanOptions(block_shape=(8, 8, 8)))
    assert plan.read_amplification == 32
    for cache, reads in ((0, 32.0), (2**20, 1.0)):
        held = in_cache(plan, cache)
        assert reads_through_cache(held, plan.block_shape) == reads


def in_cache(plan: CopyPlan, n_bytes: int) -> CopyPlan:
    from dataclasses import replace

    return replace(plan, cache_bytes=n_bytes)


def test_many_small_chunks_become_shards_of_one_writer():
    shape = (3, 10, 256, 1024, 1024)
    source, target = layout(shape, (1, 1, 1, 1024, 1024)), layout(shape, (1, 1, 64, 64, 64))
    plan = planned(source, target, PlanOptions(memory_limit=2**25, num_workers=2))
    assert plan.passes is not None
    assert plan.passes.shards == plan.passes.block_shape
    assert plan.passes.n_files == plan.passes.n_blocks == 7680


def test_grids_that_share_no_divisor_are_read_twice_at_most():
    shape = (300, 1000, 900)
    for cube in itertools.product((48, 64, 50), repeat=1):
        source, target = layout(shape, (7, 500, 900)), layout(shape, cube * 3)
        plan = planned(source, target, PlanOptions(memory_limit=2**25))
        assert plan.passes is not None
        assert plan.passes.first_reads + plan.passes.second_reads < 3.1
