"""NIfTI and MRC that are written here, read back by nibabel, mrcfile and our own readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mrcfile
import nibabel
import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.errors import BioimagePyError, BioimagePyWarning, InvalidArgumentError
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import NumpySource, create_output, open_source

VOXELS = np.random.default_rng(0).integers(0, 500, (2, 3, 9, 20, 30)).astype("uint16")
VOLUME = VOXELS[0, 0]
PLACED = NumpySource(
    VOLUME, ImageMetadata(tuple("zyx"), (2.0, 0.5, 0.25), ("micrometer",) * 3, (10.0, 0.0, -3.5))
)


def nifti(path: Path) -> Any:
    return nibabel.load(path)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_nifti(name: str, tmp_path: Path) -> None:
    made = bp.copy(PLACED, tmp_path / name, num_workers=3, block_shape=(7, 8, 4))
    np.testing.assert_array_equal(made[...], VOLUME.T)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    image = nifti(tmp_path / name)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), VOLUME.T)
    assert image.get_data_dtype() == "uint16"
    assert image.header.get_xyzt_units() == ("micron", "unknown")
    np.testing.assert_allclose(image.affine[:3], [[0.25, 0, 0, -3.5], [0, 0.5, 0, 0], [0, 0, 2, 10]])
    found = open_source(tmp_path / name)
    np.testing.assert_array_equal(found[...], VOLUME.T)
    assert found.metadata.axes == ("x", "y", "z")
    assert found.metadata.voxel_size == (0.25, 0.5, 2)
    assert found.metadata.origin == (-3.5, 0, 10)


@pytest.mark.parametrize(
    ("axes", "shape"),
    [("tczyx", (30, 20, 9, 2, 3)), ("zyx", (30, 20, 9)), ("tyx", (30, 20, 1, 9)), (None, (9, 20, 30))],
)
def test_nifti_axes(axes: str | None, shape: tuple[int, ...], tmp_path: Path) -> None:
    voxels = (VOXELS if axes == "tczyx" else VOLUME).astype("float32")
    made = bp.copy(voxels, tmp_path / "a.nii", axes=axes)
    image = nifti(tmp_path / "a.nii")
    turned = voxels if axes is None else voxels.transpose([axes.index(a) for a in "xyztc" if a in axes])
    assert image.shape == shape
    np.testing.assert_array_equal(np.asanyarray(image.dataobj).squeeze(), turned)
    np.testing.assert_array_equal(made[...], turned)


def test_a_large_nifti_has_the_larger_header(tmp_path: Path) -> None:
    bp.copy(np.arange(40_000, dtype="uint16").reshape(2, 20_000)[:, :1].repeat(40_000, 1), tmp_path / "a.nii")
    assert isinstance(nifti(tmp_path / "a.nii"), nibabel.Nifti2Image)
    assert nifti(tmp_path / "a.nii").dataobj[1, 39_999] == 20_000


@pytest.mark.filterwarnings("ignore:.*rotates or shears")
def test_an_affine_is_kept_where_voxels_stay_in_their_place(tmp_path: Path) -> None:
    turned = np.array([[0, -2, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(VOLUME.astype("int16"), turned), tmp_path / "in.nii")  # type: ignore[attr-defined]
    bp.copy(tmp_path / "in.nii", tmp_path / "out.nii")
    np.testing.assert_allclose(nifti(tmp_path / "out.nii").affine, turned)
    with pytest.warns(BioimagePyWarning, match="the affine of the input will not"):
        bp.copy(tmp_path / "in.nii", tmp_path / "other.nii", voxel_size=9)
    np.testing.assert_allclose(
        nifti(tmp_path / "other.nii").affine, [[0, -9, 0, 0], [9, 0, 0, 0], [0, 0, 9, 0], [0, 0, 0, 1]]
    )


@pytest.mark.parametrize("name", ["a.mrc", "a.mrc.gz"])
def test_mrc(name: str, tmp_path: Path) -> None:
    made = bp.copy(PLACED, tmp_path / name, num_workers=3, block_shape=(2, 8, 30))
    np.testing.assert_array_equal(made[...], VOLUME)
    with mrcfile.open(tmp_path / name) as file:
        np.testing.assert_array_equal(file.data, VOLUME)
        assert file.is_volume()
        assert [float(file.voxel_size[n]) for n in "xyz"] == [2500, 5000, 20000]
        assert [float(file.header.origin[n]) for n in "xyz"] == [-35000, 0, 100_000]
    found = open_source(tmp_path / name)
    np.testing.assert_array_equal(found[...], VOLUME)
    assert found.metadata.voxel_size == (20000, 5000, 2500)
    assert found.metadata.units == ("angstrom",) * 3


@pytest.mark.parametrize(
    ("axes", "dtype", "kind"),
    [("yx", "int8", "is_single_image"), ("nyx", "float32", "is_image_stack"), ("zyx", "int16", "is_volume"), ("tzyx", "float16", "is_volume_stack")],
)  # fmt: skip
def test_mrc_axes(
    axes: str, dtype: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voxels = VOXELS[(0,) * (5 - len(axes))].astype(dtype)
    bp.copy(voxels, tmp_path / "a.mrc", axes=axes)
    assert mrcfile.validate(tmp_path / "a.mrc")
    capsys.readouterr()
    with mrcfile.open(tmp_path / "a.mrc") as file:
        assert getattr(file, kind)()
        np.testing.assert_array_equal(file.data, voxels)


def test_blocks_that_are_left_out_are_written_later(tmp_path: Path) -> None:
    bp.copy(VOLUME, tmp_path / "a.mrc", block_ids=[1], block_shape=(3, 20, 30), fill_value=7)
    expected = np.full_like(VOLUME, 7)
    expected[3:6] = VOLUME[3:6]
    np.testing.assert_array_equal(mrcfile.read(tmp_path / "a.mrc"), expected)
    there = open_source(tmp_path / "a.mrc", mode="r+")
    bp.copy(VOLUME, there, block_ids=[0, 2], block_shape=(3, 20, 30))
    np.testing.assert_array_equal(mrcfile.read(tmp_path / "a.mrc"), VOLUME)


REFUSED: list[tuple[Any, str, dict[str, Any], str]] = [
    (VOLUME > 3, "a.nii", {}, "NIfTI cannot hold dtype bool"),
    (VOLUME, "a.mrc", {"dtype": "uint8"}, "MRC cannot hold dtype uint8.*uint16"),
    (VOLUME, "a.nii", {"codec": "zstd"}, "neither compression nor checksums"),
    (VOLUME, "a.nii.gz", {"codec": "zstd"}, "is compressed with gzip"),
    (VOLUME, "a.nii.bz2", {}, "not written block by block"),
    (VOXELS, "a.mrc", {}, "this array has 5"),
    (VOXELS[0], "a.nii", {"axes": "qzyx"}, "has q, z, y, x"),
    (VOLUME[:0], "a.nii", {}, "is not empty"),
    (VOLUME, "a.nii", {"chunks": (1, 5, 5)}, "no chunks"),
    (VOLUME, "a.mrc", {"job_type": "subprocess"}, "one writing process"),
    (VOLUME, "a.mrc", {"imagej": True}, "imagej is for TIFF"),
    (VOLUME, "none/a.mrc", {}, "there is no folder"),
    (VOLUME, "there.nii", {}, "overwrite=True"),
    (VOLUME, "text.mrc", {"overwrite": True}, "never replaced"),
]


@pytest.mark.parametrize(("voxels", "name", "options", "message"), REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(
    voxels: Any, name: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "text.mrc").write_text("my notes")
    bp.copy(VOLUME, tmp_path / "there.nii")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for verb in (bp.plan, bp.copy):
        with pytest.raises(BioimagePyError, match=message):
            verb(voxels, tmp_path / name, **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_has_no_place_is_said(tmp_path: Path) -> None:
    image = NumpySource(VOLUME, ImageMetadata(tuple("zyx"), (2.0, 1.0, 1.0), channel_names=("DAPI",)))
    with pytest.warns(BioimagePyWarning, match="channel_names, the voxel size, which has no unit"):
        bp.copy(image, tmp_path / "a.mrc")
    with pytest.raises(InvalidArgumentError, match="by copy only"):
        create_output(tmp_path / "a.nii.gz", shape=(3, 4), dtype="uint8")
