"""HDF5: every layout and filter we know, the ones we do not, handles, both ends in one file, and what goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.chunks import Filter, FilterPipeline
from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyWarning,
    InvalidArgumentError,
    OutputExistsError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import ArraySpec, Codec, Source, as_source, family_of, from_spec, open_source
from bioimage_py.sources.hdf5 import read as hdf5_read
from tests.sources.contract import SourceContract, WritableSourceContract, textured

CHUNKS = (3, 4, 5)


def store(path: Path, array: np.ndarray, key: str = "volumes/raw", **options: Any) -> Path:
    with h5py.File(path, "a") as file:
        file.create_dataset(key, data=array, **options)
    return path


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """After calling it, reading voxels through h5py fails: what is read then was read from the bytes."""

    def forbid() -> None:
        def refuse(*_: Any, **__: Any) -> Any:
            raise AssertionError("voxels were read through h5py")

        monkeypatch.setattr(h5py.Dataset, "__getitem__", refuse)

    return forbid


def stored(**options: Any) -> dict[str, Any]:
    """The options of h5py for a dataset."""
    return options


class Hdf5Contract(SourceContract):
    options = stored(chunks=CHUNKS)
    codec = ""
    raw = True

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return open_source(store(folder / "a.h5", array, **self.options))

    def test_is_described(self, source: Source) -> None:
        assert source.format == "hdf5"
        assert source.codec == self.codec
        assert source.chunks == self.options.get("chunks")
        assert source.name.endswith("a.h5:volumes/raw")
        assert source.dtype.isnative

    def test_takes_the_bytes_where_it_can(
        self, source: Source, expected: np.ndarray, no_library: Callable[[], None]
    ) -> None:
        if not self.raw:
            assert not source.on_disk.described.bytes_readable
            return
        no_library()
        np.testing.assert_array_equal(source[...], expected)
        inner = tuple(slice(1, None) for _ in expected.shape)
        np.testing.assert_array_equal(source[inner], expected[inner])


class TestUnfiltered(Hdf5Contract):
    pass


class TestGzip(Hdf5Contract):
    options = stored(chunks=CHUNKS, compression="gzip", compression_opts=6)
    codec = "gzip:6"


class TestGzipShuffle(Hdf5Contract):
    options = stored(chunks=CHUNKS, compression="gzip", shuffle=True)
    codec = "gzip:4 + shuffle"
    dtype = "int64"


class TestShuffleOnly(Hdf5Contract):
    options = stored(chunks=(7, 5, 13), shuffle=True)
    codec = "shuffle"
    dtype = "float32"


class TestFletcher32(Hdf5Contract):
    options = stored(chunks=CHUNKS, fletcher32=True)
    codec = "fletcher32"
    dtype = "uint8"
    shape = (7, 12, 15)


class TestAllBuiltin(Hdf5Contract):
    options = stored(chunks=CHUNKS, compression="gzip", shuffle=True, fletcher32=True)
    codec = "gzip:4 + shuffle + fletcher32"
    dtype = ">i4"


class TestLzf(Hdf5Contract):
    options = stored(chunks=(6, 10, 13), compression="lzf", shuffle=True)
    codec = "lzf + shuffle"
    dtype = "float64"

    def array(self) -> np.ndarray:
        array = textured(self.shape, self.dtype)
        array[:4] = np.arange(
            13
        )  # what lzf cannot make smaller is stored without it: both kinds of chunks are here
        return array


class TestBlosc(Hdf5Contract):
    options = stored(chunks=CHUNKS, **hdf5plugin.Blosc("zstd", 3, hdf5plugin.Blosc.BITSHUFFLE))
    codec = "blosc zstd:3 bitshuffle"


class TestZstd(Hdf5Contract):
    options = stored(chunks=CHUNKS, **hdf5plugin.Zstd(5), shuffle=True)
    codec = "zstd:5 + shuffle"
    dtype = "complex64"


class TestLz4(Hdf5Contract):
    options = stored(chunks=(5, 10, 13), **hdf5plugin.LZ4(nbytes=256))
    codec = "lz4"

    def array(self) -> np.ndarray:
        array = textured(self.shape, self.dtype)
        array[:, ::2] = 7
        return array


class TestBitshuffleLz4(Hdf5Contract):
    # 5 * 10 * 13 = 650 voxels: four whole blocks of 128, a cut one, and two voxels left over
    options = stored(chunks=(5, 10, 13), **hdf5plugin.Bitshuffle(nelems=128, cname="lz4"))
    codec = "bitshuffle lz4"


class TestBitshuffleZstd(Hdf5Contract):
    options = stored(chunks=CHUNKS, **hdf5plugin.Bitshuffle(cname="zstd"))
    codec = "bitshuffle zstd"
    dtype = "int32"


class TestBitshuffleOnly(Hdf5Contract):
    options = stored(chunks=(5, 10, 13), **hdf5plugin.Bitshuffle(nelems=64, cname="none"))
    codec = "bitshuffle"
    dtype = "uint32"
    shape = (10, 10, 13)


class TestBzip2(Hdf5Contract):
    options = stored(chunks=CHUNKS, **hdf5plugin.BZip2(7))
    codec = "bzip2:7"


class TestScaleOffsetGoesThroughTheLibrary(Hdf5Contract):
    options = stored(chunks=CHUNKS, scaleoffset=0)
    codec = "scaleoffset"
    raw = False

    def array(self) -> np.ndarray:
        return textured(self.shape, "uint8").astype("uint16")


class TestThirdPartyGoesThroughTheLibrary(Hdf5Contract):
    options = stored(chunks=CHUNKS, **hdf5plugin.Blosc2())
    codec = "blosc2"
    raw = False


class TestContiguous(Hdf5Contract):
    options = stored()
    dtype = ">f4"


class TestContiguousFarApart(Hdf5Contract):
    """Rows so far apart that each is read on its own."""

    options = stored()
    shape = (3, 5, 40_000)
    dtype = "uint8"


class TestBool(Hdf5Contract):
    options = stored(chunks=CHUNKS, compression="gzip")
    codec = "gzip:4"
    dtype = "bool"


class TestContiguousBool(Hdf5Contract):
    options = stored()
    dtype = "bool"


class TestHalf(Hdf5Contract):
    dtype = ">f2"


class TestComplexBigEndian(Hdf5Contract):
    dtype = ">c16"


class TestOneAxis(Hdf5Contract):
    shape = (23,)
    options = stored(chunks=(5,))


class TestZeroAxes(Hdf5Contract):
    shape = ()
    options = stored()


class TestEmptyAxis(Hdf5Contract):
    shape = (3, 0, 4)
    options = stored(chunks=(2, 1, 4), maxshape=(None, None, None))

    def test_is_described(self, source: Source) -> None:
        assert source.chunks == (2, 1, 4)


class TestUserBlock(Hdf5Contract):
    options = stored(chunks=CHUNKS, compression="gzip")
    codec = "gzip:4"
    raw = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        with h5py.File(folder / "a.h5", "w", userblock_size=1024) as file:
            file.create_dataset("volumes/raw", data=array, **self.options)
        return open_source(folder / "a.h5")


class TestUserBlockContiguous(TestUserBlock):
    options = stored()
    codec = ""


class TestLatestFileFormat(Hdf5Contract):
    """Another kind of chunk index in the file."""

    def make(self, array: np.ndarray, folder: Path) -> Source:
        with h5py.File(folder / "a.h5", "w", libver="latest") as file:
            file.create_dataset("volumes/raw", data=array, **self.options)
        return open_source(folder / "a.h5")


class TestPartlyWritten(Hdf5Contract):
    options = stored(chunks=CHUNKS, compression="gzip")
    codec = "gzip:4"

    def array(self) -> np.ndarray:
        array = np.full(self.shape, 7, self.dtype)
        array[3:6, 4:8] = textured((3, 4, 13), self.dtype)
        return array

    def make(self, array: np.ndarray, folder: Path) -> Source:
        with h5py.File(folder / "a.h5", "w") as file:
            made = file.create_dataset("volumes/raw", array.shape, array.dtype, fillvalue=7, **self.options)
            made[3:6, 4:8] = array[3:6, 4:8]
        source = open_source(folder / "a.h5")
        assert source.fill_value == 7
        return source


class TestNeverWrittenContiguous(Hdf5Contract):
    options = stored()

    def array(self) -> np.ndarray:
        return np.full(self.shape, 9, self.dtype)

    def make(self, array: np.ndarray, folder: Path) -> Source:
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("volumes/raw", array.shape, array.dtype, fillvalue=9)
        return open_source(folder / "a.h5")

    def test_says_what_it_is(self, source: Source, expected: np.ndarray) -> None:
        assert source.stored_size().n_bytes == 0


class TestVirtual(Hdf5Contract):
    options = stored()
    raw = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        store(folder / "part.h5", array[:3], "p", chunks=CHUNKS)
        layout = h5py.VirtualLayout(array.shape, array.dtype)
        layout[:3] = h5py.VirtualSource(str(folder / "part.h5"), "p", (3, *array.shape[1:]))
        layout[3:] = h5py.VirtualSource(".", "rest", (array.shape[0] - 3, *array.shape[1:]))
        with h5py.File(folder / "a.h5", "w") as file:
            file["rest"] = array[3:]
            file.create_virtual_dataset("volumes/raw", layout)
        return open_source(folder / "a.h5", "volumes/raw")

    def test_leads_to_its_parts(self, source: Source, tmp_path: Path) -> None:
        assert open_source(tmp_path / "part.h5").identities() < source.identities()
        assert open_source(tmp_path / "a.h5", "rest").identities() < source.identities()


class TestExternalStorage(Hdf5Contract):
    options = stored()
    raw = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        with h5py.File(folder / "a.h5", "w") as file:
            where = [(str(folder / "voxels.bin"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("volumes/raw", data=array, external=where)
        return open_source(folder / "a.h5")


class TestCompact(Hdf5Contract):
    options = stored()
    raw = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        with h5py.File(folder / "a.h5", "w") as file:
            options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            options.set_layout(h5py.h5d.COMPACT)
            group = file.create_group("volumes")
            kind, space = h5py.h5t.py_create(array.dtype), h5py.h5s.create_simple(array.shape)
            h5py.h5d.create(group.id, b"raw", kind, space, options).write(h5py.h5s.ALL, h5py.h5s.ALL, array)
        return open_source(folder / "a.h5")


class LiveContract(WritableSourceContract):
    """What `create` returns."""

    codec: Codec | None = None

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return open_source(store(folder / "a.h5", array, chunks=CHUNKS))

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return family_of("hdf5").create(
            str(folder / "b.h5"), "x/y", ArraySpec(shape, dtype, CHUNKS, codec=self.codec), False
        )


class TestCreated(LiveContract):
    def test_is_gzip(self, target: Source) -> None:
        assert target.codec == "gzip:1 + shuffle"
        assert not target.concurrent_writes


class TestCreatedFloat(LiveContract):
    dtype = ">f4"

    def test_is_gzip(self, target: Source) -> None:
        assert target.codec == "gzip:1"


class TestCreatedBool(LiveContract):
    dtype = "bool"


class TestCreatedPlain(LiveContract):
    codec = Codec("none")
    dtype = "int16"


class TestCreatedLzf(LiveContract):
    codec = Codec("lzf")
    dtype = "complex128"


class TestCreatedContiguous(LiveContract):
    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return family_of("hdf5").create(
            str(folder / "b.h5"), None, ArraySpec(shape, dtype, codec=Codec("none")), False
        )


class TestReopenedForWriting(LiveContract):
    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        with h5py.File(folder / "b.h5", "w") as file:
            file.create_dataset("x", shape, dtype, chunks=CHUNKS, compression="gzip", fletcher32=True)
        return open_source(folder / "b.h5", mode="r+")


class TestHandleForWriting(LiveContract):
    @pytest.fixture(autouse=True)
    def files(self) -> Any:
        self.opened: list[h5py.File] = []
        yield
        for file in self.opened:
            file.close()

    def make(self, array: np.ndarray, folder: Path) -> Source:
        self.opened.append(h5py.File(folder / "a.h5", "w"))
        return as_source(self.opened[-1].create_dataset("x", data=array, chunks=CHUNKS, compression="gzip"))

    def test_cannot_be_written_unless_it_says_so(self, source: Source) -> None:
        assert source.writable

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        self.opened.append(h5py.File(folder / "b.h5", "w"))
        return as_source(self.opened[-1].create_dataset("x", shape, dtype, chunks=CHUNKS, compression="gzip"))


class TestHandleForReading(Hdf5Contract):
    options = stored(chunks=CHUNKS, compression="gzip")
    codec = "gzip:4"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        with h5py.File(store(folder / "a.h5", array, **self.options)) as file:
            return as_source(file["volumes/raw"])  # outlives the handle


class TestHandleInMemory(SourceContract):
    has_spec = False

    @pytest.fixture(autouse=True)
    def file(self) -> Any:
        with h5py.File("nowhere.h5", "w", driver="core", backing_store=False) as self.opened:
            yield

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return as_source(self.opened.create_dataset("x", data=array, chunks=CHUNKS))


# Handles


def test_a_handle_shows_what_is_not_in_the_file_yet(tmp_path: Path) -> None:
    array = textured((7, 10, 13), "uint16")
    with h5py.File(store(tmp_path / "a.h5", array, chunks=CHUNKS, compression="gzip"), "r+") as file:
        source = as_source(file["volumes/raw"])
        by_path = open_source(tmp_path / "a.h5")
        np.testing.assert_array_equal(source[...], array)
        file["volumes/raw"][2, 3, 4] = 4321
        assert source[2, 3, 4] == 4321
        assert by_path[2, 3, 4] == 4321
        source[6, 9] = 5
        assert (file["volumes/raw"][6, 9] == 5).all()
        assert (by_path[6, 9] == 5).all()
        assert source.identities() == by_path.identities()
    assert by_path[2, 3, 4] == 4321


def test_a_group_with_one_dataset_is_taken_for_it(tmp_path: Path) -> None:
    array = textured((7, 10, 13), "uint16")
    path = store(tmp_path / "a.h5", array)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(as_source(file)[...], array)
        np.testing.assert_array_equal(as_source(file["volumes"])[...], array)
    store(path, array, "volumes/labels")
    with h5py.File(path, "a") as file:
        file.create_group("empty")
        with pytest.raises(AmbiguousSourceError, match="volumes/labels"):
            as_source(file)
        with pytest.raises(SourceNotFoundError, match="empty"):
            as_source(file["empty"])


def test_a_closed_handle_is_refused(tmp_path: Path) -> None:
    with h5py.File(store(tmp_path / "a.h5", np.zeros(3)), "r+") as file:
        dataset = file["volumes/raw"]
        source = as_source(dataset)
    with pytest.raises(StorageError, match="closed"):
        as_source(dataset)
    with pytest.raises(StorageError, match="closed"):
        source[0]
    with pytest.raises(StorageError, match="closed"):
        source[0] = 1
    source.close()


def test_a_closed_source_is_refused(tmp_path: Path) -> None:
    source = open_source(store(tmp_path / "a.h5", np.zeros(3)))
    source.close()
    source.close()
    with pytest.raises(StorageError, match="closed"):
        source[0]


def test_a_relative_handle_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path / "a.h5", np.arange(9), chunks=(4,))
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5") as file:
        source = as_source(file["volumes/raw"])
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        assert source[8] == 8
        again = as_source(file["volumes/raw"])  # "a.h5" leads nowhere from here, the handle still does
        assert again[8] == 8


# Several sources in one file


def test_reading_and_writing_the_same_file(tmp_path: Path, no_library: Callable[[], None]) -> None:
    array = textured((12, 20, 20), "uint16")
    path = store(tmp_path / "a.h5", array, "in", chunks=(4, 8, 8), compression="gzip")
    store(path, array, "szip", chunks=(4, 8, 8), scaleoffset=0)
    before = open_source(path, "in")
    assert before[1, 2, 3] == array[1, 2, 3]
    with family_of("hdf5").create(
        str(path), "out", ArraySpec((12, 20, 20), np.dtype("uint16"), (4, 8, 8)), False
    ) as output:
        during = open_source(path, "in")
        through_the_library = open_source(path, "szip")

        def move(z: int) -> None:
            source = (before, during, through_the_library)[z % 3]
            output[z : z + 4] = source[z : z + 4]

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(move, range(0, 12, 4)))
        assert not before.identities() & output.identities()
        np.testing.assert_array_equal(open_source(path, "out")[...], array)
        no_library()
        np.testing.assert_array_equal(during[...], array)  # what nobody writes is still read from the bytes


def test_a_reader_sees_what_was_written_since(tmp_path: Path) -> None:
    array = textured((12, 20), "uint16")
    path = store(tmp_path / "a.h5", array, "x", chunks=(4, 8), compression="gzip")
    store(path, array, "y", chunks=(4, 8))
    reader = open_source(path, "x")
    assert reader[0, 0] == array[0, 0]
    with open_source(path, "y", mode="r+"), open_source(path, "x", mode="r+") as writer:
        writer[0, 0] = 1
        assert reader[0, 0] == 1
        writer[0:4, 0:8] = 2
        assert (reader[0:4, 0:8] == 2).all()
        writer.close()
        assert reader[0, 0] == 2
        assert reader[0, 8] == array[0, 8]
    assert reader[0, 0] == 2
    with h5py.File(path, "r+") as file:
        file["x"][0, 0] = 3
    assert reader[0, 0] == 3


def test_a_reader_notices_that_its_dataset_was_replaced(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", np.arange(90), "x", chunks=(10,), compression="gzip")
    reader = open_source(path, "x")
    assert reader[50] == 50
    family_of("hdf5").create(str(path), "x", ArraySpec((50,), np.dtype("uint8"), (10,)), True).close()
    with pytest.raises(StorageError, match="replaced"):
        reader[20]
    with h5py.File(path, "a") as file:
        del file["x"]
    with pytest.raises(StorageError, match="no longer exists"):
        reader[20]


def test_nothing_is_held_open_for_reading(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", np.arange(90), "x", chunks=(10,), scaleoffset=0)
    store(path, np.arange(90), "y", chunks=(10,))
    sources = [open_source(path, "x"), open_source(path, "y")]
    assert [s[50] for s in sources] == [50, 50]
    code = "import h5py, sys; h5py.File(sys.argv[1], 'r+').close()"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)  # another process gets its lock
    with h5py.File(path, "r+"):
        assert [s[51] for s in sources] == [51, 51]


def test_attributes_are_read_once_and_not_for_every_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(tmp_path / "a.h5", np.arange(90), "x", chunks=(10,), scaleoffset=0)
    with h5py.File(path, "r+") as file:
        file["x"].attrs["note"] = "stays"
    with open_source(path) as source:

        def refuse(*_: object) -> None:
            raise AssertionError("attributes were read again")

        monkeypatch.setattr(h5py.AttributeManager, "__getitem__", refuse)
        assert source[25:28].tolist() == [25, 26, 27]
        assert source.metadata.attributes == {"note": "stays"}


def test_a_writer_that_nobody_closes_lets_go_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    output = family_of("hdf5").create(str(path), None, ArraySpec((4,), np.dtype("uint8"), (2,)), False)
    output[...] = 3
    del output
    with h5py.File(path, "r+") as file:
        assert (file["data"][...] == 3).all()


def test_links_lead_to_one_array(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", np.arange(9), "x", chunks=(4,))
    with h5py.File(path, "a") as file:
        file["soft"] = h5py.SoftLink("/x")
        file["hard"] = file["x"]
        file["y"] = np.arange(9)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["external"] = h5py.ExternalLink("a.h5", "/x")
    os.link(path, tmp_path / "c.h5")
    source = open_source(path, "x")
    others = [open_source(path, "soft"), open_source(path, "hard"), open_source(tmp_path / "c.h5", "x")]
    others.append(open_source(tmp_path / "b.h5", "external"))
    with h5py.File(path) as file:
        others.append(as_source(file["soft"]))
    with open_source(path, "soft", mode="r+") as writer:
        assert writer.identities() == source.identities()
    for other in others:
        assert other.identities() == source.identities()
        np.testing.assert_array_equal(other[...], np.arange(9))
    assert open_source(path, "y").identities() != source.identities()
    assert sorted(family_of("hdf5").list_arrays(str(path))) in (["hard", "y"], ["x", "y"])


def test_twins_share_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(store(tmp_path / "a.h5", np.arange(90), chunks=(10,)))
    found: list[int] = []
    locate = hdf5_read.DatasetOnDisk._locate
    monkeypatch.setattr(hdf5_read.DatasetOnDisk, "_locate", lambda self: found.append(1) or locate(self))
    twins = [source.for_run(2, 0), source.for_run(1, 10**6), source]
    barrier = threading.Barrier(3)

    def read(twin: Source) -> int:
        barrier.wait()
        return int(twin[50])

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(read, twins)) == [50, 50, 50]
    twins[0].close()
    assert source[20] == 20
    assert len(found) == 1


# Which array is meant


def test_a_file_with_several_arrays_needs_a_key(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", np.zeros((2, 3), "uint8"))
    store(path, np.zeros(4, "float32"), "labels")
    with h5py.File(path, "a") as file:
        file["remarks"] = "text is no image"
    with pytest.raises(AmbiguousSourceError) as raised:
        open_source(path)
    for part in (
        "2 arrays",
        "labels  (4,) float32",
        "volumes/raw  (2, 3) uint8",
        f"open_source('{path}', 'labels')",
    ):
        assert part in str(raised.value)
    assert open_source(path, "volumes").shape == (2, 3)
    assert open_source(f"{path}:/volumes/raw").shape == (2, 3)
    assert open_source(f"{path}/labels").shape == (4,)


def test_many_arrays_are_not_all_listed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(50):
            file[f"{i:02}"] = i
    for key in (None, "nope"):
        with pytest.raises((AmbiguousSourceError, SourceNotFoundError)) as raised:
            open_source(tmp_path / "a.h5", key)
        assert "19" in str(raised.value)
        assert "  25" not in str(raised.value)
        assert "and more" in str(raised.value)


def test_a_wrong_key_lists_what_there_is(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", np.zeros((2, 3), "uint8"))
    for mode in ("r", "r+"):
        with pytest.raises(SourceNotFoundError, match=r"volumes/raw  \(2, 3\) uint8"):
            open_source(path, "raw", mode)
    with h5py.File(path, "a") as file:
        file["bad"] = h5py.SoftLink("/gone")
        file.create_group("empty")
    with pytest.raises(SourceNotFoundError, match="bad"):
        open_source(path, "bad")
    with pytest.raises(SourceNotFoundError, match="empty"):
        open_source(path, "empty")


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["text"] = ["a", "b"]
        file["fixed"] = np.array([b"ab", b"cd"])
        file["records"] = np.zeros(3, [("a", "i4"), ("b", "f4")])
        file["vectors"] = np.zeros(3, [("a", "i4", 3)])
        file.create_dataset("lists", (3,), h5py.vlen_dtype(np.int32))
        file.create_dataset("references", (3,), h5py.ref_dtype)
        file["nothing"] = h5py.Empty("f4")
        file["type"] = np.dtype("f8")
        names = list(file)
    for name in names:
        with pytest.raises(UnsupportedFormatError, match=name):
            open_source(tmp_path / "a.h5", name)
    with pytest.raises(SourceNotFoundError, match="no image data"):
        open_source(tmp_path / "a.h5")


def test_integers_with_names_are_integers(tmp_path: Path, no_library: Callable[[], None]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind = h5py.enum_dtype({"background": 0, "cell": 1}, "uint16")
        file.create_dataset("x", data=np.array([0, 1, 1], "uint16"), dtype=kind, chunks=(2,))
    no_library()
    source = open_source(tmp_path / "a.h5")
    assert source.dtype == "uint16"
    assert source[...].tolist() == [0, 1, 1]


# What is broken


def test_a_corrupt_chunk_is_named(tmp_path: Path) -> None:
    array = textured((8, 8), "uint16")
    for n, options in enumerate(
        ({"compression": "gzip"}, {"fletcher32": True}, hdf5plugin.Zstd(3), hdf5plugin.LZ4())
    ):
        path = store(tmp_path / f"{n}.h5", array, chunks=(4, 4), **options)
        with h5py.File(path) as file:
            place = file["volumes/raw"].id.get_chunk_info_by_coord((4, 0))
        with path.open("r+b") as raw:
            raw.seek(place.byte_offset)
            raw.write(b"\xab" * (place.size // 2))
        source = open_source(path)
        np.testing.assert_array_equal(source[:4], array[:4])
        for region in ((slice(None), slice(None)), (slice(5, 6), slice(0, 2)), (slice(4, 8), slice(0, 4))):
            with pytest.raises(StorageError, match=r"chunk \(1, 0\) of '.*\.h5:volumes/raw'"):
                source[region]


def test_a_file_cut_after_opening_is_an_error(tmp_path: Path) -> None:
    for n, options in enumerate(({"chunks": (100,), "compression": "gzip"}, {})):
        path = store(tmp_path / f"{n}.h5", textured((1000,), "uint16"), **options)
        source = open_source(path)
        source[:10]
        kept = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        with path.open("r+b") as raw:
            raw.truncate(path.stat().st_size - 300)
        os.utime(path, ns=kept)
        with pytest.raises(StorageError, match="truncated"):
            source[...]


def test_bad_files(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", textured((1000,), "uint16"))
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:1500])
    with pytest.raises(StorageError, match=r"cut\.h5' is truncated"):
        open_source(tmp_path / "cut.h5")
    (tmp_path / "text.h5").write_text("not HDF5 at all")
    (tmp_path / "empty.h5").touch()
    for name in ("text.h5", "empty.h5"):
        for mode in ("r", "r+"):
            with pytest.raises(UnsupportedFormatError, match=f"{name}' is not an HDF5 file"):
                open_source(tmp_path / name, mode=mode)
    for mode in ("r", "r+"):
        with pytest.raises(SourceNotFoundError):
            family_of("hdf5").open_path(str(tmp_path / "gone.h5"), None, mode)
        with pytest.raises(UnsupportedFormatError, match="folder"):
            family_of("hdf5").open_path(str(tmp_path), None, mode)
    with pytest.raises(UnsupportedFormatError, match="download"):
        family_of("hdf5").open_path("https://example.org/a.h5", None, "r")
    with pytest.raises(InvalidArgumentError, match="series"):
        open_source(path, series=3)


def test_a_file_locked_elsewhere_is_an_error_that_says_so(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", np.arange(9))
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        for mode in ("r", "r+"):
            with pytest.raises(StorageError, match="locked: another process"):
                open_source(path, mode=mode)
        other.communicate()
    assert open_source(path)[8] == 8


def test_a_handle_for_reading_stands_in_the_way_of_writing(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", np.arange(9))
    with h5py.File(path), pytest.raises(StorageError, match="close that handle first"):
        open_source(path, mode="r+")


def test_an_unknown_filter_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store(tmp_path / "a.h5", np.arange(90), chunks=(10,), **hdf5plugin.Blosc2())
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: number < 1000)
    with pytest.raises(UnsupportedFormatError, match=r"blosc2 \(filter 32026\).*pip install hdf5plugin"):
        open_source(path)[0]


# Chunks in unusual states


def test_filters_that_a_chunk_skipped(tmp_path: Path, no_library: Callable[[], None]) -> None:
    array = textured((8,), "uint16")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_dataset("x", (8,), "uint16", chunks=(4,), compression="gzip", shuffle=True)
        made[:4] = array[:4]
        made.id.write_direct_chunk((4,), array[4:].tobytes(), filter_mask=0b11)
    no_library()
    np.testing.assert_array_equal(open_source(tmp_path / "a.h5")[...], array)


def test_old_fletcher32_with_swapped_bytes() -> None:
    pipeline = FilterPipeline((Filter(3, ()),), 6)
    with h5py.File("x", "w", driver="core", backing_store=False) as file:
        made = file.create_dataset("x", data=np.frombuffer(b"abcdef", "u1"), chunks=(6,), fletcher32=True)
        file.flush()
        stored = made.id.read_direct_chunk((0,))[1]
    assert bytes(pipeline.decode(stored, 0)) == b"abcdef"
    sums = stored[6:]
    assert bytes(pipeline.decode(b"abcdef" + bytes([sums[1], sums[0], sums[3], sums[2]]), 0)) == b"abcdef"
    with pytest.raises(StorageError, match="fletcher32"):
        pipeline.decode(b"abcdeg" + sums, 0)


def test_a_chunk_of_another_size_is_an_error() -> None:
    import zlib

    for size in (99, 101):
        with pytest.raises(StorageError):
            FilterPipeline((Filter(1, (4,)),), 100).decode(zlib.compress(bytes(size)), 0)
    with pytest.raises(StorageError, match="99 bytes where 100"):
        FilterPipeline((), 100).decode(bytes(99), 0)


def test_a_compression_of_a_compression(tmp_path: Path, no_library: Callable[[], None]) -> None:
    array = np.arange(100, dtype="uint32")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        options.set_chunk((50,))
        options.set_deflate(6)
        options.set_fletcher32()
        options.set_shuffle()
        options.set_deflate(1)
        space = h5py.h5s.create_simple((100,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT32, space, options).write(
            h5py.h5s.ALL, h5py.h5s.ALL, array
        )
    no_library()
    np.testing.assert_array_equal(open_source(tmp_path / "a.h5")[...], array)


# Making new ones


def spec(shape: tuple[int, ...] = (6, 7), dtype: Any = "uint16", **more: Any) -> ArraySpec:
    return ArraySpec(shape, np.dtype(dtype), **{"chunks": (4,) * len(shape), **more})


@pytest.mark.parametrize(
    ("dtype", "shape"),
    list(
        zip(
            ["bool", "int8", ">u2", "uint64", "float16", "float64", "complex64", "bool", ">u2", "complex64"],
            [(), (0,), (3, 0, 2), (5,), (2, 3, 4, 5, 3, 2)] * 2,
            strict=True,
        )
    ),
)
def test_every_shape_and_dtype(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    array = textured(shape, dtype)
    with family_of("hdf5").create(str(tmp_path / "a.h5"), None, spec(shape, dtype), False) as made:
        made[...] = array
        assert made.key == "data"
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["data"].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(file["data"][...], array)
    np.testing.assert_array_equal(open_source(tmp_path / "a.h5")[...], array)


@pytest.mark.parametrize("fill", [7, 0, None])
def test_fill_value(tmp_path: Path, fill: Any) -> None:
    with family_of("hdf5").create(str(tmp_path / "a.h5"), "x", spec(fill_value=fill), False) as made:
        made[5, 6] = 1
        made[4:6, 4:7] = 2  # a whole chunk at the corner: HDF5 stores it whole, the rest of it is fill value
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        assert file["x"].fillvalue == (fill or 0)
        assert file["x"][0, 0] == (fill or 0)
        assert file["x"][5, 6] == 2
    assert open_source(tmp_path / "a.h5").fill_value == (fill or 0)


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("none", ""),
        ("gzip", "gzip:1 + shuffle"),
        ("zlib:9", "gzip:9 + shuffle"),
        ("lzf", "lzf + shuffle"),
        ({"name": "gzip", "shuffle": False}, "gzip:1"),
    ],
)
def test_codecs(tmp_path: Path, codec: Any, text: str) -> None:
    array = textured((6, 7), "uint16")
    with family_of("hdf5").create(str(tmp_path / "a.h5"), "x", spec(codec=Codec.parse(codec)), False) as made:
        assert made.codec == text
        made[...] = array
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["x"][...], array)
        assert file["x"].chunks == (4, 4)


def test_what_hdf5_cannot_hold_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    path = str(tmp_path / "a.h5")
    for bad in (
        spec(codec=Codec("zstd")),
        spec(codec=Codec("gzip", 12)),
        spec(codec=Codec("lzf", 3)),
        spec(codec=Codec("gzip", options={"cname": "x"})),
        spec(shards=(8, 8)),
        spec((2**20, 2**20), chunks=(2**16, 2**16)),
    ):
        with pytest.raises(InvalidArgumentError):
            family_of("hdf5").create(path, "x", bad, False)
    for dtype in ("U3", "O", "M8[s]", [("a", "i4")]):
        with pytest.raises(UnsupportedFormatError, match="cannot hold dtype"):
            family_of("hdf5").create(path, "x", spec(dtype=dtype), False)
    with pytest.raises(SourceNotFoundError, match="no folder"):
        family_of("hdf5").create(str(tmp_path / "no" / "a.h5"), "x", spec(), False)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_touched_unless_asked(tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", np.arange(9), "g/x")
    with pytest.raises(OutputExistsError, match=r"overwrite=True.*mode='r\+'"):
        family_of("hdf5").create(str(path), "g/x", spec(), False)
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="group"):
            family_of("hdf5").create(str(path), "g", spec(), overwrite)
        with pytest.raises(InvalidArgumentError, match="'g/x' is a dataset"):
            family_of("hdf5").create(str(path), "g/x/y", spec(), overwrite)
    family_of("hdf5").create(str(path), "/g/y", spec(), False).close()
    with open_source(path, "g/x", mode="r+") as source:
        with pytest.raises(InvalidArgumentError, match="open for writing"):
            family_of("hdf5").create(str(path), "g/x", spec(), True)
        np.testing.assert_array_equal(source[...], np.arange(9))
    np.testing.assert_array_equal(open_source(path, "g/x")[...], np.arange(9))
    with family_of("hdf5").create(str(path), "g/x", spec(), True) as made:
        made[...] = 5
    assert sorted(family_of("hdf5").list_arrays(str(path))) == ["g/x", "g/y"]
    assert open_source(path, "g/x").shape == (6, 7)
    text = tmp_path / "text.h5"
    text.write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="not an HDF5 file"):
            family_of("hdf5").create(str(text), "x", spec(), overwrite)
    assert text.read_text() == "mine"


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bioimage_py.sources.hdf5.write.write_metadata", fail)
    with pytest.raises(StorageError, match="No space left"):
        family_of("hdf5").create(str(tmp_path / "new.h5"), "a/b", spec(), False)
    assert not (tmp_path / "new.h5").exists()
    path = store(tmp_path / "a.h5", np.arange(9), "g/x")
    for key in ("g/h/y", "new/y", "y"):
        with pytest.raises(StorageError, match="No space left"):
            family_of("hdf5").create(str(path), key, spec(), False)
    with pytest.raises(StorageError, match="No space left"):
        family_of("hdf5").create(str(path), "g/x", spec(), True)
    with h5py.File(path) as file:
        assert list(file) == ["g"]
        assert list(file["g"]) == ["x"]
        np.testing.assert_array_equal(file["g/x"][...], np.arange(9))


def test_a_write_that_fails_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with family_of("hdf5").create(str(tmp_path / "a.h5"), "x", spec(codec=Codec("none")), False) as made:
        monkeypatch.setattr(h5py.Dataset, "__setitem__", fail)
        with pytest.raises(StorageError, match=r"a\.h5:x' failed: .*No space left"):
            made[...] = 1


def test_metadata_comes_back(tmp_path: Path) -> None:
    metadata = ImageMetadata(
        axes=("c", "z", "y", "x"),
        voxel_size=(1.0, 40.0, 4.0, 4.0),
        units=(None, "nanometer", "nanometer", "nanometer"),
        origin=(0.0, 5.0, 0.0, 0.5),
        channel_names=("DAPI", "GFP µ"),
        attributes={
            "text": "µm",
            "like json": "[1, 2]",
            "nul": "a\0b",
            "yes": True,
            "whole": 3,
            "huge": 2**80,
            "large": 2**64 - 1,
            "large and small": [2**64 - 1, -1],
            "real": 0.5,
            "nothing": None,
            "numbers": [1, 2, 3],
            "reals": [0.5, 1.5],
            "mixed": [1, "a", None],
            "empty": [],
            "names": ["a", "b"],
            "flags": [True, False],
            "nested": {"a": [1, {"b": 2}]},
            "matrix": [[1, 2], [3, 4]],
            "long": list(range(50_000)),
        },
    )
    json.dumps(dict(metadata.attributes))
    with family_of("hdf5").create(
        str(tmp_path / "a.h5"), "x", spec((2, 3, 4, 5), metadata=metadata), False
    ) as made:
        assert made.metadata == metadata
    assert open_source(tmp_path / "a.h5").metadata == metadata
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_allclose(file["x"].attrs["element_size_um"], [0.04, 0.004, 0.004])
        assert file["x"].attrs["numbers"].tolist() == [1, 2, 3]
        assert file["x"].attrs["large"] == 2**64 - 1


def test_metadata_of_others(tmp_path: Path) -> None:
    tags = {"axes": [{"key": k, "typeFlags": 2, "resolution": 0, "description": ""} for k in "zyxc"]}
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for key, ndim in (("imagej", 3), ("ilastik", 4), ("odd", 3)):
            file.create_dataset(key, (2,) * ndim, "uint8")
        file["imagej"].attrs["element_size_um"] = [0.5, 0.1, 0.1]
        file["ilastik"].attrs["axistags"] = json.dumps(tags)
        file["ilastik"].attrs["element_size_um"] = np.array([0.5, 0.1, 0.1], "float32")
        odd = file["odd"].attrs
        odd["axistags"] = "no json"
        odd["element_size_um"] = [1.0, 2.0]
        odd["reference"] = file["imagej"].ref
        odd["complex"] = 1 + 2j
        odd["empty"] = h5py.Empty("f4")
        odd["bytes"] = np.bytes_(b"abc")
        odd["voxel_size"] = [1.0, -1.0, 1.0]
    imagej = open_source(tmp_path / "a.h5", "imagej").metadata
    assert imagej == ImageMetadata(voxel_size=(0.5, 0.1, 0.1), units=("micrometer",) * 3)
    ilastik = open_source(tmp_path / "a.h5", "ilastik").metadata
    assert ilastik.axes == ("z", "y", "x", "c")
    assert ilastik.voxel_size == pytest.approx((0.5, 0.1, 0.1, 1.0))
    assert ilastik.units == ("micrometer", "micrometer", "micrometer", None)
    assert ilastik.attributes == {}
    with pytest.warns(BioimagePyWarning, match=r"a\.h5:/odd: voxel size -1 of axis 1"):
        odd_one = open_source(tmp_path / "a.h5", "odd").metadata
    assert odd_one.attributes == {
        "axistags": "no json",
        "element_size_um": [1.0, 2.0],
        "bytes": "abc",
        "voxel_size": [1.0, -1.0, 1.0],
    }
    assert odd_one.voxel_size is None


def test_unsafe_casts_are_quiet_and_numpys(tmp_path: Path) -> None:
    values = np.array([[1e20, -1.5, 300.7, 3.2]])
    with family_of("hdf5").create(str(tmp_path / "a.h5"), "x", spec((1, 4), "uint8"), False) as made:
        made.write(Box((0, 0), (1, 4)), np.where(np.arange(4) == 0, np.nan, values))
        assert made[0, 1:].tolist() == values[0, 1:].astype("uint8").tolist()


def test_writers_in_many_threads_share_chunks(tmp_path: Path) -> None:
    array = textured((30, 40), "uint16")
    with family_of("hdf5").create(str(tmp_path / "a.h5"), "x", spec((30, 40), chunks=(8, 16)), False) as made:

        def write(row: int) -> None:
            made[row] = array[row]

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(30)))
        np.testing.assert_array_equal(made[...], array)
        made[:16, :16] = 0  # whole chunks after parts of them
        made[3, 3] = 9
        made.flush()
        array[:16, :16] = 0
        array[3, 3] = 9
        np.testing.assert_array_equal(made[...], array)
        with from_spec(made.to_spec()) as second:
            second[0, 0] = 77
            assert made[0, 0] == 77
        assert made[0, 0] == 77
    assert open_source(tmp_path / "a.h5")[0, 0] == 77


@pytest.mark.parametrize("compression", [None, "gzip", "lzf"])
@pytest.mark.parametrize("dtype", [None, "u4"])
def test_a_copy_keeps_checksums(compression: str | None, dtype: str | None, tmp_path: Path) -> None:
    values = np.arange(64 * 64, dtype="u2").reshape(64, 64)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=values, chunks=(16, 16), compression=compression, fletcher32=True)
    bp.copy(tmp_path / "a.h5", tmp_path / "b.h5", dtype=dtype)
    with h5py.File(tmp_path / "b.h5") as file:
        assert file["data"].fletcher32
        place = file["data"].id.get_chunk_info(0).byte_offset + 10
    np.testing.assert_array_equal(bp.open_source(tmp_path / "b.h5")[...], values)
    data = bytearray((tmp_path / "b.h5").read_bytes())
    data[place] ^= 1
    (tmp_path / "b.h5").write_bytes(data)
    with pytest.raises(StorageError):
        bp.open_source(tmp_path / "b.h5")[...]


def test_checksums_can_be_asked_for(tmp_path: Path) -> None:
    for codec in ("gzip:4+fletcher32", "none+fletcher32", {"name": "lzf", "fletcher32": True}):
        bp.create_output(tmp_path / "a.h5", shape=(8, 8), dtype="u2", codec=codec, overwrite=True)
        with h5py.File(tmp_path / "a.h5") as file:
            assert file["data"].fletcher32
