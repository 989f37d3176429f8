"""Axes in another order or direction, single positions, joined and projected: what numpy makes of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.wrapper.resampling import ProjectionSource
from bioimage_py.wrapper.shape import (
    ConcatenateSource,
    ExpandDimsSource,
    FlipSource,
    SelectSource,
    TransposeSource,
)
from tests.sources.contract import textured
from tests.wrapper.stored import DTYPES, ZYX, ChunkedSource, arrays, check_reads, parts, saved

several = settings(max_examples=60, deadline=None)
IMAGE = np.arange(3 * 10 * 12, dtype="uint16").reshape(3, 10, 12)


@pytest.fixture
def image() -> ChunkedSource:
    return ChunkedSource(IMAGE, (1, 5, 6), ZYX)


@several
@given(st.data(), arrays())
def test_transpose_and_transpose_of_it(data: st.DataObject, array: np.ndarray) -> None:
    first, second = (tuple(data.draw(st.permutations(range(array.ndim)))) for _ in range(2))
    source = ChunkedSource(array, tuple(range(1, array.ndim + 1)))
    once = TransposeSource(source, first)
    check_reads(once, array.transpose(first), data)
    twice = TransposeSource(once, second)
    assert twice.inputs == (source,)
    assert twice.chunks == tuple(source.chunks[first[axis]] for axis in second)
    check_reads(twice, array.transpose(first).transpose(second), data)
    check_reads(TransposeSource(array), array.T, data)


@several
@given(st.data(), arrays())
def test_flip_and_flip_of_it(data: st.DataObject, array: np.ndarray) -> None:
    axes = st.lists(st.integers(0, array.ndim - 1), unique=True).map(tuple)
    first, second = data.draw(axes), data.draw(axes)
    once = FlipSource(array, first)
    check_reads(once, np.flip(array, first), data)
    twice = FlipSource(once, second)
    assert twice.inputs == once.inputs
    check_reads(twice, np.flip(np.flip(array, first), second), data)
    check_reads(FlipSource(array), np.flip(array), data)


@several
@given(st.data(), arrays(min_side=1))
def test_select_and_select_of_it(data: st.DataObject, array: np.ndarray) -> None:
    axis = data.draw(st.integers(0, array.ndim - 1))
    n = array.shape[axis]
    index = data.draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=8))
    source = ChunkedSource(array)
    several_of_them = SelectSource(source, index, axis)
    check_reads(several_of_them, array.take([i % n for i in index], axis), data)
    one = data.draw(st.integers(0, len(index) - 1))
    check_reads(SelectSource(source, index[one], axis - array.ndim), array.take(index[one] % n, axis), data)
    again = SelectSource(several_of_them, one, axis)
    assert again.inputs == (source,)
    check_reads(again, array.take(index[one] % n, axis), data)


@several
@given(st.data(), arrays(), st.integers(1, 4))
def test_concatenate(data: st.DataObject, array: np.ndarray, count: int) -> None:
    axis = data.draw(st.integers(0, array.ndim - 1))
    parts = []
    for n in range(count):
        shape = list(array.shape)
        shape[axis] = data.draw(st.integers(0, 3))
        parts.append(textured(tuple(shape), array.dtype, n))
    check_reads(ConcatenateSource([array, *parts], axis), np.concatenate([array, *parts], axis), data)


@several
@given(
    st.data(), arrays(min_side=1, dtypes=(*DTYPES, "uint64")), st.sampled_from(["max", "min", "mean", "sum"])
)
def test_projection(data: st.DataObject, array: np.ndarray, method: str) -> None:
    axis = data.draw(st.integers(0, array.ndim - 1))
    array = array // array.dtype.type(8) if array.dtype.itemsize == 8 and array.dtype.kind in "iu" else array
    source = ProjectionSource(ChunkedSource(array, (2,) * array.ndim), axis, method)
    expected = np.asarray(getattr(array, method)(axis=axis))
    whole = source[...]
    assert whole.dtype == expected.dtype.newbyteorder("=")
    rough = {"float16": 1e-2, "float32": 1e-5}.get(array.dtype.name, 1e-12)
    np.testing.assert_allclose(
        whole, expected, rtol=rough if array.dtype.kind == "f" or method == "mean" else 0, atol=rough
    )
    check_reads(source, whole, data)


def test_projection_reads_slab_by_slab(monkeypatch: pytest.MonkeyPatch) -> None:
    array = textured((40, 30, 20), "uint8")
    monkeypatch.setattr("bioimage_py.wrapper.resampling.reduced.READ_BYTES", 2000)
    monkeypatch.setattr(parts.parts_of, "__defaults__", (2000,))
    source = ChunkedSource(array, (4, 10, 10))
    np.testing.assert_array_equal(ProjectionSource(source, 0)[...], array.max(axis=0))
    assert max(read.size for read in source.reads) <= 2000
    assert all(b % c == 0 for read in source.reads for b, c in zip(read.begin, source.chunks, strict=True))


def test_axes_by_name(image: ChunkedSource) -> None:
    np.testing.assert_array_equal(TransposeSource(image, "xyc")[...], IMAGE.T)
    np.testing.assert_array_equal(
        TransposeSource(TransposeSource(image, "xyc"), "yxc")[...], IMAGE.transpose(1, 2, 0)
    )
    np.testing.assert_array_equal(FlipSource(image, "x")[...], IMAGE[..., ::-1])
    np.testing.assert_array_equal(FlipSource(image, ("c", -1))[...], IMAGE[::-1, :, ::-1])
    np.testing.assert_array_equal(SelectSource(image, "green")[...], IMAGE[1])
    np.testing.assert_array_equal(SelectSource(image, ["blue", 0])[...], IMAGE[[2, 0]])
    np.testing.assert_array_equal(ProjectionSource(image, "y", "min")[...], IMAGE.min(axis=1))
    np.testing.assert_array_equal(ConcatenateSource([image, IMAGE], "x")[...], np.concatenate([IMAGE] * 2, 2))


def test_metadata_go_with_their_axes(image: ChunkedSource) -> None:
    turned = TransposeSource(image, "xyc").metadata
    assert (turned.axes, turned.voxel_size, turned.origin) == (
        ("x", "y", "c"),
        (0.25, 0.5, 1.0),
        (20.0, 10.0, 0.0),
    )
    assert FlipSource(image, "x").metadata == ZYX
    assert FlipSource(image, "c").metadata.channel_names == ("blue", "green", "red")
    green = SelectSource(image, 1).metadata
    assert (green.axes, green.channel_names, green.origin) == (("y", "x"), None, (10.0, 20.0))
    two = SelectSource(image, [0, 2])
    assert (two.metadata.channel_names, two.chunks) == (("red", "blue"), (1, 5, 6))
    every_third = SelectSource(image, [1, 4, 7], "y").metadata
    assert (every_third.voxel_size, every_third.origin) == ((1.0, 1.5, 0.25), (0.0, 10.5, 20.0))
    uneven = SelectSource(image, [4, 1], "y").metadata
    assert (uneven.voxel_size, uneven.units) == ((1.0, 1.0, 0.25), (None, None, "micrometer"))
    assert ProjectionSource(image, "y").metadata.axes == ("c", "x")
    assert ProjectionSource(image, "c").metadata.channel_names is None
    assert ConcatenateSource([image, image], "c").metadata.channel_names == ("red", "green", "blue") * 2
    assert ConcatenateSource([image, IMAGE], "c").metadata.channel_names is None
    assert ConcatenateSource([image, IMAGE], "y").metadata.origin == ZYX.origin


def test_select_reads_only_what_is_chosen(image: ChunkedSource) -> None:
    SelectSource(image, [2, 0])[:, 1:3, 4]
    SelectSource(image, [1, 2])[0:2, 0, 0]
    assert image.reads == [Box((2, 1, 4), (3, 3, 5)), Box((0, 1, 4), (1, 3, 5)), Box((1, 0, 0), (3, 1, 1))]


def test_a_list_of_files_is_one_volume(tmp_path: Path) -> None:
    for n, plane in enumerate(IMAGE):
        saved(plane, tmp_path, f"plane{n}").close()
    planes = [ExpandDimsSource(tmp_path / f"plane{n}.npy", 0) for n in range(3)]
    with ConcatenateSource(planes) as volume:
        assert volume.name.endswith("plane0.npy) and 2 more)")
        np.testing.assert_array_equal(volume[...], IMAGE)
    with ConcatenateSource([tmp_path / "plane0.npy", tmp_path / "plane1.npy"], 1) as wide:
        assert len(wide.owned) == 2
        np.testing.assert_array_equal(wide[...], np.concatenate(list(IMAGE[:2]), 1))


def test_concatenate_folds_along_one_axis_only() -> None:
    inner = ConcatenateSource([IMAGE, IMAGE], 1)
    assert len(ConcatenateSource([inner, IMAGE], 1).inputs) == 3
    assert ConcatenateSource([inner, inner], 0).inputs == (inner, inner)


def test_concatenate_promotes_without_rounding() -> None:
    small, large = np.zeros(2, "uint8"), np.zeros(2, "int64")
    assert ConcatenateSource([small, np.zeros(2, "int8")]).dtype == "int16"
    assert ConcatenateSource([small, np.zeros(2, "float32")]).dtype == "float32"
    for other in (np.zeros(2, "uint64"), np.zeros(2, "float64")):
        with pytest.raises(InvalidArgumentError, match="no dtype holds the voxels of all sources"):
            ConcatenateSource([large, other])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: TransposeSource(IMAGE, (0, 1)), "each of the 3 axes once"),
        (lambda: TransposeSource(IMAGE, (0, 1, 1)), "each of the 3 axes once"),
        (lambda: TransposeSource(IMAGE, "zyx"), "no axis 'z': it has no names of axes; use a number"),
        (lambda: FlipSource(ChunkedSource(IMAGE, metadata=ZYX), "z"), "no axis 'z': its axes are c, y, x"),
        (lambda: FlipSource(IMAGE, 3), "axis 3 is out of bounds for 3 axes"),
        (lambda: FlipSource(IMAGE, (0, -3)), "names an axis twice"),
        (lambda: FlipSource(IMAGE, 0.5), "a number or a name, got 0.5"),
        (lambda: SelectSource(IMAGE, 3, 0), "index 3 is out of bounds for axis 0 with 3 voxels"),
        (lambda: SelectSource(IMAGE, [], 0), "empty list"),
        (lambda: SelectSource(IMAGE, [0.5], 0), "integers or names of channels, got 0.5"),
        (lambda: SelectSource(IMAGE, 0), "no axis 'c'"),
        (lambda: SelectSource(ChunkedSource(IMAGE, metadata=ZYX), "pink"), "its channels are red, green, blue"),
        (lambda: SelectSource(ChunkedSource(IMAGE, metadata=ZYX), "red", "y"), "channels are not named"),
        (lambda: ConcatenateSource([]), "at least one input"),
        (lambda: ConcatenateSource(IMAGE), "takes a list of sources, got ndarray"),
        (lambda: ConcatenateSource("a.npy"), "takes a list of sources, got str"),
        (lambda: ConcatenateSource([IMAGE, IMAGE[0]]), r"\(3, 10, 12\).*\(10, 12\)"),
        (lambda: ConcatenateSource([IMAGE, IMAGE[:, 1:]]), r"except along axis 0: .*\(3, 9, 12\)"),
        (lambda: ProjectionSource(IMAGE, 0, "median"), "one of max, min, mean, sum, got 'median'"),
        (lambda: ProjectionSource(IMAGE[:0], 0), "no voxels to project"),
        (lambda: ProjectionSource(IMAGE.astype("complex64"), 0), "no max"),
    ],
)  # fmt: skip
def test_refuses(make: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        make()


def test_metadata_without_sizes() -> None:
    image = ChunkedSource(IMAGE, metadata=ImageMetadata(axes=("t", "y", "x")))
    assert SelectSource(image, [0, 2], "t").metadata.voxel_size is None


def test_what_is_known_of_channels_goes_with_them() -> None:
    from dataclasses import replace

    from bioimage_py.metadata import ImageMetadata
    from bioimage_py.sources import as_source
    from bioimage_py.wrapper import ThresholdSource
    from bioimage_py.wrapper.resampling import ProjectionSource
    from bioimage_py.wrapper.shape import ConcatenateSource, FlipSource, PadSource, RoiSource, SelectSource

    class Coloured(RoiSource):
        @property
        def metadata(self) -> ImageMetadata:
            return known

    known = ImageMetadata(
        axes=("c", "x"),
        channel_names=("a", "b", "c"),
        channel_colors=("FF0000", "00FF00", "0000FF"),
        contrast_limits=((0.0, 1.0), (0.0, 2.0), (0.0, 3.0)),
    )
    image = Coloured(as_source(np.zeros((3, 4), "uint8")), ...)
    swapped = known.with_channels_selected((2, 1, 0))
    assert FlipSource(image, 0).metadata == swapped
    assert FlipSource(image, 1).metadata == known
    assert RoiSource(image, np.s_[1:3]).metadata.channel_colors == ("00FF00", "0000FF")
    assert SelectSource(image, [2, 0], 0).metadata.contrast_limits == ((0.0, 3.0), (0.0, 1.0))
    assert ConcatenateSource([image, image], 0).metadata.channel_colors == 2 * (known.channel_colors or ())
    assert PadSource(image, ((1, 0), (0, 0))).metadata.contrast_limits is None
    assert ProjectionSource(image, 0).metadata.channel_colors is None
    assert ThresholdSource(image, 1).metadata == replace(known, contrast_limits=None)
