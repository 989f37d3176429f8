"""Memory that is read into again and again: right voxels, one buffer a thread, nothing left of the block before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.geometry import Box
from bioimage_py.kernels import ReadBuffers
from bioimage_py.runner import run_twin


def test_a_thread_gets_the_same_memory_again() -> None:
    buffers = ReadBuffers()
    first = buffers.of((4, 6), np.dtype("uint16"))
    assert (first.shape, first.dtype, first.flags.c_contiguous) == ((4, 6), np.uint16, True)
    assert np.shares_memory(first, buffers.of((3, 2), np.dtype("float32")))
    assert not np.shares_memory(first, buffers.of((40, 6), np.dtype("uint16")))
    large = [buffers.of((2**26 + 1,), np.dtype("uint8")) for _ in range(2)]
    assert not np.shares_memory(*large)


def test_threads_do_not_share() -> None:
    buffers = ReadBuffers()
    mine = buffers.of((8,), np.dtype("uint8"))
    others: list[np.ndarray] = []
    thread = threading.Thread(target=lambda: others.append(buffers.of((8,), np.dtype("uint8"))))
    thread.start()
    thread.join()
    assert not np.shares_memory(mine, others[0])


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", ">u4", "float16", "float64", "complex64"])
@pytest.mark.parametrize("kind", ["zarr", "n5"])
def test_a_store_fills_the_buffer(tmp_path: Path, dtype: str, kind: str) -> None:
    if kind == "n5" and dtype in ("bool", "float16", "complex64"):
        pytest.skip("N5 has no such voxels")
    values = np.random.default_rng(0).integers(0, 2, (7, 9, 11)).astype(dtype)
    source = bp.copy(values, tmp_path / f"a.{kind}", chunks=(3, 4, 5))
    assert source.fills_buffers
    box = Box((1, 2, 3), (6, 9, 8))
    buffer = np.ones(box.shape, source.dtype)
    found = source.read(box, buffer)
    assert np.shares_memory(found, buffer)
    np.testing.assert_array_equal(found, values[box.slices])


def test_a_source_that_fills_none_reads_as_ever() -> None:
    values = np.arange(12).reshape(3, 4)
    source = bp.as_source(values)
    assert not source.fills_buffers
    np.testing.assert_array_equal(source.read(Box((0, 1), (2, 3)), np.zeros((2, 2), int)), values[:2, 1:3])


@pytest.mark.parametrize("num_workers", [1, 3])
def test_blocks_of_different_shapes_and_missing_chunks(tmp_path: Path, num_workers: int) -> None:
    values = np.random.default_rng(1).integers(1, 999, (50, 45, 40)).astype("uint16")
    values[16:32] = 0
    bp.copy(values, tmp_path / "in.zarr", chunks=(16, 16, 16), codec="zstd")
    out = bp.copy(
        tmp_path / "in.zarr",
        tmp_path / "out.zarr",
        chunks=(16, 16, 16),
        codec="blosc",
        block_shape=(16, 32, 16),
        num_workers=num_workers,
    )
    np.testing.assert_array_equal(out[...], values)


def _tiff(path: Path, values: np.ndarray, **options: object) -> str:
    tifffile.imwrite(path, values, photometric="minisblack", **options)
    return str(path)


def _slices(folder: Path, values: np.ndarray) -> str:
    for number, plane in enumerate(values):
        _tiff(folder / f"s{number:02d}.tif", plane, compression="zlib", rowsperstrip=4)
    return f"{folder}/s*.tif"


def _hdf5(path: Path, values: np.ndarray) -> str:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=values, chunks=(3, 4, 5), compression="gzip")
    return f"{path}:/raw"


FILES: dict[str, Callable[[Path, np.ndarray], str]] = {
    "tiff of strips": lambda folder, v: _tiff(folder / "a.tif", v, compression="zlib", rowsperstrip=4),
    "tiff of one strip": lambda folder, v: _tiff(folder / "a.tif", v, compression="zlib", rowsperstrip=40),
    "tiff of tiles": lambda folder, v: _tiff(folder / "a.tif", v, compression="zlib", tile=(16, 16)),
    "plain tiff": lambda folder, v: _tiff(folder / "a.tif", v),
    "plain tiff, other byte order": lambda folder, v: _tiff(folder / "a.tif", v, byteorder=">"),
    "slices": _slices,
    "hdf5": lambda folder, v: _hdf5(folder / "a.h5", v),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "box", [Box((1, 2, 3), (6, 29, 31)), Box((0, 0, 0), (7, 30, 33)), Box((2, 0, 0), (3, 30, 33))]
)
def test_a_file_fills_the_buffer(tmp_path: Path, kind: str, threads: int, box: Box) -> None:
    values = np.random.default_rng(0).integers(0, 999, (7, 30, 33)).astype("uint16")
    source = bp.open_source(FILES[kind](tmp_path, values))
    buffer = np.ones(box.shape, source.dtype)
    with run_twin(source, threads) as twin:
        assert twin.fills_buffers
        for _ in range(2):
            found = twin.read(box, buffer)
            assert np.shares_memory(found, buffer)
            np.testing.assert_array_equal(found, values[box.slices])
            buffer[...] = 7
        # What the source keeps is its own.
        np.testing.assert_array_equal(twin.read(box), values[box.slices])


def test_planes_that_are_not_stored_are_filled_in_the_buffer(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(1, 999, (4, 32, 32)).astype("uint16")
    path = Path(_tiff(tmp_path / "a.tif", values, compression="zlib", tile=(16, 16)))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[2].tags["TileByteCounts"].overwrite([0] * 4)  # type: ignore[union-attr]
        file.pages[2].tags["TileOffsets"].overwrite([0] * 4)  # type: ignore[union-attr]
    source = bp.open_source(path, missing_planes="fill")
    buffer = np.ones(values.shape, source.dtype)
    values[2] = 0
    np.testing.assert_array_equal(source.read(Box.whole(values.shape), buffer), values)
