"""The copying kernel on its own: what it reads and writes for one block or one write unit."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings, strategies as st

from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels import CompareKernel, CopyKernel, units_of
from bioimage_py.sources import as_source
from tests.counting import CountingSource


def sources(
    shape: tuple[int, ...], unit: tuple[int, ...] | None = None
) -> tuple[CountingSource, CountingSource]:
    array = np.arange(1, 1 + int(np.prod(shape)), dtype="int32").reshape(shape)
    return CountingSource(array), CountingSource(np.zeros(shape, "int32"), chunks=unit)


def test_a_block_is_read_once_and_written_once() -> None:
    source, sink = sources((6, 8))
    box = Box((2, 0), (4, 8))
    assert CopyKernel(source, sink).copy_box(box) == 16 * 4
    assert (source.reads, sink.reads, sink.writes) == ([box], [], [box])


def test_with_a_mask_only_the_units_it_touches() -> None:
    source, sink = sources((8, 8), (2, 2))
    mask = np.zeros((8, 8), "uint8")
    mask[3, 4] = mask[5, 5] = 9
    written = CopyKernel(source, sink, as_source(mask)).copy_box(Box((0, 0), (8, 8)))
    touched = Box((2, 4), (6, 6))
    assert written == touched.size * 4
    assert (source.reads, sink.reads, sink.writes) == ([touched], [touched], [touched])
    np.testing.assert_array_equal(sink.wrapped[...], np.where(mask, source.wrapped[...], 0))


def test_units_that_the_mask_fills_are_not_read_back() -> None:
    source, sink = sources((8, 8), (2, 2))
    mask = np.zeros((8, 8), bool)
    mask[2:6, 4:6] = True
    CopyKernel(source, sink, as_source(mask)).copy_box(Box((0, 0), (8, 8)))
    assert (source.reads, sink.reads, sink.writes) == ([Box((2, 4), (6, 6))], [], [Box((2, 4), (6, 6))])


def test_nothing_selected_is_nothing_done() -> None:
    source, sink = sources((8, 8), (2, 2))
    kernel = CopyKernel(source, sink, as_source(np.zeros((8, 8), bool)))
    assert kernel.copy_box(Box((0, 0), (8, 8))) == 0
    assert kernel.copy_parts(Box((0, 0), (4, 4)), [Box((0, 0), (4, 4))]) == 0
    assert (source.reads, sink.reads, sink.writes) == ([], [], [])


def test_parts_that_fill_a_unit_do_not_read_it_back() -> None:
    source, sink = sources((4, 4), (4, 4))
    unit = Box((0, 0), (4, 4))
    parts = [Box((0, 0), (4, 1)), Box((0, 1), (4, 4))]
    CopyKernel(source, sink).copy_parts(unit, parts)
    assert (source.reads, sink.reads, sink.writes) == (parts, [], [unit])
    CopyKernel(source, sink).copy_parts(unit, parts[:1])
    assert (sink.reads, sink.writes) == ([unit], [unit, unit])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_blocks_of_any_units_as_numpy_does(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(0, 3))
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(ndim))
    unit = tuple(data.draw(st.integers(1, 5)) for _ in range(ndim))
    block = tuple(data.draw(st.integers(1, 9)) for _ in range(ndim))
    source, sink = sources(shape, unit or None)
    blocks = list(Blocking(shape, block))
    chosen = data.draw(st.lists(st.sampled_from(blocks), min_size=1, unique=True))
    density = data.draw(st.sampled_from([None, 0.0, 0.1, 0.6, 1.0]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    mask = None if density is None else np.asarray(rng.random(shape) < density)
    kernel = CopyKernel(source, sink, None if mask is None else as_source(mask))
    for whole, parts in units_of(chosen, kernel.output.shape, unit):
        kernel.copy_parts(whole, [part for _, part in parts])
    selected = np.zeros(shape, bool)
    for box in chosen:
        selected[(*box.slices, ...)] = True
    if mask is not None:
        selected &= mask
    np.testing.assert_array_equal(sink.wrapped[...], np.where(selected, source.wrapped[...], 0))
    assert (sink.written() <= 1).all()
    for box in (*sink.writes, *sink.reads):
        assert box == box.snap(unit, shape)


def test_comparing_finds_count_and_first() -> None:
    a = np.zeros((4, 5))
    b = a.copy()
    b[1, 4] = b[3, 0] = 2
    kernel = CompareKernel(as_source(a), as_source(b))
    found, _ = kernel.compare(Box((1, 0), (4, 5)))
    assert found is not None
    assert (found.count, found.first, found.values) == (2, (1, 4), (0.0, 2.0))
    assert kernel.compare(Box((0, 0), (1, 5)))[0] is None
