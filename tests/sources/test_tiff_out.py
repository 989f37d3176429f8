"""TIFFs that are written here, read back by tifffile and by our own reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.errors import (
    BioimagePyError,
    BioimagePyWarning,
    InvalidArgumentError,
    OutputExistsError,
    ReadOnlyError,
    RunnerError,
    StorageError,
)
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import NumpySource, Source, create_output, open_source

from .contract import WritableSourceContract

RNG = np.random.default_rng(0)
VOXELS = RNG.integers(0, 500, (2, 3, 4, 60, 70)).astype("uint16")
METADATA = ImageMetadata(
    axes=tuple("tczyx"),
    voxel_size=(0.5, 1.0, 2.0, 0.25, 0.3),
    units=("second", None, "micrometer", "micrometer", "micrometer"),
    origin=(0.0, 0.0, 10.0, 0.0, 5.0),
    channel_names=("DAPI", "GFP", "a <b>"),
    channel_colors=("0000FF", "00FF00", "FF00FF"),
)


class TestTiles(WritableSourceContract):
    dtype = "uint16"

    def make(self, array: np.ndarray, folder: Path) -> Source:
        tifffile.imwrite(folder / "a.tif", array, tile=(16, 16), metadata={"axes": "ZYX"}, ome=True)
        return open_source(folder / "a.tif")

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return create_output(folder / "a.tif", shape=shape, dtype=dtype, chunks=(1, 16, 16))


class TestHyperstack(TestTiles):
    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        return create_output(folder / "a.tif", shape=shape, dtype=dtype, imagej=True)


CASES: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("uint8", {"codec": "deflate"}, (1, 1, 1, 32, 32)),
    ("uint16", {"codec": "zstd:5"}, (1, 1, 1, 16, 48)),
    ("int16", {"codec": "lzw"}, (1, 1, 1, 32, 128)),
    ("uint32", {"codec": "none"}, (1, 1, 1, 60, 70)),
    ("int8", {"codec": {"name": "zlib", "level": 9, "predictor": False}}, (1, 1, 1, 16, 16)),
    ("int32", {"codec": "gzip"}, (1, 1, 1, 64, 64)),
    ("float32", {"codec": {"name": "deflate", "predictor": True}}, (1, 1, 1, 32, 32)),
    ("float64", {}, (1, 1, 1, 32, 32)),
]


@pytest.mark.parametrize(("dtype", "options", "chunks"), CASES)
def test_tifffile_reads_what_was_written(
    dtype: str,
    options: dict[str, Any],
    chunks: tuple[int, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if dtype == "int16":
        monkeypatch.setattr("bioimage_py.sources.tiff.new_file._CLASSIC", 1000)
    voxels = VOXELS.astype(dtype)
    with bp.copy(voxels, tmp_path / "a.ome.tif", chunks=chunks, num_workers=3, **options) as made:
        np.testing.assert_array_equal(made[...], voxels)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.is_bigtiff == (dtype == "int16")
        assert (file.series[0].axes, file.series[0].kind, len(file.series)) == ("TCZYX", "ome", 1)
        np.testing.assert_array_equal(file.asarray(), voxels)
    np.testing.assert_array_equal(open_source(tmp_path / "a.ome.tif")[...], voxels)


@pytest.mark.parametrize("imagej", [None, True])
def test_metadata_come_back(imagej: bool | None, tmp_path: Path) -> None:
    image = NumpySource(VOXELS, METADATA)
    if imagej:
        with pytest.warns(BioimagePyWarning, match="no place for channel_names"):
            made = bp.copy(image, tmp_path / "a.tif", imagej=imagej)
    else:
        made = bp.copy(image, tmp_path / "a.tif")
    assert made.shape == VOXELS.shape
    np.testing.assert_array_equal(made[...], VOXELS)
    found = open_source(tmp_path / "a.tif")
    order = [0, 2, 1, 3, 4] if imagej else [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(found[...], VOXELS.transpose(order))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), VOXELS.transpose(order))
    metadata = found.metadata
    for name in ("axes", "voxel_size", "units", "origin"):
        kept = getattr(METADATA, name)
        assert getattr(metadata, name) == pytest.approx(tuple(kept[n] for n in order)), name
    assert metadata.channel_colors == METADATA.channel_colors
    assert metadata.channel_names == (None if imagej else METADATA.channel_names)


def test_what_else_an_ome_tiff_says_is_kept(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "in.ome.tif") as tiff:
        said = {
            "axes": "CTZYX",
            "Channel": {"Name": ["a", "b", "c"], "Fluor": ["Alexa 488"] * 3},
            "Description": "of a fly",
        }
        tiff.write(VOXELS.swapaxes(0, 1), metadata=said, photometric="minisblack")
    bp.copy(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif", overwrite=True)
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        np.testing.assert_array_equal(file.asarray(), VOXELS)
        assert file.series[0].axes == "TCZYX"
        assert file.ome_metadata.count('Fluor="Alexa 488"') == 3  # type: ignore[union-attr]
        assert "of a fly" in file.ome_metadata  # type: ignore[operator]
    assert open_source(tmp_path / "out.ome.tif").metadata.channel_names == ("a", "b", "c")


def test_axes_are_put_into_order(tmp_path: Path) -> None:
    bp.copy(VOXELS[0, 0], tmp_path / "a.tif", axes="xzy", voxel_size=(3, 1, 2), units="um")
    found = open_source(tmp_path / "a.tif")
    assert found.metadata.axes == ("z", "y", "x")
    assert found.metadata.voxel_size == (1, 2, 3)
    np.testing.assert_array_equal(found[...], VOXELS[0, 0].transpose(1, 2, 0))


def test_levels_are_in_one_file(tmp_path: Path) -> None:
    levels = bp.pyramid(NumpySource(VOXELS, METADATA), tmp_path / "a.ome.tif", chunks=(1, 1, 1, 16, 16))
    shapes = [(2, 3, 4, 60, 70), (2, 3, 4, 30, 35), (2, 3, 4, 15, 18), (2, 3, 4, 8, 9)]
    assert [level.shape for level in levels] == shapes
    wanted = bp.pyramid(
        NumpySource(VOXELS, METADATA), tmp_path / "a.ome.zarr", scale_factors=[(1, 1, 1, 2, 2)] * 3
    )
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert len(file.series) == 1
        for found, level in zip(file.series[0].levels, wanted, strict=True):
            np.testing.assert_array_equal(found.asarray(), level[...])
    second = open_source(tmp_path / "a.ome.tif", level=1)
    assert second.metadata.voxel_size == pytest.approx((0.5, 1, 2, 0.5, 0.6))
    with pytest.raises(InvalidArgumentError, match="z cannot be reduced"):
        bp.pyramid(VOXELS, tmp_path / "b.ome.tif", scale_factors=[(1, 1, 2, 2, 2)])
    assert not (tmp_path / "b.ome.tif").exists()


def test_levels_of_an_image_are_kept(tmp_path: Path) -> None:
    zarr, path = tmp_path / "a.ome.zarr", tmp_path / "a.ome.tif"
    steps = [(1, 1, 1, 2, 2), (1, 1, 1, 2, 2), (1, 1, 2, 2, 2)]
    levels = bp.pyramid(NumpySource(VOXELS, METADATA), zarr, scale_factors=steps, chunks=(1, 1, 2, 32, 32))
    bp.pyramid(VOXELS.astype("uint32"), zarr / "labels" / "cells", axes="tczyx")
    with pytest.warns(BioimagePyWarning) as caught:
        made = bp.copy(zarr, path, chunks=(1, 1, 1, 32, 32), num_workers=2)
    said = " ".join(str(warning.message) for warning in caught)
    assert "levels of shape (2, 3, 2, 8, 9) are left out" in said
    assert "labels/cells" in said
    np.testing.assert_array_equal(made[...], VOXELS)
    bp.copy(path, tmp_path / "b.ome.tif", codec="zstd")
    for name in ("a.ome.tif", "b.ome.tif"):
        with tifffile.TiffFile(tmp_path / name) as file:
            assert len(file.series) == 1
            for found, level in zip(file.series[0].levels, levels[:3], strict=True):
                np.testing.assert_array_equal(found.asarray(), level[...])


def test_what_is_left_out_is_the_fill_value_and_can_be_written_later(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with bp.copy(
        VOXELS, path, chunks=(1, 1, 1, 32, 32), block_ids=[1], block_shape=(1, 3, 4, 60, 70), fill_value=7
    ):
        pass
    expected = np.where(np.arange(2).reshape(2, 1, 1, 1, 1) == 1, VOXELS, 7)
    np.testing.assert_array_equal(tifffile.imread(path), expected)
    with open_source(path, mode="r+") as there:
        bp.copy(VOXELS, there, block_ids=[0], block_shape=(1, 3, 4, 60, 70))
        with open_source(path, mode="r+") as other, pytest.raises(OutputExistsError, match="being written"):
            other[0] = 1
    np.testing.assert_array_equal(tifffile.imread(path), VOXELS)


def test_a_failed_run_is_gone_on_with(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "in.tif", VOXELS[0, 0], compression="zlib", rowsperstrip=60, photometric="minisblack"
    )
    with tifffile.TiffFile(tmp_path / "in.tif") as file:
        place, n = file.pages[2].dataoffsets[0], file.pages[2].databytecounts[0]
    whole = (tmp_path / "in.tif").read_bytes()
    (tmp_path / "in.tif").write_bytes(whole[:place] + bytes(n) + whole[place + n :])
    with pytest.raises(RunnerError) as caught:
        bp.copy(tmp_path / "in.tif", tmp_path / "out.tif", axes="zyx", block_shape=(1, 60, 70))
    assert caught.value.failed_block_ids == [2]
    (tmp_path / "in.tif").write_bytes(whole)
    with open_source(tmp_path / "out.tif", mode="r+") as there:
        assert not np.any(there[2])
        bp.copy(tmp_path / "in.tif", there, block_ids=[2], block_shape=(1, 60, 70))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), VOXELS[0, 0])


REFUSED: list[tuple[Any, str, dict[str, Any], str]] = [
    (VOXELS > 3, "a.tif", {}, "cannot hold dtype bool.*dtype='uint8'"),
    (VOXELS.astype("int64"), "a.tif", {}, "cannot hold dtype int64"),
    (VOXELS.astype("uint32"), "a.tif", {"imagej": True}, "hyperstack cannot hold dtype uint32"),
    (VOXELS[None], "a.tif", {}, "this array has 6"),
    (VOXELS[0], "a.tif", {"axes": "nzyx"}, "this array has 4: n, z, y, x"),
    (VOXELS[:0], "a.tif", {}, "array without voxels"),
    (VOXELS, "a.tif", {"chunks": (1, 1, 2, 32, 32)}, "cannot be tiles"),
    (VOXELS, "a.tif", {"chunks": (1, 1, 1, 20, 32)}, "cannot be tiles"),
    (VOXELS, "a.tif", {"codec": "blosc"}, "choose one of deflate, zstd, lzw, none"),
    (VOXELS, "a.tif", {"codec": "lzw:3"}, "level of codec 'lzw' cannot be given"),
    (VOXELS, "a.tif", {"codec": "zstd:99"}, "is 1 to 22"),
    (VOXELS, "a.tif", {"imagej": True, "codec": "zstd"}, "neither tiles nor compression"),
    (VOXELS, "a.zarr", {"imagej": True}, "imagej is for TIFF"),
    (VOXELS, "none/a.tif", {}, "there is no folder"),
    (VOXELS, "text.tif", {"overwrite": True}, "never replaced"),
    (VOXELS, "there.tif", {}, "overwrite=True"),
    (VOXELS, "s3://bucket/a.tif", {}, "local files only"),
    (VOXELS, "a.tif", {"job_type": "subprocess"}, "one writing process"),
]


@pytest.mark.parametrize(("voxels", "name", "options", "message"), REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(
    voxels: Any, name: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "text.tif").write_text("my notes")
    tifffile.imwrite(tmp_path / "there.tif", VOXELS[0, 0, 0])
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for verb in (bp.plan, bp.copy):
        with pytest.raises(BioimagePyError, match=message):
            verb(voxels, name if "://" in name else tmp_path / name, **options)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("shape", [(16, 16), (3, 64, 32), (2, 512, 512), (1, 1, 1), (1, 3, 1, 40, 1)])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_planes_of_one_tile(shape: tuple[int, ...], codec: str, tmp_path: Path) -> None:
    voxels = RNG.integers(0, 9, shape).astype("uint8")
    with bp.copy(voxels, tmp_path / "a.tif", codec=codec, num_workers=2) as made:
        np.testing.assert_array_equal(made[...], voxels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif").squeeze(), voxels.squeeze())
    bp.copy(voxels, tmp_path / "b.tif", codec=codec, chunks=shape if voxels.ndim < 3 else None)
    np.testing.assert_array_equal(open_source(tmp_path / "b.tif")[...].squeeze(), voxels.squeeze())


def test_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="leave out the key"):
        create_output(tmp_path / "a.tif", key="raw", shape=(4, 5), dtype="uint8")


def test_only_own_files_are_opened_for_writing(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", VOXELS[0, 0, 0], tile=(16, 16))
    with pytest.raises(ReadOnlyError, match="made by another program"):
        open_source(tmp_path / "a.tif", mode="r+")
    with bp.copy(VOXELS[0, 0], tmp_path / "a.tif", overwrite=True) as made:
        made.close()
        with pytest.raises(StorageError, match="closed"):
            made[0]
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), VOXELS[0, 0])


def test_the_command_writes_and_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bioimage_py.cli import main

    np.save(tmp_path / "a.npy", VOXELS[0, 0])
    made = str(tmp_path / "a.tif")
    assert (
        main(
            [
                "copy",
                str(tmp_path / "a.npy"),
                made,
                "--imagej",
                "--axes",
                "zyx",
                "--verify",
                "--voxel-size",
                "2,1,1",
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["info", "--json", made]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "imagej tiff"
