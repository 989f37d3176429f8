from __future__ import annotations

import errno
import gzip
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.lib import format as npy_format

from bioimage_py.errors import (
    BioimagePyWarning,
    InvalidArgumentError,
    OutputExistsError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import (
    ArraySpec,
    Codec,
    Source,
    as_source,
    create_output,
    family_of,
    from_spec,
    open_source,
)
from bioimage_py.sources.raw import voxels
from bioimage_py.storage import FileBytes

from .contract import SourceContract, WritableSourceContract, textured

NPY = family_of("npy")


class NpyContract(WritableSourceContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        np.save(folder / "a.npy", array)
        return open_source(folder / "a.npy")

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return NPY.create(str(folder / "new.npy"), None, ArraySpec(shape, dtype), False)


class TestNpy(NpyContract):
    pass


class TestNpyBigEndian(NpyContract):
    dtype = ">f4"


class TestNpyBool(NpyContract):
    dtype = "bool"
    shape = (5, 17)


class TestNpyComplex(NpyContract):
    dtype = "complex64"


class TestNpyNoAxes(NpyContract):
    shape = ()


class TestNpyNoVoxels(SourceContract):
    shape = (3, 0, 4)
    make = NpyContract.make


class TestNpyFortran(NpyContract):
    dtype = "int16"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        np.save(folder / "f.npy", np.asfortranarray(array))
        source = open_source(folder / "f.npy")
        assert source.storage_order == "F"
        return source

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        np.save(folder / "f.npy", np.zeros(shape, dtype, order="F"))
        return open_source(folder / "f.npy", mode="r+")


class TestNpyVersion3(SourceContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        with (folder / "v3.npy").open("wb") as file:
            npy_format.write_array(file, array, version=(3, 0))
        return open_source(folder / "v3.npy")


@st.composite
def regions(draw: Any) -> tuple[tuple[int, ...], Box]:
    shape = tuple(draw(st.lists(st.integers(1, 40), min_size=0, max_size=4)))
    ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return shape, Box(tuple(e[0] for e in ends), tuple(e[1] for e in ends))


@settings(max_examples=80, deadline=None)
@given(regions(), st.sampled_from(["|u1", "<u2", ">f8"]), st.sampled_from("CF"), st.integers(0, 9))
def test_raw_voxels_are_read_and_written_as_numpy_does(
    tmp_path_factory: Any, region: tuple[tuple[int, ...], Box], dtype: str, order: Any, offset: int
) -> None:
    shape, box = region
    expected = textured(shape, dtype)
    path = tmp_path_factory.getbasetemp() / "raw.bin"
    path.write_bytes(b"\xaa" * offset + expected.tobytes(order=order) + b"\xaa" * 5)
    layout = voxels.RawLayout(offset, shape, np.dtype(dtype), order)
    source = voxels.RawFileSource(str(path), "r+", FileBytes.open(str(path), "r+"), layout)
    if not box.is_empty():
        np.testing.assert_array_equal(source.read(box), expected[box.slices])
        expected[(*box.slices, ...)] = textured(box.shape, dtype, seed=5)
        source.write(box, expected[box.slices] if shape else expected)
    source.close()
    assert path.read_bytes() == b"\xaa" * offset + expected.tobytes(order=order) + b"\xaa" * 5


def test_reads_small_blocks_of_a_large_file_with_few_calls_and_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.npy"
    NPY.create(str(path), None, ArraySpec((200, 400, 1000), np.dtype("u1")), False).close()
    source, calls, read = open_source(path), [], os.preadv

    def counted(descriptor: int, buffers: Any, offset: int) -> int:
        calls.append(len(buffers[0]))
        return read(descriptor, buffers, offset)

    monkeypatch.setattr("bioimage_py.storage.file_bytes.preadv", counted)
    tracemalloc.start()
    source.read(Box((10, 100, 300), (42, 132, 332)))
    source.read(Box((50, 0, 0), (60, 400, 1000)))
    assert tracemalloc.get_traced_memory()[1] < 4.2e6
    tracemalloc.stop()
    assert calls == [31 * 1000 + 32] * 32 + [10 * 400 * 1000]
    source.close()


def test_a_file_that_is_cut_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "cut.npy"
    np.save(path, np.zeros((10, 10), "u2"))
    whole = path.stat().st_size
    os.truncate(path, whole - 7)
    with pytest.raises(StorageError, match=rf"truncated.*{whole} bytes.*has {whole - 7}"):
        open_source(path)
    os.truncate(path, 40)
    with pytest.raises(StorageError, match="header"):
        open_source(path)
    os.truncate(path, 0)
    with pytest.raises(StorageError, match="empty"):
        open_source(path)


def test_a_header_with_a_negative_shape_is_damaged(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((10, 20), "u2"))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"(10, 20)", b"(-1, -2)"))
    with pytest.raises(StorageError, match=r"damaged.*\(-1, -2\)"):
        open_source(tmp_path / "a.npy")


def test_a_file_cut_while_open_is_an_error_and_not_zeros(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((100, 100)))
    with open_source(tmp_path / "a.npy") as source:
        os.truncate(tmp_path / "a.npy", 2000)
        with pytest.raises(StorageError, match="cut while it was open"):
            source[...]


def test_a_closed_source_says_so(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    source = open_source(tmp_path / "a.npy")
    source.close()
    source.close()
    with pytest.raises(StorageError, match="was closed"):
        source[0]


@pytest.mark.parametrize(
    "content", [b"\x93NUMPY\x09\x00v\x00{}", gzip.compress(b"no array", mtime=0), b"no array at all"]
)
def test_what_is_no_npy_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(UnsupportedFormatError, match="npy"):
        open_source(tmp_path / "x.npy")


@pytest.mark.parametrize(
    "array",
    [np.array([{}], object), np.array(["a"]), np.zeros(3, [("a", "u1")]), np.zeros(2, "M8[s]")],
    ids=["object", "text", "structured", "dates"],
)
def test_dtypes_that_are_no_voxels_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(UnsupportedFormatError, match="dtype"):
        open_source(tmp_path / "x.npy")


def test_a_compressed_npy_is_read_and_never_written(shared_data: Path, tmp_path: Path) -> None:
    with gzip.open(shared_data / "Misc_pollen.npy.gz") as stream:
        image = np.load(stream)
    with open_source(shared_data / "Misc_pollen.npy.gz") as source:
        assert (source.shape, source.dtype, source.codec) == ((935, 1228), np.uint8, "gzip")
        np.testing.assert_array_equal(source[100:300, 7:9], image[100:300, 7:9])
        np.testing.assert_array_equal(source[...], image)
        with from_spec(source.to_spec()) as again:
            np.testing.assert_array_equal(again[...], image)
    with pytest.raises(ReadOnlyError):
        open_source(shared_data / "Misc_pollen.npy.gz", mode="r+")
    with pytest.raises(UnsupportedFormatError, match="gz"):
        create_output(tmp_path / "a.npy.gz", shape=(3,), dtype="uint8")
    data = (shared_data / "Misc_pollen.npy.gz").read_bytes()
    (tmp_path / "cut.npy.gz").write_bytes(data[:100_000])
    with open_source(tmp_path / "cut.npy.gz") as cut, pytest.raises(StorageError, match="truncated"):
        cut[...]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.npy").mkdir()
    with pytest.raises(StorageError, match="folder"):
        open_source(tmp_path / "x.npy")


def test_keys_options_and_urls_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(InvalidArgumentError, match="one array"):
        open_source(tmp_path / "a.npy", "raw")
    with pytest.raises(InvalidArgumentError, match="series"):
        open_source(tmp_path / "a.npy", series=1)
    with pytest.raises(InvalidArgumentError, match="download"):
        open_source("https://example.org/a.npy")


def test_two_names_of_one_file_are_one(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    (tmp_path / "link.npy").symlink_to("a.npy")
    os.link(tmp_path / "a.npy", tmp_path / "hard.npy")
    sources = [open_source(tmp_path / name) for name in ("a.npy", "link.npy", "hard.npy")]
    assert len({s.identities() for s in sources}) == 1
    for source in sources:
        source.close()


class TestCreate:
    def spec(self, **fields: Any) -> ArraySpec:
        return ArraySpec(**{"shape": (4, 5), "dtype": np.dtype("u2"), **fields})

    def test_numpy_reads_what_was_written(self, tmp_path: Path) -> None:
        with NPY.create(str(tmp_path / "a.npy"), None, self.spec(dtype=np.dtype(">f4")), False) as made:
            made[1:3] = 7
        again = np.load(tmp_path / "a.npy")
        assert again.dtype == np.dtype(">f4")
        assert again.sum() == 70

    def test_takes_no_space_before_it_is_written(self, tmp_path: Path) -> None:
        with NPY.create(str(tmp_path / "a.npy"), None, self.spec(shape=(1000, 1000, 1000)), False) as made:
            assert made.nbytes == 2 * 10**9
            assert (tmp_path / "a.npy").stat().st_blocks * 512 < 10**6

    def test_fill_value(self, tmp_path: Path) -> None:
        with NPY.create(
            str(tmp_path / "a.npy"), None, self.spec(shape=(3000, 2000), fill_value=9), False
        ) as made:
            assert (made[...] == 9).all()

    def test_an_existing_file_is_not_touched_unasked(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.ones(3))
        before = (tmp_path / "a.npy").read_bytes()
        with pytest.raises(OutputExistsError, match=r"overwrite=True.*mode='r\+'"):
            NPY.create(str(tmp_path / "a.npy"), None, self.spec(), False)
        assert (tmp_path / "a.npy").read_bytes() == before

    def test_overwrite_replaces_a_file_only(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.ones(3))
        with NPY.create(str(tmp_path / "a.npy"), None, self.spec(), True) as made:
            assert made.shape == (4, 5)
        (tmp_path / "b.npy").mkdir()
        with pytest.raises(OutputExistsError, match="remove it first"):
            NPY.create(str(tmp_path / "b.npy"), None, self.spec(), True)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "b.npy"]

    def test_overwrite_leaves_alone_what_is_only_called_npy(self, tmp_path: Path) -> None:
        (tmp_path / "notes.npy").write_text("precious")
        with pytest.raises(OutputExistsError, match=r"is not a \.npy file"):
            NPY.create(str(tmp_path / "notes.npy"), None, self.spec(), True)
        assert (tmp_path / "notes.npy").read_text() == "precious"
        (tmp_path / "empty.npy").touch()
        with NPY.create(str(tmp_path / "empty.npy"), None, self.spec(), True) as made:
            assert made.shape == (4, 5)

    def test_a_failure_leaves_what_was_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        np.save(tmp_path / "a.npy", np.ones(3))
        before = (tmp_path / "a.npy").read_bytes()

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "truncate", full)
        for name, overwrite in (("a.npy", True), ("b.npy", False)):
            with pytest.raises(StorageError, match="no space left"):
                NPY.create(str(tmp_path / name), None, self.spec(), overwrite)
        assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]
        assert (tmp_path / "a.npy").read_bytes() == before

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(SourceNotFoundError, match="nowhere"):
            NPY.create(str(tmp_path / "nowhere" / "a.npy"), None, self.spec(), False)

    def test_a_folder_that_may_not_be_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(ReadOnlyError, match=r"Permission denied|may not be written"):
            NPY.create(str(tmp_path / "a.npy"), None, self.spec(), False)

    @pytest.mark.parametrize(
        "fields", [{"chunks": (2, 5)}, {"shards": (4, 5)}, {"codec": Codec("gzip")}, {"dtype": np.dtype("O")}]
    )
    def test_what_npy_cannot_hold_is_refused(self, tmp_path: Path, fields: Any) -> None:
        with pytest.raises(InvalidArgumentError):
            NPY.create(str(tmp_path / "a.npy"), None, self.spec(**fields), False)
        with pytest.raises(InvalidArgumentError):
            NPY.create(str(tmp_path / "a.npy"), "key", self.spec(), False)
        assert not list(tmp_path.iterdir())

    def test_lost_metadata_is_told(self, tmp_path: Path) -> None:
        spec = self.spec(metadata=ImageMetadata(voxel_size=(1.0, 2.0)))
        with pytest.warns(BioimagePyWarning, match="voxel_size"):
            NPY.create(str(tmp_path / "a.npy"), None, spec, False).close()


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = NPY.create(str(tmp_path / "a.npy"), None, ArraySpec((4,), np.dtype("u1")), False)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("bioimage_py.storage.file_bytes.pwrite", full)
    with pytest.raises(StorageError, match="no space left"):
        source[...] = 1
    source.close()


def test_writes_that_come_piecemeal_are_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, read = os.pwrite, os.preadv
    monkeypatch.setattr("bioimage_py.storage.file_bytes.pwrite", lambda fd, data, at: write(fd, data[:3], at))
    monkeypatch.setattr(
        "bioimage_py.storage.file_bytes.preadv", lambda fd, into, at: read(fd, [into[0][:5]], at)
    )
    expected = textured((6, 7), "u2")
    with NPY.create(str(tmp_path / "a.npy"), None, ArraySpec((6, 7), np.dtype("u2")), False) as source:
        source[...] = expected
        np.testing.assert_array_equal(source[...], expected)


def test_neighbours_written_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    source = NPY.create(str(tmp_path / "a.npy"), None, ArraySpec((50, 64), np.dtype("u1")), False)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: source.write(Box((0, n), (50, n + 1)), np.full((50, 1), n)), range(64)))
    np.testing.assert_array_equal(source[...], np.broadcast_to(np.arange(64), (50, 64)))
    source.close()


def test_read_only_mode_and_files_that_may_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    with as_source(tmp_path / "a.npy") as source, pytest.raises(ReadOnlyError, match="r\\+"):
        source[0] = 1
    with from_spec({"kind": "npy", "path": str(tmp_path / "a.npy"), "mode": "r+"}) as source:
        source[0] = 5
    assert np.load(tmp_path / "a.npy")[0] == 5

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ReadOnlyError, match=r"Permission denied|may not be written"):
        NPY.open_path(str(tmp_path / "a.npy"), mode="r+")
    with pytest.raises(StorageError, match="permission denied"):
        NPY.open_path(str(tmp_path / "a.npy"))


def test_a_file_written_by_python_2(tmp_path: Path) -> None:
    header = b"{'descr': '<u2', 'fortran_order': False, 'shape': (3L, 4L), }".ljust(117) + b"\n"
    (tmp_path / "old.npy").write_bytes(
        b"\x93NUMPY\x01\x00\x76\x00" + header + np.arange(12, dtype="<u2").tobytes()
    )
    with pytest.warns(UserWarning, match="Python 2"):
        source = open_source(tmp_path / "old.npy")
    np.testing.assert_array_equal(source[...], np.arange(12).reshape(3, 4))
    source.close()
