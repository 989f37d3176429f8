"""What `copy` promises, row by row of its contract; the refusals to copy in place are in test_copy_in_place.py."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import z5py
import zarr

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning, CastingError, InvalidArgumentError, RunnerError
from bioimage_py.geometry import Box
from bioimage_py.wrapper import ThresholdSource
from bioimage_py.wrapper.shape import ExpandDimsSource, PadSource, RoiSource
from tests.counting import CountingSource
from tests.sources.contract import textured


@pytest.fixture
def image() -> np.ndarray:
    return textured((12, 20, 18), "uint16")


def fill(shape: tuple[int, ...], dtype: Any = "uint16", value: Any = 7) -> np.ndarray:
    return np.full(shape, value, dtype)


# ---------------------------------------------------------------------------------------------------- what is returned


def test_the_name_stays_the_function() -> None:
    module = importlib.import_module("bioimage_py.copy")
    from bioimage_py.copy import copy

    assert bp.copy is copy
    assert module.copy is copy


def test_returns_the_very_array(image: np.ndarray) -> None:
    out = np.zeros_like(image)
    assert bp.copy(image, out) is out
    np.testing.assert_array_equal(out, image)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_returns_the_very_zarr_array(image: np.ndarray, tmp_path: Path, zarr_format: int) -> None:
    out = zarr.create_array(
        tmp_path / "o.zarr", shape=image.shape, dtype=image.dtype, chunks=(4, 8, 8), zarr_format=zarr_format
    )
    assert bp.copy(image, out) is out
    np.testing.assert_array_equal(out[...], image)


def test_returns_the_very_zarr_array_in_memory(image: np.ndarray) -> None:
    out = zarr.create_array(
        zarr.storage.MemoryStore(), shape=image.shape, dtype=image.dtype, chunks=(4, 8, 8)
    )
    assert bp.copy(image, out, num_workers=2) is out
    np.testing.assert_array_equal(out[...], image)


def test_returns_the_very_h5py_dataset(image: np.ndarray, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "o.h5", "w") as file:
        out = file.create_dataset("a", shape=image.shape, dtype=image.dtype, chunks=(4, 8, 8))
        assert bp.copy(image, out, num_workers=2) is out
        np.testing.assert_array_equal(out[...], image)


def test_returns_the_very_z5py_dataset(image: np.ndarray, tmp_path: Path) -> None:
    with z5py.File(str(tmp_path / "o.n5"), "w") as file:
        out = file.create_dataset(
            "a", shape=image.shape, dtype=image.dtype, chunks=(4, 8, 8), compression="gzip"
        )
        assert bp.copy(image, out, num_workers=2) is out
        np.testing.assert_array_equal(out[...], image)


def test_returns_the_very_source(image: np.ndarray, tmp_path: Path) -> None:
    with bp.create_output(tmp_path / "o.zarr", like=image) as out:
        assert bp.copy(image, out) is out
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "o.zarr", mode="r")[...], image)


@pytest.mark.parametrize("dtype", ["uint8", ">i4", "bool", "float16", "complex64"])
def test_makes_a_numpy_array_where_no_output_is_given(dtype: str) -> None:
    array = textured((5, 6), dtype)
    out = bp.copy(array)
    assert type(out) is np.ndarray
    assert (out.dtype, out.shape) == (array.dtype, array.shape)
    assert not np.shares_memory(out, array)
    np.testing.assert_array_equal(out, array)


def test_voxels_that_are_not_copied_into_a_new_array_are_zero(image: np.ndarray) -> None:
    mask = np.zeros(image.shape, bool)
    mask[3:5] = True
    np.testing.assert_array_equal(
        bp.copy(image, mask=mask, block_shape=(4, 20, 18)), np.where(mask, image, 0)
    )
    out = bp.copy(image, block_shape=(4, 20, 18), block_ids=[1])
    assert not out[:4].any()
    assert not out[8:].any()
    np.testing.assert_array_equal(out[4:8], image[4:8])


@pytest.mark.parametrize("name", ["o.zarr", "o.zarr/g/raw", "o.n5/raw", "o.h5:/g/raw", "o.h5", "o.npy"])
@pytest.mark.parametrize("workers", [1, 3])
def test_makes_what_a_path_names(image: np.ndarray, tmp_path: Path, name: str, workers: int) -> None:
    out = bp.copy(image, f"{tmp_path}/{name}", num_workers=workers)
    assert isinstance(out, bp.Source)
    assert out.writable
    np.testing.assert_array_equal(out[...], image)
    # Whoever opens it now, in this process or another, sees all of it.
    with bp.open_source(f"{tmp_path}/{name}") as again:
        assert not again.writable
        np.testing.assert_array_equal(again[...], image)
    out.close()


def test_an_output_that_is_there_is_not_touched(image: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "o.zarr"
    bp.copy(image, path).close()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        bp.copy(image + 1, path)
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], image)
    bp.copy(image + 1, path, overwrite=True).close()
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], image + 1)


def test_options_of_a_new_array_are_refused_for_an_array_that_is_there(image: np.ndarray) -> None:
    out = fill(image.shape)
    with pytest.raises(ValueError, match="codec"):
        bp.copy(image, out, codec="gzip")
    assert (out == 7).all()


# ------------------------------------------------------------------------------------------------------ input, wrappers


def test_a_new_numpy_array_has_the_dtype_that_is_given(image: np.ndarray) -> None:
    made = bp.copy(image, dtype="float32")
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, image)
    mask = np.zeros(image.shape, bool)
    assert bp.copy(image, mask=mask, dtype="int32", fill_value=-1).max() == -1
    assert bp.downsample(image, 2, dtype="float64").dtype == np.float64
    with pytest.raises(InvalidArgumentError, match="dtype"):
        bp.copy(image, dtype="S4")


def test_takes_shape_and_dtype_from_a_wrapper(image: np.ndarray, tmp_path: Path) -> None:
    stored = bp.copy(image, tmp_path / "i.zarr")
    wrapper = ExpandDimsSource(ThresholdSource(RoiSource(stored, np.s_[2:9, 3:17, 1:18]), 30_000), 0)
    expected = (image[2:9, 3:17, 1:18] > 30_000)[None]
    out = bp.copy(wrapper)
    assert out.dtype == bool
    np.testing.assert_array_equal(out, expected)
    made = bp.copy(
        wrapper, tmp_path / "o.zarr", num_workers=2, block_shape=(1, 4, 16, 32), chunks=(1, 4, 8, 16)
    )
    assert (made.shape, made.dtype) == (expected.shape, np.dtype(bool))
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "o.zarr", mode="r")[...], expected)
    padded = PadSource(stored, ((1, 2), (0, 3), (4, 0)))
    np.testing.assert_array_equal(bp.copy(padded), np.pad(image, ((1, 2), (0, 3), (4, 0))))


def test_shapes_must_agree(image: np.ndarray) -> None:
    out = fill((12, 20, 17))
    with pytest.raises(ValueError, match=r"\(12, 20, 18\).*\(12, 20, 17\)"):
        bp.copy(image, out)
    assert (out == 7).all()


@pytest.mark.parametrize(
    "shape", [(), (1,), (0,), (5, 0, 3), (0, 0), (3, 4), (2, 3, 4, 5), (2, 1, 3, 2, 4), (2, 1, 2, 3, 2, 2)]
)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", [None, "o.zarr", "o.n5/a", "o.h5", "o.npy"])
def test_every_number_of_axes_and_empty_ones(
    shape: tuple[int, ...], workers: int, name: str | None, tmp_path: Path
) -> None:
    array = textured(shape, "float32")
    out = bp.copy(array, None if name is None else tmp_path / name, num_workers=workers)
    assert out.shape == shape
    np.testing.assert_array_equal(np.asarray(out[...]), array)
    result = bp.verify(array, out)
    assert result.equal
    assert result.compared == array.size
    if name is not None:
        out.close()


@pytest.mark.parametrize("shape", [(), (4, 5)])
def test_masks_without_axes_too(shape: tuple[int, ...]) -> None:
    array = textured(shape, "int32")
    for value in (True, False):
        out = fill(shape, "int32")
        bp.copy(array, out, mask=np.full(shape, value), block_shape=shape or None)
        np.testing.assert_array_equal(out, array if value else fill(shape, "int32"))


def test_no_chunk_of_four_and_five_axes_is_dropped(tmp_path: Path) -> None:
    """TensorStore took chunks cut from strided memory for empty ones."""
    for shape, chunks in (((20, 30, 30, 30), (8, 16, 16, 16)), ((2, 6, 7, 8, 9), (1, 2, 4, 4, 4))):
        array = np.random.default_rng(0).integers(1, 100, shape).astype("uint8")
        for zarr_format in (2, 3):
            path = tmp_path / f"{len(shape)}{zarr_format}.zarr"
            bp.copy(array, path, chunks=chunks, zarr_format=zarr_format, codec="none").close()
            np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], array)


# ---------------------------------------------------------------------------------------------------------------- casts


def test_the_output_dtype_governs_with_one_warning() -> None:
    array = np.array([-1, 300, 5, 2**40], "int64")
    out = np.zeros(4, "uint8")
    with pytest.warns(BioimagePyWarning, match="int64.*uint8.*cannot hold") as caught:
        bp.copy(array, out, block_shape=(1,), num_workers=2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(out, array.astype("uint8"))


def test_no_warning_where_values_survive() -> None:
    np.testing.assert_array_equal(bp.copy(np.arange(5, dtype="uint8"), np.zeros(5, "float32")), np.arange(5))


def test_complex_into_real_warns_of_nothing_but_the_cast() -> None:
    array = np.arange(4000) * (1 + 2j)
    out = np.zeros(4000, "float32")
    with pytest.warns(BioimagePyWarning) as caught:
        bp.copy(array, out, block_shape=(10,), num_workers=4)
    assert len(caught) == 1
    np.testing.assert_array_equal(out, np.arange(4000))


@pytest.mark.parametrize(
    ("casting", "dtype"), [("safe", "int8"), ("safe", "float32"), ("same_kind", "uint8")]
)
def test_casting_rules_refuse_before_anything_is_written(casting: Any, dtype: str, tmp_path: Path) -> None:
    array = np.arange(10, dtype="int32")
    with pytest.raises(CastingError, match=f"{casting}.*int32.*{dtype}"):
        bp.copy(array, fill((10,), dtype), casting=casting)
    with pytest.raises(ValueError, match="casting must be one of unsafe, same_kind, safe, check"):
        bp.copy(array, tmp_path / "o.zarr", casting="maybe")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_same_kind_allows_what_numpy_does() -> None:
    array = np.arange(10, dtype="int32")
    np.testing.assert_array_equal(bp.copy(array, np.zeros(10, "int8"), casting="same_kind"), array)


@pytest.mark.parametrize("workers", [1, 2])
def test_check_finds_the_voxel_that_would_change(workers: int) -> None:
    array = np.zeros((6, 5), "int16")
    array[4, 2] = -1
    out = fill((6, 5), "uint16")
    with pytest.raises(RunnerError, match=r"voxel \(4, 2\) is -1 as int16 and would become 65535") as caught:
        bp.copy(array, out, casting="check", block_shape=(2, 5), num_workers=workers)
    assert caught.value.failed_block_ids == [2]
    assert isinstance(caught.value.__cause__, CastingError)
    assert (out[4:] == 7).all()
    array[4, 2] = 3
    np.testing.assert_array_equal(bp.copy(array, out, casting="check"), array)


# ------------------------------------------------------------------------------------------------- blocks, chunks, shards


@pytest.mark.parametrize("block_shape", [(3, 8, 8), (4, 8, 9), (4, 12, 8), (2, 8, 8)])
def test_blocks_that_cut_chunks_are_refused_before_anything_is_written(
    image: np.ndarray, tmp_path: Path, block_shape: tuple[int, ...]
) -> None:
    out = zarr.create_array(tmp_path / "o.zarr", shape=image.shape, dtype=image.dtype, chunks=(4, 8, 8))
    out[...] = 7
    source = CountingSource(image)
    with pytest.raises(ValueError, match=r"multiple of the output's chunks \(4, 8, 8\)") as caught:
        bp.copy(source, out, block_shape=block_shape)
    assert str(block_shape) in str(caught.value)
    assert not source.reads
    assert (out[...] == 7).all()


def test_a_block_may_reach_over_the_end(image: np.ndarray, tmp_path: Path) -> None:
    out = zarr.create_array(tmp_path / "o.zarr", shape=image.shape, dtype=image.dtype, chunks=(4, 8, 8))
    bp.copy(image, out, block_shape=(12, 20, 100), num_workers=2)
    np.testing.assert_array_equal(out[...], image)


@pytest.mark.parametrize("workers", [1, 3])
def test_each_shard_is_written_once_by_one_worker(workers: int) -> None:
    array = textured((13, 30), "uint16")
    sink = CountingSource(np.zeros_like(array), chunks=(2, 4), shards=(4, 12))
    source = CountingSource(array, delay=0.001)
    bp.copy(source, sink, block_shape=(2, 4), num_workers=workers)
    np.testing.assert_array_equal(np.asarray(sink.wrapped[...]), array)
    assert (sink.written() == 1).all()
    assert len(sink.writes) == 4 * 3
    # Each block was read for itself, and no shard was read back.
    assert len(source.reads) == 7 * 8
    assert not sink.reads


@pytest.mark.parametrize(
    ("block_shape", "shards"),
    [((6, 8), (4, 12)), ((2, 30), (4, 12)), ((4, 12), (4, 12)), ((8, 24), (4, 12)), ((13, 4), (8, 8))],
)
def test_no_voxel_is_written_twice_whatever_the_blocks(
    block_shape: tuple[int, int], shards: tuple[int, int]
) -> None:
    array = textured((13, 30), "uint16")
    sink = CountingSource(np.zeros_like(array), chunks=(2, 4), shards=shards)
    bp.copy(array, sink, block_shape=block_shape, num_workers=3)
    np.testing.assert_array_equal(np.asarray(sink.wrapped[...]), array)
    assert (sink.written() == 1).all()
    for box in sink.writes:
        # Every write is whole shards.
        assert all(b % s == 0 for b, s in zip(box.begin, shards, strict=True))
        assert all(e % s == 0 or e == n for e, s, n in zip(box.end, shards, sink.shape, strict=True))


def test_some_blocks_of_a_shard_keep_the_others(tmp_path: Path) -> None:
    array = textured((8, 8), "uint16")
    out = zarr.create_array(tmp_path / "o.zarr", shape=(8, 8), dtype="uint16", chunks=(2, 2), shards=(4, 4))
    out[...] = 7
    bp.copy(array, out, block_shape=(2, 2), block_ids=[0, 5, 10], num_workers=2)
    expected = fill((8, 8))
    expected[0:2, 0:2], expected[2:4, 2:4], expected[4:6, 4:6] = (
        array[0:2, 0:2],
        array[2:4, 2:4],
        array[4:6, 4:6],
    )
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "o.zarr", mode="r")[...], expected)


# -------------------------------------------------------------------------------------------------------------- block ids


def test_block_ids_are_in_the_numbering_of_the_call(image: np.ndarray) -> None:
    planned = bp.plan(image, block_shape=(5, 7, 18))
    assert planned.n_blocks == 3 * 3
    out = fill(image.shape)
    bp.copy(image, out, block_shape=(5, 7, 18), block_ids=[8, 1, 1], num_workers=2)
    expected = fill(image.shape)
    expected[10:, 14:], expected[:5, 7:14] = image[10:, 14:], image[:5, 7:14]
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("ids", [range(2), [0, 1], (1, 0), np.array([0, 1]), {0, 1}, iter([0, 1])])
def test_block_ids_of_every_kind(image: np.ndarray, ids: Any) -> None:
    out = bp.copy(image, fill(image.shape), block_shape=(5, 20, 18), block_ids=ids)
    np.testing.assert_array_equal(out[:10], image[:10])
    assert (out[10:] == 7).all()


def test_no_block_ids_are_no_blocks(image: np.ndarray) -> None:
    out = fill(image.shape)
    source = CountingSource(image)
    assert bp.copy(source, out, block_ids=[]) is out
    assert (out == 7).all()
    assert not source.reads


def test_not_both(image: np.ndarray, tmp_path: Path) -> None:
    for job_type in ("local", "subprocess"):
        with pytest.raises(ValueError, match="not both"):
            bp.copy(image, tmp_path / "o.zarr", block_ids=[0], resume_from=tmp_path, job_type=job_type)
    assert not list(tmp_path.iterdir())


def test_resume_from_is_for_distributed_runs(image: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="distributed"):
        bp.copy(image, tmp_path / "o.zarr", resume_from=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_unknown_job_types(image: np.ndarray, tmp_path: Path) -> None:
    for job_type in ("lokal", "", 3, None, ["local"]):
        with pytest.raises(ValueError, match="'local'") as caught:
            bp.copy(image, tmp_path / "o.zarr", job_type=job_type)  # type: ignore[arg-type]
        assert repr(job_type) in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("job_type", ["subprocess", "slurm", "dask"])
def test_distributed_runs_need_an_output(image: np.ndarray, job_type: str) -> None:
    with pytest.raises(ValueError, match="output") as caught:
        bp.copy(image, job_type=job_type)
    assert job_type in str(caught.value)


# ------------------------------------------------------------------------------------------------------------------ masks


def test_blocks_outside_the_mask_are_neither_read_nor_written() -> None:
    array = textured((8, 8), "uint16")
    mask = np.zeros((8, 8), "uint8")
    mask[0:4, 0:4] = 1  # block 0: all in
    mask[5, 6] = 255  # block 3: in part
    source, sink = CountingSource(array), CountingSource(fill((8, 8)))
    bp.copy(source, sink, mask=mask, block_shape=(4, 4))
    expected = np.where(mask != 0, array, 7)
    np.testing.assert_array_equal(np.asarray(sink.wrapped[...]), expected)
    touched = np.zeros((8, 8), bool)
    for box in (*source.reads, *sink.writes, *sink.reads):
        touched[box.slices] = True
    assert touched[:4, :4].all()
    assert not touched[:4, 4:].any()
    assert not touched[4:, :4].any()
    # Block 0 is all in: the output is not read there.
    assert all(box.begin[0] >= 4 for box in sink.reads)


def test_a_partial_block_is_written_in_whole_chunks(image: np.ndarray) -> None:
    mask = np.zeros(image.shape, bool)
    mask[5, 9, 3] = mask[6, 10, 12] = True
    sink = CountingSource(fill(image.shape), chunks=(4, 5, 6))
    bp.copy(image, sink, mask=mask, block_shape=image.shape)
    np.testing.assert_array_equal(np.asarray(sink.wrapped[...]), np.where(mask, image, 7))
    for box in sink.writes:
        assert all(b % c == 0 for b, c in zip(box.begin, (4, 5, 6), strict=True))
        assert all(e % c == 0 or e == n for e, c, n in zip(box.end, (4, 5, 6), image.shape, strict=True))


@pytest.mark.parametrize("inside", [True, False])
def test_masks_of_all_and_none(image: np.ndarray, inside: bool) -> None:
    source, sink = CountingSource(image), CountingSource(fill(image.shape))
    bp.copy(source, sink, mask=np.full(image.shape, inside), num_workers=2, block_shape=(6, 10, 9))
    assert not sink.reads
    assert bool(source.reads) is bool(sink.writes) is inside
    np.testing.assert_array_equal(np.asarray(sink.wrapped[...]), image if inside else fill(image.shape))


def test_masks_in_shards() -> None:
    array = textured((8, 8), "uint16")
    mask = np.zeros((8, 8), bool)
    mask[0:4, 0:4] = True  # shard 0: all in
    mask[4:6, 0:2] = True  # shard 2: one block of four
    source, sink = CountingSource(array), CountingSource(fill((8, 8)), chunks=(2, 2), shards=(4, 4))
    bp.copy(source, sink, mask=mask, block_shape=(2, 2), num_workers=2)
    np.testing.assert_array_equal(np.asarray(sink.wrapped[...]), np.where(mask, array, 7))
    assert set(sink.writes) == {Box((0, 0), (4, 4)), Box((4, 0), (8, 4))}
    assert sink.reads == [Box((4, 0), (8, 4))]
    assert len(source.reads) == 5


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", "complex64"])
def test_a_mask_is_where_it_is_not_zero(dtype: str) -> None:
    mask = np.array([0, 1, 2, -3, 0.5, -0.0, np.nan]).astype(
        "complex64" if dtype == "complex64" else "float64"
    )
    if dtype not in ("float32", "complex64"):
        mask = np.array([0, 1, 2, 100, 0, 0, 1])
    mask = mask.astype(dtype)
    out = bp.copy(np.arange(1, 8), np.zeros(7, int), mask=mask)
    np.testing.assert_array_equal(out, np.where(mask != 0, np.arange(1, 8), 0))


def test_masks_may_be_stored_or_computed(image: np.ndarray, tmp_path: Path) -> None:
    bp.copy((image > 40_000).astype("uint8"), tmp_path / "mask.n5/m").close()
    for mask in (tmp_path / "mask.n5" / "m", ThresholdSource(image, 40_000)):
        out = bp.copy(image, fill(image.shape), mask=mask, num_workers=2)
        np.testing.assert_array_equal(out, np.where(image > 40_000, image, 7))


# ------------------------------------------------------------------------------------------------------------ direct path


def test_the_direct_path_reads_once_and_writes_once(image: np.ndarray) -> None:
    source = CountingSource(image, chunks=(1, 20, 18))
    sink = CountingSource(fill(image.shape), chunks=(4, 4, 4))
    bp.copy(source, sink)
    whole = Box.whole(image.shape)
    assert (source.reads, sink.writes, sink.reads) == ([whole], [whole], [])


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 2},
        {"block_shape": (4, 4, 4)},
        {"mask": np.ones((12, 20, 18))},
        {"block_ids": range(15 * 5)},
    ],
    ids=lambda o: next(iter(o)),
)
def test_the_direct_path_is_not_taken(image: np.ndarray, options: dict[str, Any]) -> None:
    assert bp.plan(image, fill(image.shape)).direct
    if "block_ids" in options:
        options = {"block_ids": range(bp.plan(image, fill(image.shape)).n_blocks)}
    assert not bp.plan(image, fill(image.shape), **options).direct


def test_what_does_not_fit_goes_block_by_block(image: np.ndarray, tmp_path: Path) -> None:
    source = CountingSource(image, chunks=(4, 4, 4))
    sink = CountingSource(bp.create_output(tmp_path / "o.zarr", like=image, chunks=(4, 4, 4)))
    bp.copy(source, sink, memory_limit=10_000)
    assert len(source.reads) > 1
    assert (sink.written() == 1).all()
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "o.zarr", mode="r")[...], image)


# --------------------------------------------------------------------------------------------------------------- failures


def fails_in(*boxes: Box) -> Any:
    def fails(box: Box) -> BaseException | None:
        bad = [b for b in boxes if not b.intersect(box).is_empty()]
        return OSError(f"disk says no at {bad[0].begin}") if bad else None

    return fails


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("side", ["input", "output"])
def test_failed_blocks_are_told_exactly_and_can_be_finished(
    image: np.ndarray, workers: int, side: str
) -> None:
    bad = fails_in(Box((0, 0, 0), (1, 1, 1)), Box((6, 11, 17), (7, 12, 18)))
    source = CountingSource(image, fails=bad if side == "input" else lambda _: None)
    array = fill(image.shape)
    sink = CountingSource(array, fails=bad if side == "output" else lambda _: None)
    options: dict[str, Any] = {"block_shape": (4, 10, 9)}
    with pytest.raises(RunnerError) as caught:
        bp.copy(source, sink, num_workers=workers, **options)
    error = caught.value
    assert error.failed_block_ids == [0, 7]
    text = str(error)
    assert "2 of 12 blocks failed" in text
    assert "OSError: disk says no at " in text
    assert isinstance(error.__cause__, OSError)
    expected = image.copy()
    expected[:4, :10, :9] = expected[4:8, 10:, 9:] = 7
    np.testing.assert_array_equal(array, expected)
    source.fails = sink.fails = lambda _: None
    source.reads.clear()
    assert bp.copy(source, sink, num_workers=workers, block_ids=error.failed_block_ids, **options) is sink
    np.testing.assert_array_equal(array, image)
    assert len(source.reads) == 2


def test_a_failure_on_the_direct_path_is_narrowed_down(image: np.ndarray) -> None:
    source = CountingSource(image, chunks=(4, 20, 18), fails=fails_in(Box((5, 0, 0), (6, 1, 1))))
    planned = bp.plan(source, fill(image.shape))
    out = fill(image.shape)
    with pytest.raises(RunnerError, match="disk says no") as caught:
        bp.copy(source, out)
    blocks = list(planned.blocking)
    assert caught.value.failed_block_ids == [i for i, b in enumerate(blocks) if b.begin[0] <= 5 < b.end[0]]


def test_blocks_of_a_shard_that_was_not_written_have_failed() -> None:
    array = textured((8, 8), "uint16")
    out = fill((8, 8))
    sink = CountingSource(out, chunks=(2, 2), shards=(4, 4))
    source = CountingSource(array, fails=fails_in(Box((3, 7), (4, 8))))
    with pytest.raises(RunnerError) as caught:
        bp.copy(source, sink, block_shape=(2, 2), num_workers=2)
    assert caught.value.failed_block_ids == [2, 3, 6, 7]
    expected = array.copy()
    expected[:4, 4:] = 7
    np.testing.assert_array_equal(out, expected)


def test_an_error_without_words_is_named(image: np.ndarray) -> None:
    source = CountingSource(image, fails=lambda _: KeyError())
    with pytest.raises(RunnerError, match="KeyError"):
        bp.copy(source, num_workers=2)


# --------------------------------------------------------------------------------------------------------------- progress


@pytest.mark.parametrize("options", [{}, {"num_workers": 2}, {"block_shape": (2, 20, 18)}], ids=str)
def test_progress_grows_and_ends_with_all(image: np.ndarray, options: dict[str, Any]) -> None:
    told: list[bp.Progress] = []
    source = CountingSource(image, delay=0.12 if "block_shape" in options else 0.0)
    bp.copy(source, fill(image.shape), progress=told.append, **options)
    last = told[-1]
    assert last.blocks_done == last.blocks_total > 0
    assert last.bytes_done == last.bytes_total == image.nbytes
    assert last.failed == 0
    for a, b in itertools.pairwise(told):
        assert (a.blocks_done, a.bytes_done) <= (b.blocks_done, b.bytes_done)
        assert a.seconds <= b.seconds
    if "block_shape" in options:
        assert len(told) > 2


def test_progress_counts_failures(image: np.ndarray) -> None:
    told: list[bp.Progress] = []
    source = CountingSource(image, fails=fails_in(Box((0, 0, 0), (1, 1, 1))))
    with pytest.raises(RunnerError):
        bp.copy(source, block_shape=(4, 20, 18), num_workers=2, progress=told.append)
    assert (told[-1].blocks_done, told[-1].failed, told[-1].blocks_total) == (2, 1, 3)


# ------------------------------------------------------------------------------------------------------------------- plan


def files_below(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


@pytest.mark.parametrize("name", ["o.zarr", "o.n5/a", "o.h5:/a", "o.npy"])
def test_plan_writes_nothing_and_is_what_copy_does(image: np.ndarray, tmp_path: Path, name: str) -> None:
    bp.copy(image, tmp_path / "i.zarr", chunks=(4, 8, 8)).close()
    before = files_below(tmp_path)
    options: dict[str, Any] = {"block_shape": (4, 8, 8)}
    options |= {} if name == "o.npy" else {"chunks": (2, 4, 4)}
    planned = bp.plan(tmp_path / "i.zarr", f"{tmp_path}/{name}", **options)
    assert files_below(tmp_path) == before
    assert planned.n_blocks > 1
    told: list[bp.Progress] = []
    bp.copy(tmp_path / "i.zarr", f"{tmp_path}/{name}", progress=told.append, **options).close()
    assert told[-1].blocks_total == planned.n_blocks
    assert str(planned.n_blocks) in str(planned)
    assert planned.to_json()["block_shape"] == list(planned.block_shape)


def test_plan_reads_no_voxel(image: np.ndarray) -> None:
    source, mask, sink = CountingSource(image), CountingSource(image > 3), CountingSource(fill(image.shape))
    bp.plan(source, sink, mask=mask, num_workers=2)
    assert (source.reads, mask.reads, sink.reads, sink.writes) == ([], [], [], [])


def test_the_plan_depends_on_neither_workers_nor_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import bioimage_py.planning.byte_size as byte_size

    source = bp.create_output(
        tmp_path / "i.zarr", shape=(2000, 3000, 3000), dtype="uint16", chunks=(1, 1024, 1024)
    )
    plans = [
        bp.plan(source, tmp_path / "o.zarr", chunks=(64, 64, 64), num_workers=n, block_ids=ids)
        for n, ids in ((1, None), (4, None), (64, [0]))
    ]
    monkeypatch.setattr(byte_size, "available_memory", lambda: 2**28)
    plans.append(bp.plan(source, tmp_path / "o.zarr", chunks=(64, 64, 64), num_workers=8))
    assert len({(p.block_shape, p.n_blocks) for p in plans}) == 1


def test_plan_refuses_what_copy_refuses(image: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one shape"):
        bp.plan(image, np.zeros((3, 3)))
    with pytest.raises(ValueError, match="differ from 'input'"):
        bp.plan(image, image)
    with pytest.raises(ValueError, match="not both"):
        bp.plan(image, tmp_path / "o.zarr", block_ids=[0], resume_from="x")


# --------------------------------------------------------------------------------------------------------------- metadata


@pytest.mark.parametrize("name", ["o.zarr", "o.n5/a", "o.h5:/a"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_axes_voxel_size_and_attributes_are_carried_over(tmp_path: Path, name: str, zarr_format: int) -> None:
    import xarray

    array = xarray.DataArray(
        textured((4, 5, 6), "uint8"),
        dims=("z", "y", "x"),
        coords={"z": np.arange(4) * 2.0, "y": np.arange(5) * 0.5, "x": np.arange(6) * 0.5},
        attrs={"sample": "liver", "n": 3},
    )
    given = bp.as_source(array).metadata
    assert given.axes == ("z", "y", "x")
    bp.copy(array, f"{tmp_path}/{name}", zarr_format=zarr_format).close()
    with bp.open_source(f"{tmp_path}/{name}") as stored:
        found = stored.metadata
    assert (found.axes, found.voxel_size, found.units) == (given.axes, given.voxel_size, given.units)
    assert found.attributes["sample"] == "liver"
    assert found.attributes["n"] == 3


def test_a_cut_region_keeps_its_place(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "i.zarr", shape=(8, 8), dtype="uint8", chunks=(4, 4))
    array.attrs.update({"axes": ["y", "x"], "voxel_size": [2.0, 0.5], "units": ["micrometer", "micrometer"]})
    bp.copy(RoiSource(array, np.s_[2:, 4:]), tmp_path / "o.zarr").close()
    found = bp.open_source(tmp_path / "o.zarr").metadata
    assert (found.axes, found.voxel_size, found.origin) == (("y", "x"), (2.0, 0.5), (4.0, 2.0))


# -------------------------------------------------------------------------------------------------------------- resources


def test_no_file_is_left_open(image: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", image)
    with h5py.File(tmp_path / "i.h5", "w") as file:
        file["a"] = image

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(3):
        bp.copy(tmp_path / "i.npy")
        bp.copy(tmp_path / "i.h5", num_workers=2)
    before = open_files()
    for _ in range(10):
        bp.copy(tmp_path / "i.npy")
        bp.copy(tmp_path / "i.h5", num_workers=2)
    assert open_files() <= before + 1


@pytest.mark.parametrize("workers", [1, 2])
def test_the_output_is_flushed_once_all_is_written(image: np.ndarray, workers: int) -> None:
    sink = CountingSource(fill(image.shape))
    bp.copy(image, sink, num_workers=workers)
    assert sink.flushes == 1


def test_memory_limit_too_small_for_one_chunk(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="is too small: one block of"):
        bp.copy(np.zeros((64, 64, 64)), tmp_path / "o.zarr", chunks=(64, 64, 64), memory_limit="1KiB")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [0, -1, "much", True, "12 parsecs", float("nan")])
def test_memory_limits_that_are_none(limit: Any) -> None:
    with pytest.raises(ValueError, match="memory_limit"):
        bp.copy(np.zeros(3), memory_limit=limit)


def test_what_the_input_does_not_say_goes_into_a_new_output(tmp_path: Path) -> None:
    image = np.arange(60, dtype="uint8").reshape(3, 4, 5)
    np.save(tmp_path / "in.npy", image)
    out = bp.copy(
        tmp_path / "in.npy", tmp_path / "out.zarr", axes="zyx", voxel_size=(2, 0.5, 0.5), units="um"
    )
    assert out.metadata.voxel_size == (2.0, 0.5, 0.5)
    assert out.metadata.units == ("micrometer",) * 3
    with pytest.raises(ValueError, match="axes can be given for a new output only"):
        bp.copy(image, out, axes="zyx")


def test_an_ome_zarr_has_channels_before_space(tmp_path: Path) -> None:
    colour = np.arange(60, dtype="uint8").reshape(4, 5, 3)
    mask = np.ones((4, 5, 3), bool)
    mask[0] = False
    out = bp.copy(colour, tmp_path / "out.ome.zarr", axes="yxc", mask=mask)
    assert out.metadata.axes == ("c", "y", "x")
    np.testing.assert_array_equal(out[...], np.moveaxis(np.where(mask, colour, 0), 2, 0))
    described = bp.with_metadata(colour, axes="yxc")
    bp.copy(described, out)
    np.testing.assert_array_equal(out[...], np.moveaxis(colour, 2, 0))


def test_encoded_chunks_are_moved_whatever_is_said_of_the_input(tmp_path: Path) -> None:
    source = bp.create_output(tmp_path / "in.zarr", shape=(8, 9), dtype=">u2", chunks=(4, 4), codec="zstd:3")
    source[...] = np.arange(72).reshape(8, 9)
    plan = bp.plan(tmp_path / "in.zarr", tmp_path / "out.zarr", voxel_size=3.0, axes="yx")
    assert plan.road == "verbatim"
    out = bp.copy(tmp_path / "in.zarr", tmp_path / "out.zarr", voxel_size=3.0, axes="yx", verify_encoded=True)
    assert out.metadata.voxel_size == (3.0, 3.0)
    np.testing.assert_array_equal(out[...], source[...])
    for name in ("0/0", "1/2"):
        assert (tmp_path / "out.zarr/c" / name).read_bytes() == (tmp_path / "in.zarr/c" / name).read_bytes()


def test_a_codec_that_is_asked_for_is_not_ignored(tmp_path: Path) -> None:
    source = bp.create_output(tmp_path / "in.zarr", shape=(8, 9), dtype="u2", chunks=(4, 4), codec="zstd:3")
    source[...] = np.arange(72).reshape(8, 9)
    roads = {
        codec: bp.plan(source, tmp_path / "out.zarr", codec=codec).road
        for codec in (None, "zstd", "zstd:3", "zstd:5", "gzip")
    }
    assert roads == {
        None: "verbatim",
        "zstd": "verbatim",
        "zstd:3": "verbatim",
        "zstd:5": "recode",
        "gzip": "recode",
    }
    other = bp.create_output(tmp_path / "other.zarr", shape=(8, 9), dtype="u2", chunks=(4, 4), codec="zstd:5")
    assert bp.plan(source, other).road == "recode"
    assert bp.plan(source, tmp_path / "out.zarr", shards=(8, 8)).road == "repack"
    assert bp.plan(source, tmp_path / "out.zarr", dtype="u4").road == "recode"


@pytest.mark.parametrize("job_type", ["local", "subprocess"])
def test_a_corrupt_chunk_is_never_moved(tmp_path: Path, job_type: str) -> None:
    source = bp.create_output(tmp_path / "in.zarr", shape=(8, 8), dtype="u2", chunks=(4, 4), codec="zstd:3")
    source[...] = np.arange(64).reshape(8, 8)
    (tmp_path / "in.zarr/c/1/0").write_bytes(b"torn")
    config = bp.RunnerConfig(tmp_root=tmp_path / "runs", retries=0)
    with pytest.raises(RunnerError, match=r"chunk \(1, 0\) of .*in\.zarr") as caught:
        bp.copy(source, tmp_path / "out.zarr", block_shape=(4, 4), job_type=job_type, job_config=config)
    assert list(caught.value.failed_block_ids) == [2]
    assert not (tmp_path / "out.zarr/c/1/0").exists()


class TestVoxelsThatAreLeftOut:
    """In a new output they are the same whatever its format and the fill value of the input."""

    OUTPUTS = (None, "o.zarr", "o2.zarr", "o.ome.zarr", "o.n5", "o.h5", "o.npy", "o.precomputed")

    @pytest.fixture(params=[7, 0])
    def source(self, request: pytest.FixtureRequest, tmp_path: Path) -> bp.Source:
        made = bp.create_output(
            tmp_path / "in.zarr", shape=(8, 8, 8), dtype="uint16", chunks=(4, 4, 4), fill_value=request.param
        )
        made[:4] = 1  # the rest is not stored
        return made

    @staticmethod
    def place(output: str | None, folder: Path) -> tuple[Any, dict[str, Any]]:
        return (None if output is None else folder / output), (
            {"zarr_format": 2} if output == "o2.zarr" else {}
        )

    @pytest.mark.parametrize("output", OUTPUTS)
    def test_are_zero(self, output: str | None, source: bp.Source, tmp_path: Path) -> None:
        mask = np.zeros(source.shape, bool)
        mask[:6, :6, 1:6] = True
        place, options = self.place(output, tmp_path)
        found = np.asarray(bp.copy(source, place, mask=mask, **options))
        np.testing.assert_array_equal(found, np.where(mask, source[...], 0))

    @pytest.mark.parametrize("output", OUTPUTS)
    def test_are_zero_in_blocks_that_were_not_asked_for(
        self, output: str | None, source: bp.Source, tmp_path: Path
    ) -> None:
        place, options = self.place(output, tmp_path)
        chunks = {} if output in (None, "o.npy") else {"chunks": (4, 4, 4)}
        found = bp.copy(source, place, block_shape=(4, 4, 4), block_ids=[1, 6], **options, **chunks)
        wanted = np.zeros(source.shape, "uint16")
        wanted[:4, :4, 4:] = source[:4, :4, 4:]
        wanted[4:, 4:, :4] = source[4:, 4:, :4]
        np.testing.assert_array_equal(np.asarray(found), wanted)

    @pytest.mark.parametrize("output", [None, "o.zarr", "o2.zarr", "o.ome.zarr", "o.h5", "o.npy"])
    def test_are_the_fill_value_that_is_given(
        self, output: str | None, source: bp.Source, tmp_path: Path
    ) -> None:
        mask = np.zeros(source.shape, bool)
        mask[:6, :6, 1:6] = True
        place, options = self.place(output, tmp_path)
        found = np.asarray(bp.copy(source, place, mask=mask, fill_value=9, **options))
        np.testing.assert_array_equal(found, np.where(mask, source[...], 9))

    def test_a_whole_copy_keeps_the_fill_value_and_stays_sparse(
        self, source: bp.Source, tmp_path: Path
    ) -> None:
        made = bp.copy(source, tmp_path / "o.zarr")
        assert made.fill_value == source.fill_value
        assert made.stored_size().n_files == source.stored_size().n_files
        np.testing.assert_array_equal(made[...], source[...])
        assert bp.copy(source, tmp_path / "given.zarr", fill_value=3).fill_value == 3

    def test_blocks_of_a_whole_ome_zarr(self, tmp_path: Path) -> None:
        image = bp.create_output(
            tmp_path / "in.ome.zarr", shape=(8, 8), dtype="uint8", chunks=(4, 4), fill_value=7
        )
        image[...] = 1
        found = bp.copy(tmp_path / "in.ome.zarr", tmp_path / "o.ome.zarr", block_shape=(4, 4), block_ids=[0])
        assert found[0, 0] == 1
        assert found[7, 7] == 0
        bp.copy(tmp_path / "in.ome.zarr", tmp_path / "o.ome.zarr", block_shape=(4, 4), block_ids=[1, 2, 3])
        np.testing.assert_array_equal(found[...], image[...])

    def test_of_a_smaller_array_and_of_levels(self, source: bp.Source, tmp_path: Path) -> None:
        mask = np.zeros((4, 4, 4), bool)
        small = bp.downsample(source, 2, tmp_path / "small.zarr", mask=mask, fill_value=5)
        assert (small[...] == 5).all()
        levels = bp.pyramid(source, tmp_path / "p.ome.zarr", levels=2, fill_value=5)
        assert [level.fill_value for level in levels] == [5, 5]

    @pytest.mark.parametrize(
        ("dtype", "fill", "said"),
        [
            ("uint8", -1, "-1 cannot be held by uint8"),
            ("uint8", 300, "300 cannot"),
            ("uint8", 0.5, "0.5 cannot"),
            ("uint8", float("nan"), "nan cannot"),
            ("int64", float("inf"), "inf cannot"),
            ("uint16", 2**70, "cannot be held"),
            ("float32", 1e300, "cannot be held by float32"),
            ("float32", 1 + 2j, "cannot be held by float32"),
            ("uint8", "7", "must be one number, got '7'"),
            ("uint8", [1, 2], "must be one number"),
        ],
    )
    @pytest.mark.parametrize("output", [None, "o.zarr", "o.n5", "o.h5", "o.npy", "o.precomputed"])
    def test_that_do_not_fit_the_dtype_are_refused(
        self, output: str | None, dtype: str, fill: Any, said: str, tmp_path: Path
    ) -> None:
        place = None if output is None else tmp_path / output
        for call in (bp.plan, bp.copy):
            with pytest.raises(InvalidArgumentError, match=said):
                call(np.zeros((4, 4, 4), dtype), place, fill_value=fill, mask=np.ones((4, 4, 4)))
        assert place is None or not place.exists()

    def test_that_the_output_cannot_have_are_refused(self, tmp_path: Path) -> None:
        image = np.ones((4, 4, 4), "uint8")
        for name in ("o.n5", "o.precomputed"):
            with pytest.raises(InvalidArgumentError, match="no fill value but 0"):
                bp.copy(image, tmp_path / name, fill_value=3, mask=image)
        with pytest.raises(InvalidArgumentError, match="fill_value can be given for a new output only"):
            bp.copy(image, np.zeros((4, 4, 4), "uint8"), fill_value=3)

    @pytest.mark.parametrize("fill", [float("nan"), float("inf"), -1.0])
    def test_of_floats(self, fill: float, tmp_path: Path) -> None:
        image = np.ones((4, 4), "float32")
        for name in ("o.zarr", "o.h5", "o.npy"):
            made = bp.copy(image, tmp_path / name, fill_value=fill, mask=np.zeros((4, 4)))
            np.testing.assert_array_equal(made[...], np.full((4, 4), fill, "float32"))
