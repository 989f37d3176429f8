"""An array is never copied onto itself, by whatever name, and `overwrite=True` never removes what is read."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import z5py
import zarr

import bioimage_py as bp
from bioimage_py.wrapper import ThresholdSource
from bioimage_py.wrapper.shape import RoiSource
from tests.sources.contract import textured

SHAPE = (6, 8, 10)
REFUSAL = r"needs 'output' to differ from 'input'|lies inside the (input|output)"


@pytest.fixture
def array() -> np.ndarray:
    return textured(SHAPE, "uint16")


def refused(source: Any, output: Any, check: Callable[[], np.ndarray], **options: Any) -> None:
    """The copy is a ValueError on every path through it, and the voxels are still there."""
    before = np.array(check())
    for more in ({}, {"num_workers": 2}, {"block_shape": SHAPE, "overwrite": True}, {"overwrite": True}):
        with pytest.raises(ValueError, match=REFUSAL):
            bp.copy(source, output, **more, **options)
        with pytest.raises(ValueError, match=REFUSAL):
            bp.plan(source, output, **more, **options)
        np.testing.assert_array_equal(check(), before)


# --------------------------------------------------------------------------------------------------------------- memory


def test_the_same_numpy_array(array: np.ndarray) -> None:
    refused(array, array, lambda: array)


def test_overlapping_views(array: np.ndarray) -> None:
    refused(array, array[::-1], lambda: array)
    refused(array, array.view("int16"), lambda: array)
    refused(array[:-1], array[1:], lambda: array)
    refused(array.T, np.asarray(memoryview(array.T)), lambda: array)
    refused(bp.as_source(array), array, lambda: array)


def test_disjoint_views_are_two_arrays(array: np.ndarray) -> None:
    first = array[:3].copy()
    bp.copy(array[:3], array[3:], block_shape=(1, 8, 10), num_workers=2)
    np.testing.assert_array_equal(array, np.concatenate([first, first]))
    even = array[:, ::2].copy()
    bp.copy(array[:, ::2], array[:, 1::2])
    np.testing.assert_array_equal(array[:, 1::2], even)


def test_wrappers_of_the_output(array: np.ndarray) -> None:
    refused(RoiSource(array, np.s_[:, :, :]), array, lambda: array)
    refused(ThresholdSource(array, 5), array, lambda: array)
    refused(ThresholdSource(RoiSource(array, np.s_[2:4]), 5), array[3:5], lambda: array)
    other = textured(SHAPE, "uint16", seed=1)
    bp.copy(RoiSource(array, np.s_[:3]), other[3:])
    bp.copy(RoiSource(array, np.s_[0:2]), array[2:4].copy())


# ------------------------------------------------------------------------------------------------------------------ npy


def test_npy_by_path_map_and_link(array: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, array)
    (tmp_path / "link.npy").symlink_to(path)
    os.link(path, tmp_path / "hard.npy")
    mapped = np.load(path, mmap_mode="r+")
    writable = bp.open_source(path, mode="r+")
    for source in (
        path,
        str(path),
        mapped,
        mapped[...],
        bp.open_source(path),
        tmp_path / "link.npy",
        ThresholdSource(path, 1),
    ):
        for output in (
            path,
            writable,
            mapped,
            tmp_path / "link.npy",
            tmp_path / "hard.npy",
            f"{tmp_path}/./a.npy",
        ):
            refused(source, output, lambda: np.load(path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "hard.npy", "link.npy"]


def test_two_maps_of_one_file_that_overlap(array: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, array)
    one, two = np.load(path, mmap_mode="r"), np.load(path, mmap_mode="r+")
    refused(one[:4], two[2:], lambda: np.load(path))
    bp.copy(one[:3], two[3:])
    two.flush()
    np.testing.assert_array_equal(np.load(path), np.concatenate([array[:3], array[:3]]))


# ----------------------------------------------------------------------------------------------------------- zarr and n5


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_by_every_name(
    array: np.ndarray, tmp_path: Path, zarr_format: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    handle = group.create_array("g/raw", shape=array.shape, dtype=array.dtype, chunks=(3, 4, 5))
    handle[...] = array
    (tmp_path / "link.zarr").symlink_to(path)
    (path / "alias").symlink_to(path / "g")
    monkeypatch.chdir(tmp_path)
    sources = (
        f"{path}/g/raw",
        "a.zarr/g/raw",
        "./link.zarr/g/raw",
        path / "alias" / "raw",
        bp.open_source(path, key="g/raw"),
        bp.open_source(path, key="g/raw", mode="r+"),
        handle,
        zarr.open_array(path / "g" / "raw", mode="r"),
        ThresholdSource(handle, 3),
    )
    outputs = (
        "a.zarr/g/raw",
        path / "g" / "raw",
        tmp_path / "link.zarr" / "g" / "raw",
        path / "alias" / "raw",
        path,
        path / "g",
        path / "g" / "raw" / "inner",
        handle,
        zarr.open_array(path / "g" / "raw", mode="r+"),
        bp.open_source(path, key="g/raw", mode="r+"),
    )
    # Each is compared with one beside it and one farther on in the other list.
    for n, source in enumerate(sources):
        for output in (outputs[n], outputs[(n + 3) % len(outputs)], outputs[(n + 7) % len(outputs)]):
            refused(source, output, lambda: zarr.open_array(path / "g" / "raw", mode="r")[...])
    with pytest.raises(bp.errors.InvalidArgumentError, match=r"has '\.\.' after"):
        bp.copy(sources[0], f"{path}/g/../g/raw", overwrite=True)
    # An array beside it in the container is another array.
    bp.copy(sources[0], path / "g" / "copy", zarr_format=zarr_format).close()
    np.testing.assert_array_equal(zarr.open_array(path / "g" / "copy", mode="r")[...], array)


def test_a_zarr_array_in_memory(array: np.ndarray) -> None:
    store = zarr.storage.MemoryStore()
    handle = zarr.create_array(store, name="a", shape=array.shape, dtype=array.dtype, chunks=(3, 4, 5))
    handle[...] = array
    refused(handle, zarr.open_array(store, path="a", mode="r+"), lambda: handle[...])
    other = zarr.create_array(store, name="b", shape=array.shape, dtype=array.dtype, chunks=(3, 4, 5))
    bp.copy(handle, other)
    np.testing.assert_array_equal(other[...], array)


def test_n5_by_path_and_handle(array: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.n5"
    with z5py.File(str(path), "w") as file:
        handle = file.create_dataset(
            "raw", shape=array.shape, dtype="uint16", chunks=(3, 4, 5), compression="gzip"
        )
        handle[...] = array
        for source in (path / "raw", handle, bp.open_source(path)):
            for output in (path / "raw", handle, path, path / "raw" / "0"):
                refused(source, output, lambda: handle[...])


def test_read_only_handles_of_one_array_are_refused_as_that(array: np.ndarray, tmp_path: Path) -> None:
    bp.copy(array, tmp_path / "a.zarr").close()
    source = bp.open_source(tmp_path / "a.zarr")
    refused(source, source, lambda: zarr.open_array(tmp_path / "a.zarr", mode="r")[...])
    with pytest.raises(PermissionError, match="read-only"):
        bp.copy(array, source)


def lazy_arrays(path: Path) -> dict[str, Any]:
    import dask.array
    import xarray

    handle = zarr.open_array(path / "raw", mode="r")
    plain = dask.array.from_zarr(str(path / "raw"))
    dataset = xarray.open_zarr(path, consolidated=False, chunks=None)
    return {
        "dask": plain,
        "dask inline": dask.array.from_array(handle, inline_array=True) + 1,
        "dask computed": dask.array.roll(dask.array.from_array(handle), 1)[::-1],
        "xarray": dataset["raw"],
        "xarray cut": dataset["raw"][1:],
        "xarray in dask": xarray.open_zarr(path, consolidated=False)["raw"] * 2,
    }


@pytest.mark.parametrize(
    "name", ["dask", "dask inline", "dask computed", "xarray", "xarray cut", "xarray in dask"]
)
def test_lazy_arrays_that_read_the_output(array: np.ndarray, tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.zarr"
    group = zarr.open_group(path, mode="w")
    stored = group.create_array(
        "raw", shape=SHAPE, dtype="uint16", chunks=(3, 4, 5), dimension_names=["z", "y", "x"]
    )
    stored[...] = array
    lazy = lazy_arrays(path)[name]
    outputs = (path / "raw", stored) if lazy.shape == SHAPE else (path / "raw",)
    for output in outputs:
        refused(lazy, output, lambda: zarr.open_array(path / "raw", mode="r")[...])
    bp.copy(lazy, path / "other").close()
    np.testing.assert_array_equal(zarr.open_array(path / "other", mode="r")[...], np.asarray(lazy))


@pytest.mark.parametrize(
    "how", ["closure", "global", "keyword", "nested", "delayed path", "delayed handle", "fields"]
)
def test_dask_graphs_that_hold_the_output_somewhere(array: np.ndarray, tmp_path: Path, how: str) -> None:
    import dask
    import dask.array as da

    np.save(tmp_path / "a.npy", array)
    path = str(tmp_path / "a.npy")
    output = bp.open_source(path, mode="r+") if "path" in how else array

    class Reader:
        def __init__(self) -> None:
            self.held = {"array": array}

    def shifted(block: np.ndarray, other: Any = None) -> np.ndarray:
        return block + (array if how == "closure" else other)

    globals()["GLOBAL"] = array
    whole = da.zeros(SHAPE, dtype="uint16", chunks=SHAPE)
    lazy = {
        "closure": lambda: whole.map_blocks(shifted, dtype="uint16"),
        "global": lambda: whole.map_blocks(_add_global, dtype="uint16"),
        "keyword": lambda: whole.map_blocks(shifted, other=array, dtype="uint16"),
        "nested": lambda: whole.map_blocks(_add_nested, [{"a": array}], dtype="uint16"),
        "delayed path": lambda: da.from_delayed(dask.delayed(np.load)(path), SHAPE, "uint16"),
        "delayed handle": lambda: da.from_delayed(dask.delayed(np.add)(array, 1), SHAPE, "uint16"),
        "fields": lambda: da.from_delayed(dask.delayed(lambda r: r.held["array"])(Reader()), SHAPE, "uint16"),
    }[how]()
    for lazier in (lazy, (lazy + 1)[::-1]):
        with pytest.raises(ValueError, match=REFUSAL):
            bp.copy(lazier, output)
    if "path" in how:
        with pytest.raises(ValueError, match=REFUSAL):
            bp.copy(lazy, path, overwrite=True)
    bp.copy(lazy, np.zeros_like(array))


def _add_nested(block: np.ndarray, more: Any) -> np.ndarray:
    return block + more[0]["a"]


def _add_global(block: np.ndarray) -> np.ndarray:
    return block + GLOBAL  # type: ignore[name-defined]  # noqa: F821 - set by the test


@pytest.mark.parametrize("package", ["numpy", "dask"])
def test_attachments_of_one_shared_memory(array: np.ndarray, tmp_path: Path, package: str) -> None:
    import dask
    import dask.array as da

    block = shared_memory.SharedMemory(create=True, size=2 * array.nbytes)
    again = shared_memory.SharedMemory(name=block.name)
    try:
        one = np.ndarray(SHAPE, "uint16", buffer=block.buf)
        other = np.ndarray(SHAPE, "uint16", buffer=again.buf)
        apart = np.ndarray(SHAPE, "uint16", buffer=again.buf, offset=array.nbytes)
        one[...] = array
        with pytest.raises(ValueError, match=REFUSAL):
            bp.copy(
                one if package == "numpy" else da.from_delayed(dask.delayed(one), SHAPE, "uint16")[::-1],
                other,
            )
        if package == "numpy":
            bp.copy(one, apart)
            np.testing.assert_array_equal(apart, array)
        np.testing.assert_array_equal(one, array)
    finally:
        one = other = apart = None  # type: ignore[assignment]
        for attached in (again, block):
            attached.close()
        block.unlink()


def test_maps_of_one_file(array: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(array.tobytes())
    with path.open("r+b") as first, path.open("r+b") as second:
        one = np.frombuffer(mmap.mmap(first.fileno(), 0), "uint16").reshape(SHAPE)
        other = np.frombuffer(mmap.mmap(second.fileno(), 0), "uint16").reshape(SHAPE)
    refused(one, other, lambda: one)
    refused(one, np.memmap(path, "uint16", "r+", 0, SHAPE), lambda: one)


# ---------------------------------------------------------------------------------------------- the files of all families


@pytest.mark.parametrize("key", [None, "data", "g/raw"])
def test_hard_links_of_hdf5(array: np.ndarray, tmp_path: Path, key: str | None) -> None:
    name = f":/{key}" if key else ""
    bp.copy(array, f"{tmp_path}/a.h5{name}")
    os.link(tmp_path / "a.h5", tmp_path / "b.h5")
    refused(f"{tmp_path}/a.h5", f"{tmp_path}/b.h5{name}", lambda: bp.open_source(tmp_path / "a.h5")[...])
    bp.copy(f"{tmp_path}/a.h5", f"{tmp_path}/b.h5:/other").close()
    np.testing.assert_array_equal(bp.open_source(tmp_path / "a.h5", "other")[...], array)


def test_virtual_datasets_and_what_they_show(array: np.ndarray, tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "uint16")
    layout[...] = h5py.VirtualSource("part.h5", "p", SHAPE)
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["p"] = array
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("v", layout)
    shown, part = f"{tmp_path}/v.h5:/v", f"{tmp_path}/part.h5:/p"

    def check() -> np.ndarray:
        return bp.open_source(part)[...]

    refused(shown, part, check)
    refused(part, shown, check)
    with h5py.File(tmp_path / "part.h5", "r+") as parts, h5py.File(tmp_path / "v.h5", "r+") as whole:
        refused(whole["v"], parts["p"], lambda: parts["p"][...])
        refused(parts["p"], whole["v"], lambda: parts["p"][...])
    bp.copy(shown, f"{tmp_path}/part.h5:/other").close()


def test_external_storage_is_what_a_dataset_shows(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_external(b"a.npy", 128, array.nbytes)
        h5py.h5d.create(file.id, b"k", h5py.h5t.NATIVE_UINT16, h5py.h5s.create_simple(SHAPE), created)
    os.link(tmp_path / "a.npy", tmp_path / "b.npy")
    refused(f"{tmp_path}/a.h5:/k", tmp_path / "b.npy", lambda: np.load(tmp_path / "a.npy"))
    refused(f"{tmp_path}/a.h5:/k", np.load(tmp_path / "a.npy", "r+"), lambda: np.load(tmp_path / "a.npy"))


def test_a_picture_does_not_replace_a_slice_by_another_name(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "s").mkdir()
    for n in range(3):
        Image.fromarray(np.full((20, 30), n, "u1")).save(tmp_path / "s" / f"{n}.png")
    os.link(tmp_path / "s" / "1.png", tmp_path / "out.png")
    with pytest.raises(ValueError, match="belongs to the input"):
        bp.preview(tmp_path / "s", tmp_path / "out.png", overwrite=True)


# ----------------------------------------------------------------------------------------------------------------- hdf5


def test_hdf5_by_path_and_handle(array: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("g/raw", data=array, chunks=(3, 4, 5))
        file["hard"] = file["g/raw"]
        file["soft"] = h5py.SoftLink("/g/raw")
    (tmp_path / "link.h5").symlink_to(path)

    def check() -> np.ndarray:
        with h5py.File(path, "r") as file:
            return np.asarray(file["g/raw"][...])

    for source in (
        f"{path}:/g/raw",
        f"{path}:g/raw",
        bp.open_source(path, "g/raw"),
        ThresholdSource(f"{path}:/g/raw", 3),
    ):
        for output in (
            f"{path}:/g/raw",
            path / "g" / "raw",
            f"{tmp_path}/link.h5:/g/raw",
            f"{path}:/g",
            f"{path}:/g/raw/in",
        ):
            refused(source, output, check)
    with h5py.File(path, "r+") as file:
        live = file["g/raw"]
        for output in (live, file["hard"], file["soft"]):
            refused(live, output, lambda: live[...])


def test_links_to_the_input_within_an_hdf5_file_do_not_cost_its_voxels(
    array: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=array, chunks=(3, 4, 5))
        file["hard"] = file["raw"]
        file["soft"] = h5py.SoftLink("/raw")
    for name in ("hard", "soft"):
        with contextlib.suppress(ValueError, OSError):
            bp.copy(f"{path}:/raw", f"{path}:/{name}", overwrite=True).close()
        with h5py.File(path, "r") as file:
            np.testing.assert_array_equal(file["raw"][...], array)


# --------------------------------------------------------------------------------------------------- around and inside


def test_a_stack_of_slices_is_not_written_into(array: np.ndarray, tmp_path: Path) -> None:
    import tifffile

    folder = tmp_path / "slices"
    folder.mkdir()
    for n, plane in enumerate(array):
        tifffile.imwrite(folder / f"{n}.tif", plane)
    before = sorted(folder.iterdir())
    for output in (folder / "out.zarr", folder / "deep" / "out.zarr", folder / "out.npy"):
        with pytest.raises(ValueError, match="lies inside the input"):
            bp.copy(folder, output)
        with pytest.raises(ValueError, match="lies inside the input"):
            bp.copy(bp.open_source(folder, "*.tif"), output)
    assert sorted(folder.iterdir()) == before
    bp.copy(folder, tmp_path / "out.zarr").close()


def test_a_folder_that_holds_the_input_is_not_replaced(array: np.ndarray, tmp_path: Path) -> None:
    folder = tmp_path / "out.zarr"
    folder.mkdir()
    np.save(folder / "a.npy", array)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="lies inside the output"):
            bp.copy(folder / "a.npy", folder, overwrite=overwrite)
    np.testing.assert_array_equal(np.load(folder / "a.npy"), array)


# ------------------------------------------------------------------------------------------------------------------ mask


def test_the_mask_is_not_overwritten(array: np.ndarray, tmp_path: Path) -> None:
    mask = tmp_path / "mask.zarr"
    bp.copy(array > 30_000, mask).close()
    stored = zarr.open_array(mask, mode="r")
    for given in (mask, stored, ThresholdSource(mask, 0)):
        for output in (mask, mask / "inner", zarr.open_array(mask, mode="r+")):
            with pytest.raises(
                ValueError, match=r"needs 'output' to differ from 'mask'|lies inside the mask"
            ):
                bp.copy(array, output, mask=given, overwrite=True, casting="unsafe")
            np.testing.assert_array_equal(stored[...], array > 30_000)
    with pytest.raises(ValueError, match="differ from 'mask'"):
        bp.copy(textured(SHAPE, "uint16", seed=5), array[:, ::-1], mask=array)


def test_the_output_itself_may_be_the_mask(array: np.ndarray) -> None:
    out = (array > 30_000).astype("uint16")
    expected = np.where(out != 0, array, 0)
    bp.copy(array, out, mask=out, block_shape=(2, 4, 5), num_workers=3)
    np.testing.assert_array_equal(out, expected)


# -------------------------------------------------------------------------------------------------------------- overwrite


@pytest.mark.parametrize("name", ["o.zarr", "o.zarr/a", "o.n5/a", "o.h5:/a", "o.npy"])
def test_overwriting_replaces_one_array_and_nothing_beside_it(
    array: np.ndarray, tmp_path: Path, name: str
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    bp.copy(array, f"{tmp_path}/{name}").close()
    if "a" in name.partition(".")[2][3:]:
        beside = name[:-1] + "b"
        bp.copy(array, f"{tmp_path}/{beside}").close()
    new = textured((3, 4), "float32")
    bp.copy(new, f"{tmp_path}/{name}", overwrite=True).close()
    with bp.open_source(f"{tmp_path}/{name}") as found:
        np.testing.assert_array_equal(found[...], new)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_copy_that_cannot_be_planned_does_not_remove_the_old_output(
    array: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "o.zarr"
    bp.copy(array, path).close()
    bad: list[dict[str, Any]] = [
        {"block_shape": (1, 1, 1), "chunks": (2, 2, 2)},
        {"block_ids": [10**6]},
        {"mask": np.ones((2, 2))},
        {"memory_limit": 1},
        {"casting": "nonsense"},
        {"codec": "nonsense"},
        {"shards": (3, 3, 3), "chunks": (2, 2, 2)},
        {"zarr_format": 7},
        {"zarr_format": 2, "shards": (4, 4, 4), "chunks": (2, 2, 2)},
    ]
    for options in bad:
        with pytest.raises(ValueError, match=r"\w"):
            bp.copy(array + 1, path, overwrite=True, **options)
        np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], array)
