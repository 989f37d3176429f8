"""Zarr in a local folder as runs read and write it: whole chunks by our own steps, whatever is unusual by TensorStore."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import imagecodecs
import numcodecs
import numpy as np
import pytest
import tensorstore as ts
import zarr
from hypothesis import given, settings, strategies as st

import bioimage_py as bp
from bioimage_py.chunks import crc32c_bytes
from bioimage_py.errors import ReadOnlyError, StorageError
from bioimage_py.geometry import Box
from bioimage_py.sources import Source, open_source
from bioimage_py.sources.stores import TensorStoreSource
from bioimage_py.sources.zarr import ZarrFilesSource, files as zarr_files
from tests.kernels.stored import Storing, files_below, make, read_by_others, store
from tests.sources import test_zarr
from tests.sources.contract import textured

CODECS = ("none", "zstd", "zstd with checksum", "gzip", "zlib", "lz4", "bitshuffle", "crc32c")
SHAPE, CHUNKS = (9, 12), (4, 5)


@pytest.fixture
def own() -> Iterator[None]:
    """Chunks as small as those of tests are decoded and encoded by our own steps."""
    with patch.object(zarr_files, "LEAST_BYTES", 1):
        yield


@pytest.fixture
def left_to_others(monkeypatch: pytest.MonkeyPatch) -> list[Box]:
    """The boxes that TensorStore reads or writes from now on."""
    found: list[Box] = []
    for name in ("_read", "_read_into", "_write"):
        real = getattr(TensorStoreSource, name)

        def recorded(self: TensorStoreSource, box: Box, *values: Any, real: Any = real) -> Any:
            found.append(box)
            return real(self, box, *values)

        monkeypatch.setattr(TensorStoreSource, name, recorded)
    return found


def twin(source: Source, threads: int = 1, cache_bytes: int = 0) -> ZarrFilesSource:
    found = source.for_run(threads, cache_bytes)
    assert isinstance(found, ZarrFilesSource)
    return found


class OwnSteps:
    """The contract of a class of arrays, kept by their twins."""

    @pytest.fixture(autouse=True)
    def _own(self, own: None) -> None:
        """As said there."""

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return super().make(array, folder).for_run(2, 0)  # type: ignore[misc,no-any-return]

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return super().make_empty(shape, dtype, folder).for_run(2, 0)  # type: ignore[misc,no-any-return]

    def test_is_one(self, source: Source, target: Source) -> None:
        assert isinstance(target, ZarrFilesSource)
        assert (
            isinstance(source, ZarrFilesSource) or source.format == "zarr v2"
        )  # whose axes are turned there


class TestV3(OwnSteps, test_zarr.TestZarrV3):
    pass


class TestSharded(OwnSteps, test_zarr.TestZarrV3Sharded):
    pass


class TestV2(OwnSteps, test_zarr.TestZarrV2):
    pass


def storings(data: st.DataObject, dtype: str) -> Storing:
    kind = data.draw(st.sampled_from(["v2", "v3"]))
    codecs = [
        c for c in CODECS if (c not in ("crc32c", "zstd with checksum") if kind == "v2" else c != "zlib")
    ]
    shards = data.draw(st.sampled_from([None, (4, 10), (8, 5)])) if kind == "v3" else None
    fills = [0, 1, float("nan"), -0.0] if dtype[0] == "f" else [0, 3]
    return Storing(
        kind,
        data.draw(st.sampled_from(codecs)),
        CHUNKS,
        shards,
        big=data.draw(st.booleans()) and dtype != "uint8",
        fill=data.draw(st.sampled_from(fills)),
        keys=data.draw(st.sampled_from("/.")),
        index_at=data.draw(st.sampled_from(["end", "start"])),
    )


def boxes(data: st.DataObject, unit: tuple[int, ...]) -> Box:
    """A box of an array of SHAPE, at times on the grid of its write units."""
    ends = []
    for n, u in zip(SHAPE, unit, strict=True):
        step = data.draw(st.sampled_from([1, u, u]))
        begin = step * data.draw(st.integers(0, (n - 1) // step))
        ends.append((begin, min(n, begin + step * data.draw(st.integers(1, 3)))))
    return Box(tuple(b for b, _ in ends), tuple(e for _, e in ends))


DTYPES = ["uint8", "uint16", "int32", "float32", "float64", "complex128"]


@settings(max_examples=150)
@given(st.data())
def test_reads_what_others_wrote(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES[:-1]))
    how = storings(data, dtype)
    array = np.full(SHAPE, how.fill, dtype)
    stored = boxes(data, CHUNKS)
    array[stored.slices] = textured(stored.shape, dtype)
    with tempfile.TemporaryDirectory() as folder, patch.object(zarr_files, "LEAST_BYTES", 1):
        source = store(Path(folder) / "a", how, array, [stored.slices])
        with twin(source, data.draw(st.integers(1, 3)), data.draw(st.sampled_from([0, 10**6]))) as read:
            for _ in range(4):
                box = boxes(data, CHUNKS)
                buffer = np.full(box.shape, 99, read.dtype) if data.draw(st.booleans()) else None
                found = read.read(box, buffer)
                assert found.tobytes() == array[box.slices].tobytes()
                assert buffer is None or np.shares_memory(found, buffer)


@settings(max_examples=150)
@given(st.data())
def test_others_read_what_was_written(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(DTYPES))
    how = storings(data, dtype)
    model = np.full(SHAPE, how.fill, dtype)
    with tempfile.TemporaryDirectory() as folder, patch.object(zarr_files, "LEAST_BYTES", 1):
        path = make(Path(folder) / "a", how, SHAPE, dtype)
        with twin(open_source(path, mode="r+"), data.draw(st.integers(1, 3))) as written:
            for seed in range(data.draw(st.integers(1, 4))):
                box = boxes(data, how.shards or how.chunks)
                values = textured(box.shape[::-1], dtype, seed).T
                if data.draw(st.booleans()):
                    values = np.full(box.shape, data.draw(st.sampled_from([how.fill, 0])), dtype)
                written.write(box, values)
                model[box.slices] = values
                assert written.read(Box.whole(SHAPE)).tobytes() == model.tobytes()
        for found in read_by_others(path, how):
            assert found.dtype == model.dtype
            assert found.tobytes() == model.tobytes()
        assert not [entry for entry in path.rglob("*") if "partial" in entry.name]


@pytest.mark.parametrize("fill", [0, 7, float("nan"), -0.0])
@pytest.mark.parametrize("shards", [None, (8, 10)])
@pytest.mark.usefixtures("own")
def test_chunks_of_the_fill_value_are_not_stored_and_those_that_were_go(
    tmp_path: Path, fill: float, shards: Any
) -> None:
    how = Storing("v3", "zstd", CHUNKS, shards, fill=fill)
    written = twin(open_source(make(tmp_path / "a", how, SHAPE, "float32"), mode="r+"))
    whole = Box.whole(SHAPE)
    written.write(whole, np.full(SHAPE, fill, "float32"))
    assert files_below(tmp_path / "a") == {}
    written.write(whole, np.ones(SHAPE, "float32"))
    assert len(files_below(tmp_path / "a")) == (9 if shards is None else 4)
    # Zero is not minus zero, though they compare equal.
    other = np.full(SHAPE, 0.0 if fill == 0 else fill, "float32")
    written.write(whole, other)
    assert bool(files_below(tmp_path / "a")) == (np.signbit(fill) and fill == 0)
    for found in read_by_others(tmp_path / "a", how):
        assert found.tobytes() == other.tobytes()


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("codec", ["zstd:1", "zstd:1+checksum", "blosc+crc32c"])
def test_whole_chunks_are_not_left_to_others(tmp_path: Path, left_to_others: list[Box], codec: str) -> None:
    array = textured(SHAPE, "uint16")
    store(tmp_path / "a", Storing("v3", "zstd", CHUNKS), array)
    left_to_others.clear()
    read = twin(open_source(tmp_path / "a"))
    np.testing.assert_array_equal(read[1:7, 2:], array[1:7, 2:])
    target = bp.create_output(tmp_path / "b.zarr", shape=SHAPE, dtype="uint16", chunks=CHUNKS, codec=codec)
    written = twin(target)
    written[4:9, 5:12] = array[4:9, 5:12]
    assert left_to_others == []
    written[0:3] = array[0:3]
    assert left_to_others == [Box((0, 0), (3, 12))]


class TestUnusual:
    """What our steps do not take, TensorStore does, or says what is wrong with it."""

    @pytest.fixture(autouse=True)
    def _own(self, own: None) -> None:
        """As said there."""

    @pytest.fixture
    def array(self) -> np.ndarray:
        return textured(SHAPE, "uint16")

    def chunk(self, array: np.ndarray) -> bytes:
        return np.ascontiguousarray(array[:4, :5]).tobytes()

    def test_a_stream_of_two_zstd_frames(self, tmp_path: Path, array: np.ndarray) -> None:
        source = store(tmp_path / "a", Storing("v3", "zstd", CHUNKS), array)
        data, zstd = self.chunk(array), numcodecs.Zstd(1)
        (tmp_path / "a/c/0/0").write_bytes(zstd.encode(data[:8]) + zstd.encode(data[8:]))
        np.testing.assert_array_equal(twin(source)[...], array)

    def test_a_stream_of_two_gzip_members(
        self, tmp_path: Path, array: np.ndarray, left_to_others: list[Box]
    ) -> None:
        source = store(tmp_path / "a", Storing("v3", "gzip", CHUNKS), array)
        data = self.chunk(array)
        (tmp_path / "a/c/0/0").write_bytes(gzip.compress(data[:8]) + gzip.compress(data[8:]))
        np.testing.assert_array_equal(twin(source)[...], array)  # which TensorStore does not take
        assert left_to_others == [Box((0, 0), (4, 5))]

    @pytest.mark.parametrize("least", [1, 2**30])
    @pytest.mark.parametrize("kind", ["v2", "v3", "v3 shards", "fortran", "n5"])
    @pytest.mark.parametrize("codec", ["blosc", "gzip", "gzip zeros", "zlib", "zstd", "bz2", "bz2 zeros"])
    def test_streams_that_tensorstore_does_not_decode(
        self, tmp_path: Path, array: np.ndarray, codec: str, kind: str, least: int
    ) -> None:
        name = codec.split(maxsplit=1)[0]
        if name in ("zlib", "bz2") and kind.startswith("v3"):
            pytest.skip("Zarr v3 has no such codec")
        path = tmp_path / ("a.n5" if kind == "n5" else "a.zarr")
        how: dict[str, Any] = {"zarr_format": 3 if kind.startswith("v3") else 2}
        how["shards"] = CHUNKS if kind == "v3 shards" else None
        stored_as = "gzip" if kind == "n5" and name == "zlib" else name
        bp.create_output(path, shape=SHAPE, dtype="uint16", chunks=CHUNKS, codec=stored_as, **how)[...] = (
            array
        )
        if kind == "fortran":
            metadata = (path / ".zarray").read_text().replace('"order":"C"', '"order":"F"')
            assert '"order":"F"' in metadata
            (path / ".zarray").write_text(metadata)
            open_source(path, mode="r+")[...] = array
        if kind == "n5" and name == "zlib":
            text = (path / "attributes.json").read_text()
            (path / "attributes.json").write_text(text.replace('"gzip"', '"gzip", "useZlib": true'))
            for old in path.glob("*/*"):
                old.unlink()
            open_source(path, mode="r+")[...] = array
        file = path / ("c/0/0" if kind.startswith("v3") else "0/0")
        stored = file.read_bytes()
        head, tail = (stored[:12], b"") if kind == "n5" else (b"", b"")
        body = array[:4, :5]
        raw = (body.T if kind == "fortran" else body).astype(">u2" if kind == "n5" else "<u2").tobytes()
        encode: dict[str, Any] = {
            "blosc": lambda data: bytes(numcodecs.Blosc("zstd", 1, 2).encode(np.frombuffer(data, "u2"))),
            "gzip": gzip.compress, "zlib": zlib.compress, "bz2": bz2.compress, "zstd": imagecodecs.zstd_encode,
        }  # fmt: skip
        if name in ("blosc", "zlib") or "zeros" in codec:
            body = encode[name](raw) + b"\0" * 7
        else:
            body = encode[name](raw[:14]) + encode[name](raw[14:])
        if kind == "v3 shards":
            table = struct.pack("<QQ", 0, len(body))
            tail = table + crc32c_bytes(table)
        file.write_bytes(head + body + tail)
        with patch.object(zarr_files, "LEAST_BYTES", least):
            for source in (open_source(path), open_source(path).for_run(1, 0)):
                np.testing.assert_array_equal(source[...], array)
                np.testing.assert_array_equal(source[1:3, 2:7], array[1:3, 2:7])
            # What is moved can be read by all: the chunk is encoded again.
            moved = tmp_path / ("b.n5" if kind == "n5" else "b.zarr")
            bp.copy(path, moved, zarr_format=how["zarr_format"])
            driver = "n5" if kind == "n5" else f"zarr{how['zarr_format']}"
            found = ts.open({"driver": driver, "kvstore": f"file://{moved}/"}).result().read().result()
            np.testing.assert_array_equal(found.T if kind == "n5" else found, array)

    def test_a_wrong_length_in_the_header_of_blosc_gives_no_other_voxels(
        self, tmp_path: Path, array: np.ndarray
    ) -> None:
        bp.create_output(tmp_path / "a.zarr", shape=SHAPE, dtype="uint16", chunks=CHUNKS, codec="blosc")[
            ...
        ] = array
        file = tmp_path / "a.zarr/c/0/0"
        whole = file.read_bytes()
        for bit in range(128):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            file.write_bytes(data)
            for source in (open_source(tmp_path / "a.zarr"), twin(open_source(tmp_path / "a.zarr"))):
                with contextlib.suppress(StorageError):
                    found = source[...]
                    assert bit < 32 or np.array_equal(found, array), bit

    @pytest.mark.parametrize("shuffle", ["shuffle", "bitshuffle"])
    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_blosc_shuffles_by_the_size_of_a_voxel(
        self, tmp_path: Path, own: None, shuffle: str, zarr_format: int
    ) -> None:
        """So that what is stored is as small as another writer makes it."""
        labels = (np.indices((32, 64, 64)) // 16).sum(0).astype("uint32")
        codec = {"name": "blosc", "cname": "lz4", "level": 5, "shuffle": shuffle}
        made = bp.create_output(
            tmp_path / "a.zarr",
            shape=labels.shape,
            dtype="uint32",
            chunks=labels.shape,
            codec=codec,
            zarr_format=zarr_format,
        )
        source = twin(made)
        source[...] = labels
        data = (tmp_path / "a.zarr" / ("c/0/0/0" if zarr_format == 3 else "0/0/0")).read_bytes()
        others = numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE if shuffle == "shuffle" else 2).encode(
            labels
        )
        assert data[3] == 4
        assert len(data) <= 1.1 * len(others)

    @pytest.mark.parametrize("codec", [None, "none+crc32c", "zstd+checksum", "zstd:2+crc32c", "blosc+crc32c"])
    @pytest.mark.parametrize("shards", [None, (8, 10)])
    def test_no_flipped_bit_is_read_as_other_voxels(
        self, tmp_path: Path, array: np.ndarray, codec: str | None, shards: Any
    ) -> None:
        path = tmp_path / "a.zarr"
        made = bp.create_output(path, shape=SHAPE, dtype="uint16", chunks=CHUNKS, shards=shards, codec=codec)
        made[...] = array
        file = path / "c/0/0"
        whole = file.read_bytes()
        length = len(whole) - (68 if shards else 0)
        for at in range(0, min(length, 60), 3):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
            readers = [open_source(path), twin(open_source(path))]
            with patch.object(zarr_files, "LEAST_BYTES", 2**30):
                readers.append(open_source(path).for_run(1, 0))
            assert not isinstance(readers[2], ZarrFilesSource)
            for reader in readers:
                try:
                    found = reader[:4, :5]
                except StorageError:
                    continue
                # Some bits of a header mean nothing.
                assert np.array_equal(found, array[:4, :5])
        file.write_bytes(whole)
        np.testing.assert_array_equal(twin(open_source(path))[...], array)

    @pytest.mark.parametrize("codec", ["none", "zstd", "gzip", "lz4", "bitshuffle", "crc32c"])
    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data[:-3],
            lambda data: b"",
            lambda data: b"nonsense" * 9,
            lambda data: data[:9] + bytes([data[9] ^ 255]) + data[10:] if len(data) > 10 else b"",
        ],
    )
    @pytest.mark.parametrize("shards", [None, (8, 10)])
    def test_damage_is_an_error_that_names_the_file(
        self, tmp_path: Path, array: np.ndarray, codec: str, damage: Any, shards: Any
    ) -> None:
        source = store(tmp_path / "a", Storing("v3", codec, CHUNKS, shards), array)
        file = tmp_path / "a/c/0/0"
        # In a shard, the first chunk is what the table leads to; its bytes come first.
        whole = file.read_bytes()
        file.write_bytes(damage(whole))
        if codec == "none" and shards is None and len(damage(whole)) == len(whole):
            return  # nothing can tell
        try:
            found = twin(source)[:4, :5]
        except StorageError as error:
            assert "c/0/0" in str(error)  # noqa: PT017
        else:
            # A flipped bit in a stream without a checksum may decode to other voxels; TensorStore says the same of it.
            assert np.array_equal(found, open_source(tmp_path / "a")[:4, :5])

    def test_a_file_that_is_cut_while_it_is_read(
        self, tmp_path: Path, array: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = store(tmp_path / "a", Storing("v3", "zstd", CHUNKS), array)
        read = os.read

        def cut(number: int, count: int) -> bytes:
            os.truncate(tmp_path / "a/c/0/0", 5)
            return read(number, count)

        reader = twin(source)
        monkeypatch.setattr(os, "read", cut)
        with pytest.raises(StorageError, match="c/0/0"):
            reader[:4, :5]

    def test_a_folder_in_place_of_a_chunk(self, tmp_path: Path, array: np.ndarray) -> None:
        source = store(tmp_path / "a", Storing("v3", "zstd", CHUNKS), array)
        (tmp_path / "a/c/0/0").unlink()
        (tmp_path / "a/c/0/0").mkdir()
        with pytest.raises(StorageError, match="c/0/0"):
            twin(source)[:4, :5]

    def test_an_array_without_a_fill_value_stores_all_chunks(
        self, tmp_path: Path, array: np.ndarray, left_to_others: list[Box]
    ) -> None:
        path = make(tmp_path / "a", Storing("v2", "zstd", CHUNKS), SHAPE, "uint16")
        text = (path / ".zarray").read_text().replace('"fill_value": 0', '"fill_value": null')
        (path / ".zarray").write_text(text)
        written = twin(open_source(path, mode="r+"))
        array = array.copy()
        array[:4, :5] = 0
        written[...] = array
        assert left_to_others == []
        assert (path / "0/0").exists()  # as TensorStore does
        np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], array)
        np.testing.assert_array_equal(written[...], array)

    def test_a_read_only_twin_refuses(self, tmp_path: Path, array: np.ndarray) -> None:
        source = store(tmp_path / "a", Storing("v3", "zstd", CHUNKS), array)
        with pytest.raises(ReadOnlyError, match="mode='r\\+'"):
            twin(source)[...] = 0

    @pytest.mark.parametrize("shards", [None, (8, 10)])
    def test_a_folder_that_is_gone_is_not_made_again(
        self, tmp_path: Path, array: np.ndarray, shards: Any
    ) -> None:
        how = Storing("v3", "zstd", CHUNKS, shards)
        written = twin(open_source(make(tmp_path / "a", how, SHAPE, "uint16"), mode="r+"))
        (tmp_path / "a").rename(tmp_path / "b")
        with pytest.raises(StorageError, match="no longer exists"):
            written[...] = array
        with pytest.raises(StorageError, match="no longer exists"):
            written.check_present()
        assert not (tmp_path / "a").exists()

    def test_a_full_disk_leaves_no_part_of_a_chunk(
        self, tmp_path: Path, array: np.ndarray, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> int:
            raise OSError(28, "No space left on device")

        how = Storing("v3", "zstd", CHUNKS)
        written = twin(open_source(make(tmp_path / "a", how, SHAPE, "uint16"), mode="r+"))
        written[:4, :5] = 5
        before = files_below(tmp_path / "a")
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StorageError, match=r"c/0/0.*no space left"):
            written[:4, :5] = array[:4, :5]
        assert files_below(tmp_path / "a") == before


@pytest.mark.parametrize(
    ("how", "taken"),
    [
        (Storing("v3", "zstd", (64, 64, 32)), True),
        (Storing("v3", "zstd", (64, 64, 31)), False),
        (Storing("v3", "zstd", (64, 64, 32), fortran=True), False),
        (
            Storing("v3", "zstd", (64, 32, 32), (64, 64, 32)),
            False,
        ),  # a shard is large, but not what is encoded
        (Storing("n5", "gzip", (64, 64, 32)), False),
    ],
)
@pytest.mark.parametrize("threads", [1, 64])
def test_where_it_is_taken(tmp_path: Path, how: Storing, taken: bool, threads: int) -> None:
    """Whatever the number of threads: what is stored does not depend on who wrote it."""
    source = store(tmp_path / "a", how, np.ones((64, 64, 64), "uint16"))
    assert isinstance(source.for_run(threads, 0), ZarrFilesSource) == taken


@pytest.mark.parametrize("shards", [None, (64, 128, 128)])
@pytest.mark.parametrize("index_at", ["end", "start"])
def test_bytes_do_not_depend_on_threads_or_blocks(tmp_path: Path, shards: Any, index_at: str) -> None:
    array = np.random.default_rng(0).integers(0, 50, (128, 128, 128)).astype("uint16")
    array[:64, :64, :64] = 0
    how = Storing("v3", "zstd", (64, 64, 64), shards, index_at=index_at)
    found = []
    for n, (threads, blocks) in enumerate([(1, 1), (1, 2), (4, 1), (4, 2), (7, 1)]):
        with twin(
            open_source(make(tmp_path / f"{n}", how, array.shape, "uint16"), mode="r+"), threads
        ) as out:
            for begin in range(0, 128, 128 // blocks):
                out[begin : begin + 128 // blocks] = array[begin : begin + 128 // blocks]
        found.append(files_below(tmp_path / f"{n}"))
    assert len(found[0]) == (7 if shards is None else 2)
    assert all(files == found[0] for files in found)


@pytest.mark.usefixtures("own")
def test_codecs_that_others_have_are_left_to_them(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    test_zarr.make_with_zarr(
        array, tmp_path / "a", chunks=CHUNKS, zarr_format=2, filters=[numcodecs.Shuffle(2)], compressors=None
    )
    found = open_source(tmp_path / "a").for_run(1, 0)
    assert not isinstance(found, ZarrFilesSource)
    np.testing.assert_array_equal(found[...], array)


@pytest.mark.usefixtures("own")
def test_a_copy_reads_and_writes_each_chunk_once(tmp_path: Path, left_to_others: list[Box]) -> None:
    array = textured((16, 20), "uint16")
    how = Storing("v3", "zstd", CHUNKS)
    store(tmp_path / "a", how, array)
    left_to_others.clear()
    reads: list[tuple[int, ...]] = []
    real = ZarrFilesSource._encoded_chunk

    def counted(self: ZarrFilesSource, position: tuple[int, ...]) -> Any:
        reads.append(position)
        return real(self, position)

    with patch.object(ZarrFilesSource, "_encoded_chunk", counted):
        out = bp.copy(
            tmp_path / "a",
            tmp_path / "b.zarr",
            chunks=CHUNKS,
            codec="gzip",
            block_shape=(8, 10),
            num_workers=2,
        )
    assert sorted(reads) == [(z, y) for z in range(4) for y in range(4)]
    assert left_to_others == []
    out.close()
    for found in read_by_others(tmp_path / "b.zarr", replace(how, codec="gzip")):
        np.testing.assert_array_equal(found, array)


def test_whoever_writes_the_bytes_are_the_same(tmp_path: Path) -> None:
    """The array itself, threads, worker processes, and a function that gets the array; chunks are as large as they have to be."""
    shape, chunks = (64, 128, 128), (64, 64, 32)
    array = np.random.default_rng(0).integers(0, 50, shape).astype("uint16")
    how: dict[str, Any] = {"chunks": chunks, "codec": "zstd:1"}
    made = bp.create_output(tmp_path / "a.zarr", shape=shape, dtype="uint16", **how)
    assert isinstance(made.for_run(1, 0), ZarrFilesSource)
    made[...] = array
    source = bp.create_output(tmp_path / "in.zarr", shape=shape, dtype="uint16", chunks=(16, 128, 128))
    source[...] = array
    for name, job_type in (("b", "local"), ("c", "subprocess")):
        bp.copy(
            tmp_path / "in.zarr", tmp_path / f"{name}.zarr", job_type=job_type, num_workers=2, **how
        ).close()

    def write(block: Any, inputs: Any, outputs: Any, mask: Any) -> None:
        at = tuple(slice(b, e) for b, e in zip(block.begin, block.end, strict=True))
        outputs[0][at] = inputs[0][at]

    for name, job_type in (("d", "local"), ("e", "subprocess")):
        output = bp.create_output(tmp_path / f"{name}.zarr", shape=shape, dtype="uint16", **how)
        bp.runner.get_runner(job_type).run(write, [source], [output], block_shape=chunks, num_workers=2)
    expected = files_below(tmp_path / "a.zarr")
    assert len(expected) == 8
    for name in "bcde":
        assert files_below(tmp_path / f"{name}.zarr") == expected, name
