"""Every road gives the same voxels, through the public call, as other people's readers see them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numcodecs
import numpy as np
import pytest
import z5py
import zarr
import zarr.codecs.numcodecs
from hypothesis import given, settings, strategies as st

import bioimage_py as bp
from bioimage_py.errors import RunnerError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.sources import open_source
from bioimage_py.sources.zarr import files as zarr_files
from bioimage_py.wrapper.shape import RoiSource
from tests.kernels.stored import CODECS, Storing, files_below, read_by_others, store
from tests.sources.contract import textured


def read_by_everyone(path: Path, kind: str) -> Iterator[np.ndarray]:
    """The voxels as zarr-python, TensorStore, zarrs and z5py read them, as far as they know the format."""
    yield from read_by_others(path, Storing(kind))
    if kind == "n5":
        # z5py pads nothing and cuts nothing: chunks at the far faces are as Java writes them.
        yield np.asarray(z5py.File(path.parent, "r")[path.name][...])
    elif kind == "v3":
        zarrs = pytest.importorskip("zarrs")
        with zarr.config.set({"codec_pipeline.path": f"{zarrs.__name__}.ZarrsCodecPipeline"}):
            found = np.asarray(zarr.open_array(path, mode="r")[...])
        yield found.astype(found.dtype.newbyteorder("="))


def bits(array: np.ndarray) -> bytes:
    """The bytes of voxels, with one NaN for all: HDF5 makes another of it when it turns the byte order."""
    return (
        np.where(np.isnan(array), np.full_like(array, np.nan), array).tobytes()
        if array.dtype.kind == "f"
        else array.tobytes()
    )


def storing(data: st.DataObject, ndim: int, dtype: str) -> Storing:
    chunks = tuple(data.draw(st.integers(1, 4)) for _ in range(ndim))
    kind = data.draw(st.sampled_from(["v2", "v3", "shards", "n5", "hdf5"]))
    if kind == "n5":
        return Storing("n5", data.draw(st.sampled_from(["none", "gzip"])), chunks)
    fill = data.draw(st.sampled_from([0, 1, float("nan"), -0.0] if dtype == "float32" else [0, 3]))
    big = data.draw(st.booleans()) and dtype != "uint8"
    if kind == "hdf5":
        return Storing("hdf5", data.draw(st.sampled_from(["none", "gzip"])), chunks, big=big, fill=fill)
    shards = tuple(c * data.draw(st.integers(1, 3)) for c in chunks) if kind == "shards" else None
    return Storing(
        "v3" if shards else kind,
        data.draw(st.sampled_from(CODECS)),
        chunks,
        shards,
        big=big,
        fill=fill,
        keys=data.draw(st.sampled_from("/.")),
        index_at=data.draw(st.sampled_from(["end", "start"])),
    )


@settings(max_examples=80)
@given(st.data())
def test_every_road_gives_the_same_voxels(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    shape = tuple(data.draw(st.integers(1, 11)) for _ in range(ndim))
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "int32", "float32"]))
    how = storing(data, ndim, dtype)
    array = textured(shape, dtype)
    clipped = tuple(min(c, n) for c, n in zip(how.chunks, shape, strict=True))
    how = replace(how, chunks=clipped) if how.kind == "hdf5" else how
    some = data.draw(st.lists(st.sampled_from(list(Blocking(shape, how.chunks))), unique=True))
    image = np.full(shape, how.fill, dtype)
    for block in some:
        image[block.slices] = array[block.slices]
    region = Box.whole(shape)
    if data.draw(st.booleans()):
        # On the grid, or not, at either end.
        begin = tuple(
            min(n - 1, c * data.draw(st.integers(0, 2)) + data.draw(st.sampled_from([0, 0, 1])))
            for c, n in zip(how.chunks, shape, strict=True)
        )
        region = Box(
            begin, tuple(data.draw(st.integers(b + 1, n)) for b, n in zip(begin, shape, strict=True))
        )
    to = data.draw(st.sampled_from(["v2", "v3", "shards", "n5"]))
    options: dict[str, Any] = {"chunks": how.chunks, "num_workers": data.draw(st.integers(1, 2))}
    options["codec"] = data.draw(st.sampled_from([None, None, "gzip", "none"]))
    options["verify_encoded"] = data.draw(st.booleans())
    if to == "shards":
        options["shards"] = tuple(c * data.draw(st.integers(1, 3)) for c in how.chunks)
    if to == "v2":
        options["zarr_format"] = 2
    expected = image[region.slices]
    if data.draw(st.booleans()):
        blocks = data.draw(st.lists(st.sampled_from(list(Blocking(region.shape, how.chunks))), unique=True))
        mask = np.zeros(region.shape, bool)
        for block in blocks:
            mask[block.slices] = True
        if data.draw(st.booleans()):
            mask.flat[:: data.draw(st.integers(1, 5))] = False
        options["mask"] = mask
    # Chunks as small as these are left to TensorStore, unless told otherwise.
    least = data.draw(st.sampled_from([zarr_files.LEAST_BYTES, 1]))
    with tempfile.TemporaryDirectory() as name, patch.object(zarr_files, "LEAST_BYTES", least):
        folder = Path(name)
        source: Any = store(folder / "in", how, image, [b.slices for b in some])
        if region != Box.whole(shape):
            source = RoiSource(source, region)
        out = bp.copy(source, folder / ("out.n5/raw" if to == "n5" else "out.zarr"), **options)
        if "mask" in options:
            fill = np.asarray(out.fill_value).astype(dtype)
            expected = np.where(options["mask"], expected, fill)
        out.close()
        place = folder / ("out.n5/raw" if to == "n5" else "out.zarr")
        for found in read_by_everyone(place, to.replace("shards", "v3")):
            assert found.dtype == expected.dtype
            assert bits(found) == bits(expected)


CHUNKS = (4, 5, 6)


@pytest.mark.parametrize("how", [Storing("v3"), Storing("n5", "gzip")], ids=lambda how: how.kind)
@pytest.mark.parametrize(
    ("roi", "whole", "recoded"),
    [
        ((slice(4, 12), slice(5, 15), slice(0, 12)), 8, 0),
        # Off the grid at the far face: the chunks there are padded with voxels that are outside of the region.
        ((slice(4, 11), slice(5, 14), slice(0, 12)), 8, 0),
        # Off the grid at the near one: no chunk of the one is a chunk of the other.
        ((slice(3, 11), slice(5, 15), slice(0, 12)), 0, 8),
    ],
)
def test_parts_of_a_region_that_are_on_the_grid_are_moved(
    tmp_path: Path, how: Storing, roi: tuple[slice, ...], whole: int, recoded: int
) -> None:
    array = textured((16, 20, 18), "uint16")
    source = RoiSource(store(tmp_path / "in", how, array), roi)
    planned = bp.plan(source, tmp_path / "out.zarr", chunks=CHUNKS)
    assert planned.road == ("verbatim" if whole else "recode")
    out = bp.copy(source, tmp_path / "out.zarr", chunks=CHUNKS)
    np.testing.assert_array_equal(out[...], array[roi])
    for found in read_by_everyone(tmp_path / "out.zarr", "v3"):
        np.testing.assert_array_equal(found, array[roi])
    cut = 16 if how.kind == "n5" else 0
    payloads = {data[cut:] for data in files_below(tmp_path / "in").values()}
    moved = [data for data in files_below(tmp_path / "out.zarr").values() if data in payloads]
    assert (len(moved), 8 - len(moved)) == (whole, recoded)


def test_edge_chunks_of_n5_are_recoded_and_all_others_moved(tmp_path: Path) -> None:
    array = textured((9, 11, 13), "uint16")
    source = store(tmp_path / "in", Storing("n5", "gzip"), array)
    planned = bp.plan(source, tmp_path / "out.zarr", chunks=CHUNKS)
    assert planned.road == "verbatim"
    assert "edge chunks that are truncated are recoded" in planned.reason
    bp.copy(source, tmp_path / "out.zarr", chunks=CHUNKS)
    payloads = {data[16:] for data in files_below(tmp_path / "in").values()}
    written = files_below(tmp_path / "out.zarr")
    assert (len(written), sum(data in payloads for data in written.values())) == (27, 2 * 2 * 2)
    for found in read_by_everyone(tmp_path / "out.zarr", "v3"):
        np.testing.assert_array_equal(found, array)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_shuffled_hdf5_is_moved_into_arrays_that_say_so(tmp_path: Path, zarr_format: int) -> None:
    """A new array does not get these codecs by itself: not every reader of Zarr has them."""
    array = textured((64, 64, 96), "uint16") // 99
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("raw", data=array, chunks=(32, 32, 32), compression="gzip", shuffle=True)
    planned = bp.plan(tmp_path / "in.h5", tmp_path / "new.zarr", zarr_format=zarr_format)
    assert planned.road == "recode"
    assert "codec shuffle 2 zlib vs" in planned.reason
    new = bp.copy(tmp_path / "in.h5", tmp_path / "new.zarr", zarr_format=zarr_format)
    assert new.engine == "tensorstore"
    own: dict[str, Any]
    if zarr_format == 2:
        own = {"filters": [numcodecs.Shuffle(2)], "compressors": numcodecs.Zlib(4)}
    else:
        own = {
            "compressors": [zarr.codecs.numcodecs.Shuffle(elementsize=2), zarr.codecs.numcodecs.Zlib(level=4)]
        }
    zarr.create_array(
        tmp_path / "out.zarr",
        shape=array.shape,
        dtype="uint16",
        chunks=(32, 32, 32),
        zarr_format=zarr_format,
        **own,
    )
    out = open_source(tmp_path / "out.zarr", mode="r+")
    assert bp.plan(tmp_path / "in.h5", out).road == "verbatim"
    bp.copy(tmp_path / "in.h5", out)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "out.zarr", mode="r")[...], array)
    assert len([name for name in files_below(tmp_path / "out.zarr") if not name.startswith(".")]) == 12


@pytest.mark.parametrize("shards", [None, (32, 64)])
def test_checksums_of_the_input_are_kept(tmp_path: Path, shards: tuple[int, ...] | None) -> None:
    array = textured((64, 64), "uint16")
    codecs = [zarr.codecs.ZstdCodec(level=2, checksum=True), zarr.codecs.Crc32cCodec()]
    options = {"shape": (64, 64), "chunks": (32, 32), "dtype": "u2", "compressors": codecs}
    zarr.create_array(tmp_path / "in.zarr", shards=shards, **options)[...] = array
    assert bp.plan(tmp_path / "in.zarr", tmp_path / "out.zarr").road == "verbatim"
    bp.copy(tmp_path / "in.zarr", tmp_path / "out.zarr")
    before, after = (
        zarr.open_array(tmp_path / name, mode="r").metadata.codecs for name in ("in.zarr", "out.zarr")
    )
    assert before == after
    assert files_below(tmp_path / "in.zarr") == files_below(tmp_path / "out.zarr")
    # What is not asked for is not added to chunks that are moved.
    bp.copy(array, tmp_path / "plain.zarr", codec="blosc", chunks=(32, 32))
    assert bp.plan(tmp_path / "plain.zarr", tmp_path / "moved.zarr").road == "verbatim"
    assert "crc32c" not in bp.copy(tmp_path / "plain.zarr", tmp_path / "moved.zarr").codec
    assert "crc32c" in bp.copy(tmp_path / "plain.zarr", tmp_path / "new.zarr", chunks=(64, 64)).codec


def test_a_fletcher32_of_hdf5_becomes_a_crc32c(tmp_path: Path) -> None:
    array = textured((64, 64), "uint16")
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file.create_dataset("x", data=array, chunks=(32, 32), compression="gzip", fletcher32=True)
    made = bp.copy(tmp_path / "in.h5", tmp_path / "out.zarr")
    assert made.codec == "gzip:4 crc32c"
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "out.zarr", mode="r")[...], array)


@pytest.mark.parametrize(
    ("how", "options"),
    [
        (Storing("v3", chunks=(32, 32, 32)), {}),
        (Storing("v2", "lz4", chunks=(32, 32, 32)), {}),
        (Storing("v3", "gzip", chunks=(32, 32, 32)), {"shards": (64, 64, 96)}),
        (Storing("v3", chunks=(32, 32, 32), shards=(32, 64, 96)), {}),
        (Storing("v3", chunks=(32, 32, 32), shards=(32, 64, 96)), {"shards": (64, 64, 96)}),
        (Storing("n5", "gzip", chunks=(32, 32, 32)), {}),
    ],
)
@pytest.mark.parametrize("damage", ["cut", "header"])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_corrupt_chunk_fails_the_copy_and_is_named(
    tmp_path: Path, how: Storing, options: dict[str, Any], damage: str, num_workers: int
) -> None:
    array = textured((64, 64, 96), "uint16") // 999
    source = store(tmp_path / "in", how, array)
    assert bp.plan(source, tmp_path / "out.zarr", **options).road in ("verbatim", "repack")
    key = {"n5": "raw/1/0/1", "v2": "1/0/1"}.get(how.kind, "c/1/0/0" if how.shards else "c/1/0/1")
    data = (tmp_path / "in" / key).read_bytes()
    head = 16 if how.kind == "n5" else 0
    broken = data[: len(data) // 2] if damage == "cut" else data[:head] + b"\xff" * 8 + data[head + 8 :]
    (tmp_path / "in" / key).write_bytes(broken)
    with pytest.raises(RunnerError, match=rf"chunk \(1, 0, [01]\) of .*{key}") as raised:
        bp.copy(source, tmp_path / "out.zarr", num_workers=num_workers, **options)
    assert raised.value.failed_block_ids
    written = files_below(tmp_path / "out.zarr")
    assert not [name for name, stored in written.items() if name.endswith("partial") or stored == broken]
