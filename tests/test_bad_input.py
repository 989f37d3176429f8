"""Bad input: one clear error, and nothing half written."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import z5py
import zarr

import bioimage_py as bp
from bioimage_py.errors import BioimagePyError, BioimagePyWarning, ReadOnlyError, RunnerError, StorageError
from tests.sources.contract import textured
from tests.waiting import eventually

SHAPE = (12, 20, 18)
OUTPUTS = ("o.zarr", "o.n5/a", "o.h5:/a", "o.npy")


@pytest.fixture
def image() -> np.ndarray:
    return textured(SHAPE, "uint16")


def listing(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, every folder with None."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))
    }


@contextlib.contextmanager
def nothing_changes(folder: Path) -> Iterator[None]:
    before = listing(folder)
    yield
    assert listing(folder) == before


@contextlib.contextmanager
def one_error(kind: type[BaseException], *texts: str) -> Iterator[None]:
    """One error of the package, of the builtin kind too, that says all of this."""
    with pytest.raises(BioimagePyError) as caught:
        yield
    assert isinstance(caught.value, kind), repr(caught.value)
    for text in texts:
        assert text in str(caught.value), str(caught.value)
    assert "Traceback" not in str(caught.value)


# ------------------------------------------------------------------------------------------------- inputs that are not there


@pytest.mark.parametrize(
    "name", ["a.zarr", "a.n5", "a.h5", "a.tif", "a.npy", "a.mrc", "a.nii.gz", "a.png", "a.precomputed", "a"]
)
@pytest.mark.parametrize("deep", [True, False])
def test_a_path_that_is_not_there(tmp_path: Path, name: str, deep: bool) -> None:
    path = tmp_path / "no" / name if deep else tmp_path / name
    with nothing_changes(tmp_path), one_error(FileNotFoundError, str(path)):
        bp.copy(path, tmp_path / "o.zarr")


def test_a_path_that_is_almost_there_is_suggested(tmp_path: Path, image: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", image)
    with one_error(FileNotFoundError, "stack.tiff", "stack.tif"):
        bp.copy(tmp_path / "stack.tiff", tmp_path / "o.zarr")


def test_a_key_that_is_not_there(tmp_path: Path, image: np.ndarray) -> None:
    bp.copy(image, tmp_path / "a.zarr/raw").close()
    bp.copy(image, f"{tmp_path}/a.h5:/raw").close()
    for path in ("a.zarr/row", "a.h5:/row"):
        with nothing_changes(tmp_path), one_error(FileNotFoundError, "row", "raw"):
            bp.copy(f"{tmp_path}/{path}", tmp_path / "o.zarr")


def test_a_container_with_several_arrays_lists_them(tmp_path: Path, image: np.ndarray) -> None:
    for key in ("raw", "g/labels"):
        for name in ("a.zarr", "a.n5", "a.h5:"):
            bp.copy(image, f"{tmp_path}/{name}/{key}").close()
    for name in ("a.zarr", "a.n5", "a.h5"):
        with nothing_changes(tmp_path), one_error(ValueError, "raw", "g/labels"):
            bp.copy(tmp_path / name, tmp_path / "o.zarr")


@pytest.mark.parametrize("what", [b"", b"hello", b"\0" * 5000])
def test_an_unknown_ending(tmp_path: Path, what: bytes) -> None:
    (tmp_path / "a.xyz").write_bytes(what)
    with nothing_changes(tmp_path), one_error(ValueError, "a.xyz", "TIFF", ".zarr"):
        bp.copy(tmp_path / "a.xyz", tmp_path / "o.zarr")


@pytest.mark.parametrize("name", ["o.xyz", "o", "o.czi"])
def test_an_output_of_an_unknown_ending(tmp_path: Path, image: np.ndarray, name: str) -> None:
    with nothing_changes(tmp_path), one_error(ValueError, name, ".zarr", ".n5"):
        bp.copy(image, tmp_path / name)


@pytest.mark.parametrize("thing", [None, 3, [1, 2], object(), {"a": 1}, len], ids=lambda t: type(t).__name__)
def test_what_is_no_array(thing: Any, tmp_path: Path) -> None:
    with nothing_changes(tmp_path), one_error(ValueError, type(thing).__name__):
        bp.copy(thing, tmp_path / "o.zarr")
    if thing is not None:
        with one_error(ValueError, type(thing).__name__):
            bp.copy(np.zeros(3), thing)


# ------------------------------------------------------------------------------------------------------- folders of slices


def write_slices(folder: Path, planes: Any, name: str = "s{}.tif") -> None:
    folder.mkdir()
    for n, plane in enumerate(planes):
        tifffile.imwrite(folder / name.format(n), plane)


def test_a_folder_without_a_match(tmp_path: Path, image: np.ndarray) -> None:
    write_slices(tmp_path / "slices", image)
    for source in (tmp_path / "slices" / "*.png", tmp_path / "slices" / "x*.tif"):
        with nothing_changes(tmp_path), one_error(FileNotFoundError, source.name, "slices"):
            bp.copy(source, tmp_path / "o.zarr")
    (tmp_path / "empty").mkdir()
    with nothing_changes(tmp_path), one_error(ValueError, "empty"):
        bp.copy(tmp_path / "empty", tmp_path / "o.zarr")


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "odd", [np.zeros((20, 17), "uint16"), np.zeros((20, 18), "uint8")], ids=["shape", "dtype"]
)
def test_a_slice_unlike_the_others_is_named(
    tmp_path: Path, image: np.ndarray, odd: np.ndarray, workers: int
) -> None:
    write_slices(tmp_path / "slices", [*image[:7], odd, *image[8:]])
    with one_error(
        (ValueError, OSError, RuntimeError), "s7.tif", str(odd.shape) if odd.shape != (20, 18) else "uint8"
    ):  # type: ignore[arg-type]
        bp.copy(tmp_path / "slices", tmp_path / "o.zarr", num_workers=workers)


# ------------------------------------------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.98])
def test_a_truncated_tiff(
    tmp_path: Path, image: np.ndarray, compression: str | None, keep: float, workers: int
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, image, compression=compression)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    failure: BaseException | None = None
    try:
        out = bp.copy(path, tmp_path / "o.zarr", num_workers=workers)
    except BioimagePyError as error:
        failure = error
    if failure is None:
        # What is cut off here is no voxel: tags of later pages, which repeat those of the first.
        assert keep == 0.98
        np.testing.assert_array_equal(out[...], image)
        return
    assert isinstance(failure, (OSError, ValueError, RunnerError))
    assert "a.tif" in str(failure)
    if isinstance(failure, RunnerError):
        assert list(failure.failed_block_ids)
    else:
        assert not (tmp_path / "o.zarr").exists()


def damage(path: Path) -> None:
    stored = path.read_bytes()
    path.write_bytes(stored[: len(stored) // 2])


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["zarr2", "zarr3", "sharded", "n5", "hdf5"])
def test_a_corrupt_chunk_is_named_and_its_block_listed(
    tmp_path: Path, image: np.ndarray, kind: str, workers: int
) -> None:
    """Chunk (1, 0, 1) is damaged: voxels from (4, 0, 9)."""
    chunks = (4, 10, 9)
    if kind == "hdf5":
        source = tmp_path / "a.h5"
        with h5py.File(source, "w") as file:
            dataset = file.create_dataset("raw", data=image, chunks=chunks, compression="gzip")
            place = dataset.id.get_chunk_info_by_coord((4, 0, 9))
        with source.open("r+b") as stored:
            stored.seek(place.byte_offset + place.size // 3)
            stored.write(b"\x5a" * (place.size - place.size // 3))
    elif kind == "n5":
        source = tmp_path / "a.n5" / "raw"
        with z5py.File(str(tmp_path / "a.n5"), "w") as file:
            file.create_dataset("raw", data=image, chunks=chunks, compression="gzip")
        damage(source / "1" / "0" / "1")
    else:
        source = tmp_path / "a.zarr"
        array = zarr.create_array(
            source,
            shape=SHAPE,
            dtype="uint16",
            chunks=chunks,
            shards=chunks if kind == "sharded" else None,
            zarr_format=2 if kind == "zarr2" else 3,
        )
        array[...] = image
        damage(source / ("1.0.1" if kind == "zarr2" else "c/1/0/1"))
    out = np.full(SHAPE, 7, "uint16")
    options: dict[str, Any] = {} if workers == 1 else {"block_shape": chunks, "num_workers": 2}
    with pytest.raises(RunnerError) as caught:
        bp.copy(source, out, **options)
    blocking = bp.plan(source, out, **options).blocking
    bad = [
        n
        for n, block in enumerate(blocking)
        if block.begin[0] <= 4 < block.end[0] and block.begin[1] == 0 and block.end[2] > 9
    ]
    assert caught.value.failed_block_ids == bad
    for n, block in enumerate(blocking):
        if n not in bad:
            np.testing.assert_array_equal(out[block.slices], image[block.slices])
    text = str(caught.value)
    assert str(source.parent if kind == "n5" else source) in text
    assert any(
        name in text for name in ("1.0.1", "c/1/0/1", "1/0/1", "(1, 0, 1)", "4:8, 0:10, 9:18", "(4, 0, 9)")
    ), text
    assert isinstance(caught.value.__cause__, StorageError)


def test_a_truncated_npy(tmp_path: Path, image: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", image)
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-1])
    with nothing_changes(tmp_path), one_error(OSError, "a.npy"):
        bp.copy(tmp_path / "a.npy", tmp_path / "o.zarr")


def test_a_truncated_hdf5(tmp_path: Path, image: np.ndarray) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = image
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[: len(whole) // 2])
    with nothing_changes(tmp_path), one_error(OSError, "a.h5"):
        bp.copy(tmp_path / "a.h5", tmp_path / "o.zarr")


# ------------------------------------------------------------------------------------------------- outputs that cannot be


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own; skips where mounting is not permitted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a file system is not permitted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_read_only_file_system(tmp_path: Path, image: np.ndarray, name: str) -> None:
    with mounted(tmp_path / "disk", "ro,size=1m") as disk, one_error(PermissionError, str(disk)):
        bp.copy(image, f"{disk}/{name}")


@pytest.mark.skipif(os.geteuid() == 0, reason="permission bits do not bind root")
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_folder_without_permission(tmp_path: Path, image: np.ndarray, name: str) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with nothing_changes(tmp_path), one_error(PermissionError, str(folder)):
        bp.copy(image, f"{folder}/{name}")


def test_arrays_that_are_read_only(tmp_path: Path, image: np.ndarray) -> None:
    fixed = np.zeros_like(image)
    fixed.flags.writeable = False
    bp.copy(image, tmp_path / "a.zarr").close()
    bp.copy(image, tmp_path / "a.h5").close()
    other = image + 1
    with h5py.File(tmp_path / "a.h5", "r") as file:
        for output in (
            fixed,
            np.broadcast_to(image[0], SHAPE),
            zarr.open_array(tmp_path / "a.zarr", mode="r"),
            file["data"],
        ):
            with nothing_changes(tmp_path), one_error(PermissionError, "read-only"):
                bp.copy(other, output)
    from bioimage_py.wrapper import ThresholdSource

    with one_error(PermissionError, "read-only"):
        bp.copy(other > 3, ThresholdSource(fixed, 0))


def assert_no_leftovers(folder: Path) -> None:
    """No temporary file stays; TensorStore ends the other writes of a block that failed a moment after it told so."""

    def left() -> list[Path]:
        return [p for p in folder.rglob("*") if "__lock" in p.name or ".partial" in p.name]

    eventually(lambda: not left(), left)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", OUTPUTS)
def test_a_full_disk(tmp_path: Path, name: str, workers: int) -> None:
    noise = np.random.default_rng(0).integers(
        0, 256, (32, 256, 256), dtype="uint8"
    )  # 2 MiB that do not compress
    with mounted(tmp_path / "disk", "size=1m") as disk:
        with pytest.raises(BioimagePyError) as caught:
            bp.copy(
                noise,
                f"{disk}/{name}",
                num_workers=workers,
                **({} if name == "o.npy" else {"chunks": (8, 64, 64)}),
            )
        text = str(caught.value).lower()
        assert "no space left" in text, text
        assert str(disk) in str(caught.value)
        assert_no_leftovers(disk)
        if isinstance(caught.value, RunnerError):
            # What is told to be done is there.
            error = caught.value
            assert list(error.failed_block_ids)
            assert isinstance(error.__cause__, OSError)
            if name != "o.npy" and name != "o.h5:/a":
                options: dict[str, Any] = {"num_workers": workers}
                with pytest.warns(BioimagePyWarning, match="is not finished"):
                    stored = bp.open_source(f"{disk}/{name}")
                with stored:
                    blocking = bp.plan(noise, tmp_path / "other.zarr", chunks=(8, 64, 64), **options).blocking
                    for n, block in enumerate(blocking):
                        if n not in error.failed_block_ids:
                            np.testing.assert_array_equal(stored[block.slices], noise[block.slices])


@pytest.mark.parametrize("name", ["o.zarr", "o.n5", "o.h5", "o.npy", "o.precomputed"])
def test_an_output_that_is_something_else(tmp_path: Path, image: np.ndarray, name: str) -> None:
    """A folder of the user's, or a file that is no array, is never replaced."""
    folder = tmp_path / name
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with nothing_changes(tmp_path), one_error(OSError, name):
            bp.copy(image, folder, overwrite=overwrite)
    if name != "o.npy":
        file = tmp_path / f"file{name}"
        file.write_text("years of work")
        for overwrite in (False, True):
            with nothing_changes(tmp_path), one_error((OSError, ValueError), name):  # type: ignore[arg-type]
                bp.copy(image, file, overwrite=overwrite)


# ------------------------------------------------------------------------------------------------------ arguments that do not fit


def unwritten(tmp_path: Path, image: np.ndarray, *texts: str, **options: Any) -> None:
    """ValueError for a new path, a zarr array and a numpy array, none of them touched."""
    chunks = (4, 10, 9)
    stored = zarr.create_array(tmp_path / "there.zarr", shape=SHAPE, dtype="uint16", chunks=chunks)
    stored[...] = 7
    array = np.full(SHAPE, 7, "uint16")
    for output, more in ((tmp_path / "o.zarr", {"chunks": chunks}), (stored, {}), (array, {})):
        with nothing_changes(tmp_path), one_error(ValueError, *texts):
            bp.copy(image, output, **options, **more)
    assert (array == 7).all()


@pytest.mark.parametrize("shape", [(12, 20), (12, 20, 17), (1,), (), (12, 20, 18, 1)])
def test_a_mask_of_another_shape(tmp_path: Path, image: np.ndarray, shape: tuple[int, ...]) -> None:
    unwritten(tmp_path, image, "mask", str(SHAPE), str(shape), mask=np.ones(shape, bool))


@pytest.mark.parametrize(
    "block_shape",
    [
        (4, 10),
        (4, 10, 9, 1),
        (0, 10, 9),
        (4, -10, 9),
        (4, 10, 9.5),
        "abc",
        4,
        (),
        (4, None, 9),
        (True, 10, 9),
    ],
)
def test_block_shapes_that_are_none(tmp_path: Path, image: np.ndarray, block_shape: Any) -> None:
    unwritten(tmp_path, image, "block_shape", block_shape=block_shape)


@pytest.mark.parametrize("ids", [[12], [0, 99], [-1], range(13), range(-1, 3), np.array([3, 12])], ids=str)
def test_block_ids_out_of_range(tmp_path: Path, image: np.ndarray, ids: Any) -> None:
    unwritten(tmp_path, image, "block_ids out of range", block_ids=ids, block_shape=(4, 10, 9))


@pytest.mark.parametrize("ids", [3, [1.5], ["a"], [None], [True], [[0]]], ids=str)
def test_block_ids_that_are_no_integers(tmp_path: Path, image: np.ndarray, ids: Any) -> None:
    unwritten(tmp_path, image, "block_ids", block_ids=ids, block_shape=(4, 10, 9))


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True])
def test_num_workers_that_are_none(tmp_path: Path, image: np.ndarray, workers: Any) -> None:
    unwritten(tmp_path, image, "num_workers", repr(workers), num_workers=workers)


def test_a_block_shape_that_cuts_chunks(tmp_path: Path, image: np.ndarray) -> None:
    stored = zarr.create_array(tmp_path / "a.zarr", shape=SHAPE, dtype="uint16", chunks=(4, 10, 9))
    for output, options in (
        (stored, {}),
        (tmp_path / "o.zarr", {"chunks": (4, 10, 9)}),
        (tmp_path / "o.h5", {"chunks": (4, 10, 9)}),
    ):
        with nothing_changes(tmp_path), one_error(ValueError, "(4, 10, 9)", "(3, 10, 9)", "multiple"):
            bp.copy(image, output, block_shape=(3, 10, 9), **options)


def test_job_config_of_another_type(tmp_path: Path, image: np.ndarray) -> None:
    unwritten(tmp_path, image, "job_config", "dict", job_config={"memory_limit": 3})


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("o.n5", "bool"),
        ("o.n5", "complex64"),
        ("o.n5", "float16"),
        ("o.precomputed", "float64"),
        ("o.precomputed", "bool"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_dtype_that_the_store_cannot_hold(tmp_path: Path, name: str, dtype: str, workers: int) -> None:
    with nothing_changes(tmp_path), one_error(ValueError, dtype, "uint8"):
        bp.copy(textured(SHAPE, dtype), tmp_path / name, num_workers=workers)


@pytest.mark.parametrize(
    "array",
    [np.array(["a"]), np.array([None]), np.zeros(3, "datetime64[s]"), np.zeros(3, "i4,f8"), np.float32(3)],
)
def test_arrays_without_voxels(tmp_path: Path, array: Any) -> None:
    with nothing_changes(tmp_path), one_error(ValueError):
        bp.copy(array, tmp_path / "o.zarr")


def test_masked_arrays_would_lose_their_mask(tmp_path: Path) -> None:
    with nothing_changes(tmp_path), one_error(ValueError, "mask"):
        bp.copy(np.ma.masked_array(np.arange(3), [True, False, False]), tmp_path / "o.zarr")


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (0, 4, 4)},
        {"chunks": (4, 4)},
        {"chunks": 4},
        {"chunks": (4, 4, 4), "shards": (6, 8, 8)},
        {"codec": "zip"},
        {"codec": "zstd:high"},
        {"codec": 3},
        {"zarr_format": 4},
        {"shards": (8, 8, 8), "chunks": (4, 4, 4), "zarr_format": 2},
    ],
    ids=str,
)
def test_stores_that_cannot_be_made(tmp_path: Path, image: np.ndarray, options: dict[str, Any]) -> None:
    with nothing_changes(tmp_path), one_error(ValueError):
        bp.copy(image, tmp_path / "deep" / "o.zarr", **options)


def test_an_output_whose_folder_is_a_file(tmp_path: Path, image: np.ndarray) -> None:
    (tmp_path / "file").write_text("x")
    for name in OUTPUTS:
        with nothing_changes(tmp_path), one_error(OSError, "file"):
            bp.copy(image, f"{tmp_path}/file/{name}")


def test_empty_paths(image: np.ndarray) -> None:
    for arguments in (("", image), (image, "")):
        with one_error(ValueError):
            bp.copy(*arguments)


def test_read_only_is_an_error_of_ours() -> None:
    assert issubclass(ReadOnlyError, PermissionError)


def test_a_run_that_cannot_begin_leaves_no_output(tmp_path: Path) -> None:
    source = bp.create_output(tmp_path / "in.zarr", shape=(8, 8), dtype="uint8", chunks=(4, 4))
    (tmp_path / "file").write_text("no folder")
    before = sorted(tmp_path.rglob("*"))
    config = bp.RunnerConfig(tmp_root=tmp_path / "file")
    for job_type in ("subprocess", "local"):
        for path in ("out.zarr", "group.zarr/a/b", "new/folder/out.n5/raw"):
            with pytest.raises(ValueError, match="no run folder"):
                bp.copy(source, tmp_path / path, job_type=job_type, job_config=config)
            assert sorted(tmp_path.rglob("*")) == before
