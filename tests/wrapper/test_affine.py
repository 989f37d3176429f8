"""An affine view is what SciPy makes of the whole, whatever region is read."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import ndimage

from bioimage_py.errors import InvalidArgumentError, MissingDependencyError
from bioimage_py.geometry import Box
from bioimage_py.wrapper.resampling import AffineSource
from tests.sources.contract import textured
from tests.wrapper.stored import ZYX, ChunkedSource, arrays, check_reads, parts

several = settings(max_examples=80, deadline=None)
# Halves, thirds and whole numbers: coordinates on voxels, on faces between them, and on the border.
ENTRIES = st.sampled_from((-2.0, -1.0, -0.5, 0.0, 1 / 3, 0.5, 0.7, 1.0, 1.5, 2.0)) | st.floats(-3, 3)


@st.composite
def matrices(draw: st.DrawFn, ndim: int) -> np.ndarray:
    entries = draw(st.lists(ENTRIES, min_size=ndim * (ndim + 1), max_size=ndim * (ndim + 1)))
    return np.array(entries).reshape(ndim, ndim + 1)


def scipy_view(array: np.ndarray, source: AffineSource) -> np.ndarray:
    wide = array.astype("complex128" if array.dtype.kind == "c" else "float64")
    return ndimage.affine_transform(
        wide, source.matrix, output_shape=source.shape, order=source.order, cval=source.fill_value
    )


@several
@given(st.data(), arrays(min_side=1, dtypes=(">f4", "float64")), st.integers(0, 5))
def test_floats_are_those_of_scipy(data: st.DataObject, array: np.ndarray, order: int) -> None:
    shape = data.draw(st.tuples(*(st.integers(0, 8) for _ in array.shape)))
    source = AffineSource(
        array, shape, affine_matrix=data.draw(matrices(array.ndim)), order=order, fill_value=3
    )
    rough = 1e-5 if array.dtype.itemsize == 4 else 1e-6
    np.testing.assert_allclose(source[...], scipy_view(array, source), rtol=rough, atol=rough * 10)
    check_reads(source, source[...], data)


@several
@given(st.data(), arrays(min_side=1, dtypes=("bool", "uint8", ">u2", "int64", "complex64")))
def test_nearest_is_exactly_that_of_scipy(data: st.DataObject, array: np.ndarray) -> None:
    # SciPy takes voxels through float64, where larger numbers are rounded.
    small = array // 2**20 if array.dtype == "int64" else array
    source = AffineSource(small, affine_matrix=data.draw(matrices(array.ndim)), fill_value=1)
    check_reads(source, scipy_view(small, source).astype(small.dtype), data)


def test_labels_beyond_2_to_the_53_stay_whole() -> None:
    labels = np.array([[2**63 + 1, 2**60 + 1]], "uint64")
    assert (
        AffineSource(labels, (2, 1), affine_matrix=[[0, 1, 0], [1, 0, 0]])[...].tolist() == labels.T.tolist()
    )


@several
@given(st.data(), arrays(min_side=1, dtypes=("uint8", "int16")), st.integers(1, 3))
def test_integers_are_rounded_and_kept_in_range(data: st.DataObject, array: np.ndarray, order: int) -> None:
    matrix = data.draw(matrices(array.ndim))
    exact = AffineSource(array.astype("float64"), affine_matrix=matrix, order=order)[...]
    info = np.iinfo(array.dtype)
    expected = np.clip(np.rint(exact), info.min, info.max).astype(array.dtype)
    check_reads(AffineSource(array, affine_matrix=matrix, order=order), expected, data)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_parts_leave_no_seams(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    array = textured((90, 80), "uint8")
    matrix = [[0.8, -0.6, 20], [0.6, 0.8, -10]]
    whole = AffineSource(array, (200, 90), affine_matrix=matrix, order=order)[...]
    monkeypatch.setattr(parts.parts_of, "__defaults__", (30000,))
    monkeypatch.setattr("bioimage_py.wrapper.resampling.affine._CELL_VOXELS", 400)
    source = AffineSource(ChunkedSource(array), (200, 90), affine_matrix=matrix, order=order)
    np.testing.assert_array_equal(source[...], whole)
    assert len(source.inputs[0].reads) > 5


def test_reads_only_what_is_shown() -> None:
    source = ChunkedSource(textured((100, 100), "uint8"))
    view = AffineSource(source, (100, 100), affine_matrix=[[1, 0, 10], [0, 2, 0]], fill_value=5)
    view[0:5, 10:20]
    assert view[95, 7] == view[0, 99] == 5
    assert source.reads == [Box((10, 20), (16, 40))]


def test_ways_to_give_a_matrix() -> None:
    array = textured((4, 5), "uint8")
    rows = np.array([[0, 1, 0], [1, 0, 0]])
    for matrix in (rows, rows.tolist(), np.vstack([rows, [0, 0, 1]]), rows[:, :2]):
        np.testing.assert_array_equal(AffineSource(array, (5, 4), affine_matrix=matrix)[...], array.T)


def test_metadata_of_scaled_and_moved_axes() -> None:
    image = ChunkedSource(np.zeros((3, 10, 12)), (1, 5, 6), ZYX)
    scaled = AffineSource(image, (3, 4, 40), affine_matrix=[[1, 0, 0, 0], [0, 2, 0, 1], [0, 0, 0.5, 0]])
    assert (scaled.metadata.voxel_size, scaled.metadata.origin) == ((1.0, 1.0, 0.125), (0.0, 10.5, 20.0))
    assert scaled.chunks == (1, 4, 6)


def test_metadata_of_mixed_axes() -> None:
    from dataclasses import replace

    plane = replace(
        ZYX,
        axes=("y", "x"),
        voxel_size=(0.5, 0.25),
        units=("micrometer",) * 2,
        origin=None,
        channel_names=None,
    )
    image = ChunkedSource(np.zeros((10, 12)), metadata=plane)
    turned = AffineSource(image, affine_matrix=[[0, 1, 0], [-1, 0, 11]]).metadata
    assert (turned.voxel_size, turned.units, turned.origin) == ((0.25, 0.5), ("micrometer",) * 2, None)
    mixed = ChunkedSource(np.zeros((10, 12)), metadata=replace(plane, units=("micrometer", None)))
    assert AffineSource(mixed, affine_matrix=[[0, 1, 0], [-1, 0, 11]]).metadata.voxel_size is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"affine_matrix": [[1, 0]]}, r"2 × 3 or 3 × 3 for a source of 2 axes, got shape \(1, 2\)"),
        ({"affine_matrix": np.eye(4)}, r"got shape \(4, 4\)"),
        ({"affine_matrix": [[1, 0, 0], [0, np.inf, 0]]}, "must be finite"),
        ({"affine_matrix": [[1, 0, 0], [0, 1, 0], [0, 1, 1]]}, "last row"),
        ({"affine_matrix": "rotate"}, "rows of numbers"),
        ({"affine_matrix": np.eye(3), "shape": (4,)}, "2 extents"),
        ({"affine_matrix": np.eye(3), "shape": (4, -4)}, "axis 1"),
        ({"affine_matrix": np.eye(3), "order": 7}, "order must be 0 to 5"),
        ({"affine_matrix": np.eye(3), "fill_value": 300}, "300 does not fit the dtype uint8"),
        ({"affine_matrix": np.eye(3), "anti_aliasing": "yes"}, "anti_aliasing must be True or False"),
        ({}, "exactly one way: got neither"),
        ({"affine_matrix": np.eye(3), "scale": (1, 1)}, "got affine_matrix and scale"),
        ({"scale": (1, 1, 1)}, "scale must be 2 finite numbers"),
        ({"rotation": (1, 2, 3)}, "rotation must be 1 finite numbers"),
        ({"translation": "left"}, "translation must be 2 numbers"),
    ],
)
def test_refuses(arguments: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        AffineSource(np.zeros((4, 6), "uint8"), **arguments)


def test_parts_make_the_matrix_of_scikit_image() -> None:
    from skimage.transform import AffineTransform

    parts = {"scale": (2, 1.5), "rotation": 30, "shear": 20, "translation": (0.5, -3)}
    source = AffineSource(np.zeros((5, 5)), **parts)
    turned = AffineTransform(
        scale=parts["scale"], rotation=np.deg2rad(30), shear=np.deg2rad(0), translation=parts["translation"]
    )
    np.testing.assert_allclose(
        AffineSource(np.zeros((5, 5)), **{**parts, "shear": 0}).matrix, turned.params[:2]
    )
    # The second column is tilted, and keeps its length.
    np.testing.assert_allclose(np.linalg.norm(source.matrix[:, 1]), 1.5)
    np.testing.assert_allclose(source.matrix[:, 0], turned.params[:2, 0])


def test_rotations_of_three_axes_are_those_of_scipy() -> None:
    from scipy.spatial.transform import Rotation

    source = AffineSource(np.zeros((4, 4, 4)), rotation=(30, 20, 10), scale=(1, 2, 3))
    expected = Rotation.from_euler("xyz", (30, 20, 10), degrees=True).as_matrix() @ np.diag((1, 2, 3))
    np.testing.assert_allclose(source.matrix[:, :3], expected)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_anti_aliasing_smooths_axes_that_get_shorter(order: int) -> None:
    array = textured((40, 30), "float64")
    source = AffineSource(array, (10, 30), scale=(4, 1), order=order, anti_aliasing=True)
    smooth = ndimage.gaussian_filter(array, (1.5, 0), mode="mirror")
    expected = ndimage.affine_transform(smooth, source.matrix, output_shape=(10, 30), order=order)
    np.testing.assert_allclose(source[...], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(source[3:7, 5:9], source[...][3:7, 5:9])
    counts = textured((40, 30), "uint16")
    whole = AffineSource(counts, scale=(4, 4), order=order, anti_aliasing=True)
    assert whole.dtype == "uint16"
    np.testing.assert_array_equal(whole[2:5, 1:4], whole[...][2:5, 1:4])


def test_scipy_is_needed_from_order_1_on(monkeypatch: pytest.MonkeyPatch) -> None:
    image = textured((4, 4), "uint8")
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    np.testing.assert_array_equal(AffineSource(image, affine_matrix=np.eye(3))[...], image)
    with pytest.raises(MissingDependencyError, match="needs SciPy for order 1"):
        AffineSource(image, affine_matrix=np.eye(3), order=1)[...]


def test_scipy_is_not_loaded_before() -> None:
    code = "import sys, bioimage_py.wrapper, bioimage_py.downsample; print('scipy' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )
