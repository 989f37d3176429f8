"""Zarr v2 and v3: contracts, files of and for other libraries, groups and keys, errors, creation."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import tensorstore as ts
import z5py
import zarr

from bioimage_py import copy, create_output, plan
from bioimage_py.errors import (
    AmbiguousSourceError,
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
from bioimage_py.sources import ArraySpec, Codec, Source, as_source, family_of, from_spec, open_source
from bioimage_py.storage import storage_error, store_context
from tests.sources.contract import WritableSourceContract, textured

create, list_arrays = family_of("zarr").create, family_of("zarr").list_arrays


def make_with_zarr(array: np.ndarray, path: Path, **how: Any) -> zarr.Array:
    with warnings.catch_warnings():
        # zarr-python warns of v2 codecs and dtypes that are not in the v3 specification.
        warnings.simplefilter("ignore")
        made = zarr.create_array(path, shape=array.shape, dtype=array.dtype, **how)
    made[...] = array
    return made


def spec_of(shape: tuple[int, ...], dtype: Any = "uint16", **how: Any) -> ArraySpec:
    return ArraySpec(shape, np.dtype(dtype), **how)


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


class TestZarrV3(WritableSourceContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        make_with_zarr(array, folder / "a.zarr", chunks=(3, 4, 5))
        return open_source(folder / "a.zarr")

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return create(str(folder / "b.zarr"), None, spec_of(shape, dtype, chunks=(3, 4, 5)), overwrite=False)


class TestZarrV3Sharded(TestZarrV3):
    dtype = "float32"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        make_with_zarr(array, folder / "a.zarr", chunks=(2, 4, 5), shards=(4, 8, 10))
        return open_source(folder / "a.zarr")

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        spec = spec_of(shape, dtype, chunks=(2, 4, 5), shards=(4, 8, 10))
        return create(str(folder / "b.zarr"), "in/a/group", spec, overwrite=False)

    def test_grids(self, source: Source, target: Source) -> None:
        for one in (source, target):
            assert (one.chunks, one.shards) == ((2, 4, 5), (4, 8, 10))
            assert one.write_unit == (4, 8, 10)


class TestZarrV2(WritableSourceContract):
    dtype = "int32"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        make_with_zarr(array, folder / "a.zarr", chunks=(3, 4, 5), zarr_format=2, order="F")
        return open_source(folder / "a.zarr")

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        spec = spec_of(shape, dtype, chunks=(3, 4, 5), zarr_format=2)
        return create(str(folder / "b.zarr"), "raw", spec, overwrite=False)


class TestZarrPython(WritableSourceContract):
    """A filter that TensorStore does not have."""

    def make(self, array: np.ndarray, folder: Path) -> Source:
        filters = [numcodecs.Delta(dtype=array.dtype)]
        make_with_zarr(array, folder / "a.zarr", chunks=(3, 4, 5), zarr_format=2, filters=filters)
        return open_source(folder / "a.zarr")

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        self.make(np.zeros(shape, dtype), folder)
        return open_source(folder / "a.zarr", mode="r+")

    def test_shows_its_engine(self, source: Source) -> None:
        assert source.engine == "zarr-python"
        assert source.format == "zarr v2 (zarr-python)"


class TestMemoryStore(WritableSourceContract):
    has_spec = False
    persistent = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return as_source(make_with_zarr(array, zarr.storage.MemoryStore(), chunks=(3, 4, 5)))

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return self.make(np.zeros(shape, dtype), folder)


class TestTensorStoreHandle(WritableSourceContract):
    """A handle on a part of an array, not starting at 0."""

    def make(self, array: np.ndarray, folder: Path) -> Source:
        whole = np.pad(array, 2)
        make_with_zarr(whole, folder / "a.zarr", chunks=(3, 4, 5))
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/a.zarr/"}}
        handle = ts.open(spec, open=True).result()
        return as_source(handle[tuple(slice(2, 2 + n) for n in array.shape)])

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return self.make(np.zeros(shape, dtype), folder)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shape", [(), (5,), (0,), (3, 0, 2), (4, 5), (3, 1, 2, 5), (2, 2, 3, 2, 3)])
def test_any_number_of_axes(tmp_path: Path, shape: tuple[int, ...], zarr_format: int) -> None:
    expected = textured(shape, "int16")
    path = tmp_path / "a.zarr"
    chunks = tuple(max(1, n - 1) for n in shape)
    made = create(
        str(path), None, spec_of(shape, "int16", chunks=chunks, zarr_format=zarr_format), overwrite=False
    )
    assert made.chunks == chunks
    made[...] = expected
    assert made[...].shape == shape
    np.testing.assert_array_equal(made[...], expected)
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], expected)
    make_with_zarr(expected, tmp_path / "b.zarr", zarr_format=zarr_format)
    np.testing.assert_array_equal(open_source(tmp_path / "b.zarr")[...], expected)


DTYPES = ["bool", "int8", "uint8", "int16", "uint32", "int64", "uint64", "float16", "float32", "float64"]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", [*DTYPES, "complex64", "complex128", ">u2", ">f8"])
def test_any_dtype(tmp_path: Path, dtype: str, zarr_format: int) -> None:
    expected = textured((5, 7), dtype)
    path = tmp_path / "a.zarr"
    made = create(
        str(path), None, spec_of((5, 7), dtype, chunks=(2, 4), zarr_format=zarr_format), overwrite=False
    )
    assert made.dtype == np.dtype(dtype).newbyteorder("=")
    made[...] = expected
    np.testing.assert_array_equal(open_source(path)[...], expected)
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[...], expected)


@pytest.mark.parametrize("how", [{"zarr_format": 2}, {"serializer": zarr.codecs.BytesCodec(endian="big")}])
def test_big_endian_files_read_as_native(tmp_path: Path, how: dict[str, Any]) -> None:
    expected = textured((5, 7), ">u2")
    stored = expected if "zarr_format" in how else expected.astype("u2")
    make_with_zarr(stored, tmp_path / "a.zarr", chunks=(2, 4), **how)
    source = open_source(tmp_path / "a.zarr")
    assert source.dtype.isnative
    assert source.engine == "tensorstore"
    np.testing.assert_array_equal(source[...], expected)


@pytest.mark.parametrize(
    ("zarr_format", "codec", "text"),
    [
        (3, "none", ""),
        (3, "zstd", "zstd:1"),
        (3, "zstd:5", "zstd:5"),
        (3, "gzip:1", "gzip:1"),
        (3, "blosc", "blosc zstd:1 bitshuffle"),
        (3, "lz4", "blosc lz4:1 shuffle"),
        (3, {"name": "blosc", "cname": "lz4", "level": 3, "shuffle": "shuffle"}, "blosc lz4:3 shuffle"),
        (3, "zstd:3+crc32c", "zstd:3 crc32c"),
        (3, "none+crc32c", "crc32c"),
        (3, "zstd+checksum", "zstd:1"),
        (3, {"name": "gzip", "level": 2, "crc32c": True}, "gzip:2 crc32c"),
        (3, {"name": "blosc", "crc32c": False}, "blosc zstd:1 bitshuffle"),
        (2, "none", ""),
        (2, "zstd", "zstd:1"),
        (2, "gzip", "gzip:5"),
        (2, "zlib:2", "zlib:2"),
        (2, "bz2:1", "bz2:1"),
        (2, "blosc", "blosc zstd:1 bitshuffle"),
        (2, "lz4:2", "blosc lz4:2 shuffle"),
    ],
)
def test_codecs(tmp_path: Path, zarr_format: int, codec: Any, text: str) -> None:
    expected = textured((9, 7), "uint16")
    spec = spec_of((9, 7), chunks=(4, 4), codec=Codec.parse(codec), zarr_format=zarr_format)
    made = create(str(tmp_path / "a.zarr"), None, spec, overwrite=False)
    assert made.codec == text
    made[...] = expected
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr", mode="r")[...], expected)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"codec": Codec("lzf")}, "zstd"),
        ({"codec": Codec("zstd", 99)}, "99"),
        ({"codec": Codec.parse("zstd+crc32c"), "zarr_format": 2}, "or use Zarr v3"),
        ({"codec": Codec.parse("zstd+checksum"), "zarr_format": 2}, "checksum"),
        ({"codec": Codec.parse("gzip+checksum")}, "checksum"),
        ({"codec": Codec("zstd", 1, {"crc32c": 1})}, "True or False"),
        ({"codec": Codec("blosc", 1, {"cname": "snappy"})}, "snappy"),
        ({"codec": Codec("blosc", 1, {"cname": "snappy"}), "zarr_format": 2}, "snappy"),
        ({"codec": Codec("gzip", 1, {"cname": "a"})}, "cname"),
        ({"codec": Codec("blosc", 1, {"cname": "a"})}, "blosclz"),
        ({"codec": Codec("blosc", 1, {"shuffle": "a"})}, "bitshuffle"),
        ({"codec": Codec("blosc", 1, {"depth": 1})}, "depth"),
        ({"chunks": (4,)}, "chunks"),
        ({"chunks": (4, 0)}, "chunks"),
        ({"chunks": (4, 4), "shards": (6, 8)}, "multiple"),
        ({"chunks": (4, 4), "shards": (8, 8), "zarr_format": 2}, "shards"),
        ({"zarr_format": 4}, "zarr_format"),
        ({"fill_value": 3.5}, "fill_value"),
        ({"fill_value": -1}, "fill_value"),
        ({"dtype": "S5"}, "complex numbers"),
        ({"dtype": "datetime64[s]"}, "complex numbers"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(tmp_path: Path, how: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        create_output(tmp_path / "a.zarr", key="x/y", shape=(9, 7), **{"dtype": "uint16", **how})
    assert not files_below(tmp_path)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("uint8", 7), ("float32", float("nan")), ("float64", -0.0), ("float32", float("-inf")), ("bool", True),
     ("complex64", complex(1, float("nan"))), ("int64", -(2**63)), ("uint64", 2**64 - 1), ("float32", 0.1)],
)  # fmt: skip
def test_fill_values(tmp_path: Path, dtype: str, fill: Any, zarr_format: int) -> None:
    spec = spec_of((5,), dtype, chunks=(2,), fill_value=fill, zarr_format=zarr_format)
    made = create(str(tmp_path / "a.zarr"), None, spec, overwrite=False)
    expected = np.full(5, fill, dtype)
    for found in (
        made[...],
        np.full(5, made.fill_value),
        zarr.open_array(tmp_path / "a.zarr", mode="r")[...],
    ):
        assert found.astype(dtype).tobytes() == expected.tobytes()


@pytest.mark.parametrize("how", [{}, {"zarr_format": 2}, {"shards": (4,)}])
@pytest.mark.parametrize("fill", [0.0, -0.0, float("nan")])
def test_voxels_like_the_fill_value_keep_their_bits(tmp_path: Path, fill: float, how: dict[str, Any]) -> None:
    spec = spec_of((8,), "float32", chunks=(2,), fill_value=fill, **how)
    made = create(str(tmp_path / "a.zarr"), None, spec, overwrite=False)
    odd_nan = np.array([0x7FC00001, 0xFFC00000], "u4").view("f4")
    values = np.concatenate([np.array([0.0, 0.0, -0.0, -0.0, np.nan, np.nan], "f4"), odd_nan])
    made[...] = values
    assert open_source(tmp_path / "a.zarr")[...].tobytes() == values.tobytes()


def test_chunks_like_the_fill_value_are_not_stored(tmp_path: Path) -> None:
    made = create(str(tmp_path / "a.zarr"), None, spec_of((4, 4), chunks=(2, 2)), overwrite=False)
    made[...] = 0
    made[2:, 2:] = 5
    assert [p.name for p in (tmp_path / "a.zarr/c").rglob("*") if p.is_file()] == ["1"]
    made[2:, 2:] = 0
    assert not made[...].any()


def test_other_libraries_read_what_was_made(tmp_path: Path) -> None:
    expected = textured((9, 10, 11), "uint16")
    for zarr_format, codec in ((2, None), (3, None), (3, Codec("gzip")), (3, Codec("blosc"))):
        path = tmp_path / f"{zarr_format}{codec.name if codec else ''}.zarr"
        spec = spec_of(expected.shape, chunks=(4, 5, 6), zarr_format=zarr_format, codec=codec)
        create(str(path), "volumes/raw", spec, overwrite=False)[...] = expected
        np.testing.assert_array_equal(zarr.open(path, mode="r")["volumes/raw"][...], expected)
        by_tensorstore = ts.open(
            {"driver": f"zarr{zarr_format}", "kvstore": f"file://{path}/volumes/raw/"}
        ).result()
        np.testing.assert_array_equal(by_tensorstore.read().result(), expected)
        if (zarr_format, codec) != (3, None):  # z5 3.0 does not know crc32c behind a chunk
            np.testing.assert_array_equal(z5py.File(path, "r")["volumes/raw"][...], expected)


_NAMES = {
    "v2 .": (2, {"dimension_separator": "."}, "{}.{}.{}"),
    "v2 /": (2, {"dimension_separator": "/"}, "{}/{}/{}"),
    "default /": (3, {"name": "default", "configuration": {"separator": "/"}}, "c/{}/{}/{}"),
    "default .": (3, {"name": "default", "configuration": {"separator": "."}}, "c.{}.{}.{}"),
    "v3 v2 /": (3, {"name": "v2", "configuration": {"separator": "/"}}, "{}/{}/{}"),
    "v3 v2 .": (3, {"name": "v2", "configuration": {"separator": "."}}, "{}.{}.{}"),
}


def say_names(path: Path, said: str) -> None:
    """Have the metadata of an array say other names of its chunks than it has."""
    zarr_format, entry, _ = _NAMES[said]
    file = path / (".zarray" if zarr_format == 2 else "zarr.json")
    metadata = json.loads(file.read_text())
    metadata.update(entry if zarr_format == 2 else {"chunk_key_encoding": entry})
    file.write_text(json.dumps(metadata))


class TestForOtherPrograms:
    metadata = ImageMetadata(
        axes=("c", "z", "y", "x"),
        voxel_size=(1.0, 2.0, 5.0, 0.25),
        units=(None, "micrometer", "angstrom", "centimeter"),
    )

    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_units_stand_where_tensorstore_and_neuroglancer_look(
        self, tmp_path: Path, zarr_format: int
    ) -> None:
        spec = spec_of((2, 3, 4, 5), metadata=self.metadata, zarr_format=zarr_format)
        made = create(str(tmp_path / "a.zarr"), "raw", spec, overwrite=False)
        assert made.metadata == self.metadata
        file = tmp_path / "a.zarr/raw" / ("zarr.json" if zarr_format == 3 else ".zattrs")
        found = json.loads(file.read_text())
        found = found["attributes"] if zarr_format == 3 else found
        units = found["dimension_units"]
        assert [None if unit is None else ts.Unit(unit) for unit in units] == [
            None, ts.Unit("2 um"), ts.Unit("0.5 nm"), ts.Unit("2.5 mm"),
        ]  # fmt: skip
        if zarr_format == 3:
            opened = ts.open({"driver": "zarr3", "kvstore": f"file://{tmp_path}/a.zarr/raw/"}).result()
            assert opened.dimension_units[1:] == (ts.Unit("2 um"), ts.Unit("0.5 nm"), ts.Unit("2.5 mm"))
        copied = copy(made, tmp_path / "b.zarr/raw", zarr_format=zarr_format)
        assert copied.metadata == self.metadata

    @pytest.mark.parametrize("axes", [("y", "x"), None])
    def test_units_of_others_are_read(self, tmp_path: Path, axes: Any) -> None:
        ts.open(
            {"driver": "zarr3", "kvstore": f"file://{tmp_path}/a.zarr/"},
            create=True, dtype=ts.uint8, shape=[2, 3], dimension_units=["4nm", ts.Unit("0.5 um")], domain=ts.IndexDomain(shape=[2, 3], labels=axes or ["", ""]),
        ).result()  # fmt: skip
        found = open_source(tmp_path / "a.zarr").metadata
        assert (found.axes, found.voxel_size) == (axes, (4.0, 0.5))
        assert (found.units, found.attributes) == (("nanometer", "micrometer"), {})

    @pytest.mark.parametrize(
        "units",
        [
            ["4 nm"],
            "nm",
            ["4 nm", "3 px"],
            ["-1 nm", None],
            ["1..2 nm", None],
            [None, None],
            [{}, 3],
            ["1e999 nm", "m"],
        ],
    )
    def test_what_is_no_unit_stays_an_attribute(self, tmp_path: Path, units: Any) -> None:
        array = zarr.create_array(tmp_path / "a.zarr", shape=(2, 3), dtype="u1")
        array.attrs["dimension_units"] = units
        source = open_source(tmp_path / "a.zarr")
        assert source.metadata == ImageMetadata(attributes={"dimension_units": units})
        made = copy(source, tmp_path / "b.zarr", voxel_size=2, units="nm", axes="yx")
        assert made.metadata.attributes == {"dimension_units": units}

    @pytest.mark.parametrize("zarr_format", [2, 3])
    @pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "uint64", "float32"])
    def test_xarray_keeps_the_dtype(self, tmp_path: Path, zarr_format: int, dtype: str) -> None:
        xarray = pytest.importorskip("xarray")
        array = textured((4, 6), dtype)
        array[:2, :3] = 0
        spec = spec_of(
            array.shape,
            dtype,
            metadata=ImageMetadata(axes=("y", "x")),
            chunks=(2, 3),
            zarr_format=zarr_format,
        )
        made = create(str(tmp_path / "a.zarr"), "raw", spec, overwrite=False)
        np.testing.assert_array_equal(made[...], np.zeros_like(array))
        made[...] = array
        opened = xarray.open_zarr(tmp_path / "a.zarr", consolidated=False)["raw"]
        assert (opened.dtype, opened.dims) == (np.dtype(dtype), ("y", "x"))
        np.testing.assert_array_equal(opened.values, array)
        np.testing.assert_array_equal(zarr.open(tmp_path / "a.zarr", mode="r")["raw"][...], array)
        np.testing.assert_array_equal(open_source(tmp_path / "a.zarr")[...], array)

    def test_other_fill_values_are_said(self, tmp_path: Path) -> None:
        for n, fill in enumerate((3, -0.0)):
            spec = spec_of(
                (4,), "float32", metadata=ImageMetadata(axes=("x",)), zarr_format=2, fill_value=fill
            )
            made = create(str(tmp_path / f"{n}.zarr"), None, spec, overwrite=False)
            assert made[...].tobytes() == np.full(4, fill, "f4").tobytes()


class TestNamesOfChunks:
    def made(self, tmp_path: Path, names: str, said: str) -> tuple[Path, np.ndarray]:
        zarr_format, entry, _ = _NAMES[names]
        how = {"name": "v2", "separator": entry["dimension_separator"]} if zarr_format == 2 else entry
        array = textured((9, 10, 11), "uint16") + 1
        zarr.create_array(
            tmp_path / "a.zarr",
            shape=array.shape,
            chunks=(4, 5, 6),
            dtype="u2",
            zarr_format=zarr_format,
            chunk_key_encoding=how,
        )[...] = array
        say_names(tmp_path / "a.zarr", said)
        return tmp_path / "a.zarr", array

    @pytest.mark.parametrize(
        ("names", "said"), [("v2 .", "v2 /"), ("default /", "v3 v2 ."), ("v2 /", "v2 /")]
    )
    @pytest.mark.parametrize("top", ["", "a.zarr"])
    def test_in_a_zip_file(self, tmp_path: Path, names: str, said: str, top: str) -> None:
        path, array = self.made(tmp_path, names, said)
        shutil.make_archive(str(path), "zip", tmp_path if top else path, top or None)
        expected = (
            nullcontext()
            if names == said
            else pytest.warns(BioimagePyWarning, match="they are read by these")
        )
        with expected:
            np.testing.assert_array_equal(open_source(f"{path}.zip")[...], array)

    @pytest.mark.parametrize(("name", "other"), [("c", "0"), ("0", "c")])
    def test_the_only_chunk_of_an_array_without_axes(self, tmp_path: Path, name: str, other: str) -> None:
        path = tmp_path / "a.zarr"
        encoding = {"name": "default" if name == "c" else "v2", "separator": "/"}
        zarr.create_array(path, shape=(), dtype="u2", chunk_key_encoding=encoding)[...] = 9
        assert open_source(path)[...] == 9
        (path / name).rename(path / other)
        with pytest.warns(BioimagePyWarning, match="are called as by"):
            assert open_source(path)[...] == 9

    def test_numbers_with_leading_zeros_name_no_chunk(self, tmp_path: Path) -> None:
        path, _ = self.made(tmp_path, "v2 .", "v2 .")
        for file in path.glob("[0-9]*"):
            file.rename(path / ".".join(f"0{n}" for n in file.name.split(".")))
        with pytest.raises(StorageError, match="look like chunks"):
            open_source(path)

    @pytest.mark.parametrize(
        ("names", "said"), [(a, b) for a in _NAMES for b in _NAMES if _NAMES[a][0] == _NAMES[b][0]]
    )
    def test_what_the_files_are_called_counts_where_it_is_certain(
        self, tmp_path: Path, names: str, said: str
    ) -> None:
        path, array = self.made(tmp_path, names, said)
        if names == said:
            np.testing.assert_array_equal(open_source(path)[...], array)
            return
        with pytest.warns(BioimagePyWarning, match="chunk files in .* are called as by"):
            source = open_source(path)
        np.testing.assert_array_equal(source[...], array)
        with pytest.warns(BioimagePyWarning, match="are called as by"):
            np.testing.assert_array_equal(from_spec(source.to_spec())[...], array)
        # Encoded chunks are found too.
        np.testing.assert_array_equal(copy(source, tmp_path / "out.zarr")[...], array)
        assert plan(source, tmp_path / "moved.zarr").road == "verbatim"
        with pytest.raises(StorageError, match="correct the metadata"):
            open_source(path, mode="r+")

    @pytest.mark.parametrize("names", _NAMES)
    @pytest.mark.parametrize("change", ["ending", "axes", "mixed"])
    def test_files_of_which_none_is_used_are_an_error(self, tmp_path: Path, names: str, change: str) -> None:
        path, _ = self.made(tmp_path, names, names)
        pattern = _NAMES[names][2]
        for n, file in enumerate([p for p in path.rglob("*") if p.is_file() and p.name[0] not in ".z"]):
            if change == "ending":
                file.rename(f"{file}.gz")
            elif change == "axes":
                file.rename(f"{file}.0")
            else:
                other = next(o for o in _NAMES if _NAMES[o][0] == _NAMES[names][0] and o != names)
                file.unlink()
                new = path / (_NAMES[other][2].format(0, 0, n) if n % 2 else f"0.{n}")
                new.parent.mkdir(parents=True, exist_ok=True)
                new.write_bytes(b"x")
        for mode in ("r", "r+"):
            with pytest.raises(StorageError, match=f"look like chunks.*such as {pattern.format(2, 1, 1)}"):
                open_source(path, mode=mode)

    def test_a_sparse_or_empty_array_is_none_of_these(self, tmp_path: Path) -> None:
        path, array = self.made(tmp_path, "v2 /", "v2 /")
        for file in path.glob("[01]"):
            shutil.rmtree(file)
        (path / "0.0.0").write_bytes(b"left by another program")
        (path / "notes.txt").write_text("")
        assert not open_source(path)[:8].any()
        np.testing.assert_array_equal(open_source(path)[8:], array[8:])
        shutil.rmtree(path / "2")
        (path / "0.0.0").unlink()
        assert not open_source(path, mode="r+")[...].any()

    @pytest.mark.parametrize(("names", "said"), [("v2 /", "v2 ."), ("default /", "v3 v2 .")])
    def test_behind_a_url_a_few_names_are_asked_for(self, tmp_path: Path, names: str, said: str) -> None:
        path, array = self.made(tmp_path, names, said)
        store = ts.KvStore.open(f"memory://{tmp_path.name}/", context=store_context(1, 0)).result()
        for file in path.rglob("*"):
            if file.is_file():
                store.write(f"a.zarr/{file.relative_to(path)}", file.read_bytes()).result()
        with pytest.warns(BioimagePyWarning, match="are called as by"):
            np.testing.assert_array_equal(open_source(f"memory://{tmp_path.name}/a.zarr")[...], array)


class TestMetadata:
    metadata = ImageMetadata(
        axes=("z", "y", "x"),
        voxel_size=(2.0, 0.5, 0.25),
        units=("micrometer", "micrometer", "micrometer"),
        origin=(10.0, 0.0, -1.0),
        attributes={"sample": {"id": 3}},
    )

    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_round_trip(self, tmp_path: Path, zarr_format: int) -> None:
        spec = spec_of((4, 5, 6), metadata=self.metadata, zarr_format=zarr_format)
        made = create(str(tmp_path / "a.zarr"), "raw", spec, overwrite=False)
        assert made.metadata == self.metadata
        assert open_source(tmp_path / "a.zarr", "raw").metadata == self.metadata
        array = zarr.open(tmp_path / "a.zarr", mode="r")["raw"]
        assert array.attrs["sample"] == {"id": 3}
        named = array.metadata.dimension_names if zarr_format == 3 else array.attrs["_ARRAY_DIMENSIONS"]
        assert tuple(named) == ("z", "y", "x")

    def test_dimension_names(self, tmp_path: Path) -> None:
        make_with_zarr(np.zeros((3, 4)), tmp_path / "a.zarr", dimension_names=("y", "x"))
        assert open_source(tmp_path / "a.zarr").metadata.axes == ("y", "x")

    def multiscales(self, version: str) -> dict[str, Any]:
        axes = [{"name": "c", "type": "channel"}]
        axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
        datasets = [
            {
                "path": f"level/{n}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1, 2.0, 0.5 * 2**n, 0.5 * 2**n]},
                    {"type": "translation", "translation": [0, 1, 0.25 * n, 0]},
                ],
            }
            for n in range(2)
        ]
        found = [
            {
                "axes": axes,
                "datasets": datasets,
                "coordinateTransformations": [{"type": "scale", "scale": [1, 10, 1, 1]}],
            }
        ]
        return (
            {"multiscales": found} if version == "0.4" else {"ome": {"version": "0.5", "multiscales": found}}
        )

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_ome_zarr(self, tmp_path: Path, version: str) -> None:
        group = zarr.open_group(
            tmp_path / "a.zarr",
            mode="w",
            zarr_format=2 if version == "0.4" else 3,
            attributes=self.multiscales(version),
        )
        for n in range(2):
            group.create_array(f"level/{n}", shape=(2, 4, 8 >> n, 8 >> n), dtype="u1")
        group.create_array("labels/cells", shape=(4, 8, 8), dtype="u1")
        full = open_source(tmp_path / "a.zarr")
        assert full.key == "level/0"
        assert full.metadata.axes == ("c", "z", "y", "x")
        assert full.metadata.units == (None, "micrometer", "micrometer", "micrometer")
        assert full.metadata.voxel_size == (1, 20, 0.5, 0.5)
        assert full.metadata.origin == (0, 10, 0, 0)
        half = open_source(tmp_path / "a.zarr/level/1")
        assert half.metadata.voxel_size == (1, 20, 1, 1)
        assert half.metadata.origin == (0, 10, 0.25, 0)
        assert open_source(tmp_path / "a.zarr", "labels/cells").metadata.axes is None

    @pytest.mark.parametrize(
        "attributes",
        [
            {"multiscales": 3},
            {"multiscales": [3, {"datasets": [3, {"path": 3}]}]},
            {"multiscales": [{"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale"}, 4]}], "axes": 5}]},
            {"multiscales": [{"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": "no"}]}]}]},
            {"ome": [1]},
            {"axes": "zyx", "voxel_size": [1, "a"], "units": 4, "_ARRAY_DIMENSIONS": [1, 2]},
        ],
    )  # fmt: skip
    def test_nonsense_does_not_keep_an_array_from_being_opened(
        self, tmp_path: Path, attributes: dict[str, Any]
    ) -> None:
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", attributes=attributes)
        group.create_array("0", shape=(2, 4), dtype="u1", attributes=attributes)
        assert open_source(tmp_path / "a.zarr").metadata.voxel_size is None


class TestGroups:
    @pytest.fixture
    def container(self, tmp_path: Path) -> Path:
        group = zarr.open_group(tmp_path / "a.zarr", mode="w")
        for key in ("volumes/raw", "volumes/labels/cells", "t10", "t9"):
            group.create_array(key, shape=(4, 5), dtype="u1")
        group.create_group("empty")
        group.create_array("alone/in/here", shape=(4, 5), dtype="u1")
        return tmp_path / "a.zarr"

    def test_several_arrays_are_listed(self, container: Path) -> None:
        with pytest.raises(AmbiguousSourceError) as raised:
            open_source(container)
        text = str(raised.value)
        for words in (
            "5 arrays",
            "volumes/labels/cells",
            "(4, 5)",
            "uint8",
            f"open_source('{container}', 'alone/in/here')",
        ):
            assert words in text
        assert text.index("t9") < text.index("t10")

    def test_a_long_list_is_cut(self, tmp_path: Path) -> None:
        group = zarr.open_group(tmp_path / "b.zarr", mode="w")
        for n in range(23):
            group.create_array(f"t{n}", shape=(1,), dtype="u1")
        with pytest.raises(AmbiguousSourceError, match="and 3 more"):
            open_source(tmp_path / "b.zarr")

    def test_keys(self, container: Path) -> None:
        assert list_arrays(str(container)) == [
            "t9",
            "t10",
            "alone/in/here",
            "volumes/raw",
            "volumes/labels/cells",
        ]
        assert open_source(container, "volumes/raw").key == "volumes/raw"
        assert open_source(container / "volumes", "raw").name.endswith("a.zarr:volumes/raw")
        assert open_source(container, "alone").key == "alone/in/here"
        with pytest.raises(AmbiguousSourceError, match="2 arrays"):
            open_source(container, "volumes")

    def test_wrong_keys(self, container: Path) -> None:
        with pytest.raises(SourceNotFoundError, match="volumes/raw"):
            open_source(container, "volumes/row")
        with pytest.raises(SourceNotFoundError, match="no Zarr array"):
            open_source(container, "empty")
        with pytest.raises(SourceNotFoundError, match="leave out the rest"):
            open_source(container / "t9", "raw")
        with pytest.raises(SourceNotFoundError):
            open_source(container.parent / "none.zarr")

    def test_live_groups(self, container: Path) -> None:
        group = zarr.open_group(container, mode="r")
        with pytest.raises(AmbiguousSourceError, match="volumes/raw"):
            as_source(group)
        assert as_source(group["alone"]).name.endswith("alone/in/here")
        with pytest.raises(SourceNotFoundError):
            as_source(group["empty"])

    def test_metadata_that_is_no_json(self, container: Path) -> None:
        (container / "t9/zarr.json").write_text("{")
        with pytest.raises(StorageError, match=r"t9/zarr\.json"):
            open_source(container, "t9")


class TestLiveHandles:
    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_reopened_through_tensorstore(self, tmp_path: Path, zarr_format: int) -> None:
        group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
        handle = group.create_array("g/raw", shape=(4, 5), dtype="u1")
        source = as_source(handle)
        assert source.engine == "tensorstore"
        assert source.writable
        source[...] = 3
        np.testing.assert_array_equal(handle[...], 3)
        readable = as_source(zarr.open_array(tmp_path / "a.zarr/g/raw", mode="r"))
        assert not readable.writable
        with pytest.raises(ReadOnlyError):
            readable[...] = 4
        handle[...] = 5
        np.testing.assert_array_equal(readable[...], 5)

    def test_all_names_of_one_array_are_seen_to_be_one(self, tmp_path: Path) -> None:
        path = tmp_path / "a.zarr"
        create(str(path), "raw", spec_of((4, 5)), overwrite=False)
        create(str(path), "other", spec_of((4, 5)), overwrite=False)
        (tmp_path / "link.zarr").symlink_to(path)
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/raw/"}}
        same = [
            open_source(path, "raw"),
            open_source(path / "raw"),
            open_source(tmp_path / "link.zarr/raw"),
            open_source(f"file://{path}/raw"),
            as_source(zarr.open_array(path / "raw")),
            as_source(zarr.open_group(path)["raw"]),
            as_source(ts.open(spec).result()),
            open_source(path, "raw").for_run(2, 10),
        ]
        assert len({source.identities() for source in same}) == 1
        assert open_source(path, "other").identities().isdisjoint(same[0].identities())

    def test_memory_stores(self) -> None:
        store = zarr.storage.MemoryStore()
        one = zarr.create_array(store, name="a", shape=(3,), dtype="u1")
        two = zarr.create_array(store, name="b", shape=(3,), dtype="u1")
        assert as_source(one).identities() == as_source(zarr.open_array(store, path="a")).identities()
        assert as_source(one).identities() != as_source(two).identities()

    def test_zip_files(self, tmp_path: Path) -> None:
        with zarr.storage.ZipStore(tmp_path / "a.zarr", mode="w") as store:
            zarr.create_array(store, data=np.arange(20).reshape(4, 5))
        np.testing.assert_array_equal(open_source(tmp_path / "a.zarr")[1:3], np.arange(20).reshape(4, 5)[1:3])
        with pytest.raises(ReadOnlyError, match="zip"):
            open_source(tmp_path / "a.zarr", mode="r+")

    def test_tensorstore_handles_in_memory(self) -> None:
        handle = ts.open(
            {"driver": "zarr3", "kvstore": "memory://"}, create=True, dtype=ts.uint8, shape=[4]
        ).result()
        source = as_source(handle)
        source[...] = 3
        np.testing.assert_array_equal(source.for_run(2, 100)[...], 3)
        with pytest.raises(InvalidArgumentError, match="local runs"):
            source.to_spec()

    def test_tensorstore_handles(self, tmp_path: Path) -> None:
        path = tmp_path / "a.zarr"
        create(str(path), None, spec_of((4, 5)), overwrite=False)[...] = textured((4, 5), "uint16")
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
        handle = ts.open(spec, read=True, write=False).result()
        source = as_source(handle.T)
        assert not source.writable
        assert source.shape == (5, 4)
        np.testing.assert_array_equal(from_spec(source.to_spec())[...], textured((4, 5), "uint16").T)
        local = as_source(ts.array(np.arange(6)))
        np.testing.assert_array_equal(local[2:4], [2, 3])
        with pytest.raises(InvalidArgumentError, match="local runs"):
            local.to_spec()

    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_z5py(self, tmp_path: Path, zarr_format: int) -> None:
        expected = textured((9, 10, 11), "uint16")
        file = z5py.File(tmp_path / "a.zarr", "a", zarr_format=zarr_format)
        handle = file.create_dataset("g/raw", data=expected, chunks=(4, 5, 6))
        source = as_source(handle)
        assert (source.kind, source.engine, source.key, source.writable) == (
            "zarr",
            "tensorstore",
            "g/raw",
            True,
        )
        np.testing.assert_array_equal(source[...], expected)
        assert not as_source(z5py.File(tmp_path / "a.zarr", "r")["g/raw"]).writable
        assert as_source(z5py.File(tmp_path / "a.zarr", "r")).key == "g/raw"


class TestZarrPythonFallback:
    @pytest.mark.parametrize("compressor", [numcodecs.LZ4(), numcodecs.LZMA()])
    def test_codecs(self, tmp_path: Path, compressor: Any) -> None:
        expected = textured((9, 7), "uint16")
        make_with_zarr(expected, tmp_path / "a.zarr", chunks=(4, 4), zarr_format=2, compressors=[compressor])
        source = open_source(tmp_path / "a.zarr")
        assert source.engine == "zarr-python"
        assert compressor.codec_id in source.codec
        np.testing.assert_array_equal(source[3:7, 2:], expected[3:7, 2:])

    @pytest.mark.parametrize("dtype", ["S5", [("a", "i4"), ("b", "f4")]])
    def test_dtypes(self, tmp_path: Path, dtype: Any) -> None:
        expected = np.arange(35).reshape(5, 7).astype("S5") if dtype == "S5" else np.zeros((5, 7), dtype)
        if dtype != "S5":
            expected["a"] = np.arange(35).reshape(5, 7)
        make_with_zarr(expected, tmp_path / "a.zarr", chunks=(4, 4), zarr_format=2)
        source = open_source(tmp_path / "a.zarr")
        assert source.dtype == expected.dtype
        np.testing.assert_array_equal(source[...], expected)

    def test_neither_engine_can(self, tmp_path: Path) -> None:
        make_with_zarr(np.zeros((4, 5)), tmp_path / "a.zarr")
        path = tmp_path / "a.zarr/zarr.json"
        found = json.loads(path.read_text())
        found["codecs"].append({"name": "magic", "configuration": {}})
        path.write_text(json.dumps(found))
        with pytest.raises(UnsupportedFormatError, match="magic"):
            open_source(tmp_path / "a.zarr")


class TestDamage:
    @pytest.fixture
    def array(self, tmp_path: Path) -> Path:
        make_with_zarr(textured((8, 8), "uint16"), tmp_path / "a.zarr", chunks=(4, 4))
        return tmp_path / "a.zarr"

    @pytest.mark.parametrize(
        "damage", [lambda data: data[:-5], lambda data: b"", lambda data: b"nonsense" * 9]
    )
    @pytest.mark.parametrize("cache_bytes", [0, 10**6])
    def test_chunks(self, array: Path, damage: Any, cache_bytes: int) -> None:
        chunk = array / "c/0/1"
        chunk.write_bytes(damage(chunk.read_bytes()))
        source = open_source(array).for_run(2, cache_bytes)
        np.testing.assert_array_equal(source[:, :4], textured((8, 8), "uint16")[:, :4])
        with pytest.raises(StorageError) as raised:
            source[2:5, 3:8]
        for words in (str(array), "[2:5, 3:8]", "c/0/1"):
            assert words in str(raised.value)
        assert "tensorstore_spec" not in str(raised.value)

    @pytest.mark.parametrize("how", [{"zarr_format": 2, "compressors": None}, {"shards": (8, 8)}])
    def test_other_encodings(self, tmp_path: Path, how: dict[str, Any]) -> None:
        make_with_zarr(textured((8, 8), "uint16"), tmp_path / "b.zarr", chunks=(4, 4), **how)
        chunk = next(
            p for p in sorted((tmp_path / "b.zarr").rglob("*")) if p.is_file() and p.name[-1].isdigit()
        )
        chunk.write_bytes(chunk.read_bytes()[:-3])
        with pytest.raises(StorageError, match=chunk.name):
            open_source(tmp_path / "b.zarr")[...]

    def test_zarr_python(self, tmp_path: Path) -> None:
        how = {"zarr_format": 2, "compressors": [numcodecs.LZMA()], "filters": None}
        make_with_zarr(textured((8, 8), "uint16"), tmp_path / "b.zarr", chunks=(4, 4), **how)
        (tmp_path / "b.zarr/0.1").write_bytes(b"nonsense")
        with pytest.raises(StorageError, match=r"b\.zarr"):
            open_source(tmp_path / "b.zarr")[...]

    @pytest.mark.parametrize(
        ("text", "kind", "advice"),
        [
            ('Failed to write "a.zarr/c/0": No space left on device', StorageError, "free some space"),
            ('Failed to open "a.zarr/c/0": Permission denied', ReadOnlyError, "permissions"),
            ('Failed to open "a.zarr/c/0": Read-only file system', ReadOnlyError, "permissions"),
        ],
    )
    def test_what_the_system_says_is_told(self, text: str, kind: type[Exception], advice: str) -> None:
        told = storage_error(
            ValueError(f"{text} [tensorstore_spec='secret']"), "a.zarr: cannot write", writing=True
        )
        assert type(told) is kind
        for words in ("a.zarr: cannot write", text, advice):
            assert words in str(told)
        assert "secret" not in str(told)

    def test_failing_writes(self, array: Path) -> None:
        for chunk in (array / "c/0").iterdir():
            chunk.unlink()
        (array / "c/0").rmdir()
        (array / "c/0").write_text("in the way")
        with pytest.raises(StorageError) as raised:
            open_source(array, mode="r+")[...] = 1
        assert str(array) in str(raised.value)

    def test_no_permission(self, array: Path) -> None:
        (array / "c").chmod(0o500)
        try:
            if os.access(array / "c", os.W_OK):
                pytest.skip("the superuser may write anywhere")
            for folder in (array / "c").iterdir():
                folder.chmod(0o500)
            with pytest.raises(ReadOnlyError, match="permissions"):
                open_source(array, mode="r+")[...] = 1
        finally:
            for folder in (array / "c", *(array / "c").iterdir()):
                folder.chmod(0o700)


class TestCreating:
    def test_nothing_is_overwritten_unasked(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.zarr")
        create(path, None, spec_of((4, 5)), overwrite=False)[...] = 7
        with pytest.raises(OutputExistsError, match=r"overwrite=True.*mode='r\+'"):
            create(path, None, spec_of((2, 2)), overwrite=False)
        np.testing.assert_array_equal(open_source(path)[...], np.full((4, 5), 7))

    @pytest.mark.parametrize("zarr_format", [2, 3])
    def test_overwriting(self, tmp_path: Path, zarr_format: int) -> None:
        path = str(tmp_path / "a.zarr")
        create(path, "g/a", spec_of((4, 5), zarr_format=zarr_format), overwrite=True)[...] = 7
        create(path, "g/b", spec_of((4, 5), zarr_format=zarr_format), overwrite=False)[...] = 8
        made = create(path, "g/a", spec_of((2, 2), "float32", zarr_format=zarr_format), overwrite=True)
        np.testing.assert_array_equal(made[...], np.zeros((2, 2)))
        np.testing.assert_array_equal(open_source(path, "g/b")[...], np.full((4, 5), 8))
        assert sorted(list_arrays(path)) == ["g/a", "g/b"]
        assert not list(tmp_path.rglob("*replaced*"))

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_what_is_no_array_is_never_removed(self, tmp_path: Path, overwrite: bool) -> None:
        spec = spec_of((4, 5))
        path = tmp_path / "a.zarr"
        create(str(path), "g/a", spec, overwrite=False)
        for key in (None, "g"):
            with pytest.raises(OutputExistsError, match="group that holds 1 array"):
                create(str(path), key, spec, overwrite=overwrite)
        (tmp_path / "b.zarr").mkdir()
        (tmp_path / "b.zarr/thesis.txt").write_text("precious")
        for key in (None, "raw"):
            with pytest.raises(OutputExistsError, match="choose another path"):
                create(str(tmp_path / "b.zarr"), key, spec, overwrite=overwrite)
        create(str(tmp_path / "c.zarr"), None, spec, overwrite=False)
        (tmp_path / "c.zarr/thesis.txt").write_text("precious")
        with pytest.raises(OutputExistsError):
            create(str(tmp_path / "c.zarr"), None, spec, overwrite=overwrite)
        (tmp_path / "d.zarr").write_text("precious")
        with pytest.raises(OutputExistsError, match="file"):
            create(str(tmp_path / "d.zarr"), None, spec, overwrite=overwrite)
        for precious in ("b.zarr/thesis.txt", "c.zarr/thesis.txt", "d.zarr"):
            assert (tmp_path / precious).read_text() == "precious"
        assert files_below(tmp_path / "b.zarr") == ["thesis.txt"]

    def test_empty_folders_and_groups(self, tmp_path: Path) -> None:
        (tmp_path / "a.zarr").mkdir()
        create(str(tmp_path / "a.zarr"), None, spec_of((4, 5)), overwrite=False)
        zarr.open_group(tmp_path / "b.zarr", mode="w")
        with pytest.raises(OutputExistsError):
            create(str(tmp_path / "b.zarr"), None, spec_of((4, 5)), overwrite=False)
        create(str(tmp_path / "b.zarr"), None, spec_of((4, 5)), overwrite=True)
        assert open_source(tmp_path / "b.zarr").shape == (4, 5)

    def test_inside_another_array(self, tmp_path: Path) -> None:
        create(str(tmp_path / "a.zarr"), None, spec_of((4, 5)), overwrite=False)
        before = files_below(tmp_path)
        for path, key in ((tmp_path / "a.zarr", "raw"), (tmp_path / "a.zarr/b.zarr", None)):
            with pytest.raises(InvalidArgumentError, match="inside the array"):
                create(str(path), key, spec_of((4, 5)), overwrite=False)
        assert files_below(tmp_path) == before

    def test_groups_of_the_other_version(self, tmp_path: Path) -> None:
        zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
        with pytest.raises(InvalidArgumentError, match="zarr_format"):
            create(str(tmp_path / "a.zarr"), "raw", spec_of((4, 5)), overwrite=False)

    def test_places_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match=r"a\.zarr"):
            create(str(tmp_path / "file/a.zarr"), None, spec_of((4, 5)), overwrite=False)

    def test_failure_brings_everything_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = str(tmp_path / "a.zarr")
        create(path, "old", spec_of((4, 5)), overwrite=False)[...] = 7
        before = files_below(tmp_path)

        def fails(*args: Any) -> None:
            raise StorageError("no")

        monkeypatch.setattr("bioimage_py.sources.zarr.ZarrFamily.open_path", fails)
        for key, overwrite in (("old", True), ("deep/down/new", False)):
            with pytest.raises(StorageError, match="no"):
                create(path, key, spec_of((4, 5)), overwrite=overwrite)
            assert files_below(tmp_path) == before
        monkeypatch.undo()
        np.testing.assert_array_equal(open_source(path, "old")[...], np.full((4, 5), 7))


@pytest.mark.parametrize("shape", [(13, 11), (7, 10, 13), (6, 7, 6, 8), (4, 5, 3, 6, 5)])
def test_no_chunk_is_lost_when_written_from_strided_memory(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """TensorStore drops chunks that it takes for empty when it may refer to memory like this."""
    rng = np.random.default_rng(0)
    for trial in range(12):
        chunks = tuple(int(n) for n in rng.integers(2, 6, len(shape)))
        spec = spec_of(shape, chunks=chunks, zarr_format=2 + trial % 2, codec=Codec("none"))
        made = create(str(tmp_path / "a.zarr"), None, spec, overwrite=True)
        axes = rng.permutation(len(shape))
        memory = np.zeros([2 * shape[axis] for axis in axes], "uint16").transpose(np.argsort(axes))
        values = memory[(slice(None, None, 2),) * len(shape)]
        values[...] = rng.integers(1, 2**16, shape)
        made[...] = values
        np.testing.assert_array_equal(made[...], values)


def test_writes_cast_without_warnings(tmp_path: Path) -> None:
    made = create(str(tmp_path / "a.zarr"), None, spec_of((3,), "uint8"), overwrite=False)
    made.write(Box((0,), (3,)), np.array([300 + 2j, 1.7, 2]))
    np.testing.assert_array_equal(made[...], [44, 1, 2])
    made.write(Box((0,), (1,)), np.array([np.nan]))


def test_runs_read_each_chunk_once_with_a_cache(tmp_path: Path) -> None:
    made = create(str(tmp_path / "a.zarr"), None, spec_of((64, 64), chunks=(64, 64)), overwrite=False)
    made[...] = 1
    twin = open_source(tmp_path / "a.zarr").for_run(1, 10**6)
    assert twin[0].all()
    (tmp_path / "a.zarr/c/0/0").unlink()
    assert twin[1].all()
    assert not open_source(tmp_path / "a.zarr").for_run(1, 0)[1].any()


def test_a_handle_cut_off_the_grid_is_written_by_one_at_a_time(tmp_path: Path) -> None:
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(tmp_path / "a.zarr")},
        "metadata": {
            "shape": [64, 64],
            "data_type": "uint8",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [16, 16]}},
        },
    }
    handle = ts.open(spec, create=True).result()
    aligned, shifted = as_source(handle[16:, 32:]), as_source(handle[8:60, 4:])
    assert (aligned.chunks, aligned.concurrent_writes) == ((16, 16), True)
    assert (shifted.chunks, shifted.concurrent_writes) == (None, False)
    image = textured(shifted.shape, "uint8")
    shifted[...] = image
    np.testing.assert_array_equal(handle[8:60, 4:].read().result(), image)


def test_zip_files_are_closed(tmp_path: Path) -> None:
    with zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="w") as store:
        zarr.create_array(store, data=np.ones((4, 4), "uint8"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with open_source(tmp_path / "a.zarr.zip") as source:
            assert source[0, 0] == 1
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
