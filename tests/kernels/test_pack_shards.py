"""Chunks packed into shards, taken out of them, and put into others: readable by everyone, and nothing decoded."""

from __future__ import annotations

import itertools
import tempfile
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels import CopyKernel, MoveOptions, MovingKernel, PackKernel, moving_kernel, units_of
from bioimage_py.sources import open_source
from tests.kernels.stored import CODECS, Storing, counts, files_below, make, read_by_others, store
from tests.sources.contract import textured

SHAPE = (18, 11, 13)
CHUNKS = Storing("v3")
SHARDS = Storing("v3", shards=(8, 10, 6))


def mover(source: Any, path: Path, **options: Any) -> MovingKernel:
    return moving_kernel(CopyKernel(source, open_source(path, mode="r+")), MoveOptions(**options))


def copy_all(kernel: MovingKernel) -> None:
    kernel.copy_box(Box.whole(kernel.output.shape))


@pytest.mark.parametrize("codec", [*CODECS, "crc32c"])
@pytest.mark.parametrize("index_at", ["end", "start"])
def test_into_shards_out_of_them_and_into_others(tmp_path: Path, index_at: str, codec: str) -> None:
    array = textured(SHAPE, "uint16")
    flat = replace(CHUNKS, codec=codec)
    packed = replace(flat, shards=(8, 10, 6), index_at=index_at)
    ways = [flat, packed, replace(packed, shards=(4, 5, 18)), replace(packed, keys="."), flat]
    source = store(tmp_path / "0", flat, array)
    for n, way in enumerate(ways):
        out = make(tmp_path / f"{n + 1}", way, SHAPE, "uint16")
        kernel = mover(source, out)
        copy_all(kernel)
        assert counts(kernel)[:2] == (5 * 3 * 3, 0)
        for found in read_by_others(out, way):
            np.testing.assert_array_equal(found, array)
        source = open_source(out)
    assert files_below(tmp_path / "5") == files_below(tmp_path / "0")


def test_whole_shards_are_moved_as_files(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    source = store(tmp_path / "in", SHARDS, array)
    kernel = mover(source, make(tmp_path / "out", SHARDS, SHAPE, "uint16"))
    assert kernel.match.road == "verbatim"
    copy_all(kernel)
    assert files_below(tmp_path / "out") == files_below(tmp_path / "in")
    assert counts(kernel)[:2] == (45, 0)


def test_shards_that_hold_nothing_are_not_stored(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    some = [(slice(0, 4), slice(0, 5), slice(0, 6)), (slice(16, 18), slice(10, 11), slice(12, 13))]
    source = store(tmp_path / "in", CHUNKS, array, some)
    out = tmp_path / "out"
    store(out, SHARDS, array + 1)
    copy_all(mover(source, out))
    assert set(files_below(out)) == {"c/0/0/0", "c/2/1/2"}
    expected = np.zeros_like(array)
    for box in some:
        expected[box] = array[box]
    for found in read_by_others(out, SHARDS):
        np.testing.assert_array_equal(found, expected)
    back = make(tmp_path / "back", CHUNKS, SHAPE, "uint16")
    copy_all(mover(open_source(out), back))
    assert files_below(back) == files_below(tmp_path / "in")


def test_a_shard_with_a_chunk_that_cannot_be_moved_is_recoded_as_a_whole(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    source = store(tmp_path / "in.n5", Storing("n5", "gzip"), array)
    into = replace(SHARDS, codec="gzip", big=True)
    kernel = mover(source, make(tmp_path / "out", into, SHAPE, "uint16"))
    copy_all(kernel)
    assert counts(kernel)[:2] == (2 * 2 * 2 * 2, 45 - 16)
    for found in read_by_others(tmp_path / "out", into):
        np.testing.assert_array_equal(found, array)


def test_hdf5_into_shards(tmp_path: Path) -> None:
    array = textured(SHAPE, "int16") // 99
    source = store(tmp_path / "in.h5", Storing("hdf5", "gzip"), array)
    into = replace(SHARDS, codec="gzip")
    kernel = mover(source, make(tmp_path / "out", into, SHAPE, "int16"))
    copy_all(kernel)
    assert counts(kernel)[:2] == (45, 0)
    for found in read_by_others(tmp_path / "out", into):
        np.testing.assert_array_equal(found, array)


def test_blocks_below_a_shard_are_packed_together(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    kernel = mover(store(tmp_path / "in", CHUNKS, array), make(tmp_path / "out", SHARDS, SHAPE, "uint16"))
    blocks = [b for b in Blocking(SHAPE, (4, 5, 6)) if b.begin[0] < 8]
    for unit, parts in units_of(blocks, kernel.output.shape, SHARDS.shards or ()):
        kernel.copy_parts(unit, [part for _, part in parts])
    assert counts(kernel)[:2] == (2 * 3 * 3, 0)
    np.testing.assert_array_equal(kernel.output[:8], array[:8])
    unit = Box((16, 0, 0), (18, 10, 6))
    kernel.copy_parts(unit, [Box((16, 0, 0), (18, 5, 6))])
    np.testing.assert_array_equal(kernel.output[16:, :5, :6], array[16:, :5, :6])
    assert not kernel.output[16:, 5:].any()


@settings(max_examples=40)
@given(st.data())
def test_voxels_are_those_of_a_copy(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(ndim))
    chunks = tuple(data.draw(st.integers(1, 3)) for _ in range(ndim))
    shards = st.none() | st.tuples(*(st.integers(1, 3).map(lambda n, c=c: n * c) for c in chunks))
    fills = st.sampled_from([0.0, 1.0, float("nan"), -0.0])
    how = Storing("v3", data.draw(st.sampled_from(CODECS)), chunks, data.draw(shards), fill=data.draw(fills))
    into = replace(
        how,
        shards=data.draw(shards),
        fill=data.draw(fills),
        index_at=data.draw(st.sampled_from(["end", "start"])),
    )
    array = textured(shape, "float32")
    some = data.draw(st.lists(st.sampled_from(list(Blocking(shape, chunks))), unique=True))
    step = tuple(c * data.draw(st.integers(1, 3)) for c in into.shards or chunks)
    expected = np.full(shape, how.fill, "float32")
    for block in some:
        expected[block.slices] = array[block.slices]
    with tempfile.TemporaryDirectory() as folder:
        source = store(Path(folder, "in"), how, expected, [b.slices for b in some])
        out = make(Path(folder, "out"), into, shape, "float32")
        kernel = mover(source, out, verify_encoded=data.draw(st.booleans()))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(kernel.copy_box, Blocking(shape, step)))
        for found in read_by_others(out, into):
            assert found.tobytes() == expected.tobytes()


def damaged(path: Path, at: int, new: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + len(new) if at >= 0 else len(data) + at + len(new)] = new
    path.write_bytes(data)


@pytest.mark.parametrize("into", [SHARDS, replace(SHARDS, shards=(4, 10, 6)), CHUNKS])
@pytest.mark.parametrize("damage", ["cut", "empty", "index", "checksum", "offset", "chunk"])
def test_a_corrupt_shard_is_an_error_that_names_it(tmp_path: Path, damage: str, into: Storing) -> None:
    source = store(tmp_path / "in", SHARDS, textured(SHAPE, "uint16"))
    shard = tmp_path / "in/c/1/0/1"
    data = shard.read_bytes()
    if damage in ("cut", "empty"):
        shard.write_bytes(data[:-70] if damage == "cut" else b"")
    elif damage == "index":
        damaged(shard, -20, b"\x77")
    elif damage == "checksum":
        damaged(shard, -2, b"\x77\x78")
    elif damage == "offset":
        table = np.frombuffer(data[-68:-4], "<u8").copy()
        table[0] = len(data)
        shard.write_bytes(
            data[:-68] + table.tobytes() + google_crc32c.value(table.tobytes()).to_bytes(4, "little")
        )
    else:
        damaged(shard, int(np.frombuffer(data[-68:-4], "<u8")[0]), b"\xff" * 8)
    kernel = mover(source, make(tmp_path / "out", into, SHAPE, "uint16"))
    with pytest.raises(StorageError, match=r"chunk \(2, 0, 1\) of .*/in.*c/1/0/1"):
        copy_all(kernel)
    written = files_below(tmp_path / "out")
    assert {SHARDS.shards: "c/1/0/1", (4, 10, 6): "c/2/0/1", None: "c/2/0/1"}[into.shards] not in written
    assert not [name for name in written if name.endswith("partial")]


def test_one_chunk_in_memory_at_a_time(tmp_path: Path) -> None:
    array = np.arange(2**22, dtype="uint16").reshape(128, 128, 256)
    how = Storing("v3", "none", chunks=(64, 64, 64))
    source = store(tmp_path / "in", how, array)
    kernel = mover(
        source, make(tmp_path / "out", replace(how, shards=(128, 128, 256)), array.shape, "uint16")
    )
    tracemalloc.start()
    try:
        copy_all(kernel)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**21 < array.nbytes
    np.testing.assert_array_equal(kernel.output[...], array)


def test_the_kernels_are_chosen_by_the_output(tmp_path: Path) -> None:
    source = store(tmp_path / "in", CHUNKS, textured(SHAPE, "uint16"))
    kinds = [
        type(mover(source, make(tmp_path / str(n), way, SHAPE, "uint16")))
        for n, way in enumerate((SHARDS, CHUNKS))
    ]
    assert (kinds[0] is PackKernel, kinds[1] is PackKernel) == (True, False)
    assert list(itertools.chain(*(files_below(tmp_path / str(n)) for n in range(2)))) == []
