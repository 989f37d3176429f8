"""`downsample`: a copy of a smaller source, on every road that a copy can take."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, RunnerError
from bioimage_py.metadata import ImageMetadata
from bioimage_py.runner import RunnerConfig
from bioimage_py.wrapper import ThresholdSource
from bioimage_py.wrapper.resampling import ReducedSource, ResizedSource, looks_like_labels
from tests.counting import CountingSource
from tests.runner.test_subprocess import chunk_files
from tests.wrapper.stored import ChunkedSource

METHODS = ("mean", "median", "mode", "min", "max", "stride")
INTERPOLATED = ({}, {"order": 1}, {"order": 3, "anti_aliasing": True})


def blobs(dtype: str = "uint16", shape: tuple[int, ...] = (33, 50, 41)) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(1, 200, tuple(-(-n // 5) for n in shape))
    return np.kron(coarse, np.ones((5,) * len(shape), int))[tuple(map(slice, shape))].astype(dtype)


@pytest.fixture
def config(tmp_path: Path) -> RunnerConfig:
    return RunnerConfig(tmp_root=tmp_path / "runs", retries=0, tasks_per_worker=2)


def stored(folder: Path, array: np.ndarray, name: str = "in.zarr") -> bp.Source:
    return bp.copy(array, folder / name, chunks=(16, 16, 16))


def test_signature_of_the_contract() -> None:
    parameters = inspect.signature(bp.downsample).parameters
    wanted = {
        "input": inspect.Parameter.empty, "scale_factor": inspect.Parameter.empty, "output": None, "order": 0,
        "anti_aliasing": False, "block_shape": None, "job_type": "local", "job_config": None, "num_workers": 1, "mask": None,
        "block_ids": None, "resume_from": None,
    }  # fmt: skip
    assert {name: p.default for name, p in list(parameters.items())[: len(wanted)]} == wanted
    assert list(parameters)[: len(wanted)] == list(wanted)
    copied = inspect.signature(bp.copy).parameters
    assert {name: p.default for name, p in parameters.items() if name in copied} == {
        n: p.default for n, p in copied.items() if n not in ("update", "record")
    }


def test_examples_in_docstrings() -> None:
    found = doctest.testmod(importlib.import_module(bp.downsample.__module__))
    assert found.attempted > 1
    assert found.failed == 0


@pytest.mark.parametrize("options", [*INTERPOLATED, *({"method": method} for method in METHODS)], ids=str)
def test_blocks_threads_and_processes_give_the_same_bytes(
    tmp_path: Path, config: RunnerConfig, options: Any
) -> None:
    image = blobs()
    source = stored(tmp_path, image)
    whole = bp.downsample(image, (2, 3, 2), **options)
    assert whole.shape == (17, 17, 21)
    layout = {"chunks": (8, 8, 8), "shards": (16, 16, 16)}
    local = bp.downsample(source, (2, 3, 2), tmp_path / "local.zarr", num_workers=2, **layout, **options)
    np.testing.assert_array_equal(local[...], whole)
    small = bp.downsample(image, (2, 3, 2), block_shape=(5, 6, 7), **options)
    np.testing.assert_array_equal(small, whole)
    if options in ({"method": "median"}, INTERPOLATED[-1]):
        run = {"job_type": "subprocess", "job_config": config, "num_workers": 2}
        bp.downsample(tmp_path / "in.zarr", (2, 3, 2), tmp_path / "sub.zarr", **run, **layout, **options)
        assert chunk_files(tmp_path / "local.zarr") == chunk_files(tmp_path / "sub.zarr")


def test_is_a_copy_of_a_resized_source() -> None:
    image = blobs()
    for options in INTERPOLATED:
        resized = ResizedSource(
            image, (9, 13, 11), options.get("order", 0), options.get("anti_aliasing", False)
        )
        np.testing.assert_array_equal(bp.downsample(image, 4, **options), bp.copy(resized))
    for method in METHODS:
        np.testing.assert_array_equal(
            bp.downsample(image, 4, method=method), ReducedSource(image, 4, method)[...]
        )


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool"])
def test_the_defaults_make_up_no_label(dtype: str) -> None:
    labels = blobs(dtype)
    for factor in (2, 3, (1, 5, 7)):
        assert set(np.unique(bp.downsample(labels, factor))) <= set(np.unique(labels))


def test_writes_into_the_output_given_and_returns_it(tmp_path: Path) -> None:
    image = blobs()
    out = np.zeros((17, 25, 21), "float32")
    assert bp.downsample(image, 2, out, method="max") is out
    np.testing.assert_array_equal(out, ReducedSource(image, 2, "max")[...])
    with pytest.raises(ValueError, match="one shape"):
        bp.downsample(image, 3, out)


def test_masks_of_the_small_and_of_the_full_shape() -> None:
    image = blobs()
    small = np.zeros((17, 25, 21), "uint8")
    small[3:5, 7, 2:9] = 1
    full = np.zeros(image.shape, "int8")
    full[7:9, 15, 5:18:2] = -1
    expected = np.where(small, bp.downsample(image, 2), 9)
    for mask in (small, full):
        out = np.full(small.shape, 9, image.dtype)
        bp.downsample(image, 2, out, mask=mask, block_shape=(4, 4, 4))
        np.testing.assert_array_equal(out, expected)
    with pytest.raises(ValueError, match="mask must have the input's shape"):
        bp.downsample(image, 2, mask=np.ones((3, 3, 3)))


def test_block_ids_are_those_of_the_small_array() -> None:
    image = blobs()
    out = np.zeros((17, 25, 21), "uint16")
    bp.downsample(image, 2, out, block_shape=(9, 25, 21), block_ids=[1])
    assert not out[:9].any()
    np.testing.assert_array_equal(out[9:], bp.downsample(image, 2)[9:])


def test_a_failed_run_is_finished_from_its_folder(tmp_path: Path, config: RunnerConfig) -> None:
    image = blobs("uint8", (32, 32, 32))
    stored(tmp_path, image)
    broken = tmp_path / "in.zarr" / "c" / "1" / "1" / "1"
    good = broken.read_bytes()
    broken.write_bytes(b"broken")
    call: dict[str, Any] = {
        "job_type": "subprocess",
        "job_config": config,
        "method": "mode",
        "block_shape": (8, 8, 8),
    }
    with pytest.raises(RunnerError) as failed:
        bp.downsample(tmp_path / "in.zarr", 2, tmp_path / "out.zarr", chunks=(8, 8, 8), **call)
    assert list(failed.value.failed_block_ids) == [7]
    broken.write_bytes(good)
    out = bp.downsample(
        tmp_path / "in.zarr",
        2,
        bp.open_source(tmp_path / "out.zarr", mode="r+"),
        resume_from=failed.value.tmp_folder,
        **call,
    )
    np.testing.assert_array_equal(out[...], bp.downsample(image, 2, method="mode"))


def test_each_input_chunk_is_read_once() -> None:
    source = CountingSource(blobs("uint8", (96, 96, 96)), chunks=(16, 16, 16))
    bp.downsample(source, 2, block_shape=(16, 16, 16), method="mean")
    read = np.zeros(source.shape, int)
    for box in source.reads:
        read[box.slices] += 1
        assert all(b % 16 == 0 for b in box.begin)
    assert (read == 1).all()


def test_voxel_size_and_origin_of_the_output(tmp_path: Path) -> None:
    metadata = ImageMetadata(("z", "y", "x"), (2.0, 0.5, 0.5), ("micrometer",) * 3, (10.0, 0.0, 0.0))
    image = ChunkedSource(blobs("uint8", (12, 16, 20)), metadata=metadata)
    for options in ({}, {"method": "mean"}):
        out = bp.downsample(image, (1, 2, 4), tmp_path / "out.zarr", overwrite=True, **options).metadata
        assert (out.axes, out.units) == (("z", "y", "x"), ("micrometer",) * 3)
        assert (out.voxel_size, out.origin) == ((2.0, 1.0, 2.0), (10.0, 0.25, 0.75))


def test_one_factor_leaves_channels_and_time_points_alone() -> None:
    metadata = ImageMetadata(axes=("t", "c", "y", "x"))
    image = ChunkedSource(blobs("uint8", (3, 2, 8, 9)), metadata=metadata)
    assert bp.downsample(image, 2).shape == (3, 2, 4, 5)
    assert bp.downsample(image, (2, 1, 2, 2)).shape == (2, 2, 4, 5)
    assert bp.downsample(image.array, 2).shape == (2, 1, 4, 5)


def test_arrays_without_voxels_and_without_axes() -> None:
    for options in ({}, {"method": "mode"}):
        assert bp.downsample(np.zeros((0, 5), "uint8"), 2, **options).shape == (0, 3)
        assert bp.downsample(np.array(7), 2, **options) == 7


def test_the_method_chosen_by_kind() -> None:
    for dtype, kind, method in (
        ("uint8", None, "mean"), ("float32", None, "mean"), ("uint32", None, "mode"), ("int64", None, "mode"),
        ("bool", None, "mode"), ("uint8", "labels", "mode"), ("uint32", "image", "mean"),
    ):  # fmt: skip
        image = blobs(dtype)
        np.testing.assert_array_equal(
            bp.downsample(image, 2, method="auto", kind=kind),
            ReducedSource(image, 2, method)[...],
            err_msg=f"{dtype} {kind}",
        )


def test_how_labels_are_recognised(tmp_path: Path) -> None:
    small = blobs("uint8", (8, 8, 8))
    named = [
        ("a.zarr/labels/cells", True),
        ("labels.npy", True),
        ("a.h5:/volumes/label", True),
        ("raw.npy", False),
        ("b.zarr/raw", False),
    ]
    (tmp_path / "labels").mkdir()
    named.append(("labels/raw.npy", False))
    for path, expected in named:
        bp.copy(small, tmp_path / path)
        with bp.open_source(tmp_path / path) as source:
            assert looks_like_labels(source) is expected, path
    for attributes in ({"image-label": {"version": "0.4"}}, {"ome": {"version": "0.5", "image-label": {}}}):
        assert looks_like_labels(ChunkedSource(small, metadata=ImageMetadata(attributes=attributes)))
    assert looks_like_labels(ThresholdSource(small, 3))
    assert not looks_like_labels(ChunkedSource(small))


@pytest.mark.parametrize(
    "options", [{"method": "mean"}, {"method": "median"}, {"order": 1}, {"anti_aliasing": True}], ids=str
)
def test_averaged_labels_are_warned_of(options: Any) -> None:
    labels = blobs("uint32")
    with pytest.warns(
        BioimagePyWarning, match="mixes the numbers of labels.*look like labels.*kind='image'"
    ) as warned:
        bp.downsample(labels, 2, **options)
    assert warned[0].filename == __file__
    bp.downsample(labels, 2, kind="image", **options)
    with pytest.warns(BioimagePyWarning, match="are labels"):
        bp.downsample(blobs("uint8"), 2, kind="labels", **options)
    bp.downsample(blobs("bool"), 2, **options)


@pytest.mark.parametrize(
    ("factor", "options", "says"),
    [
        (0, {}, "factor of axis 0 must be 1 or more, got 0"),
        (-2, {}, "got -2"),
        ((1, 1, 42), {}, "factor 42 of axis 2 is larger than the axis, which has 41 voxels"),
        ((2, 2), {}, "got 2 for 3 axes"),
        (1.5, {}, "must be an integer, got 1.5"),
        (True, {}, "must be an integer"),
        ("2", {}, "must be an integer"),
        (None, {}, "must be an integer"),
        (2, {"order": 6}, "order must be 0 to 5"),
        (2, {"method": "average"}, "method must be one of mean, median"),
        (2, {"method": "mean", "order": 1}, "belong to interpolation"),
        (2, {"method": "mode", "anti_aliasing": True}, "belong to interpolation"),
        (2, {"kind": "mask"}, "kind must be one of labels, image"),
        (2, {"method": "auto", "kind": "mask"}, "kind must be one of labels, image"),
    ],
)
def test_refuses(factor: Any, options: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        bp.downsample(blobs(), factor, tmp_path / "out.zarr", **options)
    assert not list(tmp_path.iterdir())
