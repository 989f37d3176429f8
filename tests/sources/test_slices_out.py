"""Folders of slices that are written here, read back by other libraries and by our own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.errors import BioimagePyError, BioimagePyWarning
from bioimage_py.sources import open_source

VOXELS = np.random.default_rng(0).integers(0, 500, (2, 3, 4, 30, 40)).astype("uint16")
VOLUME = VOXELS[0, 0]


@pytest.mark.parametrize(
    ("dtype", "options"), [("uint16", {}), ("float32", {"codec": "zstd"}), ("int8", {"codec": "none"}), ("uint8", {"codec": "lzw"})]
)  # fmt: skip
def test_tiff(dtype: str, options: dict[str, Any], tmp_path: Path) -> None:
    voxels = VOLUME.astype(dtype)
    with pytest.warns(BioimagePyWarning, match="no place for voxel size along z"):
        made = bp.copy(
            voxels, tmp_path / "out" / "s{z:03}.tif", num_workers=3, axes="zyx", voxel_size=(2, 0.5, 0.25), units="um", **options
        )  # fmt: skip
    np.testing.assert_array_equal(made[...], voxels)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"s{z:03}.tif" for z in range(4)]
    for z, plane in enumerate(voxels):
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / f"s{z:03}.tif"), plane)
    found = open_source(tmp_path / "out")
    np.testing.assert_array_equal(found[...], voxels)
    assert found.metadata.voxel_size == pytest.approx((1, 0.5, 0.25))


def test_png_with_all_axes(tmp_path: Path) -> None:
    bp.copy(VOXELS, tmp_path / "out" / "t{t}_c{c}_z{z:02}.png", axes="tczyx")
    data = (tmp_path / "out" / "t1_c2_z03.png").read_bytes()
    np.testing.assert_array_equal(imagecodecs.png_decode(data), VOXELS[1, 2, 3])
    found = open_source(tmp_path / "out")
    assert found.metadata.axes == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(found[...], VOXELS)


def test_what_is_left_out_is_the_fill_value(tmp_path: Path) -> None:
    mask = np.zeros(VOLUME.shape, bool)
    mask[1:3, 5:9] = True
    bp.copy(VOLUME, tmp_path / "{z}.tif", mask=mask, block_shape=(1, 30, 40), fill_value=7)
    np.testing.assert_array_equal(open_source(tmp_path, "*.tif")[...], np.where(mask, VOLUME, 7))


def test_old_slices_are_replaced_if_asked_for(tmp_path: Path) -> None:
    bp.copy(VOLUME, tmp_path / "{z}.tif")
    bp.copy(VOLUME + 1, tmp_path / "{z}.tif", overwrite=True)
    np.testing.assert_array_equal(open_source(tmp_path, "*.tif")[...], VOLUME + 1)


REFUSED: list[tuple[Any, str, dict[str, Any], str]] = [
    (VOLUME, "{z}.tif", {}, "4 files that match.*overwrite=True"),
    (VOLUME[:2], "{z}.tif", {"overwrite": True}, "2 files beside those.*'2.tif'"),
    ("1.tif", "{z}.tif", {"overwrite": True, "axes": "yx"}, "have a number for each axis"),
    (VOXELS, "out/{z}.tif", {"axes": "tczyx"}, "does not have t, c"),
    (VOLUME, "out/{z}_{q}.tif", {}, "have a number for each axis of z, y, x"),
    (VOLUME, "out/{z:x}.tif", {}, "have a number"),
    (VOLUME, "out/{z.real}.tif", {}, "have a number"),
    (VOLUME, "out/{}.tif", {}, "have a number"),
    (VOLUME, "out/{z}.png", {"dtype": "float32"}, "PNG cannot hold dtype float32"),
    (VOLUME, "out/{z}.png", {"codec": "zstd"}, "PNG has its own compression"),
    (VOLUME, "out/{z}.jpg", {}, r"written as \.tif or \.png"),
    (VOLUME, "none/out/{z}.tif", {}, "there is no folder"),
    (VOLUME, "out/{z}.tif", {"chunks": (1, 5, 5)}, "leave out chunks"),
    (VOLUME, "out/{z}.tif", {"imagej": True}, "leave out imagej"),
    (VOLUME, "out/{z}.tif", {"job_type": "subprocess"}, "one writing process"),
]


@pytest.mark.parametrize(("voxels", "name", "options", "message"), REFUSED)
@pytest.mark.filterwarnings("ignore::bioimage_py.errors.BioimagePyWarning")
def test_what_cannot_be_is_refused_before_anything_is_written(
    voxels: Any, name: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    bp.copy(VOLUME, tmp_path / "{z}.tif")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for verb in (bp.plan, bp.copy):
        with pytest.raises(BioimagePyError, match=f"(?i){message}"):
            verb(tmp_path / voxels if isinstance(voxels, str) else voxels, tmp_path / name, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_slice_is_not_replaced_while_it_is_read(tmp_path: Path) -> None:
    bp.copy(VOLUME, tmp_path / "{z}.tif")
    with pytest.raises(BioimagePyError, match="lies inside"):
        bp.copy(open_source(tmp_path, "*.tif"), tmp_path / "{z}.tif", overwrite=True)
    tifffile.imwrite(tmp_path / "0.tif", VOLUME, photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(BioimagePyError, match="same array"):
        bp.copy(tmp_path / "0.tif", tmp_path / "{z}.tif", overwrite=True)
