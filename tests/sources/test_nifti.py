from __future__ import annotations

import errno
import gzip
import os
import tempfile
from pathlib import Path
from typing import Any, Self

import nibabel
import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import (
    BioimagePyWarning,
    InvalidArgumentError,
    ReadOnlyError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.geometry import Box
from bioimage_py.sources import Source, open_source
from bioimage_py.sources.raw import voxels

from .contract import SourceContract, textured


def save(path: Path, array: np.ndarray, kind: Any = nibabel.Nifti1Image) -> Path:
    nibabel.save(kind(array, np.diag([2.0, 3.0, 4.0, 1.0]), dtype=array.dtype), path)
    return path


def scaled(path: Path, stored: np.ndarray, slope: float, inter: float) -> Path:
    """Write voxels as they are, and the scaling beside them."""
    header = nibabel.Nifti1Header(endianness=">" if stored.dtype.byteorder == ">" else "<")
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape)
    header["scl_slope"], header["scl_inter"] = slope, inter
    header["magic"], header["vox_offset"] = b"n+1", 352
    content = header.binaryblock + bytes(4) + stored.tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def by_nibabel(path: Path) -> np.ndarray:
    return np.asanyarray(nibabel.load(path).dataobj)


class NiftiContract(SourceContract):
    dtype = "int16"
    file_name = "a.nii"
    kind = nibabel.Nifti1Image

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return open_source(save(folder / self.file_name, array, self.kind))


class TestNifti(NiftiContract):
    pass


class TestNiftiFloat(NiftiContract):
    dtype = "float64"
    shape = (5, 6, 7, 3)


class TestNiftiUint8(NiftiContract):
    dtype = "uint8"
    shape = (19, 6)


class TestNifti2(NiftiContract):
    dtype = "uint32"
    kind = nibabel.Nifti2Image


class TestNiftiGz(NiftiContract):
    file_name = "a.nii.gz"


class ScaledContract(SourceContract):
    stored: Any = "int16"
    slope, inter = 0.25, -3.0
    file_name = "a.nii"

    def array(self) -> np.ndarray:
        folder = Path(tempfile.mkdtemp())
        path = scaled(folder / self.file_name, textured(self.shape, self.stored), self.slope, self.inter)
        values = np.array(by_nibabel(path))
        path.unlink()
        folder.rmdir()
        return values

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return open_source(
            scaled(folder / self.file_name, textured(self.shape, self.stored), self.slope, self.inter)
        )


class TestNiftiScaled(ScaledContract):
    pass


class TestNiftiScaledGz(ScaledContract):
    file_name = "a.nii.gz"


class TestNiftiScaledBigEndian(ScaledContract):
    stored = ">u2"


class TestNiftiScaledFloat32(ScaledContract):
    stored = "float32"


@pytest.mark.parametrize("stored", ["uint8", ">i2", "int32", "uint64", "float32", ">f8", "complex64"])
@pytest.mark.parametrize(
    ("slope", "inter"), [(1, 0), (0, 5), (2.5, 0), (1, 7), (1e38, 1e38), (float("nan"), 0)]
)
def test_dtype_and_values_are_nibabels(tmp_path: Path, stored: str, slope: float, inter: float) -> None:
    path = scaled(tmp_path / "a.nii", textured((4, 5, 6), stored), slope, inter)
    expected = by_nibabel(path)
    with open_source(path) as source:
        assert source.dtype == expected.dtype
        assert source[...].dtype == expected.dtype
        np.testing.assert_array_equal(source[...], expected)
        np.testing.assert_array_equal(source[1:3, 2, 1:], expected[1:3, 2, 1:])


def test_voxel_size_units_and_affine(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), "i2"), np.diag([-2.0, 3.0, 4.0, 1.0]))
    image.header.set_zooms((2, 3, 4, 1500))
    image.header.set_xyzt_units("mm", "msec")
    image.header["descrip"] = b"a scan"
    nibabel.save(image, tmp_path / "a.nii")
    with open_source(tmp_path / "a.nii") as source:
        metadata = source.metadata
        assert metadata.axes == ("x", "y", "z", "t")
        assert metadata.voxel_size == (2, 3, 4, 1500)
        assert metadata.units == ("millimeter", "millimeter", "millimeter", "millisecond")
        assert metadata.attributes["nifti"]["description"] == "a scan"
        assert metadata.attributes["nifti"]["affine"] == np.diag([-2.0, 3.0, 4.0, 1.0]).tolist()


def test_an_axis_that_nobody_measured_does_not_lose_the_others(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), "i2"), np.diag([2.0, 3.0, 4.0, 1.0]))
    image.header["pixdim"][4] = 0
    nibabel.save(image, tmp_path / "a.nii")
    with open_source(tmp_path / "a.nii") as source:
        assert source.metadata.voxel_size == (2, 3, 4, 1)


def test_by_content(tmp_path: Path) -> None:
    array = textured((4, 5, 6), "int16")
    save(tmp_path / "a.nii", array).rename(tmp_path / "scan")
    with open_source(tmp_path / "scan") as source:
        np.testing.assert_array_equal(source[...], array)


def test_a_compressed_file_is_decompressed_once_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    array = textured((30, 40, 50), "int16")
    opened, decompressing = [], voxels.decompressing
    path = save(tmp_path / "a.nii.gz", array)
    monkeypatch.setattr(voxels, "decompressing", lambda *args: opened.append(args) or decompressing(*args))
    with open_source(path) as source:
        assert not opened
        for z in range(50):
            np.testing.assert_array_equal(source[:, :, z], array[:, :, z])
        assert len(opened) == 1
        assert not list(temporary.iterdir())
    with pytest.raises(StorageError, match="was closed"):
        source.read(Box((0, 0, 0), (1, 1, 1)))


def test_damaged_compressed_files(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", textured((30, 40, 50), "int16"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with (
        open_source(path) as source,
        pytest.raises(StorageError, match=r"truncated after .* of 120352 bytes"),
    ):
        source[0]
    path.write_bytes(content[:-8] + bytes(8))
    with open_source(path) as source, pytest.raises(StorageError, match="damaged"):
        source[0]
    path.write_bytes(content[:15])
    with pytest.raises(StorageError, match="damaged"):
        open_source(path)
    scaled(path, np.zeros((3, 4), "u1"), 1, 0)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-2]))
    with open_source(path) as source, pytest.raises(StorageError, match=r"truncated.*364 bytes.*has 362"):
        source[0]


def test_no_room_to_decompress_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...

    path = save(tmp_path / "a.nii.gz", textured((3, 4, 5), "int16"))
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with open_source(path) as source, pytest.raises(StorageError, match=r"TMPDIR.*no space left"):
        source[0]


def test_a_file_that_is_cut_says_what_is_missing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), "int16"))
    os.truncate(path, 400)
    with pytest.raises(StorageError, match=r"truncated.*472 bytes.*has 400"):
        open_source(path)
    os.truncate(path, 0)
    with pytest.raises(StorageError, match="empty"):
        open_source(path)


@pytest.mark.parametrize(
    "content",
    [b"garbage", bytes(5000), b"\x1f\x8b\x08", gzip.compress(b"garbage", mtime=0)],
    ids=["text", "zeros", "gzip magic", "gzip of text"],
)
def test_garbage_is_no_nifti(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises((UnsupportedFormatError, StorageError), match=r"not a single-file NIfTI|damaged"):
        open_source(tmp_path / "a.nii")


def test_headers_that_contradict_themselves(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), "int16"))
    content = bytearray(path.read_bytes())
    content[70:72] = np.int16(9999).tobytes()
    path.write_bytes(content)
    with pytest.raises((StorageError, UnsupportedFormatError), match=r"a\.nii"):
        open_source(path)
    content[70:72] = np.int16(4).tobytes()
    content[42:44] = np.int16(-4).tobytes()
    path.write_bytes(content)
    with pytest.raises(StorageError, match="contradicts"):
        open_source(path)
    content[42:44] = np.int16(3).tobytes()
    content[108:112] = np.float32(0).tobytes()
    path.write_bytes(content)
    with pytest.raises(StorageError, match="voxels from byte 0 on"):
        open_source(path)


def test_colours_are_refused(tmp_path: Path) -> None:
    colours = np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colours, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UnsupportedFormatError, match="colours"):
        open_source(tmp_path / "a.nii")


def test_it_is_written_in_place(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), "int16"))
    with open_source(path, mode="r+") as there:
        there[1, 2] = 7
    assert open_source(path)[...].sum() == 7 * 5
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ReadOnlyError, match="only be read"):
        open_source(tmp_path / "b.nii.gz", mode="r+")
    with pytest.raises(InvalidArgumentError, match="one array"):
        open_source(path, "raw")


def test_orientation_and_turned_images(tmp_path: Path) -> None:
    image = np.zeros((4, 5, 6), "i2")
    nibabel.save(nibabel.Nifti1Image(image, np.diag([-2.0, 3.0, 4.0, 1.0])), tmp_path / "a.nii")
    found = open_source(tmp_path / "a.nii").metadata
    ways = ("right-to-left", "posterior-to-anterior", "inferior-to-superior")
    assert [dict(one or {})["value"] for one in found.orientations or ()] == list(ways)
    for made in bp.pyramid(tmp_path / "a.nii", tmp_path / "a.ome.zarr", levels=2):
        assert [dict(one or {})["value"] for one in made.metadata.orientations or ()] == list(ways[::-1])
        assert made.metadata.attributes["nifti"]["affine"] == np.diag([-2.0, 3.0, 4.0, 1.0]).tolist()
    affine = np.eye(4)
    affine[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    nibabel.save(nibabel.Nifti1Image(image, affine), tmp_path / "b.nii")
    with pytest.warns(BioimagePyWarning, match="its affine rotates or shears the image"):
        turned = open_source(tmp_path / "b.nii").metadata
    assert turned.attributes["nifti"]["affine"] == pytest.approx(affine)
    permuted = np.eye(4)[[1, 0, 2, 3]]
    nibabel.save(nibabel.Nifti1Image(image, permuted), tmp_path / "c.nii")
    found = open_source(tmp_path / "c.nii").metadata
    assert [dict(one or {})["value"] for one in found.orientations or ()] == [
        "posterior-to-anterior", "left-to-right", "inferior-to-superior",
    ]  # fmt: skip
