"""The suites that every source passes: subclass, say how one is made, and all of it runs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bioimage_py.errors import InvalidArgumentError, InvalidIndexError, ReadOnlyError
from bioimage_py.geometry import Box
from bioimage_py.sources import Source, as_source, from_spec


def textured(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    """Voxels that differ from place to place, in the whole range of the dtype where that makes sense."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype.newbyteorder("="), endpoint=True).astype(
            dtype
        )
    if dtype.kind == "c":
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
    return rng.normal(size=shape).astype(dtype)


class SourceContract:
    """Reading. A subclass sets `shape` and `dtype` and implements `make`; the array it stores is `self.array()`."""

    shape: tuple[int, ...] = (7, 10, 13)
    dtype: Any = "uint16"
    has_spec = True

    def array(self) -> np.ndarray:
        return textured(self.shape, self.dtype)

    def make(self, array: np.ndarray, folder: Path) -> Source:
        """Store `array` in `folder`, with another library where there is one, and open it for reading."""
        raise NotImplementedError

    @pytest.fixture
    def expected(self) -> np.ndarray:
        return self.array()

    @pytest.fixture
    def source(self, expected: np.ndarray, tmp_path: Path) -> Any:
        with self.make(expected, tmp_path) as source:
            yield source

    def test_says_what_it_is(self, source: Source, expected: np.ndarray) -> None:
        assert source.shape == expected.shape
        assert all(type(n) is int for n in source.shape)
        assert isinstance(source.dtype, np.dtype)
        assert source.dtype == expected.dtype or source.dtype == expected.dtype.newbyteorder("=")
        assert source.ndim == expected.ndim
        assert source.size == expected.size
        assert source.nbytes == expected.nbytes
        for grid in (source.chunks, source.shards):
            assert grid is None or (len(grid) == source.ndim and all(type(c) is int and c >= 1 for c in grid))
        if source.shards is not None:
            assert source.chunks is not None
            assert all(s % c == 0 for s, c in zip(source.shards, source.chunks, strict=True))
        assert source.name in repr(source)
        size = source.stored_size()
        assert size is None or (size.n_bytes > 0 and size.n_files > 0) or source.size == 0
        assert as_source(source) is source
        metadata = source.metadata
        for values in (metadata.axes, metadata.voxel_size, metadata.units, metadata.origin):
            assert values is None or len(values) == source.ndim
        json.dumps(dict(metadata.attributes))

    def test_reads_the_whole(self, source: Source, expected: np.ndarray) -> None:
        whole = source[...]
        assert isinstance(whole, np.ndarray)
        assert whole.dtype == source.dtype
        np.testing.assert_array_equal(whole, expected)
        np.testing.assert_array_equal(np.asarray(source), expected)

    def test_reads_as_numpy_does(self, source: Source, expected: np.ndarray) -> None:
        rng = np.random.default_rng(1)
        for _ in range(40):
            index: list[Any] = []
            for n in source.shape:
                kind = rng.integers(4)
                a, b = sorted(rng.integers(-n - 1, n + 2, 2).tolist())
                whole: Any = slice(None)
                index.append(
                    [int(rng.integers(-n, n)) if n else whole, slice(a, b), slice(None, b), whole][kind]
                )
            cut = int(rng.integers(len(index) + 1)) if index else 0
            for picked in (tuple(index), (*index[:cut], Ellipsis), (Ellipsis, *index[cut:])):
                got, want = source[picked], expected[picked]
                assert np.shape(got) == np.shape(want), picked
                np.testing.assert_array_equal(got, want, err_msg=str(picked))

    def test_refuses_what_it_cannot_do(self, source: Source) -> None:
        places = (source.shape[0], -source.shape[0] - 1) if source.ndim else ()
        others = (slice(None, None, 2), None, [0], np.array([0]), 1.5, "a") if source.ndim else ()
        for index in (*places, *others, (0,) * (source.ndim + 1)):
            with pytest.raises(InvalidIndexError):
                source[index]
        if not source.writable and source.size:
            with pytest.raises(ReadOnlyError):
                source[...] = 0
        empty = source.read(Box((0,) * source.ndim, (0,) * source.ndim))
        assert empty.shape == (0,) * source.ndim
        assert empty.dtype == source.dtype

    def test_reads_from_many_threads(self, source: Source, expected: np.ndarray) -> None:
        rng = np.random.default_rng(2)
        boxes = []
        for _ in range(64):
            ends = [sorted(rng.integers(0, n + 1, 2).tolist()) for n in source.shape]
            boxes.append(Box(tuple(e[0] for e in ends), tuple(e[1] for e in ends)))
        with ThreadPoolExecutor(8) as pool:
            for box, got in zip(boxes, pool.map(source.read, boxes), strict=True):
                np.testing.assert_array_equal(got, expected[(*box.slices, ...)])

    def test_twins_for_a_run_read_the_same(self, source: Source, expected: np.ndarray) -> None:
        for threads, cache_bytes in [(1, 0), (4, 0), (1, 10**4), (3, 2**24)]:
            twin = source.for_run(threads, cache_bytes)
            for name in ("shape", "dtype", "chunks", "shards"):
                assert getattr(twin, name) == getattr(source, name)
            for _ in range(2):
                np.testing.assert_array_equal(twin[...], expected)
                if source.ndim and source.shape[0]:
                    np.testing.assert_array_equal(twin[-1], expected[-1])

    def test_travels_as_plain_json(self, source: Source, expected: np.ndarray) -> None:
        if not self.has_spec:
            with pytest.raises(InvalidArgumentError, match="local runs"):
                source.to_spec()
            return
        with from_spec(json.loads(json.dumps(source.to_spec()))) as again:
            assert again.to_spec() == source.to_spec()
            np.testing.assert_array_equal(again[...], expected)
            assert again.identities() & source.identities()


class WritableSourceContract(SourceContract):
    """Reading and writing. A subclass also implements `make_empty`; `persistent` if it can be reopened from its spec."""

    persistent = True

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        """Make a new array of zeros in `folder`, opened for writing."""
        raise NotImplementedError

    @pytest.fixture
    def target(self, tmp_path: Path) -> Any:
        folder = tmp_path / "target"
        folder.mkdir()
        with self.make_empty(self.shape, np.dtype(self.dtype), folder) as target:
            yield target

    def reread(self, target: Source) -> np.ndarray:
        if not self.persistent:
            return np.asarray(target[...])
        target.close()
        with from_spec({**target.to_spec(), "mode": "r"}) as again:
            assert not again.writable
            return np.array(again[...])

    def test_new_arrays_are_zero(self, target: Source) -> None:
        assert target.writable
        assert not np.any(target[...])

    def test_writes_the_whole(self, target: Source, expected: np.ndarray) -> None:
        target[...] = expected
        np.testing.assert_array_equal(self.reread(target), expected)

    def test_writes_regions_as_numpy_does(self, target: Source, expected: np.ndarray) -> None:
        shadow = np.zeros(expected.shape, target.dtype)
        rng = np.random.default_rng(3)
        for _ in range(15):
            box = tuple(slice(*sorted(rng.integers(0, n + 1, 2).tolist())) for n in expected.shape)
            target[box] = expected[box]
            shadow[box] = expected[box]
        if expected.ndim and all(expected.shape):
            target[0] = 1
            shadow[0] = 1
        np.testing.assert_array_equal(target[...], shadow)
        np.testing.assert_array_equal(self.reread(target), shadow)

    def test_writes_do_not_keep_the_array(self, target: Source, expected: np.ndarray) -> None:
        values = np.array(expected, order="F")
        target.write(Box.whole(target.shape), values)
        values[...] = 0
        np.testing.assert_array_equal(self.reread(target), expected)

    def test_writes_other_dtypes_and_strides(self, target: Source, expected: np.ndarray) -> None:
        for dtype in ("uint8", ">i4"):
            values = textured(target.shape[::-1], dtype, seed=4).T
            target.write(Box.whole(target.shape), values)
            np.testing.assert_array_equal(target[...], values.astype(target.dtype))

    def test_writes_write_units_from_many_threads(self, target: Source, expected: np.ndarray) -> None:
        from bioimage_py.geometry import Blocking

        blocking = Blocking(target.shape, target.write_unit or tuple(max(1, n // 3) for n in target.shape))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda block: target.write(block, expected[(*block.slices, ...)]), blocking))
        np.testing.assert_array_equal(self.reread(target), expected)

    def test_refuses_values_of_another_shape(self, target: Source) -> None:
        before = np.array(target[...])
        with pytest.raises(InvalidArgumentError, match="shape"):
            target[...] = np.ones(tuple(n + 1 for n in target.shape) or (2,))
        np.testing.assert_array_equal(target[...], before)
