from __future__ import annotations

import bz2
import gzip
import lzma
import os
import warnings
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest

from bioimage_py.errors import (
    BioimagePyWarning,
    InvalidArgumentError,
    ReadOnlyError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.sources import Source, from_spec, open_source

from .contract import SourceContract


def save(path: Path, array: np.ndarray, **header: Any) -> Path:
    """Let mrcfile write an array, and change fields of the header afterwards."""
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.ascontiguousarray(array))
        for name, value in header.items():
            if name == "voxel_size":
                file.voxel_size = value
            elif name == "extended_header":
                file.set_extended_header(value)
            elif name == "origin":
                file.header.origin = value
            else:
                file.header[name] = value
    return path


class MrcContract(SourceContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        return open_source(save(folder / "a.mrc", array))


class TestMrcInt8(MrcContract):
    dtype = "int8"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("stamp", "flags", "dtype"),
    [(0, 0, "int8"), (1146047817, 0, "uint8"), (1146047817, 1, "int8"), (1146047817, 6, "uint8")],
)
def test_bytes_are_unsigned_where_imod_says_so(
    stamp: int, flags: int, dtype: str, order: str, tmp_path: Path
) -> None:
    array = np.arange(256, dtype="u1").reshape(4, 8, 8)
    path = save(tmp_path / "a.rec", array.view("i1"))
    content = bytearray(path.read_bytes())
    if order == ">":
        header = np.frombuffer(bytes(content[:1024]), mrcfile.dtypes.HEADER_DTYPE)
        content[:1024] = header.astype(header.dtype.newbyteorder(">")).tobytes()
        content[212:216] = bytes([0x11, 0x11, 0, 0])
    content[152:160] = np.array([stamp, flags], order + "i4").tobytes()
    path.write_bytes(content)
    with open_source(path) as source:
        assert source.dtype == dtype
        np.testing.assert_array_equal(source[...], array.view(dtype))


class TestMrcInt16(MrcContract):
    dtype = "int16"


class TestMrcUint16(MrcContract):
    dtype = "uint16"


class TestMrcFloat32(MrcContract):
    dtype = "float32"


class TestMrcFloat16(MrcContract):
    dtype = "float16"


class TestMrcComplex(MrcContract):
    dtype = "complex64"


class TestMrcBigEndian(MrcContract):
    dtype = ">i2"


class TestMrcImage(MrcContract):
    dtype = "float32"
    shape = (9, 14)


class TestMrcVolumeStack(MrcContract):
    dtype = "float32"
    shape = (3, 4, 5, 6)


class TestMrcExtendedHeader(SourceContract):
    dtype = "int16"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return open_source(save(folder / "a.rec", array, extended_header=np.zeros(300, "V1")))


class TestMrcByContent(SourceContract):
    dtype = "int16"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return open_source(save(folder / "a.mrc", array).rename(folder / "volume.dat"))


def test_a_map_of_the_data_bank(shared_data: Path) -> None:
    with open_source(shared_data / "EMD-3001.map") as source:
        assert source.shape == (25, 43, 73)
        assert source.dtype == np.float32
        # The file says that its columns run along z, its rows along x and its sections along y.
        assert source.metadata.axes == ("y", "x", "z")
        assert source.metadata.voxel_size is not None
        sizes = dict(zip(source.metadata.axes, source.metadata.voxel_size, strict=True))
        assert sizes == pytest.approx({"z": 0.45875, "y": 0.3925, "x": 0.44825}, rel=1e-6)
        assert source.metadata.units == ("angstrom",) * 3
        with mrcfile.open(shared_data / "EMD-3001.map") as file:
            np.testing.assert_array_equal(source[...], file.data)


def test_voxel_size_and_origin(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.mrc", np.zeros((3, 4, 5), "int16"), voxel_size=(1.5, 2.5, 3.5), origin=(10, 20, 30)
    )
    with open_source(path) as source:
        assert source.metadata.voxel_size == (3.5, 2.5, 1.5)
        assert source.metadata.origin == (30, 20, 10)


def test_start_indices_are_the_origin_where_none_is_given(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mrc", np.zeros((3, 4, 5), "int16"), voxel_size=2.0, nxstart=-3, nzstart=7)
    with open_source(path) as source:
        assert source.metadata.origin == (14, 0, -6)


def test_axes_that_are_stored_in_another_order_are_named(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.mrc", np.zeros((3, 4, 5), "int16"), voxel_size=(1, 2, 3), mapc=3, mapr=1, maps=2
    )
    with mrcfile.mmap(path, mode="r+") as file:
        file.header.mx, file.header.my, file.header.mz = 4, 3, 5
        file.header.cella = (4 * 1.5, 3 * 2.5, 5 * 3.5)
    with open_source(path) as source:
        assert source.shape == (3, 4, 5)
        assert source.metadata.axes == ("y", "x", "z")
        assert source.metadata.voxel_size == (2.5, 1.5, 3.5)


def test_no_voxel_size_is_none_and_not_zero(tmp_path: Path) -> None:
    with open_source(save(tmp_path / "a.mrc", np.zeros((3, 4, 5), "int16"))) as source:
        assert source.metadata.voxel_size is None
        assert source.metadata.axes == ("z", "y", "x")


def test_a_tilt_series_has_no_z(tmp_path: Path) -> None:
    path = save(tmp_path / "tilts.mrc", np.zeros((3, 4, 5), "int16"), voxel_size=4.0, ispg=0)
    with open_source(path.rename(tmp_path / "tilts.st")) as source:
        assert source.metadata.axes == ("n", "y", "x")
        assert source.metadata.voxel_size == (1, 4, 4)
        assert source.metadata.units == (None, "angstrom", "angstrom")


def test_labels_are_attributes(tmp_path: Path) -> None:
    with open_source(save(tmp_path / "a.mrc", np.zeros((3, 4, 5), "int16"))) as source:
        assert "mrcfile.py" in source.metadata.attributes["mrc"]["labels"][0]


def test_files_of_old_programs_without_a_mark(tmp_path: Path) -> None:
    array = np.arange(60, dtype=">i2").reshape(3, 4, 5)
    path = save(tmp_path / "old.mrc", array)
    with path.open("r+b") as file:
        file.seek(208)
        file.write(bytes(8))
    with open_source(path) as source:
        np.testing.assert_array_equal(source[...], array)


def test_a_file_that_is_cut_says_what_is_missing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mrc", np.zeros((3, 4, 5), "int16"))
    os.truncate(path, 1100)
    with pytest.raises(StorageError, match=r"truncated.*1144 bytes.*has 1100"):
        open_source(path)
    os.truncate(path, 500)
    with pytest.raises(StorageError, match=r"truncated.*1024 bytes, found 500"):
        open_source(path)
    os.truncate(path, 0)
    with pytest.raises(StorageError, match="empty"):
        open_source(path)


@pytest.mark.parametrize("content", [b"garbage", bytes(5000), bytes(range(256)) * 20, b"\xff" * 3000])
def test_garbage_is_no_mrc(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mrc").write_bytes(content)
    with pytest.raises(UnsupportedFormatError, match="not an MRC file"):
        open_source(tmp_path / "a.mrc")


@pytest.mark.parametrize("name", ["b.mrc.gz", "b.map.bz2", "b.rec.xz", "B.MRC.GZ", "b.mrc", "noending"])
def test_compressed_files_are_read_by_ending_and_by_content(tmp_path: Path, name: str) -> None:
    array = np.arange(60, dtype="int16").reshape(3, 4, 5)
    packed = next((m for m in (bz2, lzma) if name.endswith({bz2: ".bz2", lzma: ".xz"}[m])), gzip)
    content = packed.compress(save(tmp_path / "a.mrc", array).read_bytes() + b"what others wrote behind it")
    (tmp_path / name).write_bytes(content)
    with open_source(tmp_path / name) as source:
        np.testing.assert_array_equal(source[1:, 2], array[1:, 2])
        assert source.codec == {bz2: "bzip2", lzma: "xz", gzip: "gzip"}[packed]
        with from_spec(source.to_spec()) as again:
            np.testing.assert_array_equal(again[...], array)
    (tmp_path / name).write_bytes(content[:-9])
    with open_source(tmp_path / name) as cut, pytest.raises(StorageError, match="damaged or truncated"):
        cut[...]


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_wrong_machine_stamp_is_told_and_the_header_is_believed(tmp_path: Path, order: str) -> None:
    array = np.arange(60, dtype="int16").reshape(3, 4, 5)
    content = bytearray(save(tmp_path / "a.mrc", array).read_bytes())
    header = np.frombuffer(bytes(content[:1024]), mrcfile.dtypes.HEADER_DTYPE)
    content[:1024] = header.astype(header.dtype.newbyteorder(order)).tobytes()
    content[212:216] = bytes([0x11, 0x11, 0, 0]) if order == "<" else bytes([0x44, 0x44, 0, 0])
    content[1024:] = array.astype(order + "i2").tobytes()
    (tmp_path / "b.mrc").write_bytes(content)
    with pytest.warns(BioimagePyWarning, match="machine stamp"), open_source(tmp_path / "b.mrc") as source:
        np.testing.assert_array_equal(source[...], array)


@pytest.mark.parametrize("mode", [3, 7, 101])
def test_modes_that_cannot_be_read_are_named(tmp_path: Path, mode: int) -> None:
    path = save(tmp_path / "a.mrc", np.zeros((3, 4, 5), "int16"), mode=np.int32(1))
    with path.open("r+b") as file:
        file.seek(12)
        file.write(np.int32(mode).tobytes())
    with pytest.raises(UnsupportedFormatError, match=f"mode {mode}"):
        open_source(path)


def test_a_stack_of_volumes_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mrc", np.zeros((2, 3, 4, 5), "int16"))
    with path.open("r+b") as file:
        file.seek(36)
        file.write(np.int32(4).tobytes())
    with pytest.raises(StorageError, match="contradicts"):
        open_source(path)


def test_it_is_written_in_place(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mrc", np.zeros((3, 4, 5), "int16"))
    with open_source(path, mode="r+") as there:
        there[1, 2] = 7
    assert open_source(path)[...].sum() == 7 * 5
    (tmp_path / "b.mrc.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ReadOnlyError, match="only be read"):
        open_source(tmp_path / "b.mrc.gz", mode="r+")
    with pytest.raises(InvalidArgumentError, match="one array"):
        open_source(path, "raw")


def test_opening_is_silent_where_mrcfile_would_warn(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mrc", np.zeros((3, 4, 5), "int16"))
    with path.open("ab") as file:
        file.write(b"more bytes than voxels")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        open_source(path).close()
    assert not told
