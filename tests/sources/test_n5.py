"""N5: contracts, files of and for z5py, axis order, metadata, what it cannot hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore as ts
import z5py

from bioimage_py import copy
from bioimage_py.errors import (
    AmbiguousSourceError,
    InvalidArgumentError,
    OutputExistsError,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import ArraySpec, Codec, Source, as_source, family_of, open_source
from tests.sources.contract import WritableSourceContract, textured

create, list_arrays = family_of("n5").create, family_of("n5").list_arrays


def spec_of(shape: tuple[int, ...], dtype: Any = "uint16", **how: Any) -> ArraySpec:
    return ArraySpec(shape, np.dtype(dtype), **how)


def make_with_z5py(array: np.ndarray, path: Path, key: str, **how: Any) -> z5py.Dataset:
    return z5py.File(path, "a").create_dataset(key, data=array, **how)


class TestN5(WritableSourceContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        make_with_z5py(array, folder / "a.n5", "raw", chunks=(3, 4, 5))
        return open_source(folder / "a.n5", "raw")

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return create(
            str(folder / "b.n5"), "in/a/group", spec_of(shape, dtype, chunks=(3, 4, 5)), overwrite=False
        )

    def test_grid_is_slowest_axis_first(self, source: Source, target: Source) -> None:
        assert source.chunks == target.chunks == (3, 4, 5)
        assert source.fill_value == 0


class TestZ5pyHandle(WritableSourceContract):
    dtype = "float64"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return as_source(make_with_z5py(array, folder / "a.n5", "g/raw", chunks=(3, 4, 5), compression="raw"))

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return self.make(np.zeros(shape, dtype), folder)

    def test_reopened_through_tensorstore(self, source: Source, tmp_path: Path) -> None:
        assert (source.kind, source.engine, source.key, source.codec) == ("n5", "tensorstore", "g/raw", "")
        read_only = as_source(z5py.File(tmp_path / "a.n5", "r")["g/raw"])
        assert not read_only.writable
        with pytest.raises(ReadOnlyError):
            read_only[...] = 0
        assert (
            read_only.identities() == source.identities() == open_source(tmp_path / "a.n5/g/raw").identities()
        )


@pytest.mark.parametrize("key", ["gzip", "raw"])
def test_a_file_of_another_program(shared_data: Path, key: str) -> None:
    from PIL import Image

    with Image.open(shared_data / "reference_image.png") as image:
        expected = np.asarray(image)
    source = open_source(shared_data / "z5py.n5", key)
    assert (source.shape, source.dtype, source.chunks) == ((512, 512, 3), np.uint8, (100, 100, 1))
    np.testing.assert_array_equal(source[...], expected)
    np.testing.assert_array_equal(source[95:105, 500:, 1], expected[95:105, 500:, 1])


@pytest.mark.parametrize("shape", [(), (5,), (0,), (3, 0, 2), (4, 5), (3, 1, 2, 5), (2, 2, 3, 2, 3)])
def test_any_number_of_axes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    expected = textured(shape, "int16")
    chunks = tuple(max(1, n - 1) for n in shape)
    made = create(str(tmp_path / "a.n5"), "raw", spec_of(shape, "int16", chunks=chunks), overwrite=False)
    made[...] = expected
    assert made.shape == shape
    np.testing.assert_array_equal(open_source(tmp_path / "a.n5")[...], expected)
    if shape and all(shape):
        np.testing.assert_array_equal(z5py.File(tmp_path / "a.n5", "r")["raw"][...], expected)


@pytest.mark.parametrize(
    "dtype",
    ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64", ">u2"],
)
def test_dtypes(tmp_path: Path, dtype: str) -> None:
    expected = textured((9, 5, 7), dtype)
    made = create(str(tmp_path / "a.n5"), "raw", spec_of((9, 5, 7), dtype, chunks=(4, 2, 4)), overwrite=False)
    assert made.dtype == np.dtype(dtype).newbyteorder("=")
    made[...] = expected
    np.testing.assert_array_equal(z5py.File(tmp_path / "a.n5", "r")["raw"][...], expected)
    make_with_z5py(expected.astype(made.dtype), tmp_path / "b.n5", "raw", chunks=(4, 2, 4))
    np.testing.assert_array_equal(open_source(tmp_path / "b.n5")[...], expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_voxels_keep_their_bits(tmp_path: Path, dtype: str) -> None:
    values = np.array([0.0, 0.0, -0.0, -0.0, np.nan, -np.nan], dtype)
    create(str(tmp_path / "a.n5"), "raw", spec_of((6,), dtype, chunks=(2,)), overwrite=False)[...] = values
    assert open_source(tmp_path / "a.n5")[...].tobytes() == values.tobytes()


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        (None, "gzip:1"),
        ("none", ""),
        ("gzip:5", "gzip:5"),
        ("bz2:1", "bzip2"),
        ("zstd:3", "zstd:3"),
        ("blosc", "blosc zstd:1 bitshuffle"),
        ("lz4", "blosc lz4:1 shuffle"),
    ],
)
def test_codecs(tmp_path: Path, codec: str | None, text: str) -> None:
    expected = textured((9, 7), "uint16")
    chosen = None if codec is None else Codec.parse(codec)
    made = create(
        str(tmp_path / "a.n5"), "raw", spec_of((9, 7), chunks=(4, 4), codec=chosen), overwrite=False
    )
    assert made.codec == text
    made[...] = expected
    np.testing.assert_array_equal(z5py.File(tmp_path / "a.n5", "r")["raw"][...], expected)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"codec": Codec("zlib")}, "N5 does not have the codec 'zlib'"),
        ({"chunks": (4, 4), "shards": (8, 8)}, "no shards"),
        ({"chunks": (4,)}, "chunks"),
        ({"fill_value": 3}, "fill value"),
        ({"dtype": "bool"}, "N5 cannot hold bool.*uint8"),
        ({"dtype": "complex64"}, "complex64"),
        ({"dtype": "float16"}, "float16"),
        ({"dtype": "S4"}, "S4"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(tmp_path: Path, how: dict[str, Any], words: str) -> None:
    dtype = how.pop("dtype", "uint16")
    with pytest.raises(InvalidArgumentError, match=words) as raised:
        create(str(tmp_path / "a.n5"), "x/y", spec_of((9, 7), dtype, **how), overwrite=False)
    assert isinstance(raised.value, UnsupportedFormatError) == ("cannot hold" in str(raised.value))
    assert not list(tmp_path.rglob("*"))


class TestMetadata:
    metadata = ImageMetadata(
        axes=("z", "y", "x"),
        voxel_size=(2.0, 0.5, 0.25),
        units=("micrometer", "micrometer", "micrometer"),
        origin=(10.0, 0.0, -1.0),
        attributes={"sample": {"id": 3}},
    )

    @pytest.mark.parametrize(
        "metadata",
        [metadata, ImageMetadata(axes=("t", "y", "x"), units=("second", None, None)), ImageMetadata()],
    )
    def test_round_trip(self, tmp_path: Path, metadata: ImageMetadata) -> None:
        made = create(str(tmp_path / "a.n5"), "raw", spec_of((4, 5, 6), metadata=metadata), overwrite=False)
        assert made.metadata == metadata
        assert open_source(tmp_path / "a.n5").metadata == metadata

    def test_other_programs_find_it(self, tmp_path: Path) -> None:
        create(str(tmp_path / "a.n5"), "raw", spec_of((4, 5, 6), metadata=self.metadata), overwrite=False)
        attributes = z5py.File(tmp_path / "a.n5", "r")["raw"].attrs
        assert attributes["resolution"] == [0.25, 0.5, 2.0]
        assert attributes["axes"] == ["x", "y", "z"]
        assert attributes["sample"] == {"id": 3}
        spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path}/a.n5/raw/"}}
        assert ts.open(spec).result().domain.labels == ("x", "y", "z")

    @pytest.mark.parametrize(
        ("attributes", "voxel_size", "units"),
        [
            ({"resolution": [4, 4, 40]}, (40, 4, 4), None),
            ({"resolution": [4, 4, 40], "units": ["nm", "nm", "nm"]}, (40, 4, 4), ("nanometer",) * 3),
            ({"pixelResolution": {"dimensions": [4, 4, 40], "unit": "um"}}, (40, 4, 4), ("micrometer",) * 3),
            ({"pixelResolution": [4, 4, 40]}, (40, 4, 4), None),
            (
                {"transform": {"axes": ["z", "y", "x"], "scale": [40, 4, 4], "units": ["nm"] * 3}},
                (40, 4, 4),
                ("nanometer",) * 3,
            ),
        ],
    )
    def test_ways_to_say_the_voxel_size(
        self, tmp_path: Path, attributes: dict[str, Any], voxel_size: tuple[float, ...], units: Any
    ) -> None:
        handle = make_with_z5py(np.zeros((4, 5, 6), "u1"), tmp_path / "a.n5", "raw", chunks=(4, 5, 6))
        for name, value in attributes.items():
            handle.attrs[name] = value
        found = open_source(tmp_path / "a.n5").metadata
        assert found.voxel_size == voxel_size
        assert found.units == units

    @pytest.mark.parametrize(
        "attributes",
        [
            {"units": "nm", "resolution": 4},
            {"resolution": [1, "a", 2], "axes": ["x", "x", "y"]},
            {"resolution": [None, 0, 0], "units": [1, 2, 3]},
            {"transform": 4, "pixelResolution": {"dimensions": 3, "unit": 4}},
            {"transform": {"scale": "big", "axes": 4, "units": {}, "translate": [1]}},
        ],
    )
    def test_nonsense_does_not_keep_an_array_from_being_opened(
        self, tmp_path: Path, attributes: dict[str, Any]
    ) -> None:
        handle = make_with_z5py(np.ones((4, 5, 6), "u1"), tmp_path / "a.n5", "raw", chunks=(4, 5, 6))
        for name, value in attributes.items():
            handle.attrs[name] = value
        source = open_source(tmp_path / "a.n5")
        assert source.metadata.voxel_size is None
        assert source[...].all()


class TestGroups:
    def test_scale_levels_of_one_image(self, tmp_path: Path) -> None:
        for n in range(3):
            make_with_z5py(np.zeros((8 >> n, 8 >> n), "u1"), tmp_path / "a.n5", f"setup0/s{n}", chunks=(2, 2))
        assert open_source(tmp_path / "a.n5").key == "setup0/s0"
        assert open_source(tmp_path / "a.n5", "setup0/s1").shape == (4, 4)
        make_with_z5py(np.zeros((8, 8), "u1"), tmp_path / "a.n5", "setup1/s0", chunks=(2, 2))
        with pytest.raises(AmbiguousSourceError, match=r"4 arrays(.|\n)*setup1/s0  shape \(8, 8\), uint8"):
            open_source(tmp_path / "a.n5")

    def test_keys(self, shared_data: Path) -> None:
        path = shared_data / "z5py.n5"
        assert list_arrays(str(path)) == ["gzip", "raw"]
        with pytest.raises(AmbiguousSourceError, match="gzip"):
            open_source(path)
        with pytest.raises(SourceNotFoundError, match="there is gzip, raw"):
            open_source(path, "row")
        with pytest.raises(SourceNotFoundError):
            open_source(path.with_name("none.n5"))

    def test_folders_without_attributes_are_groups(self, tmp_path: Path) -> None:
        make_with_z5py(np.zeros((4, 5), "u1"), tmp_path / "a.n5", "in/here", chunks=(2, 2))
        (tmp_path / "a.n5/attributes.json").unlink()
        assert open_source(tmp_path / "a.n5").key == "in/here"

    def test_live_groups(self, tmp_path: Path) -> None:
        make_with_z5py(np.zeros((4, 5), "u1"), tmp_path / "a.n5", "in/here", chunks=(2, 2))
        assert as_source(z5py.File(tmp_path / "a.n5", "r")["in"]).key == "in/here"


class TestDamage:
    @pytest.mark.parametrize(
        "damage", [lambda data: data[:-5], lambda data: b"", lambda data: b"nonsense" * 9]
    )
    def test_chunks(self, tmp_path: Path, damage: Any) -> None:
        make_with_z5py(textured((8, 8), "uint16"), tmp_path / "a.n5", "raw", chunks=(4, 4))
        chunk = tmp_path / "a.n5/raw/1/0"  # x, then y
        chunk.write_bytes(damage(chunk.read_bytes()))
        with pytest.raises(StorageError) as raised:
            open_source(tmp_path / "a.n5")[2:4, 3:8]
        for words in ("a.n5:raw", "[2:4, 3:8]", "raw/1/0"):
            assert words in str(raised.value)

    def test_codecs_that_tensorstore_does_not_have(self, tmp_path: Path) -> None:
        make_with_z5py(np.zeros((8, 8), "u2"), tmp_path / "a.n5", "raw", chunks=(4, 4), compression="lz4")
        with pytest.raises(UnsupportedFormatError, match="lz4"):
            open_source(tmp_path / "a.n5")


class TestCreating:
    def test_groups_and_overwriting(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.n5")
        create(path, "g/a", spec_of((4, 5)), overwrite=False)[...] = 7
        assert json.loads((tmp_path / "a.n5/attributes.json").read_text())["n5"]
        with pytest.raises(OutputExistsError, match=r"overwrite=True.*mode='r\+'"):
            create(path, "g/a", spec_of((4, 5)), overwrite=False)
        with pytest.raises(OutputExistsError, match="group that holds 1 array"):
            create(path, "g", spec_of((4, 5)), overwrite=True)
        with pytest.raises(InvalidArgumentError, match="inside the array"):
            create(path, "g/a/b", spec_of((4, 5)), overwrite=True)
        assert not create(path, "g/a", spec_of((2, 2)), overwrite=True)[...].any()
        (tmp_path / "a.n5/g/a/notes.txt").write_text("precious")
        with pytest.raises(OutputExistsError, match=r"notes\.txt"):
            create(path, "g/a", spec_of((2, 2)), overwrite=True)
        assert list_arrays(path) == ["g/a"]

    def test_an_array_that_is_the_container(self, tmp_path: Path) -> None:
        create(str(tmp_path / "a.n5"), None, spec_of((4, 5)), overwrite=False)[...] = 3
        assert open_source(tmp_path / "a.n5")[...].all()
        assert list_arrays(str(tmp_path / "a.n5")) == [""]


@pytest.mark.parametrize("compression", ["raw", "gzip", "blosc", "bzip2", "xz", "zstd"])
def test_every_compression_of_z5py_is_read_and_written(tmp_path: Path, compression: str) -> None:
    array = np.arange(1000, dtype="uint16").reshape(10, 10, 10)
    file = z5py.File(str(tmp_path / "a.n5"), "a")
    file.create_dataset("raw", data=array, chunks=(4, 4, 4), compression=compression)
    source = open_source(tmp_path / "a.n5" / "raw", mode="r+")
    np.testing.assert_array_equal(source[...], array)
    source[2:7] = 7
    array[2:7] = 7
    np.testing.assert_array_equal(z5py.File(str(tmp_path / "a.n5"), "r")["raw"][...], array)


@pytest.mark.parametrize("rename", ["{0}.{1}.{2}", "{0}/{1}/{2}.gz", "{0}/{1}", "{0}/{1}/{2}/0"])
def test_chunk_files_that_are_not_called_as_n5_calls_them(tmp_path: Path, rename: str) -> None:
    make_with_z5py(textured((4, 5, 6), "uint16"), tmp_path / "a.n5", "raw")
    folder = tmp_path / "a.n5/raw"
    moved = {
        rename.format(*file.relative_to(folder).parts): file.read_bytes()
        for file in folder.rglob("*")
        if file.name.isdecimal() and file.is_file()
    }
    for place in folder.iterdir():
        if place.is_dir():
            shutil.rmtree(place)
    for name, data in moved.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    with pytest.raises(StorageError, match="look like chunks"):
        open_source(tmp_path / "a.n5")


def test_the_version_of_a_container_is_no_attribute(tmp_path: Path) -> None:
    make_with_z5py(textured((4, 5, 6), "uint16"), tmp_path / "a.n5", "raw")
    for place, version in ((tmp_path / "a.n5/raw", "2.0.0"), (tmp_path / "a.n5", "2.0.0")):
        file = place / "attributes.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "n5": version, "mine": 1}))
    shutil.copytree(tmp_path / "a.n5/raw", tmp_path / "b.n5")
    for path in ("a.n5/raw", "b.n5"):
        assert open_source(tmp_path / path).metadata.attributes == {"mine": 1}
    made = copy(tmp_path / "b.n5", tmp_path / "c.n5")  # without a warning
    assert json.loads((tmp_path / "c.n5/attributes.json").read_text())["n5"] == "4.0.0"
    assert made.metadata.attributes == {"mine": 1}
