"""Blocks of a pyramid: whole write units of each level that they make, every level once, within the memory."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.planning import ArrayLayout, PyramidPlan, choose_levels, plan_pyramid


def layout(shape: Any, chunks: Any, shards: Any = None, dtype: str = "uint16") -> ArrayLayout:
    return ArrayLayout("a", "zarr v3", tuple(shape), np.dtype(dtype), chunks, shards)


def plan(shape: Any, chunks: Any, *, source: Any = None, shards: Any = None, **options: Any) -> PyramidPlan:
    asked = {name: options.pop(name) for name in ("levels", "scale_factors") if name in options}
    levels = choose_levels(shape, chunks, "tczyx"[-len(shape) :], None, **asked)
    return plan_pyramid(layout(shape, source), layout(shape, chunks, shards), levels, "mean", **options)


@st.composite
def plans(draw: st.DrawFn) -> PyramidPlan:
    ndim = draw(st.integers(1, 3))
    each = st.tuples(*[st.integers(1, 9)] * ndim)
    shape = draw(st.tuples(*[st.integers(1, 90)] * ndim))
    chunks, source = draw(each), draw(st.none() | each)
    shards = draw(st.none() | st.just(tuple(2 * c for c in chunks)))
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        unit = shards or chunks
        times = draw(each)
        options["block_shape"] = tuple(u * n for u, n in zip(unit, times, strict=True))
    if draw(st.booleans()):
        factors, left = [], shape
        for _ in range(draw(st.integers(1, 3))):
            step = tuple(draw(st.integers(1, min(4, n))) for n in left)
            if max(step) == 1:
                break
            factors.append(step)
            left = tuple(-(-n // f) for n, f in zip(left, step, strict=True))
        options["scale_factors"] = factors
    limit = draw(st.none() | st.integers(2**25, 2**27))
    return plan(shape, chunks, source=source, shards=shards, memory_limit=limit, **options)


@settings(max_examples=200, deadline=None)
@given(plans())
def test_no_two_blocks_write_into_one_unit(found: PyramidPlan) -> None:
    assert [level for part in found.parts for level in part.levels] == list(found.levels)
    unit = found.output.write_unit
    for before, part in itertools.pairwise((None, *found.parts)):
        assert part is not None
        assert part.reads == (None if before is None else before.levels[-1].number)
        scale = (1,) * len(unit)
        for level in part.levels:
            scale = tuple(map(math.prod, zip(scale, level.step, strict=True)))
            for b, f, u, n in zip(part.block_shape, scale, unit, part.shape, strict=True):
                assert b >= n or b % (f * u) == 0


@settings(max_examples=200, deadline=None)
@given(plans())
def test_blocks_are_read_in_pieces_that_cut_neither_units_nor_windows(found: PyramidPlan) -> None:
    for part in found.parts:
        copies = part.levels[0].number == 0
        steps = part.steps[1:2] if copies else part.steps[:1]
        for axis, (tile, block, n) in enumerate(
            zip(part.tile_shape, part.block_shape, part.shape, strict=True)
        ):
            assert block % tile == 0
            if tile < block and tile < n:
                assert not copies or tile % found.output.write_unit[axis] == 0
                assert all(tile % step[axis] == 0 for step in steps)


def test_a_block_makes_as_many_levels_as_it_holds_chunks_of() -> None:
    found = plan((512,) * 3, (64,) * 3, source=(64,) * 3)
    assert [[level.number for level in part.levels] for part in found.parts] == [[0, 1, 2], [3]]
    assert [part.block_shape for part in found.parts] == [(256,) * 3, (128,) * 3]
    assert found.bytes_in == 2 * (512**3 + 128**3)
    assert found.bytes_out == 2 * (512**3 + 256**3 + 128**3 + 64**3)
    assert found.n_files == 512 + 64 + 8 + 1


def test_slices_are_decoded_once() -> None:
    found = plan((512, 2048, 2048), (64,) * 3, source=(1, 2048, 2048))
    assert found.parts[0].read_amplification == 1
    assert len(found.parts[0].levels) > 1


def test_large_shards_are_filled_piece_by_piece() -> None:
    found = plan((2048,) * 3, (64,) * 3, shards=(512,) * 3)
    first = found.parts[0]
    assert [level.number for level in first.levels] == [0, 1]
    assert (first.block_shape, first.tile_shape) == ((1024,) * 3, (512,) * 3)


@pytest.mark.parametrize("shards", [None, (256,) * 3])
def test_memory_is_kept(shards: Any) -> None:
    free = plan((1024,) * 3, (64,) * 3, shards=shards, num_workers=8)
    limit = free.parts[0].block_bytes * 3
    found = plan((1024,) * 3, (64,) * 3, shards=shards, num_workers=8, memory_limit=limit)
    assert found.peak_memory <= limit
    assert 1 <= found.in_flight < 8
    least = plan((1024,) * 3, (64,) * 3, shards=shards, memory_limit=2**28)
    assert least.peak_memory <= 2**28
    with pytest.raises(InvalidArgumentError, match="memory_limit 1 MiB is too small"):
        plan((1024,) * 3, (64,) * 3, shards=shards, memory_limit=2**20)


def test_blocks_do_not_depend_on_the_machine() -> None:
    one, many = plan((512,) * 3, (64,) * 3), plan((512,) * 3, (64,) * 3, num_workers=64)
    assert [p.block_shape for p in one.parts] == [p.block_shape for p in many.parts]


def test_blocks_that_cut_chunks_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"not a multiple of the output's chunks .* example"):
        plan((100,) * 3, (16,) * 3, block_shape=(24,) * 3)
    with pytest.raises(InvalidArgumentError, match="not a multiple of the output's shards"):
        plan((100,) * 3, (16,) * 3, shards=(32,) * 3, block_shape=(16,) * 3)


def test_it_prints_well() -> None:
    text = str(plan((512,) * 3, (64,) * 3, source=(64,) * 3, num_workers=2))
    assert "level 1: 256×256×256 voxels: mean of 2×2×2, 2×2×2 of full size\n" in text
    assert "part 1:  reads the input, writes levels 0 to 2: 8 blocks of 256×256×256 voxels" in text
    assert "part 2:  reads level 2, writes level 3: 1 block of 128×128×128 voxels\n" in text
