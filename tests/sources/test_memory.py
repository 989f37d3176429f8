from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import xarray

from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyWarning,
    InvalidArgumentError,
    ReadOnlyError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.sources import NumpySource, Source, as_source, leaves, open_source, same_voxels

from .contract import SourceContract, WritableSourceContract, textured


class NumpyContract(WritableSourceContract):
    has_spec = False
    persistent = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return as_source(array)

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return as_source(np.zeros(shape, dtype))


class TestNumpy(NumpyContract):
    pass


class TestNumpyNoAxes(NumpyContract):
    shape = ()
    dtype = "float32"


class TestNumpyNoVoxels(NumpyContract):
    shape = (0, 4)


class TestNumpySixAxes(NumpyContract):
    shape = (2, 3, 1, 2, 3, 2)


class TestNumpyBool(NumpyContract):
    dtype = "bool"


class TestNumpyComplex(NumpyContract):
    dtype = "complex128"


class TestNumpyBigEndian(NumpyContract):
    dtype = ">i4"


class TestNumpyFortran(NumpyContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        return as_source(np.asfortranarray(array))

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return as_source(np.zeros(shape, dtype, order="F"))


class TestNumpyView(NumpyContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        return as_source(np.repeat(array[::-1], 2, axis=-1)[::-1, :, ::2])

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return as_source(np.zeros([2 * n for n in shape], dtype)[::-2, ::2, ::-2])


class TestNumpyMemmap(NumpyContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        np.save(folder / "a.npy", array)
        return as_source(np.load(folder / "a.npy", mmap_mode="r"))

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return as_source(np.memmap(folder / "b.raw", dtype, "w+", shape=shape))


class TestDask(SourceContract):
    has_spec = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        source = as_source(dask.array.from_array(array, chunks=(3, 5, 13)))
        assert source.chunks == (3, 5, 13)
        return source


class TestDaskIrregular(SourceContract):
    has_spec = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        source = as_source(dask.array.from_array(array, chunks=((3, 4), (2, 6, 2), (13,))) + 0)
        assert source.chunks is None
        return source


class TestDaskNoAxes(SourceContract):
    has_spec = False
    shape = ()

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return as_source(dask.array.from_array(array))


class TestXarray(NumpyContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        return as_source(xarray.DataArray(array, dims=("z", "y", "x")))


class TestXarrayOfDask(SourceContract):
    has_spec = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return as_source(xarray.DataArray(dask.array.from_array(array, chunks=4), dims=("z", "y", "x")))


class TestXarrayFromFile(SourceContract):
    has_spec = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        xarray.Dataset({"a": (("z", "y", "x"), array)}).to_zarr(
            folder / "a.zarr", zarr_format=2, encoding={"a": {"chunks": (2, 10, 13)}}
        )
        lazy = xarray.open_zarr(folder / "a.zarr", chunks=None)["a"]
        source = as_source(lazy)
        assert not lazy.variable._in_memory
        assert source.chunks == (2, 10, 13)
        return source


class Plain:
    """Neither an array nor safe to use from two threads at once."""

    def __init__(self, array: np.ndarray) -> None:
        self.values, self.shape, self.dtype = array, list(array.shape), str(array.dtype)
        self.chunks = tuple(np.int64(max(1, n // 2)) for n in array.shape)
        self.busy = threading.Lock()

    def __getitem__(self, index: Any) -> Any:
        assert self.busy.acquire(blocking=False), "two threads at once"
        try:
            return self.values[index].tolist() if self.values.dtype.kind == "f" else self.values[index]
        finally:
            self.busy.release()


class PlainWritable(Plain):
    def __setitem__(self, index: Any, values: Any) -> None:
        assert self.busy.acquire(blocking=False), "two threads at once"
        try:
            self.values[index] = values
        finally:
            self.busy.release()


class TestArrayLike(WritableSourceContract):
    has_spec = False
    persistent = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        source = as_source(Plain(array))
        assert source.chunks == (3, 5, 6)
        return source

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return as_source(PlainWritable(np.zeros(shape, dtype)))


class TestArrayLikeOfLists(SourceContract):
    has_spec = False
    dtype = "float64"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return as_source(Plain(array))


def test_dask_is_computed_by_region_in_the_thread_that_reads() -> None:
    seen = []

    def load(block_info: Any = None) -> np.ndarray:
        seen.append((threading.get_ident(), block_info[None]["chunk-location"]))
        return np.ones((4, 4))

    array = dask.array.map_blocks(load, chunks=((4,) * 5, (4,) * 5), dtype="f8", meta=np.empty((0, 0)))
    source = as_source(array)
    with dask.config.set(scheduler="threads", num_workers=4):
        source.read(Box((4, 8), (8, 16)))
    assert seen
    assert {who for who, _ in seen} == {threading.get_ident()}
    assert {where for _, where in seen} == {(1, 2), (1, 3)}


def test_two_sources_of_one_object_take_turns() -> None:
    shared = Plain(textured((40, 40), "u1"))
    sources = [as_source(shared), as_source(shared)]
    threads = [
        threading.Thread(target=lambda s=s: [s.read(Box((0, 0), (9, 9))) for _ in range(200)])
        for s in sources
    ]
    failed: list[Any] = []
    previous, threading.excepthook = threading.excepthook, failed.append
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = previous
    assert not failed
    assert sources[0].identities() == sources[1].identities()


class Faulty(Plain):
    def __init__(self, answer: Any, dtype: Any = "u1") -> None:
        self.shape, self.dtype, self.answer = (4, 5), dtype, answer

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (np.zeros((5, 4), "u1"), r"shape \(5, 4\)"),
        (np.zeros((4, 5), "f8"), "uint8, but reading returned float64"),
        (np.ma.zeros((4, 5), "u1"), "mask"),
        (RuntimeError("disk on fire"), "RuntimeError: disk on fire"),
        ([[1, 2], [3]], "failed"),
    ],
)
def test_objects_that_answer_wrongly(answer: Any, says: str) -> None:
    with pytest.raises(StorageError, match=says):
        as_source(Faulty(answer))[...]


def test_an_object_that_fails_to_write() -> None:
    class Refusing(PlainWritable):
        def __setitem__(self, index: Any, values: Any) -> None:
            raise RuntimeError("not today")

    with pytest.raises(StorageError, match="not today"):
        as_source(Refusing(np.zeros((2, 2))))[...] = 1


def test_who_says_that_it_is_read_only_is_believed() -> None:
    frozen = PlainWritable(np.zeros((2, 2)))
    frozen.read_only = True
    array = np.zeros((3, 3))
    array.flags.writeable = False
    for obj in (frozen, array, dask.array.zeros((2, 2)), Plain(np.zeros((2, 2)))):
        with pytest.raises(ReadOnlyError):
            as_source(obj)[0, 0] = 1


@pytest.mark.parametrize(
    ("obj", "error", "says"),
    [
        ([1, 2], InvalidArgumentError, "cannot read voxels from list"),
        (3, InvalidArgumentError, "cannot read voxels from int"),
        (None, InvalidArgumentError, "cannot read voxels from NoneType"),
        (np.uint8(3), InvalidArgumentError, "single number"),
        (np.ma.zeros(3), InvalidArgumentError, "filled"),
        (np.array(["a"]), UnsupportedFormatError, "<U1"),
        (np.array([{}], object), UnsupportedFormatError, "object"),
        (np.zeros(2, [("r", "u1")]), UnsupportedFormatError, "'r'"),
        (np.zeros(2, "M8[s]"), UnsupportedFormatError, "datetime64"),
        (Faulty(0, dtype="nonsense"), UnsupportedFormatError, "nonsense"),
        (
            dask.array.from_array(np.arange(9))[dask.array.from_array(np.arange(9)) > 3],
            InvalidArgumentError,
            "known",
        ),
    ],
)
def test_what_has_no_voxels_is_refused(obj: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        as_source(obj)


def test_a_dataset_lists_its_arrays() -> None:
    with pytest.raises(AmbiguousSourceError, match="'raw', 'labels'"):
        as_source(xarray.Dataset({"raw": ("x", [1]), "labels": ("x", [2])}))


def test_subclasses_index_as_arrays_do() -> None:
    source = as_source(np.array([[1, 2], [3, 4]]).view(np.matrix))
    np.testing.assert_array_equal(source[0], [1, 2])


def test_axes_of_xarray() -> None:
    array = xarray.DataArray(
        np.zeros((2, 3, 4)),
        dims=("c", "y", "x"),
        coords={
            "c": ["DAPI", "GFP"],
            "y": ("y", [10.0, 10.5, 11.0], {"units": "µm"}),
            "x": ("x", [0, 1, 5, 6]),
        },
        attrs={"gain": np.float32(2), "table": np.arange(2), "open": object()},
    )
    with pytest.warns(BioimagePyWarning, match="left out: open"):
        metadata = as_source(array).metadata
    assert metadata.axes == ("c", "y", "x")
    assert metadata.voxel_size == (1, 0.5, 1)
    assert metadata.units == (None, "micrometer", None)
    assert metadata.origin == (0, 10, 0)
    assert metadata.channel_names == ("DAPI", "GFP")
    assert metadata.attributes == {"gain": 2.0, "table": [0, 1]}


@pytest.mark.parametrize("coordinates", [[3, 2, 1], [1, 1, 1], [0, np.nan, 2], ["a", "b", "c"]])
def test_coordinates_that_are_no_voxel_size(coordinates: list[Any]) -> None:
    metadata = as_source(xarray.DataArray(np.zeros(3), dims="x", coords={"x": coordinates})).metadata
    assert metadata.voxel_size is None
    assert metadata.origin is None


def test_xarray_in_memory_is_its_numpy_array() -> None:
    array = np.zeros((3, 4))
    source = as_source(xarray.DataArray(array, dims=("y", "x")))
    source[1] = 5
    assert array.sum() == 20
    assert same_voxels(source, as_source(array))


BASE = np.zeros((20, 30), "u2")
BUFFER = bytearray(100)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (BASE, BASE, True),
        (BASE, BASE.T, True),
        (BASE[:11], BASE[10:], True),
        (BASE[:10], BASE[10:], False),
        (BASE[:, :10], BASE[:, 10:], False),
        (BASE[:, ::2], BASE[:, 1::2], False),
        (BASE[:, ::2], BASE[:, ::3], True),
        (BASE.view("u1")[:, ::2], BASE, True),
        (BASE, np.zeros((20, 30), "u2"), False),
        (BASE[:0], BASE, False),
        (np.frombuffer(BUFFER, "u1"), np.frombuffer(BUFFER, "u2"), True),
        (np.frombuffer(BUFFER, "u1", 50), np.frombuffer(BUFFER, "u1", 50, 50), False),
    ],
)
def test_views_share_voxels_where_they_overlap(a: np.ndarray, b: np.ndarray, same: bool) -> None:
    one, other = as_source(a), as_source(b)
    assert same_voxels(one, other) is same
    assert same_voxels(other, one) is same
    if same:
        assert one.identities() & other.identities()


def test_an_overlap_that_is_hard_to_tell_counts_as_one() -> None:
    base = np.zeros(10**7, "u1")
    a = np.lib.stride_tricks.as_strided(base, (40,) * 6, (17, 1009, 30011, 7, 3001, 90001))
    b = np.lib.stride_tricks.as_strided(base[1:], (40,) * 6, (34, 2018, 60022, 14, 6002, 18002))
    assert same_voxels(as_source(a), as_source(b))


def test_memory_maps_and_paths_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((10, 8)))
    np.save(tmp_path / "b.npy", np.zeros((10, 8)))
    one, again = (np.load(path, mmap_mode="r+") for _ in range(2))
    other = as_source(np.load(tmp_path / "b.npy", mmap_mode="r"))
    with open_source(path) as stored:
        assert same_voxels(as_source(one), stored)
        assert same_voxels(stored, as_source(np.asarray(one[3:])))
        assert not same_voxels(stored, other)
    assert same_voxels(as_source(one), as_source(again))
    assert same_voxels(as_source(one[:6]), as_source(np.asarray(again)[5:]))
    assert not same_voxels(as_source(one[:5]), as_source(again[5:]))
    assert not same_voxels(as_source(one[:5]), as_source(one[5:]))
    assert not same_voxels(as_source(one), other)
    assert not same_voxels(as_source(one), as_source(np.zeros(3)))


def test_wrappers_are_seen_through() -> None:
    class Sum(NumpySource):
        """Stands for a wrapper: it has inputs."""

        def __init__(self, *inputs: Source) -> None:
            super().__init__(np.zeros((3, 3)))
            self.inputs = inputs

    array, other = np.zeros((6, 3)), np.zeros((3, 3))
    first, second, third = as_source(array[:3]), as_source(array[3:]), as_source(other)
    wrapped = Sum(Sum(first), third)
    assert list(leaves(wrapped)) == [first, third]
    assert same_voxels(wrapped, first)
    assert same_voxels(third, wrapped)
    assert not same_voxels(wrapped, second)


def test_nothing_is_copied() -> None:
    array = np.zeros((4, 5))
    assert np.shares_memory(as_source(array)[1:3], array)
