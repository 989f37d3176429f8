"""Imaris and BigDataViewer: volumes for each time point and channel as one image, with levels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.cli import main
from bioimage_py.errors import (
    AmbiguousSourceError,
    BioimagePyError,
    BioimagePyWarning,
    ReadOnlyError,
    SourceNotFoundError,
    StorageError,
    UnsupportedFormatError,
)
from bioimage_py.metadata import read_bdv
from bioimage_py.sources import Source, coarser_levels
from bioimage_py.sources.ome_zarr import check_ome_zarr, list_ome_zarr
from tests.sources.contract import SourceContract, textured
from tests.sources.volume_files import characters, halved, write_bdv, write_ims

IMAGE = textured((2, 2, 11, 35, 41), "uint16")


class TestImaris(SourceContract):
    shape = (2, 2, 7, 18, 13)

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return bp.open_source(write_ims(folder / "a.ims", [array]))


class TestBdv(SourceContract):
    shape = (3, 7, 18, 13)

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return bp.open_source(write_bdv(folder / "a.xml", [list(array)]))


@pytest.fixture
def ims(tmp_path: Path) -> Path:
    return write_ims(tmp_path / "a.ims", halved(IMAGE, 2))


def test_what_an_imaris_file_says(ims: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with bp.open_source(ims) as source:
        assert (source.shape, source.chunks) == (IMAGE.shape, (1, 1, 4, 16, 16))
        said = source.metadata
    assert said.axes == tuple("tczyx")
    assert said.voxel_size == pytest.approx((30.0, 1.0, 6 / 11, 10 / 35, 10 / 41))
    assert said.units == ("second", None, *("micrometer",) * 3)
    assert (said.channel_names, said.channel_colors) == (("dye 0", "dye 1"), ("00FF00", "FF0080"))
    assert said.contrast_limits == ((0.0, 255.0), (1.0, 255.0))
    assert said.attributes == {"imaris": {"Image": {"Description": "by hand"}}}
    # 11 planes become 5 and 2, each of 2 and 4.
    levels = coarser_levels(bp.open_source(ims))
    assert [level.metadata.voxel_size[2] for level in levels] == pytest.approx([12 / 11, 24 / 11])  # type: ignore[index]
    assert levels[1].metadata.origin == pytest.approx((0, 0, 9 / 11, 15 / 35, 15 / 41))
    for level, voxels in zip(levels, halved(IMAGE, 2)[1:], strict=True):
        np.testing.assert_array_equal(level[...], voxels)
    assert main(["info", str(ims)]) == 0
    told = capsys.readouterr().out
    assert "dye 0, dye 1" in told
    assert "levels:     0  2 × 2 × 11 × 35 × 41\n" in told
    assert "2  2 × 2 × 2 × 8 × 10\n" in told


def test_a_plane_has_two_axes(tmp_path: Path) -> None:
    path = write_ims(tmp_path / "a.ims", [IMAGE[:1, :1, :1]], extents=((3, 3), (5, 10), (0, 10)), Unit="nm")
    with bp.open_source(path) as source:
        assert source.metadata.axes == ("y", "x")
        assert source.metadata.origin == (5.0, 0.0)
        assert source.metadata.units == ("nanometer", "nanometer")
        np.testing.assert_array_equal(source[...], IMAGE[0, 0, 0])
    # Its chunks have more planes than it has.
    np.testing.assert_array_equal(bp.copy(path, tmp_path / "a.ome.zarr")[...], IMAGE[0, 0, 0])


@pytest.mark.parametrize(("compression", "road"), [("gzip", "verbatim"), ("lzf", "recode")])
def test_all_levels_are_copied(compression: str, road: str, tmp_path: Path) -> None:
    levels = halved(IMAGE, 2)
    path, out = write_ims(tmp_path / "a.ims", levels, compression=compression), tmp_path / "a.ome.zarr"
    planned = bp.plan(path, out)
    assert planned.road == road
    assert "1 image, 3 levels" in str(planned)
    made = bp.copy(path, out, num_workers=2)
    assert made.metadata.channel_colors == ("00FF00", "FF0080")
    assert check_ome_zarr(out) == "Image"
    assert bp.check(out)
    for n, voxels in enumerate(levels):
        level = bp.open_source(out, str(n))
        np.testing.assert_array_equal(level[...], voxels)
        assert level.metadata.voxel_size == pytest.approx(bp.open_source(path, level=n).metadata.voxel_size)
    with pytest.warns(BioimagePyWarning, match="dtype can be applied to the full-size array only: 2 levels"):
        bp.copy(path, tmp_path / "b.ome.zarr", dtype="uint32")
    assert main(["copy", str(path), str(tmp_path / "c.ome.zarr"), "--verify", "--quiet"]) == 0
    assert list_ome_zarr(tmp_path / "c.ome.zarr")[0].levels == ("0", "1", "2")
    assert main(["copy", str(path), str(tmp_path / "d.npy"), "--level", "1", "--quiet"]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "d.npy"), levels[1])


def test_datasets_of_an_imaris_file_have_their_names(ims: Path) -> None:
    key = "DataSet/ResolutionLevel 1/TimePoint 0/Channel 1/Data"
    np.testing.assert_array_equal(bp.open_source(f"{ims}:{key}")[:5, :17, :20], halved(IMAGE)[1][0, 1])
    with pytest.raises(ReadOnlyError, match="Imaris can only be read"):
        bp.open_source(ims, mode="r+")
    with pytest.raises(SourceNotFoundError, match=r"3 resolution levels, .* no level 3"):
        bp.open_source(ims, level=3)


def _without(key: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(key)


def _saying(key: str, name: str, text: str) -> Callable[[h5py.File], None]:
    return lambda file: file[key].attrs.__setitem__(name, characters(text))


def _small(file: h5py.File) -> None:
    group = file["DataSet/ResolutionLevel 0/TimePoint 1/Channel 1"]
    del group["Data"]
    group["Data"] = np.zeros((4, 4, 4), "uint16")


_FIRST = "DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"


@pytest.mark.parametrize(
    ("damage", "error", "text"),
    [
        (
            _without("DataSet"),
            UnsupportedFormatError,
            "is not an Imaris 5.5 file: it has no group DataSet/Res",
        ),
        (_without("DataSet/ResolutionLevel 1"), StorageError, "no ResolutionLevel 1, but ResolutionLevel 2"),
        (_without("DataSet/ResolutionLevel 0/TimePoint 0"), StorageError, "no TimePoint 0, but TimePoint 1"),
        (
            _without("DataSet/ResolutionLevel 0/TimePoint 1/Channel 1"),
            SourceNotFoundError,
            "has no .*Channel 1",
        ),
        (_saying(_FIRST, "ImageSizeX", "1000"), StorageError, r"should have at least \(11, 35, 1000\)"),
        (_saying(_FIRST, "ImageSizeX", "many"), StorageError, "does not say how large level 0 is.*'many'"),
        (_small, StorageError, r"TimePoint 1/Channel 1/Data' has shape \(4, 4, 4\)"),
    ],
)
def test_damaged_imaris_files(
    damage: Callable[[h5py.File], None], error: type[BioimagePyError], text: str, ims: Path
) -> None:
    with h5py.File(ims, "r+") as file:
        damage(file)
    with pytest.raises(error, match=text):
        bp.open_source(ims)


SETUPS = [[IMAGE[0, 0], None, IMAGE[1, 0]], [IMAGE[0, 1], IMAGE[1, 1], IMAGE[1, 1]]]


@pytest.mark.parametrize("kind", ["hdf5", "n5"])
def test_setups_of_bigdataviewer(kind: str, tmp_path: Path) -> None:
    path = write_bdv(tmp_path / "a.xml", SETUPS, kind)
    with pytest.raises(AmbiguousSourceError, match="holds 2 setups: 0, 1"):
        bp.open_source(path)
    with bp.open_source(path, "angle 0") as source:
        assert source.dtype == "uint16"
        assert source.metadata.voxel_size == (1.0, 2.0, 0.5, 0.5)
        assert source.metadata.units == (None, *("micrometer",) * 3)
        assert source.metadata.attributes["bdv"]["transforms"] == ["1 0 0 5 0 1 0 0 0 0 4 0"]
        np.testing.assert_array_equal(source[...], np.stack([IMAGE[0, 0], 0 * IMAGE[0, 0], IMAGE[1, 0]]))
    assert main(["info", str(path)]) == 0
    bp.copy(path, tmp_path / "all.ome.zarr", num_workers=2)
    assert [image.levels for image in list_ome_zarr(tmp_path / "all.ome.zarr")] == [
        ("0/0", "0/1"),
        ("1/0", "1/1"),
    ]
    coarse = bp.open_source(tmp_path / "all.ome.zarr", "1/1")
    np.testing.assert_array_equal(coarse[...], np.stack([one[::2, ::2, ::2] for one in SETUPS[1] if one is not None]))  # fmt: skip
    assert coarse.metadata.origin == (0.0, 1.0, 0.25, 0.25)
    assert bp.check(tmp_path / "all.ome.zarr")
    assert main(["copy", f"{path}:1", str(tmp_path / "one.ome.zarr"), "--quiet"]) == 0
    assert list_ome_zarr(tmp_path / "one.ome.zarr")[0].levels == ("0", "1")


@pytest.mark.parametrize("data_type", ["int16", b"int16", b"uint16"])
def test_signed_voxels_of_bigdataviewer_are_said_to_be(data_type: str | bytes, tmp_path: Path) -> None:
    voxels = IMAGE[0, 0].view("int16")
    path = write_bdv(tmp_path / "a.xml", [[voxels]], data_type=data_type)
    expected = voxels.view("uint16") if data_type == b"uint16" else voxels
    np.testing.assert_array_equal(bp.open_source(path)[...], expected, strict=True)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("SpimData", "OME", "is not an XML file of BigDataViewer: its element is 'OME'"),
        ("<Spim", "<<", "cannot be read as an XML file"),
        ("a.h5", "../a.h5", "outside of the folder"),
        ("a.h5", "b.h5", "there is no file"),
        (
            'format="bdv.hdf5"',
            'format="spimreconstruction.stack"',
            "of the format 'spimreconstruction.stack'",
        ),
        ("<last>2<", "<last>3<", "has no 't00003/s00/0/cells'"),
        ("<last>2<", "<last>999999999<", "more than 1048576 time points"),
        ("<id>0<", "<id>7<", "does not say by how much levels"),
    ],
)
def test_damaged_files_of_bigdataviewer(old: str, new: str, text: str, tmp_path: Path) -> None:
    path = write_bdv(tmp_path / "a.xml", SETUPS[:1])
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(BioimagePyError, match=text):
        bp.open_source(path)


def test_time_points_are_listed_or_a_pattern(tmp_path: Path) -> None:
    path = write_bdv(tmp_path / "a.xml", SETUPS[:1])
    text = path.read_text(encoding="utf-8")
    begin, end = text.index("<Timepoints"), text.index("<MissingViews")
    for said, times in (
        ('type="pattern"><integerpattern>0-4:2, 7</integerpattern>', (0, 2, 4, 7)),
        ('type="list"><timepoint id="0"><id>3</id></timepoint>', (3,)),
    ):
        path.write_text(f"{text[:begin]}<Timepoints {said}</Timepoints>{text[end:]}", encoding="utf-8")
        assert read_bdv(str(path)).times == times
