"""`verify`: equal or not, how many voxels differ, and which is the first."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given, settings, strategies as st

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError, RunnerError
from bioimage_py.sources import with_metadata
from bioimage_py.wrapper import RoiSource, ThresholdSource
from tests.counting import CountingSource
from tests.sources.contract import textured

SHAPE = (12, 20, 18)


@pytest.fixture
def image() -> np.ndarray:
    return textured(SHAPE, "uint16")


def stored(path: Path, array: np.ndarray, chunks: tuple[int, ...], **options: Any) -> zarr.Array:
    made = zarr.create_array(path, shape=array.shape, dtype=array.dtype, chunks=chunks, **options)
    made[...] = array
    return made


def test_equal_whatever_the_format(image: np.ndarray, tmp_path: Path) -> None:
    stored(tmp_path / "a.zarr", image, (5, 6, 7))
    stored(tmp_path / "b.zarr", image, (2, 3, 4), shards=(4, 9, 8))
    np.save(tmp_path / "c.npy", image)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.create_dataset("x", data=image, chunks=(3, 3, 3), compression="gzip")
    arrays = [image, *sorted(tmp_path.iterdir()), image.astype(">u2"), np.asfortranarray(image)]
    for a in arrays:
        for b in arrays[::2]:
            for workers in (1, 2):
                result = bp.verify(a, b, num_workers=workers)
                assert result
                assert (result.equal, result.different, result.first_difference) == (True, 0, None)
                assert (result.compared, result.shape) == (image.size, SHAPE)
    assert str(bp.verify(image, tmp_path / "a.zarr")) == "equal: all 4,320 voxels"


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_first_difference_is_in_c_order_over_all_blocks(
    image: np.ndarray, tmp_path: Path, workers: int
) -> None:
    """The block that holds it is neither the first to be compared nor the first to be numbered."""
    other = image.copy()
    # Blocks of (4, 5, 6): (3, 19, 17) is in a late block of the first layer, (2, 7, 17) in one before, (3, 0, 0) in the first.
    places = [(3, 0, 0), (3, 19, 17), (2, 7, 17), (11, 19, 17)]
    for place in places:
        other[place] ^= 1
    a, b = stored(tmp_path / "a.zarr", image, (4, 5, 6)), stored(tmp_path / "b.zarr", other, (4, 5, 6))
    # Under this limit it takes many blocks, and the first one is slow.
    slow = CountingSource(a, delay=0.005)
    result = bp.verify(slow, b, num_workers=workers, memory_limit=8_000)
    assert len(slow.reads) > 4
    assert not result
    assert result.different == 4
    assert result.first_difference == (2, 7, 17)
    assert result.first_values == (int(image[2, 7, 17]), int(other[2, 7, 17]))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from(["uint8", "int64", "float32", "complex64", "bool"]),
    st.integers(0, 5),
    st.integers(1, 3),
    st.integers(0, 2**31),
)
def test_counts_as_numpy_does(shape: list[int], dtype: str, n: int, workers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = textured(tuple(shape), dtype, seed)
    b = a.copy()
    for _ in range(n):
        place = tuple(int(rng.integers(k)) for k in shape)
        with np.errstate(over="ignore"):
            b[place] = not b[place] if dtype == "bool" else b[place] + 1
    chunks = tuple(int(rng.integers(1, k + 1)) for k in shape)
    result = bp.verify(CountingSource(a, chunks=chunks), b, num_workers=workers)
    differs = np.argwhere(a != b)
    assert result.different == len(differs)
    assert result.first_difference == (tuple(differs[0].tolist()) if len(differs) else None)
    assert result.equal is (len(differs) == 0)


def test_nan_is_nan_and_zero_has_no_sign() -> None:
    a = np.array([np.nan, 0.0, -0.0, np.inf, 1.0], "float32")
    assert bp.verify(a, np.array([np.nan, -0.0, 0.0, np.inf, 1.0])).equal
    result = bp.verify(a, np.array([0.0, 0.0, 0.0, -np.inf, np.nan], "float32"))
    assert (result.different, result.first_difference) == (3, (0,))
    assert np.isnan(result.first_values[0])  # type: ignore[index]
    assert result.to_json()["first_values"] == ["nan", 0.0]
    c = np.array([complex(np.nan, 1), complex(1, np.nan), 1 + 1j])
    assert bp.verify(c, c.copy()).equal
    assert bp.verify(c, np.array([1 + 1j, 1 + 1j, 1 + 1j])).different == 2


@pytest.mark.parametrize(
    ("a", "b", "different"),
    [
        (np.array([0, 1, 255], "uint8"), np.array([0, 1, 255], "float64"), 0),
        (np.array([0, 1, 2], "uint8"), np.array([False, True, True]), 1),
        (np.array([255], "uint8"), np.array([-1], "int8"), 1),
        (np.array([2**64 - 1], "uint64"), np.array([-1], "int64"), 1),
        (np.array([2**63, 5], "uint64"), np.array([-(2**63), 5], "int64"), 1),
        (np.array([2**53 + 1], "int64"), np.array([2.0**53]), 1),
        (np.array([2**64 - 1], "uint64"), np.array([2.0**64]), 1),
        (np.array([2**63 - 1], "int64"), np.array([2.0**63]), 1),
        (np.array([-(2**63)], "int64"), np.array([-(2.0**63)]), 0),
        (np.array([2**62], "int64"), np.array([2.0**62 + 0j]), 0),
        (np.array([2**24 + 1], "int32"), np.array([2.0**24], "float32"), 1),
        (np.array([0.1], "float32"), np.array([0.1]), 1),
        (np.array([0.5], "float16"), np.array([0.5]), 0),
        (np.array([5], "int64"), np.array([np.nan]), 1),
    ],
)
def test_dtypes_are_compared_by_value_exactly(a: np.ndarray, b: np.ndarray, different: int) -> None:
    for one, other in ((a, b), (b, a), (a.astype(a.dtype.newbyteorder(">")), b)):
        result = bp.verify(one, other)
        assert result.different == different
        assert str(one.dtype) in str(result)
        assert str(other.dtype) in str(result)


@pytest.mark.parametrize("shape", [(4, 5, 6), (5, 5, 5)])
def test_axes_are_compared_by_name(shape: tuple[int, ...], tmp_path: Path) -> None:
    voxels = np.arange(math.prod(shape)).reshape(shape)
    turned = with_metadata(voxels, axes="xyz")
    bp.copy(turned, tmp_path / "a.ome.zarr")
    assert bp.open_source(tmp_path / "a.ome.zarr").shape == shape[::-1]
    assert bp.verify(turned, tmp_path / "a.ome.zarr").equal
    written = bp.open_source(tmp_path / "a.ome.zarr", mode="r+")
    written[1, 2, 3] = 0
    found = bp.verify(turned, tmp_path / "a.ome.zarr")
    assert (found.different, found.first_difference) == (1, (3, 2, 1))


def test_shapes_must_agree(image: np.ndarray, tmp_path: Path) -> None:
    stored(tmp_path / "a.zarr", image, (5, 6, 7))
    with pytest.raises(InvalidArgumentError, match=r"a\.zarr.*\(12, 20, 18\).*\(12, 20\)"):
        bp.verify(tmp_path / "a.zarr", image[..., 0])


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (1, 1, 1, 1, 1, 1)])
def test_every_number_of_axes_and_empty_ones(shape: tuple[int, ...]) -> None:
    a = textured(shape, "int16")
    assert bp.verify(a, a.copy(), num_workers=2).equal
    if a.size:
        result = bp.verify(a, np.asarray(a + 1), num_workers=2)
        assert (result.different, result.first_difference) == (a.size, (0,) * a.ndim)


def test_an_array_may_be_compared_with_itself_and_with_wrappers(image: np.ndarray) -> None:
    assert bp.verify(image, image).equal
    assert bp.verify(ThresholdSource(image, 100), image > 100).equal


def test_says_it_in_words_and_as_json(image: np.ndarray) -> None:
    other = image.astype("float64")
    other[1, 2, 3] += 0.5
    result = bp.verify(image, other)
    text = str(result)
    assert text.startswith("different: 1 of 4,320 voxels (0.0231 %), the first at (1, 2, 3): ")
    assert f"{image[1, 2, 3]} and {other[1, 2, 3]}" in text
    assert "uint16 and float64" in text
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert plain == {
        "equal": False,
        "different": 1,
        "first_difference": [1, 2, 3],
        "first_values": [int(image[1, 2, 3]), float(other[1, 2, 3])],
        "compared": 4320,
        "compared_encoded": 0,
        "shape": [12, 20, 18],
        "dtypes": ["uint16", "float64"],
    }
    same = json.loads(json.dumps(bp.verify(image, image.copy()).to_json(), allow_nan=False))
    assert (same["equal"], same["first_difference"], same["first_values"]) == (True, None, None)


def test_values_that_json_cannot_hold_are_texts() -> None:
    for bad in (np.array([np.inf]), np.array([np.nan]), np.array([1j])):
        json.dumps(bp.verify(bad, np.array([0.0])).to_json(), allow_nan=False)


def test_what_cannot_be_read_is_an_error_and_no_verdict(image: np.ndarray, tmp_path: Path) -> None:
    source = CountingSource(
        image, chunks=(4, 20, 18), fails=lambda box: OSError("gone") if box.end[0] > 8 else None
    )
    for workers in (1, 2):
        with pytest.raises(RunnerError, match="gone") as caught:
            bp.verify(source, image, num_workers=workers, memory_limit="40kB")
        assert list(caught.value.failed_block_ids)


def test_nothing_is_written(image: np.ndarray, tmp_path: Path) -> None:
    sink = CountingSource(image.copy(), chunks=(4, 4, 4))
    assert bp.verify(image, sink, num_workers=2).equal
    assert not sink.writes


@pytest.mark.parametrize("workers", [0, -2, "1"])
def test_workers_must_be_some(workers: Any) -> None:
    with pytest.raises(ValueError, match="num_workers"):
        bp.verify(np.zeros(3), np.zeros(3), num_workers=workers)


def test_progress_ends_with_all(image: np.ndarray) -> None:
    told: list[bp.Progress] = []
    bp.verify(
        CountingSource(image, chunks=(1, 20, 18)),
        image,
        num_workers=2,
        memory_limit="20kB",
        progress=told.append,
    )
    assert told[-1].blocks_done == told[-1].blocks_total > 1
    assert told[-1].bytes_done == told[-1].bytes_total


@pytest.mark.parametrize("fills", [(0, 0), (7, 7), (0, 7)])
@pytest.mark.parametrize("chunks", [(8, 8, 8), (16, 4, 8)])
def test_what_neither_side_stores_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fills: tuple[int, int], chunks: tuple[int, ...]
) -> None:
    shape = (32, 32, 32)
    a = zarr.create_array(tmp_path / "a.zarr", shape=shape, dtype="u2", chunks=(8, 8, 8), fill_value=fills[0])
    b = zarr.create_array(tmp_path / "b.zarr", shape=shape, dtype="f4", chunks=chunks, fill_value=fills[1])
    a[:8, :8, :8] = 3
    b[:8, :8, :8] = 3
    b[24:, 24:, 24:] = fills[0]
    b[31, 31, 31] = 5
    sources = [bp.open_source(tmp_path / name) for name in ("a.zarr", "b.zarr")]
    read: list[int] = []
    original = bp.Source.read

    def counted(self: bp.Source, box: Any, *options: Any) -> Any:
        read.append(box.size)
        return original(self, box, *options)

    monkeypatch.setattr(bp.Source, "read", counted)
    for limit in (None, "128KiB"):
        read.clear()
        result = bp.verify(*sources, memory_limit=limit)
        assert result.different == int((a[...] != b[...]).sum())
        assert result.first_difference == ((31, 31, 31) if fills[0] == fills[1] else (0, 0, 8))
        assert (sum(read) < 0.2 * a.size) == (fills[0] == fills[1])


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [
        ("a.zarr", "b.zarr", {"codec": "zstd:1"}),
        ("a.zarr", "b.zarr", {"codec": "none", "zarr_format": 2}),
        ("a.zarr", "b.zarr", {"shards": (8, 12, 16)}),
        ("a.n5", "b.n5", {"codec": "lz4"}),
        ("a.n5", "b.zarr", {"codec": "gzip"}),
        ("a.h5", "b.zarr", {}),
    ],
)
def test_equal_bytes_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str, options: dict[str, Any]
) -> None:
    image = textured(SHAPE, "uint16")
    image[:4, :6, :8] = 0  # a chunk that is not stored, but in HDF5
    n_stored = 36 if first == "a.h5" else 35
    if first == "a.h5":
        with h5py.File(tmp_path / first, "w") as file:
            file.create_dataset("x", data=image, chunks=(4, 6, 8), compression="gzip")
    else:
        bp.copy(image, tmp_path / first, chunks=(4, 6, 8), **options)
    bp.copy(tmp_path / first, tmp_path / second)
    a, b = bp.open_source(tmp_path / first), bp.open_source(tmp_path / second, mode="r+")
    region = RoiSource(a, (slice(4, 12), slice(6, 18)))
    bp.copy(region, tmp_path / "region.zarr")

    read: list[int] = []
    original = bp.Source.read

    def counted(self: bp.Source, box: Any, *options: Any) -> Any:
        read.append(box.size)
        return original(self, box, *options)

    monkeypatch.setattr(bp.Source, "read", counted)
    for pair in ((a, b), (b, a)):
        result = bp.verify(*pair, num_workers=2)
        assert str(result) == f"equal: all 4,320 voxels, {n_stored} chunks by their stored bytes"
        assert not read
    assert bp.verify(tmp_path / "region.zarr", region).compared_encoded == 12
    assert bp.verify(a, b, decode=True).to_json() == {**result.to_json(), "compared_encoded": 0}
    b[5, 7, 9] += np.uint16(1)
    b[0, 0, 0] += np.uint16(1)
    read.clear()
    result = bp.verify(a, b)
    assert (result.different, result.first_difference) == (2, (0, 0, 0))
    assert (result.compared_encoded, sum(read)) == (34, 4 * 4 * 6 * 8)


def test_chunks_that_are_corrupt_alike(tmp_path: Path) -> None:
    """What a look at the stored bytes can tell is told at once, what is inside of a stream by decoding it."""
    stored(tmp_path / "a.zarr", textured((8, 8), "uint16"), (8, 8), compressors=zarr.codecs.GzipCodec())
    chunk = tmp_path / "a.zarr/c/0/0"
    damaged = bytearray(chunk.read_bytes())
    damaged[-8] ^= 1  # of the checksum
    for data, is_seen in ((bytes(damaged), False), (bytes(damaged[:-1]), True)):
        chunk.write_bytes(data)
        shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.zarr", dirs_exist_ok=True)
        for decode in (False, True):
            if is_seen or decode:
                with pytest.raises(RunnerError, match=r"a\.zarr"):
                    bp.verify(tmp_path / "a.zarr", tmp_path / "b.zarr", decode=decode)
            else:
                assert bp.verify(tmp_path / "a.zarr", tmp_path / "b.zarr").compared_encoded == 1


@pytest.mark.parametrize(("first", "second"), [("u2", "u2"), ("f4", "f4"), ("i8", "f8")])
def test_the_memory_limit_holds(tmp_path: Path, first: str, second: str) -> None:
    """Both blocks and what comparing takes are counted: nothing is equal, so that everything is looked at."""
    code = f"""
        import resource, sys
        import numpy as np
        import bioimage_py as bp

        class Made:
            shape = (192, 512, 512)
            def __init__(self, dtype, value):
                self.dtype, self.value = np.dtype(dtype), value
            def __getitem__(self, key):
                return np.full(tuple(s.stop - s.start for s in key), self.value, self.dtype)

        small = [np.zeros((4, 4), dtype) for dtype in ({first!r}, {second!r})]
        bp.verify(small[0], small[1] + 1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        result = bp.verify(Made({first!r}, 1), Made({second!r}, 2), memory_limit="64MiB", num_workers=2)
        assert result.different == 192 * 512**2
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=240, check=True
    )
    assert float(done.stdout) < 64
