"""Pyramids: each level is the reduction of the one before as it is stored, whatever blocks, workers and roads."""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings, strategies as st

import bioimage_py as bp
from bioimage_py.errors import (
    BioimagePyWarning,
    CastingError,
    InvalidArgumentError,
    OutputExistsError,
    RunnerError,
)
from bioimage_py.runner import RunnerConfig
from bioimage_py.sources import create_output
from bioimage_py.sources.ome_zarr import create_ome_zarr
from bioimage_py.wrapper import SimpleTransformationSource, ThresholdSource
from bioimage_py.wrapper.shape import RoiSource
from tests.counting import CountingSource
from tests.sources.contract import textured
from tests.wrapper.test_reduced import REFERENCES, of_windows

SHAPE = (37, 50, 41)
CHUNKS = (8, 8, 8)
DTYPES = ("bool", "uint8", "int16", "uint16", "uint32", "uint64")


def files(folder: Path) -> dict[str, bytes]:
    """What is stored, the name of the image and what is kept beside the arrays aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent != folder and ".bioimage-py" not in path.parts
    }


def check_levels(made: list[Any], full: np.ndarray, steps: list[Any], method: str) -> None:
    """Compare with plain Python, window by window, level by level."""
    expected = full
    np.testing.assert_array_equal(made[0][...], full)
    assert len(made) == len(steps) + 1
    for level, step in zip(made[1:], steps, strict=True):
        expected = of_windows(expected, step, REFERENCES[method])
        np.testing.assert_array_equal(level[...], expected)


@st.composite
def images(draw: st.DrawFn) -> tuple[np.ndarray, list[tuple[int, ...]], tuple[int, ...], tuple[int, ...]]:
    ndim = draw(st.integers(2, 3))
    shape = draw(st.tuples(*[st.integers(1, 20 if ndim == 3 else 40)] * ndim))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    most = draw(st.sampled_from((2, 4, 2**40)))
    image = rng.integers(0, most, shape, dtype="uint64").astype(dtype)
    steps: list[tuple[int, ...]] = []
    left = shape
    while len(steps) < 3 and max(left) > 1:
        step = draw(st.tuples(*[st.integers(1, min(3, n)) for n in left]))
        if max(step) == 1:
            break
        steps.append(step)
        left = tuple(-(-n // f) for n, f in zip(left, step, strict=True))
    chunks = draw(st.tuples(*[st.integers(1, 6)] * ndim))
    block = tuple(c * draw(st.integers(1, 6)) for c in chunks)
    return image, steps, chunks, block


@settings(max_examples=6, deadline=None)
@pytest.mark.parametrize("method", REFERENCES)
@given(images(), st.sampled_from((2, 3)))
def test_every_level_is_what_plain_python_makes_of_the_one_before(
    method: str, tmp_path_factory: pytest.TempPathFactory, given_image: Any, zarr_format: int
) -> None:
    image, steps, chunks, block = given_image
    folder = tmp_path_factory.mktemp("pyramid")
    how = {
        "scale_factors": steps,
        "method": method,
        "chunks": chunks,
        "zarr_format": zarr_format,
        "kind": "image",
    }
    made = bp.pyramid(image, folder / "a.ome.zarr", **how)
    check_levels(made, image, steps, method)
    bp.pyramid(image, folder / "b" / "a.ome.zarr", block_shape=block, num_workers=2, **how)
    assert files(folder / "a.ome.zarr") == files(folder / "b" / "a.ome.zarr")
    shutil.rmtree(folder)


@pytest.mark.parametrize("block", [None, (1, 3, 8, 16, 16)])
def test_five_axes(tmp_path: Path, block: Any) -> None:
    image = textured((2, 3, 9, 20, 17), "uint16")
    made = bp.pyramid(
        image, tmp_path / "a.ome.zarr", chunks=(1, 1, 4, 8, 8), block_shape=block, num_workers=2
    )
    check_levels(made, image, [(1, 1, 2, 2, 2)] * 2, "mean")


def test_floats_do_not_depend_on_blocks_either(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    image[:16] = -0.0
    image[20:24, 3, 5] = np.nan
    for n, block in enumerate(((8, 8, 8), (16, 16, 16), (32, 48, 64), None)):
        for method in ("mean", "median", "min"):
            out = tmp_path / method / str(n) / "a.ome.zarr"
            made = bp.pyramid(image, out, chunks=CHUNKS, method=method, block_shape=block)
            assert files(out) == files(tmp_path / method / "0" / "a.ome.zarr")
    np.testing.assert_array_equal(made[1][...], bp.downsample(image, 2, method="min"))


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """An image in Zarr v3, chunks of 8³."""
    bp.copy(textured(SHAPE, "uint16"), tmp_path / "in.zarr", chunks=CHUNKS)
    return tmp_path / "in.zarr"


@pytest.mark.parametrize("shards", [None, (16, 16, 16)])
def test_bytes_do_not_depend_on_blocks_or_workers(stored: Path, tmp_path: Path, shards: Any) -> None:
    blocks = (None, (16, 16, 16), (32, 16, 48), (48, 64, 48))
    for n, block in enumerate(blocks):
        out = tmp_path / str(n) / "a.ome.zarr"
        bp.pyramid(stored, out, shards=shards, chunks=CHUNKS, block_shape=block, num_workers=1 + n % 2)
        assert files(out) == files(tmp_path / "0" / "a.ome.zarr")
    made = [bp.open_source(out, str(n)) for n in range(4)]
    check_levels(made, textured(SHAPE, "uint16"), [(2, 2, 2)] * 3, "mean")
    assert made[3].shards == shards


def test_the_input_is_read_once(tmp_path: Path) -> None:
    image = textured(SHAPE, "uint16")
    for n, block in enumerate(((8, 8, 8), (16, 24, 32), None)):
        source = CountingSource(image, chunks=CHUNKS)
        bp.pyramid(source, tmp_path / f"{n}.ome.zarr", chunks=CHUNKS, block_shape=block, num_workers=2)
        times = np.zeros(SHAPE, int)
        for box in source.reads:
            times[box.slices] += 1
        assert (times == 1).all()


def test_no_level_is_made_from_full_size_where_chunks_allow(tmp_path: Path) -> None:
    found = bp.pyramid_plan(np.zeros((300,) * 3, "uint16"), tmp_path / "a.ome.zarr", chunks=(32,) * 3)
    assert found.parts[0].reads is None
    assert all(part.reads for part in found.parts[1:])


def test_encoded_chunks_of_the_input_are_moved(stored: Path, tmp_path: Path) -> None:
    bp.pyramid(stored, tmp_path / "a.ome.zarr")
    copied = files(stored)
    assert {
        name: data for name, data in files(tmp_path / "a.ome.zarr" / "0").items() if name != "zarr.json"
    } == copied
    part = RoiSource(bp.open_source(stored), (slice(8, 30), slice(0, 50), slice(3, 41)))
    made = bp.pyramid(part, tmp_path / "b.ome.zarr")
    check_levels(made, textured(SHAPE, "uint16")[8:30, :, 3:], [(2, 2, 2)] * 3, "mean")


def test_wrappers_and_casts(stored: Path, tmp_path: Path) -> None:
    image = textured(SHAPE, "uint16")
    made = bp.pyramid(ThresholdSource(stored, 1000), tmp_path / "a.ome.zarr", chunks=CHUNKS)
    check_levels(made, image > 1000, [(2, 2, 2)] * 3, "mode")
    with pytest.warns(BioimagePyWarning, match="cannot hold all their values"):
        made = bp.pyramid(stored, tmp_path / "b.ome.zarr", dtype="uint8", chunks=CHUNKS)
    # Levels are made of what is stored, not of what was read.
    check_levels(made, image.astype("uint8"), [(2, 2, 2)] * 3, "mean")
    with pytest.raises(RunnerError) as failed:
        bp.pyramid(stored, tmp_path / "c.ome.zarr", dtype="uint8", casting="check")
    assert isinstance(failed.value.__cause__, CastingError)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("method", ["mean", "stride"])
def test_scale_and_translation(tmp_path: Path, zarr_format: int, method: str) -> None:
    out = tmp_path / "a.ome.zarr"
    image = np.zeros((2, 20, 64, 64), "uint8")
    bp.pyramid(
        image, out, chunks=(1, 16, 16, 16), axes="czyx", voxel_size=(2, 0.5, 0.5), units="um",
        method=method, zarr_format=zarr_format,
    )  # fmt: skip
    levels = [bp.open_source(out, str(n)) for n in range(4)]
    assert [level.shape[1:] for level in levels] == [(20, 64, 64), (20, 32, 32), (20, 16, 16), (10, 8, 8)]
    assert [level.metadata.voxel_size for level in levels] == [
        (1.0, 2.0, 0.5, 0.5), (1.0, 2.0, 1.0, 1.0), (1.0, 2.0, 2.0, 2.0), (1.0, 4.0, 4.0, 4.0),
    ]  # fmt: skip
    places = [level.metadata.origin for level in levels]
    if method == "stride":
        assert places == [None] * 4
    else:
        assert places == [None, (0, 0, 0.25, 0.25), (0, 0, 0.75, 0.75), (0, 1, 1.75, 1.75)]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_it_is_valid_and_ome_zarr_py_reads_it(tmp_path: Path, zarr_format: int) -> None:
    out = tmp_path / "a.ome.zarr"
    image = textured(SHAPE, "uint16")
    bp.pyramid(image, out, chunks=CHUNKS, voxel_size=(1, 0.5, 0.5), units="um", zarr_format=zarr_format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of those libraries, about themselves
        models = pytest.importorskip({2: "ome_zarr_models.v04", 3: "ome_zarr_models.v05"}[zarr_format])
        import zarr
        from ome_zarr.io import parse_url
        from ome_zarr.reader import Reader

        valid = models.Image.from_zarr(zarr.open_group(out, mode="r"))
        location = parse_url(str(out))
        assert location is not None
        pixels = next(iter(Reader(location)()))
    about = getattr(valid.attributes, "ome", valid.attributes)
    assert len(about.multiscales[0].datasets) == 5
    shapes = [(37, 50, 41), (37, 25, 21), (19, 13, 11), (10, 7, 6), (5, 4, 3)]
    assert [level.shape for level in pixels.data] == shapes
    scales = [steps[0]["scale"] for steps in pixels.metadata["coordinateTransformations"]]
    assert scales == [[1, 0.5, 0.5], [1, 1, 1], [2, 2, 2], [4, 4, 4], [8, 8, 8]]
    np.testing.assert_array_equal(pixels.data[0], image)


def test_labels(tmp_path: Path) -> None:
    image = textured(SHAPE, "uint16")
    out = tmp_path / "a.ome.zarr"
    bp.pyramid(image, out, chunks=CHUNKS, voxel_size=0.5, units="um")
    cells = (image % 5).astype("uint8")
    made = bp.pyramid(cells, out / "labels" / "cells", chunks=CHUNKS)
    check_levels(made, cells, [(2, 2, 2)] * 3, "mode")
    assert made[2].metadata.voxel_size == (2, 2, 2)
    with pytest.warns(BioimagePyWarning, match="method='mean' mixes the numbers of labels"):
        bp.pyramid(image.astype("uint32"), tmp_path / "b.ome.zarr", method="mean")


@pytest.mark.parametrize("how", ["new", "added"])
@pytest.mark.parametrize("shape", [(24, 100, 101), (9, 64, 65)])
def test_labels_get_the_levels_of_their_image(tmp_path: Path, shape: tuple[int, ...], how: str) -> None:
    image = np.stack([textured(shape, "uint16")] * 2)
    out = tmp_path / "a.ome.zarr"
    bp.pyramid(image, out, axes="czyx", scale_factors=[(1, 1, 2, 2), (1, 2, 2, 2), (1, 3, 5, 4)])
    wanted = [level.shape[1:] for level in bp.pyramid(image, tmp_path / "b.ome.zarr", axes="czyx", scale_factors=[(1, 1, 2, 2), (1, 2, 2, 2), (1, 3, 5, 4)])]  # fmt: skip
    cells = (image[0] % 5).astype("uint8")
    if how == "new":
        made = bp.pyramid(cells, out / "labels/cells", chunks=shape)
    else:
        with pytest.warns(BioimagePyWarning, match="gets 1 level"):
            bp.copy(cells, out / "labels/cells")
        made = bp.pyramid(out / "labels/cells")
    assert [level.shape for level in made] == wanted
    check_levels(made, cells, [(1, 2, 2), (2, 2, 2), (3, 5, 4)], "mode")
    # Labels of a coarser level get those from there on; levels that are asked for are made.
    with pytest.warns(BioimagePyWarning, match="but the image has 4"):
        coarse = bp.pyramid(np.asarray(made[1][...]), out / "labels/coarse")
    assert [level.shape for level in coarse] == wanted[1:]
    with pytest.warns(BioimagePyWarning, match="but the image has"):
        asked = bp.pyramid(cells, out / "labels/asked", scale_factors=[2])
    assert [level.shape for level in asked] == [shape, tuple(-(-n // 2) for n in shape)]


def test_labels_of_levels_that_no_whole_windows_give(tmp_path: Path) -> None:
    """Other programs round down."""
    image = create_ome_zarr(tmp_path / "a.ome.zarr", shape=(5, 64, 65), dtype="u2", levels=[(1, 2, 2)])
    assert image[1].shape == (5, 32, 33)
    zarr.create_array(tmp_path / "a.ome.zarr/1", shape=(5, 32, 32), dtype="u2", overwrite=True)
    with pytest.warns(BioimagePyWarning, match=r"the image has the shapes \(5, 64, 65\), \(5, 32, 32\)"):
        bp.pyramid(np.ones((5, 64, 65), "u1"), tmp_path / "a.ome.zarr/labels/cells", levels=2)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_levels_are_added_to_an_image_that_is_there(tmp_path: Path, zarr_format: int) -> None:
    image = textured(SHAPE, "uint16")
    out, new = tmp_path / "a.ome.zarr", tmp_path / "b" / "a.ome.zarr"
    how = {"chunks": CHUNKS, "voxel_size": (1, 0.5, 0.5), "zarr_format": zarr_format}
    bp.copy(image, out, **how)
    before = files(out)
    about = out / ("zarr.json" if zarr_format == 3 else ".zattrs")
    stored = json.loads(about.read_text())
    (stored["attributes"] if zarr_format == 3 else stored)["sample"] = "leaf"
    about.write_text(json.dumps(stored))
    made = bp.pyramid(out, levels=4, job_type="subprocess", job_config=RunnerConfig(tmp_root=tmp_path))
    assert {name: data for name, data in files(out).items() if name in before} == before
    whole = bp.pyramid(image, new, levels=4, **how)
    assert files(out) == files(new)
    assert [level.metadata.voxel_size for level in made] == [level.metadata.voxel_size for level in whole]
    again = [bp.open_source(out, str(n)).metadata for n in range(4)]
    assert [level.origin for level in again] == [level.metadata.origin for level in whole]
    assert all(level.attributes["sample"] == "leaf" for level in again)
    with pytest.raises(
        OutputExistsError, match=r"has 3 smaller levels already\. To make them again, give overwrite=True"
    ):
        bp.pyramid(out)
    assert len(bp.pyramid(out, overwrite=True, levels=2, method="stride")) == 2
    assert not (out / "2").exists()
    assert bp.open_source(out, "1").metadata.origin is None
    np.testing.assert_array_equal(bp.open_source(out, "1")[...], image[:, ::2, ::2])


def test_levels_are_named_as_the_first_one_is(tmp_path: Path) -> None:
    import zarr

    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    array = group.create_array("s0", shape=(20, 20), dtype="uint8", chunks=(8, 8))
    array[...] = textured((20, 20), "uint8")
    placed = [{"type": "scale", "scale": [2.0, 2.0]}, {"type": "translation", "translation": [5.0, 0.0]}]
    image = {
        "axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}],
        "datasets": [{"path": "s0", "coordinateTransformations": placed}],
        "coordinateTransformations": [{"type": "scale", "scale": [10.0, 10.0]}],
    }
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    made = bp.pyramid(tmp_path / "a.zarr")
    assert [level.key for level in made] == ["s0", "s1", "s2"]
    assert made[1].metadata.voxel_size == (40, 40)
    assert made[1].metadata.origin == (60, 10)
    check_levels(made, array[...], [(2, 2)] * 2, "mean")
    with pytest.raises(InvalidArgumentError, match="is level 1 of its image"):
        bp.pyramid(tmp_path / "a.zarr" / "s1")


def test_what_a_crash_left_is_replaced_and_another_image_is_not(tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    bp.copy(textured(SHAPE, "uint16"), out, chunks=CHUNKS)
    create_output(tmp_path / "a.ome.zarr" / "1", shape=(3, 3), dtype="uint8")
    with pytest.raises(OutputExistsError):
        bp.pyramid(out)
    with pytest.raises(InvalidArgumentError, match="overwrite must be True or False, got 'no'"):
        bp.pyramid(out, overwrite="no")
    assert len(bp.pyramid(out, overwrite=True)) == 4
    about = json.loads((out / "zarr.json").read_text())
    images = about["attributes"]["ome"]["multiscales"]
    images.append({**images[0], "datasets": images[0]["datasets"][1:2]})
    (out / "zarr.json").write_text(json.dumps(about))
    before = files(tmp_path)
    with pytest.raises(InvalidArgumentError, match="has 2 images, and 1 would be part of two of them"):
        bp.pyramid(out, overwrite=True)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "is not the full-size level of an OME-Zarr image"),
        ({"chunks": (4, 4, 4)}, "for a new output only"),
    ],
)
def test_only_an_ome_zarr_grows(stored: Path, options: Any, message: str) -> None:
    before = files(stored.parent)
    with pytest.raises(InvalidArgumentError, match=message):
        bp.pyramid(stored, **options)
    with pytest.raises(InvalidArgumentError, match="is not the full-size level"):
        bp.pyramid(np.zeros((4, 4)))
    assert files(stored.parent) == before


def test_nothing_stays_of_levels_that_could_not_be_begun(tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    bp.copy(textured(SHAPE, "uint16"), out, chunks=CHUNKS)
    before = files(tmp_path)
    with pytest.raises(InvalidArgumentError, match="tmp_root"):
        bp.pyramid(
            out,
            job_type="subprocess",
            job_config=RunnerConfig(tmp_root=tmp_path / "a.ome.zarr" / "zarr.json"),
        )
    assert files(tmp_path) == before


class Failing:
    """Fails, or kills its process, in the block that holds a voxel of a value, until a flag is there."""

    def __init__(self, value: int, flag: Path, kill: bool) -> None:
        self.value, self.flag, self.kill = value, str(flag), kill

    def __call__(self, values: np.ndarray) -> np.ndarray:
        if (values == self.value).any() and not Path(self.flag).exists():
            if self.kill:
                os._exit(3)
            raise OSError("no light")
        return values


def counted(folder: Path) -> np.ndarray:
    image = np.arange(math.prod(SHAPE), dtype="uint32").reshape(SHAPE)
    bp.copy(image, folder / "numbers.zarr", chunks=CHUNKS)
    return image


def test_a_run_is_finished_from_its_folder(tmp_path: Path) -> None:
    image = counted(tmp_path)
    source = SimpleTransformationSource(
        bp.open_source(tmp_path / "numbers.zarr"), Failing(40_000, tmp_path / "flag", True), dtype="uint32"
    )
    how = {"chunks": CHUNKS, "kind": "image", "block_shape": (16, 16, 16)}
    config = RunnerConfig(tmp_root=tmp_path / "runs", retries=0, tasks_per_worker=1, poll_interval=0.2)
    with pytest.raises(RunnerError) as failed:
        bp.pyramid(
            source, tmp_path / "a.ome.zarr", job_type="subprocess", job_config=config, num_workers=2, **how
        )
    total = bp.pyramid_plan(image, tmp_path / "c.ome.zarr", **how)
    last = total.parts[-1].blocking.n_blocks
    # Whatever waited for it is not done either.
    assert failed.value.failed_block_ids[-last:] == list(range(total.n_blocks - last, total.n_blocks))
    assert not any((tmp_path / "a.ome.zarr" / "3").glob("c/*"))
    assert failed.value.tmp_folder is not None
    (tmp_path / "flag").touch()
    bp.resume(failed.value.tmp_folder)
    bp.pyramid(image, tmp_path / "b.ome.zarr", **how)
    assert files(tmp_path / "a.ome.zarr") == files(tmp_path / "b.ome.zarr")
    check_levels(
        [bp.open_source(tmp_path / "a.ome.zarr", str(n)) for n in range(4)], image, [(2, 2, 2)] * 3, "mean"
    )


def test_resume_from_is_the_same_call_again(tmp_path: Path) -> None:
    image = counted(tmp_path)
    source = SimpleTransformationSource(
        bp.open_source(tmp_path / "numbers.zarr"), Failing(7, tmp_path / "flag", False), dtype="uint32"
    )
    how = {"chunks": CHUNKS, "method": "max", "job_config": RunnerConfig(tmp_root=tmp_path / "runs")}
    with pytest.raises(RunnerError, match="no light") as failed:
        bp.pyramid(source, tmp_path / "a.ome.zarr", **how)
    (tmp_path / "flag").touch()
    made = bp.pyramid(source, tmp_path / "a.ome.zarr", resume_from=failed.value.tmp_folder, **how)
    check_levels(made, image, [(2, 2, 2)] * 3, "max")


def test_an_image_that_is_there_is_kept_or_replaced(stored: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    bp.pyramid(stored, out)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        bp.pyramid(stored, out)
    assert len(bp.pyramid(stored, out, levels=2, overwrite=True)) == 2
    assert sorted(path.name for path in out.iterdir()) == ["0", "1", "zarr.json"]


def test_progress_ends_with_everything(stored: Path, tmp_path: Path) -> None:
    seen: list[bp.Progress] = []
    planned = bp.pyramid_plan(stored, tmp_path / "a.ome.zarr", block_shape=(16, 16, 16))
    made = bp.pyramid(stored, tmp_path / "a.ome.zarr", block_shape=(16, 16, 16), progress=seen.append)
    assert (seen[-1].blocks_done, seen[-1].blocks_total) == (planned.n_blocks, planned.n_blocks)
    assert seen[-1].bytes_done == planned.bytes_out == sum(level.nbytes for level in made)


@pytest.mark.parametrize("shape", [(0, 8, 8), (1, 1), (1, 9)])
def test_little_ones(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.ones(shape, "uint8")
    made = bp.pyramid(image, tmp_path / "a.ome.zarr", chunks=(4,) * len(shape))
    np.testing.assert_array_equal(made[0][...], image)
    assert made[-1].shape[-1] <= 4 or 0 in shape


@pytest.fixture
def nothing_written(tmp_path: Path) -> Iterator[Path]:
    """A folder that must stay empty."""
    folder = tmp_path / "empty"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, "levels must be 1 or more, got 0"),
        ({"scale_factors": [0]}, "must be 1 or more, got 0"),
        ({"scale_factors": [-1]}, "must be 1 or more, got -1"),
        ({"scale_factors": [99]}, "the factor 99 of axis 0 is larger than the axis"),
        ({"scale_factors": [(2, 2)]}, "got 2 for 3 axes"),
        ({"method": "average"}, "method must be one of mean, median, mode, min, max, stride, got 'average'"),
        ({"method": None}, "method must be one of"),
        ({"kind": "photo"}, "kind must be one of labels, image, got 'photo'"),
        ({"block_shape": (9, 8, 8)}, "not a multiple of the output's chunks"),
        ({"axes": "zqp"}, "cannot describe the axes"),
        ({"job_type": "cloud"}, "job_type must be one of"),
        ({"num_workers": 0}, "num_workers must be a positive integer"),
        ({"memory_limit": "1KiB"}, "is too small"),
        ({"job_type": "subprocess"}, "held in memory"),
        ({"dtype": "complex64", "method": "max"}, "have no max"),
        ({"progress": 3}, "progress must be True, False or a function"),
    ],
    ids=str,
)
def test_bad_input_is_one_clear_error(nothing_written: Path, options: Any, message: str) -> None:
    image = np.zeros(SHAPE, "uint8")
    with pytest.raises(InvalidArgumentError, match=message):
        bp.pyramid(image, nothing_written / "a.ome.zarr", **{"chunks": CHUNKS, **options})


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("a.zarr", "is not a place for a pyramid: give a path that ends in .ome.zarr"),
        ("a.ome.zarr/raw", "is not a place for a pyramid"),
        ("a.h5", "is not a place for a pyramid"),
    ],
)
def test_other_places_are_refused(nothing_written: Path, output: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        bp.pyramid(np.zeros(SHAPE, "uint8"), nothing_written / output)


def test_the_input_is_not_overwritten(tmp_path: Path) -> None:
    bp.pyramid(textured(SHAPE, "uint16"), tmp_path / "a.ome.zarr", chunks=CHUNKS)
    before = files(tmp_path)
    with pytest.raises(InvalidArgumentError, match="are the same array"):
        bp.pyramid(tmp_path / "a.ome.zarr", tmp_path / "a.ome.zarr", overwrite=True)
    with pytest.raises(InvalidArgumentError, match="is a level of the image"):
        bp.pyramid(tmp_path / "a.ome.zarr" / "1", tmp_path / "a.ome.zarr", overwrite=True)
    with pytest.raises(InvalidArgumentError, match="is a level of the image"):
        bp.copy(tmp_path / "a.ome.zarr" / "1", tmp_path / "a.ome.zarr", overwrite=True)
    assert files(tmp_path) == before
    with pytest.raises(InvalidArgumentError, match="is written to a path"):
        bp.pyramid(tmp_path / "a.ome.zarr", create_output(tmp_path / "b.zarr", shape=SHAPE, dtype="uint16"))
