"""Block shapes: safe to write always, and read the input as seldom as memory allows."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bioimage_py.chunks import EncodingMatch
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.planning import ArrayLayout, PlanOptions, pieces, plan_copy, read_amplification
from bioimage_py.planning.block_shape import widened


def layout(shape, chunks, shards=None, dtype="uint16", name="a"):
    return ArrayLayout(name, "zarr v3", tuple(shape), np.dtype(dtype), chunks, shards)


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 70))
def test_pieces_counts_what_two_grids_cut(extent, block, chunk):
    cuts = {0, *range(0, extent, block), *range(0, extent, chunk)}
    assert pieces(extent, block, chunk) == len(cuts)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=3))
def test_amplification_counts_decoded_chunks(axes):
    shape, blocks, chunks = (tuple(values) for values in zip(*axes, strict=True))
    decoded = 0
    for begin in itertools.product(*(range(0, n, b) for n, b in zip(shape, blocks, strict=True))):
        touched = (
            (min(o + b, n) - 1) // c - o // c + 1
            for o, b, n, c in zip(begin, blocks, shape, chunks, strict=True)
        )
        decoded += math.prod(touched)
    n_chunks = math.prod(-(-n // c) for n, c in zip(shape, chunks, strict=True))
    assert math.isclose(read_amplification(shape, blocks, chunks), decoded / n_chunks)


@st.composite
def layouts(draw):
    ndim = draw(st.integers(0, 6))
    shape = draw(st.tuples(*[st.integers(0, 3000)] * ndim))
    chunks = draw(st.tuples(*[st.integers(1, 300)] * ndim))
    shards = draw(st.none() | st.tuples(*[st.integers(1, 4)] * ndim))
    if shards is not None:
        shards = tuple(s * c for s, c in zip(shards, chunks, strict=True))
    read = draw(st.none() | st.tuples(*[st.integers(1, 3000)] * ndim))
    dtype = draw(st.sampled_from(["uint8", "uint16", "float64"]))
    return layout(shape, read, dtype=dtype), layout(shape, chunks, shards, dtype=dtype, name="b")


@settings(max_examples=200, deadline=None)
@given(layouts(), st.integers(1, 64))
def test_planned_blocks_are_whole_write_units_whoever_asks(pair, workers):
    plan = plan_copy(*pair, None, PlanOptions(num_workers=workers))
    unit = pair[1].write_unit
    assert all(b % u == 0 and b > 0 for b, u in zip(plan.block_shape, unit, strict=True))
    assert plan.group_shape == plan.block_shape
    assert plan.block_shape == plan_copy(*pair, None, PlanOptions(num_workers=1)).block_shape
    assert 1 <= plan.in_flight <= workers
    assert plan.n_blocks == plan.blocking.n_blocks
    assert "recode" in str(plan)


@settings(max_examples=200, deadline=None)
@given(layouts(), st.data())
def test_no_two_groups_share_a_write_unit(pair, data):
    target = pair[1]
    multiples = data.draw(st.tuples(*[st.integers(1, 5)] * len(target.shape)))
    block = tuple(m * c for m, c in zip(multiples, target.chunks, strict=True))
    plan = plan_copy(*pair, None, PlanOptions(block_shape=block))
    for n, group, b, unit in zip(
        target.shape, plan.group_shape, plan.block_shape, target.write_unit, strict=True
    ):
        assert group >= n or group % unit == 0
        assert group >= n or group % b == 0


def test_slabs_into_cubes_are_read_once():
    plan = plan_copy(
        layout((512,) * 3, (1, 512, 512)), layout((512,) * 3, (64,) * 3, name="b"), None, PlanOptions()
    )
    assert plan.read_amplification == 1
    assert plan.block_shape[0] == 64


def test_blocks_are_long_where_the_input_is_contiguous():
    shape = (1024, 1024, 1024)
    shapes = {}
    for order in "CF":
        source = ArrayLayout("a", "npy", shape, np.dtype("uint16"), storage_order=order)
        shapes[order] = plan_copy(source, layout(shape, (64,) * 3, name="b"), None, PlanOptions()).block_shape
    assert shapes["C"] == shapes["F"][::-1]
    assert shapes["C"][2] == 1024


def test_memory_limit_decides_and_free_memory_does_not(monkeypatch):
    pair = layout((2048, 1024, 1024), (1, 1024, 1024)), layout((2048, 1024, 1024), (64,) * 3, name="b")
    free = plan_copy(*pair, None, PlanOptions(num_workers=2))
    monkeypatch.setattr("bioimage_py.planning.byte_size.available_memory", lambda: 2**27)
    poor = plan_copy(*pair, None, PlanOptions(num_workers=2))
    assert free.block_shape == poor.block_shape
    assert poor.memory_limit < free.memory_limit
    tight = plan_copy(*pair, None, PlanOptions(num_workers=2, memory_limit=2**29))
    assert tight.peak_memory <= 2**29
    assert tight.read_amplification == 1
    tighter = plan_copy(*pair, None, PlanOptions(num_workers=2, memory_limit=2**26))
    assert tighter.peak_memory <= 2**26
    assert math.prod(tighter.block_shape) < math.prod(tight.block_shape)


def test_a_billion_blocks_are_planned_from_integers_alone():
    shape = (64_000, 64_000, 64_000)
    options = PlanOptions(block_shape=(64, 64, 64), num_workers=8)
    plan = plan_copy(layout(shape, (64,) * 3), layout(shape, (64,) * 3, name="b"), None, options)
    assert plan.n_blocks == 10**9
    assert len(plan.block_ids) == 10**9
    assert "Zarr v3 with shards of" in str(plan.hints[0])
    assert str(plan)


def test_what_a_wrapper_reads_counts_as_memory():
    from bioimage_py.wrapper import SimpleTransformationSource
    from bioimage_py.wrapper.shape import RoiSource

    image = np.broadcast_to(np.float64(1), (512, 512, 512))
    wrapped = SimpleTransformationSource(RoiSource(image, np.s_[:, :, :]), lambda block: block, dtype="uint8")
    assert ArrayLayout.of(wrapped).scratch((2, 3, 4)) == (8 + 8 + 8) * 24
    target = layout((512,) * 3, (64,) * 3, dtype="uint8", name="b")
    limit = PlanOptions(memory_limit=2**26)
    plain = plan_copy(layout((512,) * 3, None, dtype="uint8"), target, None, limit)
    through = plan_copy(ArrayLayout.of(wrapped), target, None, limit)
    assert math.prod(through.block_shape) < math.prod(plain.block_shape)
    assert through.peak_memory <= 2**26


def test_a_wrapper_that_reads_more_than_it_returns_keeps_the_limit():
    from bioimage_py.wrapper.resampling import ReducedSource
    from tests.counting import CountingSource

    pages = CountingSource(np.broadcast_to(np.uint16(1), (512, 4096, 4096)), chunks=(1, 4096, 4096))
    layers = ArrayLayout.of(ReducedSource(pages, (16, 2, 2), "median"))
    # A layer is made of 16 pages of 32 MiB, which are held as read and once more several times while they are sorted.
    assert layers.scratch((1, 2048, 2048)) >= 2 * 16 * 2**25
    assert layers.decoded_chunk == 2**25
    target = layout(layers.shape, (1, 64, 64), name="b")
    with pytest.raises(InvalidArgumentError, match="too small"):
        plan_copy(layers, target, None, PlanOptions(memory_limit=2**26))
    plan = plan_copy(layers, target, None, PlanOptions(memory_limit=2**30, num_workers=2))
    assert (
        plan.in_flight * layers.scratch(plan.block_shape) + 4 * layers.decoded_chunk
        < plan.peak_memory
        <= 2**30
    )
    assert plan.input.scratch((8, 8, 8)) == 0  # the plan does not keep the source


@pytest.mark.parametrize(
    ("shape", "chunks", "shards", "block", "n_blocks"),
    [
        ((512,) * 3, (64,) * 3, None, None, 16),  # small arrays are not widened
        ((4000,) * 3, (64,) * 3, None, (64, 128, 4032), 2016),
        ((79370,) * 3, (64,) * 3, (1024,) * 3, (1024, 1024, 2048), 78 * 78 * 39),  # 1 PB
        ((79370,) * 3, (64,) * 3, (2048,) * 3, (2048,) * 3, 39**3),  # a shard has more than a block may
        ((10**6,) * 3, (128,) * 3, None, (128, 128, 128 * 1024), 7813 * 7813 * 8),
    ],
)
def test_blocks_that_are_moved_are_many_and_small(shape, chunks, shards, block, n_blocks) -> None:
    moved = EncodingMatch("payload", "verbatim" if shards is None else "repack")
    target = layout(shape, chunks, shards, name="b")
    plan = plan_copy(layout(shape, chunks), target, None, PlanOptions(match=moved))
    assert plan.n_blocks == n_blocks
    assert block in (None, plan.block_shape)
    assert widened(plan.block_shape, target) == plan.block_shape
    size = math.prod(plan.block_shape)
    assert 2 * size <= 2**32 or plan.block_shape == shards


def test_a_large_limit_makes_no_block_of_more_than_4_gib() -> None:
    plan = plan_copy(
        layout((4096,) * 3, (1, 4096, 4096)), layout((4096,) * 3, (64,) * 3, name="b"), None,
        PlanOptions(memory_limit=2**40),
    )  # fmt: skip
    assert plan.block_shape == (64, 4096, 4096)
    coarse = layout((4096,) * 3, (512, 4096, 4096))
    plan = plan_copy(coarse, layout((4096,) * 3, (64,) * 3, name="b"), None, PlanOptions(memory_limit=2**40))
    assert 2 * math.prod(plan.block_shape) <= 2**32
