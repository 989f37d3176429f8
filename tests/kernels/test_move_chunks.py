"""Chunks moved as they are: the same voxels for every reader, the same bytes where they can be, and never a corrupt one."""

from __future__ import annotations

import itertools
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tensorstore as ts
import z5py
import zarr
from hypothesis import given, settings, strategies as st

from bioimage_py.chunks.frames import n5_header
from bioimage_py.errors import StorageError, UnsupportedFormatError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels import CopyKernel, MoveKernel, MoveOptions, moving_kernel
from bioimage_py.sources import as_source, create_output, open_source
from bioimage_py.wrapper.shape import RoiSource
from tests.kernels.stored import CODECS, Storing, counts, files_below, make, read_by_others, store
from tests.pairwise import pairwise
from tests.sources.contract import textured

SHAPE = (9, 11, 13)


def mover(source: Any, path: Path, **options: Any) -> MoveKernel:
    kernel = moving_kernel(CopyKernel(source, open_source(path, mode="r+")), MoveOptions(**options))
    assert isinstance(kernel, MoveKernel)
    return kernel


def copy_all(kernel: Any) -> int:
    return kernel.copy_box(Box.whole(kernel.output.shape))


VOXELS = [
    ("uint16", False, False), ("int32", True, False), ("float64", False, True), ("uint8", False, False),
    ("complex64", True, True), ("bool", False, False), ("float16", True, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("voxels", "codec", "first", "second", "keys"),
    pairwise(VOXELS, CODECS, ("v2", "v3"), ("v2", "v3"), ("/.", "./")),
)
def test_between_versions_of_zarr(
    tmp_path: Path, voxels: tuple[str, bool, bool], codec: str, first: str, second: str, keys: str
) -> None:
    dtype, big, fortran = voxels
    array = textured(SHAPE, dtype)
    how = Storing(first, codec, big=big, fortran=fortran, keys=keys[0])
    source = store(tmp_path / "in", how, array)
    into = replace(how, kind=second, keys=keys[1])
    kernel = mover(source, make(tmp_path / "out", into, SHAPE, dtype))
    assert kernel.match.kind == "payload"
    assert copy_all(kernel) == array.nbytes
    assert counts(kernel)[:2] == (27, 0)
    for found in read_by_others(tmp_path / "out", into):
        np.testing.assert_array_equal(found, array)
    before, after = files_below(tmp_path / "in"), files_below(tmp_path / "out")
    assert sorted(before.values()) == sorted(after.values())
    assert len(after) == 27


@pytest.mark.parametrize(
    ("kind", "codec"), [("v2", "none"), ("v3", "none"), ("v2", "gzip"), ("v3", "gzip"), ("v2", "zlib")]
)
def test_n5_to_zarr_moves_what_is_not_cut(tmp_path: Path, kind: str, codec: str) -> None:
    array = textured(SHAPE, "int32")
    source = store(tmp_path / "in.n5", Storing("n5", "none" if codec == "none" else "gzip"), array)
    into = Storing(kind, codec, big=True)
    kernel = mover(source, make(tmp_path / "out", into, SHAPE, "int32"))
    assert kernel.match.recoded == ("edge chunks that are truncated",)
    copy_all(kernel)
    assert counts(kernel)[:2] == (2 * 2 * 2, 27 - 8)
    for found in read_by_others(tmp_path / "out", into):
        np.testing.assert_array_equal(found, array)
    if codec != "zlib":
        key = "c/0/0/0" if kind == "v3" else "0/0/0"
        assert files_below(tmp_path / "out")[key] == (tmp_path / "in.n5/raw/0/0/0").read_bytes()[16:]


N5_CODECS: dict[str, dict[str, Any]] = {
    "none": {"type": "raw"},
    "gzip": {"type": "gzip"},
    "zlib": {"type": "gzip", "useZlib": True},
    "zstd": {"type": "zstd", "level": 2},
    "lz4": {"type": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
}


def make_n5(path: Path, codec: str) -> Any:
    """Make an array with TensorStore, which pads chunks at the far faces."""
    metadata = {
        "dimensions": SHAPE[::-1],
        "blockSize": [6, 5, 4],
        "dataType": "uint16",
        "compression": N5_CODECS[codec],
    }
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{path}/"}, "metadata": metadata}
    return ts.open(spec, create=True).result().T


@pytest.mark.parametrize("codec", [codec for codec in N5_CODECS if codec != "zlib"])
def test_n5_chunks_that_are_padded_move_too(tmp_path: Path, codec: str) -> None:
    array = textured(SHAPE, "uint16")
    make_n5(tmp_path / "in.n5", codec)[...] = array
    into = Storing("v3", codec, big=True)
    kernel = mover(open_source(tmp_path / "in.n5"), make(tmp_path / "out", into, SHAPE, "uint16"))
    copy_all(kernel)
    assert counts(kernel)[:2] == (27, 0)
    for found in read_by_others(tmp_path / "out", into):
        np.testing.assert_array_equal(found, array)


def test_n5_to_n5_and_zarr_to_n5(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    sources = [
        store(tmp_path / "in.n5", Storing("n5", "gzip"), array),
        store(tmp_path / "in.zarr", Storing("v2", "gzip", big=True), array),
    ]
    for n, source in enumerate(sources):
        out = tmp_path / f"out{n}.n5/raw"
        make_n5(out, "gzip")
        (out.parent / "attributes.json").write_text('{"n5": "2.0.0"}')
        kernel = mover(source, out)
        copy_all(kernel)
        assert counts(kernel)[:2] == (27, 0)
        np.testing.assert_array_equal(read_by_others(out, Storing("n5"))[0], array)
        np.testing.assert_array_equal(z5py.File(out.parent, "r")["raw"][...], array)
    assert files_below(tmp_path / "in.n5/raw") == files_below(tmp_path / "out0.n5/raw")


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("zlib_in", [False, True])
def test_n5_with_zlib_and_n5_with_gzip(tmp_path: Path, zlib_in: bool, cut: bool) -> None:
    array = textured(SHAPE, "uint16")
    first, second = ("zlib", "gzip") if zlib_in else ("gzip", "zlib")
    if cut and not zlib_in:
        store(tmp_path / "in.n5", Storing("n5", "gzip"), array)  # z5 cuts chunks at the far faces
    else:
        make_n5(tmp_path / "in.n5/raw", first)[...] = array
    if cut and zlib_in:
        (tmp_path / "in.n5/attributes.json").write_text('{"n5": "2.0.0"}')
        edge = tmp_path / "in.n5/raw/2/0/0"  # one column of x is inside of the array
        body = zlib.compress(array[:4, :5, 12:].astype(">u2").tobytes())
        edge.write_bytes(n5_header((4, 5, 1)) + body)
    out = tmp_path / "out.n5/raw"
    make_n5(out, second)
    kernel = mover(open_source(tmp_path / "in.n5", "raw"), out)
    assert (kernel.match.unwrap, kernel.match.wrap) == ((first,), (second,))
    copy_all(kernel)
    assert counts(kernel)[:2] == (27, 0)
    np.testing.assert_array_equal(read_by_others(out, Storing("n5"))[0], array)


@pytest.mark.parametrize(("shuffle", "fletcher32"), [*itertools.product((False, True), repeat=2)])
@pytest.mark.parametrize("codec", ["gzip", "zlib", "none"])
def test_hdf5_to_zarr(tmp_path: Path, codec: str, shuffle: bool, fletcher32: bool) -> None:
    array = textured(SHAPE, "uint16") // 999
    with h5py.File(tmp_path / "in.h5", "w") as file:
        options: dict[str, Any] = {} if codec == "none" else {"compression": "gzip"}
        file.create_dataset(
            "raw", data=array, chunks=(4, 5, 6), shuffle=shuffle, fletcher32=fletcher32, **options
        )
    into = make(tmp_path / "out", Storing("v2", codec), SHAPE, "uint16")
    if shuffle:
        text = (into / ".zarray").read_text()
        (into / ".zarray").write_text(
            text.replace('"filters": null', '"filters": [{"id": "shuffle", "elementsize": 2}]')
        )
    kernel = mover(open_source(tmp_path / "in.h5"), into)
    assert kernel.match.kind == ("header" if codec == "gzip" or fletcher32 else "payload")
    copy_all(kernel)
    # Whether a chunk at the face was shuffled cannot be told from its length.
    told = codec != "none" or fletcher32 or not shuffle
    assert counts(kernel)[:2] == ((27, 0) if told else (8, 19))
    # TensorStore does not know filters of Zarr v2.
    read = (
        [np.asarray(zarr.open_array(into, mode="r")[...])] if shuffle else read_by_others(into, Storing("v2"))
    )
    for found in read:
        np.testing.assert_array_equal(found, array)


def test_gzip_to_zlib_and_checksums(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16") // 999
    for first, second in (
        (Storing("v3", "gzip"), Storing("v2", "zlib")), (Storing("v2", "zlib"), Storing("v3", "gzip")),
        (Storing("v3", "crc32c"), Storing("v2", "zstd")), (Storing("v2", "zstd"), Storing("v3", "crc32c")),
        (Storing("v3", "crc32c"), Storing("v3", "crc32c")), (Storing("v3", "zstd with checksum"), Storing("v2", "zstd")),
    ):  # fmt: skip
        name = f"{first.codec} {second.codec} {first.kind} {second.kind}"
        kernel = mover(
            store(tmp_path / f"{name} in", first, array), make(tmp_path / name, second, SHAPE, "uint16")
        )
        copy_all(kernel)
        assert counts(kernel)[:2] == (27, 0)
        for found in read_by_others(tmp_path / name, second):
            np.testing.assert_array_equal(found, array)


def test_missing_chunks_stay_missing_and_old_ones_go(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    some = [(slice(4, 8), slice(0, 5), slice(6, 12)), (slice(0, 4), slice(10, 11), slice(0, 6))]
    source = store(tmp_path / "in", Storing("v3"), array, some)
    out = tmp_path / "out"
    store(out, Storing("v3"), array + 1)
    copy_all(mover(source, out))
    assert files_below(out) == files_below(tmp_path / "in")
    assert len(files_below(out)) == 2
    store(tmp_path / "new", Storing("v3"), array + 1, some[1:])
    kernel = mover(source, tmp_path / "new")
    kernel.copy_box(Box((4, 0, 0), (8, 11, 13)))  # what is outside of the box is not touched
    assert len(files_below(tmp_path / "new")) == 2


@pytest.mark.parametrize(("mine", "other"), [(0, 7), (float("nan"), 0), (-0.0, 0.0)])
def test_another_fill_value_is_written_where_chunks_are_missing(
    tmp_path: Path, mine: float, other: float
) -> None:
    array = textured(SHAPE, "float32")
    box = (slice(4, 8), slice(0, 5), slice(6, 12))
    source = store(tmp_path / "in", Storing("v3", fill=mine), array, [box])
    kernel = mover(source, make(tmp_path / "out", Storing("v2", fill=other), SHAPE, "float32"))
    copy_all(kernel)
    expected = np.full(SHAPE, mine, "float32")
    expected[box] = array[box]
    assert counts(kernel)[:2] == (1, 26)
    np.testing.assert_array_equal(open_source(tmp_path / "out")[...], expected)


def test_a_mask_moves_what_is_all_inside(tmp_path: Path) -> None:
    array = textured((8, 10, 12), "uint16")
    source = store(tmp_path / "in", Storing("v3"), array)
    mask = np.zeros(array.shape, "uint8")
    mask[:5, :5] = 1
    output = open_source(make(tmp_path / "out", Storing("v3"), array.shape, "uint16"), mode="r+")
    kernel = moving_kernel(CopyKernel(source, output, as_source(mask)))
    for block in Blocking(array.shape, (4, 5, 6)):
        kernel.copy_box(block)
    assert counts(kernel)[:2] == (2, 2)
    np.testing.assert_array_equal(output[...], array * mask)


def test_a_region_on_the_grid(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    source = store(tmp_path / "in", Storing("v3"), array)
    region = RoiSource(source, (slice(4, 9), slice(5, 9), slice(0, 13)))
    output = open_source(make(tmp_path / "out", Storing("v2"), region.shape, "uint16"), mode="r+")
    kernel = moving_kernel(CopyKernel(region, output), MoveOptions(source=source, offset=(4, 5, 0)))
    copy_all(kernel)
    assert counts(kernel)[:2] == (6, 0)
    np.testing.assert_array_equal(output[...], array[4:9, 5:9])
    with pytest.raises(UnsupportedFormatError, match="begins at"):
        moving_kernel(CopyKernel(region, output), MoveOptions(source=source, offset=(3, 5, 0)))


@pytest.mark.parametrize(
    ("chunks", "options", "short"),
    [
        ((16, 16, 16), {"codec": "zstd"}, True),
        ((16, 16, 16), {"codec": "gzip"}, True),
        ((16, 16, 16), {"codec": "zstd", "shards": (32, 32, 32)}, True),
        ((16, 16, 16), {"codec": "zstd", "verify_encoded": True}, False),
        ((64, 64, 64), {"codec": "zstd"}, False),
    ],
)
def test_calls_are_short_where_chunks_are_small(
    tmp_path: Path, chunks: tuple[int, ...], options: dict[str, Any], short: bool
) -> None:
    made = {"shape": (64, 64, 64), "dtype": "uint16", "chunks": chunks, "codec": options["codec"]}
    source = create_output(tmp_path / "a.zarr", **made)
    output = create_output(tmp_path / "b.zarr", **made, shards=options.get("shards"))
    how = MoveOptions(verify_encoded=options.get("verify_encoded", False))
    assert moving_kernel(CopyKernel(source, output), how).calls_are_short is short


@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 4, 2, 5, 3)])
def test_any_number_of_axes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = textured(shape, "int16")
    chunks = tuple(max(1, n - 1) for n in shape)
    for n, (first, second) in enumerate(itertools.product(("v2", "v3"), repeat=2)):
        for keys in "/.":
            how = Storing(first, chunks=chunks, keys=keys)
            source = store(tmp_path / f"in{n}{keys == '/'}", how, array)
            into = replace(how, kind=second, keys="/")
            out = make(tmp_path / f"out{n}{keys == '/'}", into, shape, "int16")
            copy_all(mover(source, out))
            np.testing.assert_array_equal(read_by_others(out, into)[0], array)


@settings(max_examples=40)
@given(st.data())
def test_voxels_are_those_of_a_copy(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(ndim))
    chunks = tuple(data.draw(st.integers(1, 5)) for _ in range(ndim))
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "float32"]))
    fills = st.sampled_from([0, 1, float("nan"), -0.0] if dtype == "float32" else [0, 3])
    codec, big = data.draw(st.sampled_from(CODECS)), data.draw(st.booleans())
    kinds = st.sampled_from(["v2", "v3"])
    how = Storing(
        data.draw(kinds), codec, chunks, big=big, fill=data.draw(fills), keys=data.draw(st.sampled_from("./"))
    )
    into = replace(how, kind=data.draw(kinds), fill=data.draw(fills))
    array = textured(shape, dtype)
    blocks = list(Blocking(shape, chunks))
    some = data.draw(st.lists(st.sampled_from(blocks), unique=True))
    step = tuple(c * data.draw(st.integers(1, 3)) for c in chunks)
    with tempfile.TemporaryDirectory() as folder:
        source = store(Path(folder, "in"), how, array, [b.slices for b in some])
        out = make(Path(folder, "out"), into, shape, dtype)
        kernel = mover(source, out, verify_encoded=data.draw(st.booleans()))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(kernel.copy_box, Blocking(shape, step)))
        expected = np.full(shape, how.fill, dtype)
        for block in some:
            expected[block.slices] = array[block.slices]
        for found in read_by_others(out, into):
            assert found.tobytes() == expected.tobytes()


CORRUPT = {
    "cut": lambda data: data[:-3],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"abc",
    "header": lambda data: b"\xff" * 8 + data[8:],
}


@pytest.mark.parametrize("damage", CORRUPT)
@pytest.mark.parametrize(
    ("how", "into"),
    [
        *((Storing("v3", codec), Storing("v2", codec)) for codec in CODECS),
        (Storing("v2", "zlib"), Storing("v2", "zlib")),
        (Storing("v2", "zlib"), Storing("v3", "gzip")),
        (Storing("v3", "crc32c"), Storing("v3", "crc32c")),
        (Storing("n5", "gzip"), Storing("v3", "gzip", big=True)),
    ],
)
def test_a_corrupt_chunk_is_an_error_that_names_it(
    tmp_path: Path, how: Storing, into: Storing, damage: str
) -> None:
    if damage == "header" and how.codec == "none":
        pytest.skip("voxels without a codec have no header")
    if damage == "longer" and how.codec in ("zlib", "gzip", "lz4", "bitshuffle"):
        pytest.skip("what follows the end of these streams is ignored; see the next test")
    source = store(tmp_path / "in", how, textured(SHAPE, "uint16") // 999)
    chunk = {"v3": tmp_path / "in/c/1/0/1", "v2": tmp_path / "in/1/0/1", "n5": tmp_path / "in/raw/1/0/1"}[
        how.kind
    ]
    chunk.write_bytes(CORRUPT[damage](chunk.read_bytes()))
    kernel = mover(source, make(tmp_path / "out", into, SHAPE, "uint16"))
    with pytest.raises(StorageError, match=r"1, 0, 1|\[4:8, 0:5, 6:12\]"):
        copy_all(kernel)
    assert not [name for name in files_below(tmp_path / "out") if name.endswith(("1/0/1", "partial"))]


def test_what_follows_a_gzip_stream_is_not_moved(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    source = store(tmp_path / "in", Storing("v3", "gzip"), array)
    chunk = tmp_path / "in/c/1/0/1"
    chunk.write_bytes(chunk.read_bytes() + b"abc")
    out = make(tmp_path / "out", Storing("v3", "gzip"), SHAPE, "uint16")
    kernel = mover(source, out)
    copy_all(kernel)
    assert counts(kernel)[:2] == (26, 1)
    for found in read_by_others(out, Storing("v3")):
        np.testing.assert_array_equal(found, array)


def test_verify_encoded_finds_what_no_header_tells(tmp_path: Path) -> None:
    source = store(tmp_path / "in", Storing("v3", "zstd with checksum"), textured(SHAPE, "uint16"))
    chunk = tmp_path / "in/c/1/0/1"
    data = bytearray(chunk.read_bytes())
    data[100] ^= 1
    chunk.write_bytes(data)
    out = make(tmp_path / "out", Storing("v3", "zstd with checksum"), SHAPE, "uint16")
    copy_all(mover(source, out))
    with pytest.raises(StorageError, match=r"chunk \(1, 0, 1\).*c/1/0/1"):
        copy_all(mover(source, out, verify_encoded=True))


def test_a_file_that_changes_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = store(
        tmp_path / "in", Storing("v3", "none", chunks=(64, 64, 64)), textured((64, 64, 64), "uint16")
    )
    chunk = tmp_path / "in/c/0/0/0"
    real = os.copy_file_range

    def meanwhile(*args: int) -> int:
        os.utime(chunk)
        return real(*args)

    monkeypatch.setattr("bioimage_py.storage.new_files.copy_range", meanwhile)
    out = make(tmp_path / "out", Storing("v3", "none", chunks=(64, 64, 64)), (64, 64, 64), "uint16")
    with pytest.raises(StorageError, match=r"chunk \(0, 0, 0\).*was written while"):
        copy_all(mover(source, out))
    assert not files_below(out)


def test_where_the_system_cannot_copy_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = textured((64, 64, 64), "uint16")
    how = Storing("v3", "none", chunks=(64, 64, 64))
    source = store(tmp_path / "in", how, array)

    def cannot(*args: int) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("bioimage_py.storage.new_files.copy_range", cannot)
    out = make(tmp_path / "out", how, array.shape, "uint16")
    copy_all(mover(source, out))
    assert files_below(out) == files_below(tmp_path / "in")


def test_hard_links_are_never_made(tmp_path: Path) -> None:
    source = store(tmp_path / "in", Storing("v3"), textured(SHAPE, "uint16"))
    out = make(tmp_path / "out", Storing("v3"), SHAPE, "uint16")
    copy_all(mover(source, out))
    assert {p.stat().st_nlink for p in out.rglob("*") if p.is_file()} == {1}


def test_hdf5_chunks_whose_filters_were_skipped(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    with h5py.File(tmp_path / "in.h5", "w") as file:
        made = file.create_dataset("raw", data=array, chunks=(4, 5, 6), compression="gzip")
        made.id.write_direct_chunk((0, 5, 6), np.ascontiguousarray(array[:4, 5:10, 6:12]).tobytes(), 1)
    kernel = mover(
        open_source(tmp_path / "in.h5"), make(tmp_path / "out", Storing("v3", "gzip"), SHAPE, "uint16")
    )
    copy_all(kernel)
    assert counts(kernel)[1] >= 1
    np.testing.assert_array_equal(open_source(tmp_path / "out")[...], array)


def test_n5_of_variable_length_is_recoded_or_refused_never_moved(tmp_path: Path) -> None:
    source = store(tmp_path / "in", Storing("n5", "raw"), textured(SHAPE, "uint16"))
    chunk = tmp_path / "in/raw/1/0/1"
    data = chunk.read_bytes()
    chunk.write_bytes(struct.pack(">H", 1) + data[2:16] + struct.pack(">I", 120) + data[16:])
    out = make(tmp_path / "out", Storing("v3", "none", big=True), SHAPE, "uint16")
    kernel = mover(source, out)
    try:
        copy_all(kernel)
    except StorageError:
        assert not (out / "c/1/0/1").exists()
    else:
        np.testing.assert_array_equal(open_source(out)[...], source[...])


WRITER = """
import sys
from pathlib import Path
from bioimage_py.geometry import Box
from bioimage_py.kernels import CopyKernel
from bioimage_py.kernels import moving_kernel
from bioimage_py.sources import open_source
kernel = moving_kernel(CopyKernel(open_source(sys.argv[1]), open_source(sys.argv[2], mode="r+")))
print("ready", flush=True)
while True:
    kernel.copy_box(Box.whole(kernel.output.shape))
"""


@pytest.mark.parametrize("shards", [None, (64, 64, 64)])
def test_a_killed_writer_leaves_whole_files_only(tmp_path: Path, shards: tuple[int, ...] | None) -> None:
    array = textured((64, 64, 128), "uint16")
    how = Storing("v3", "none", chunks=(32, 32, 32))
    store(tmp_path / "in", how, array)
    into = replace(how, shards=shards)
    out = make(tmp_path / "out", into, array.shape, "uint16")
    whole = store(tmp_path / "whole", into, array)
    sizes = {name: len(data) for name, data in files_below(tmp_path / "whole").items()}
    for kill in range(2):
        command = [sys.executable, "-c", WRITER, str(tmp_path / "in"), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.02 * (kill + 1))
            process.send_signal(signal.SIGKILL)
        found = files_below(out)
        assert {
            name: len(data) for name, data in found.items() if not name.endswith(".partial")
        }.items() <= sizes.items()
    output = open_source(out, mode="r+")
    output.remove_leftovers()
    assert not [name for name in files_below(out) if name not in sizes]
    copy_all(moving_kernel(CopyKernel(open_source(tmp_path / "in"), output)))
    np.testing.assert_array_equal(output[...], whole[...])
