"""Resizing is what scikit-image does, and no block shape shows in the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from skimage.transform import resize
from threadpoolctl import threadpool_limits

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.wrapper.resampling import AffineSource, ResizedSource, nearest
from tests.sources.contract import textured
from tests.wrapper.stored import DTYPES, ZYX, ChunkedSource, arrays, check_reads, parts

several = settings(max_examples=80, deadline=None)


def new_shapes(shape: tuple[int, ...]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*(st.integers(1, 15) for _ in shape))


@several
@given(st.data(), arrays(min_side=1, dtypes=("float32", ">f8")), st.integers(0, 5), st.booleans())
def test_floats_are_those_of_scikit_image(
    data: st.DataObject, array: np.ndarray, order: int, smooth: bool
) -> None:
    shape = data.draw(new_shapes(array.shape))
    source = ResizedSource(array, shape, order, smooth)
    reference = resize(
        array.astype("float64"),
        shape,
        order,
        mode="reflect",
        clip=False,
        preserve_range=True,
        anti_aliasing=smooth,
    )
    rough = 1e-5 if array.dtype.itemsize == 4 else 1e-6
    np.testing.assert_allclose(source[...], reference, rtol=rough, atol=rough * np.abs(array).max())
    check_reads(source, source[...], data)


@several
@given(st.data(), arrays(min_side=1, dtypes=("bool", "uint8", "int16", ">u2")), st.integers(1, 5))
def test_integers_are_rounded_and_kept_in_range(data: st.DataObject, array: np.ndarray, order: int) -> None:
    shape = data.draw(new_shapes(array.shape))
    source = ResizedSource(array, shape, order)
    exact = ResizedSource(array.astype("float64"), shape, order)[...]
    if array.dtype == bool:
        expected = exact > 0.5
    else:
        info = np.iinfo(array.dtype)
        expected = np.clip(np.rint(exact), info.min, info.max).astype(array.dtype)
    check_reads(source, expected, data)


@several
@given(st.data(), arrays(min_side=1, dtypes=(*DTYPES, "uint64", "complex64")))
def test_nearest_takes_the_voxel_that_holds_the_centre(data: st.DataObject, array: np.ndarray) -> None:
    shape = data.draw(new_shapes(array.shape))
    index = [[(2 * o + 1) * n // (2 * m) for o in range(m)] for n, m in zip(array.shape, shape, strict=True)]
    check_reads(ResizedSource(array, shape), array[np.ix_(*index)], data)


@pytest.mark.parametrize(("old", "new"), [(12, 4), (4, 12), (7, 5), (100, 33), (10, 10)])
def test_nearest_is_that_of_scikit_image(old: int, new: int) -> None:
    line = np.arange(old, dtype=float)
    picked = resize(line, (new,), 0, mode="reflect", clip=False, preserve_range=True, anti_aliasing=False)
    assert nearest(np.arange(new), (old, new)).tolist() == picked.tolist()


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("chunks", [None, (4, 5, 6)])
def test_parts_leave_no_seams(order: int, chunks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    array = textured((40, 60, 50), "uint8")
    whole = ResizedSource(array, (62, 26, 80), order, True)[...]
    monkeypatch.setattr(parts.parts_of, "__defaults__", (30000,))
    source = ResizedSource(ChunkedSource(array, chunks), (62, 26, 80), order, True)
    np.testing.assert_array_equal(source[...], whole)
    assert len(source.inputs[0].reads) > 5


@pytest.mark.parametrize(
    ("shape", "order", "dtype"),
    [((40, 45, 75), 1, "uint16"), ((150, 100, 77), 3, "float64"), ((21, 130, 40), 2, "complex64")],
)
def test_bits_depend_on_nothing_but_the_array(shape: Any, order: int, dtype: str) -> None:
    array = np.random.default_rng(1).normal(1000, 300, (70, 97, 150)).astype(dtype)
    whole = ResizedSource(array, shape, order, True)[...]
    turned = np.empty(array.shape[::-1], array.dtype.newbyteorder()).T
    turned[...] = array
    spaced = np.zeros((*array.shape, 2), dtype)[..., 0]
    spaced[...] = array
    draw = np.random.default_rng(2)
    for n, other in enumerate((array, turned, spaced, array[::-1].copy()[::-1])):
        source = ResizedSource(other, shape, order, True)
        with threadpool_limits(n + 1):
            for _ in range(3):
                ends = [np.sort(draw.choice(n + 1, 2, replace=False)) for n in shape]
                box = tuple(slice(*map(int, two)) for two in ends)
                np.testing.assert_array_equal(source[box], whole[box])
            np.testing.assert_array_equal(source[...], whole)


def test_nan_and_infinities_stay_in_the_reach_of_their_weights() -> None:
    image = np.ones((100, 90), "float32")
    image[50, 40], image[9, 80] = np.nan, np.inf
    smaller = ResizedSource(image, (50, 45), 1, True)
    for box in (np.s_[:, :], np.s_[20:31, 3:40]):
        found, clean = smaller[box], ResizedSource(np.ones_like(image), (50, 45), 1, True)[box]
        assert np.isnan(found).sum() == 9
        np.testing.assert_array_equal(found[np.isfinite(found)], clean[np.isfinite(found)])
    assert np.isposinf(smaller[...]).sum() == 9


def test_labels_beyond_2_to_the_53_stay_whole() -> None:
    labels = np.array([2**63 + 1, 2**60 + 1, 5], "uint64")
    assert ResizedSource(labels, (6,))[...].tolist() == np.repeat(labels, 2).tolist()


@pytest.mark.parametrize(
    ("dtype", "top"), [("int64", 2**63 - 1), ("uint64", 2**64 - 1), ("int32", 2**31 - 1)]
)
def test_overshoot_is_clipped(dtype: str, top: int) -> None:
    step = np.array([np.iinfo(dtype).min] * 8 + [top] * 8, dtype)
    resized = ResizedSource(step, (64,), 3)[...]
    assert resized.min() == np.iinfo(dtype).min
    assert resized.max() == top


def test_an_axis_that_keeps_its_extent_is_not_touched() -> None:
    array = textured((4, 6), "float32")
    array[0, 0] = np.nan
    np.testing.assert_array_equal(ResizedSource(array, (4, 6), 3)[...], array)
    assert np.isnan(ResizedSource(array, (4, 3), 1)[...]).sum() == 1


def test_reads_only_the_region_and_its_halo() -> None:
    source = ChunkedSource(textured((100, 100), "uint8"))
    ResizedSource(source, (50, 50), 1)[10:20, 5]
    ResizedSource(source, (50, 50), 3)[20:21, 40:41]
    assert source.reads == [Box((20, 10), (40, 12)), Box((25, 65), (57, 97))]


def test_chunks_that_neighbours_share_are_kept_during_a_run() -> None:
    source = ChunkedSource(textured((40, 40), "uint8"), (8, 8))
    eye = [[1, 0, 0], [0, 1, 0]]
    for wrapper, kept in (
        (ResizedSource(source, (20, 20)), 5),
        (ResizedSource(source, (20, 20), 1), parts.OVERLAP_BYTES),
        (ResizedSource(source, (20, 20), 0, True), parts.OVERLAP_BYTES),
        (AffineSource(source, affine_matrix=eye, order=1), parts.OVERLAP_BYTES),
    ):
        assert wrapper.for_run(3, 5).inputs[0].tuned == (3, kept)
    assert ResizedSource(source, (20, 20), 1).for_run(3, 2**40).inputs[0].tuned == (3, 2**40)


def test_metadata_follow() -> None:
    image = ChunkedSource(np.zeros((3, 8, 12)), (1, 4, 6), ZYX)
    resized = ResizedSource(image, (3, 4, 24))
    assert resized.metadata.voxel_size == (1.0, 1.0, 0.125)
    assert resized.metadata.origin == (0.0, 10.25, 19.9375)
    assert resized.metadata.channel_names == ("red", "green", "blue")
    assert resized.chunks == (1, 4, 12)
    assert ResizedSource(image, (1, 8, 12)).metadata.channel_names is None


def test_empty_axes() -> None:
    assert ResizedSource(np.zeros((0, 4), "uint8"), (0, 2), 3)[...].shape == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (((4,),), "one extent per axis"),
        ((4,), "one extent per axis"),
        (((4, -1),), "axis 1 must be 0 or more"),
        (((4, 2.5),), "must be an integer"),
        (((4, 0),), "axis 1 of 6 voxels cannot be resized to 0"),
        (((4, 4), 6), "order must be 0 to 5, got 6"),
        (((4, 4), -1), "0 or more"),
        (((4, 4), "cubic"), "integer"),
        (((4, 4), 1, "yes"), "anti_aliasing must be True or False"),
    ],
)
def test_refuses(arguments: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        ResizedSource(np.zeros((4, 6)), *arguments)
