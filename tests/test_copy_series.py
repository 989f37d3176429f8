"""Files with several images become one OME-Zarr in the layout of bioformats2raw."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.errors import (
    AmbiguousSourceError,
    AssumptionWarning,
    InvalidArgumentError,
    OutputExistsError,
)
from bioimage_py.planning import ImagePlan
from bioimage_py.sources import open_source
from bioimage_py.sources.ome_zarr import check_ome_zarr, list_ome_zarr
from tests.sources.test_ome_zarr_writing import attributes_of

VOXELS = np.arange(2 * 3 * 16 * 16, dtype="uint16").reshape(2, 3, 16, 16)
IMAGES = [VOXELS.transpose(1, 0, 2, 3), VOXELS[0], VOXELS[0, 0] // 7]
SIZES = {f"PhysicalSize{axis}": size for axis, size in zip("XYZ", (0.5, 0.5, 2.0), strict=True)}


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    """Three images: the first has its axes in another order than OME-Zarr."""
    path = tmp_path / "in.ome.tif"
    said: list[dict[str, Any]] = [
        {"axes": "ZCYX", "Name": "first", "Channel": {"Name": ["dna", "actin"]}, **SIZES},
        {"axes": "ZYX", "Name": "second", **SIZES},
        {"axes": "YX", "Name": "third", "PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0},
    ]
    with tifffile.TiffWriter(path, ome=True) as writer:
        for voxels, about in zip(IMAGES, said, strict=True):
            writer.write(voxels, metadata=about, photometric="minisblack")
    return path


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_all_images_are_copied(tiff: Path, tmp_path: Path, zarr_format: int) -> None:
    out = tmp_path / "out.ome.zarr"
    planned = bp.plan(tiff, out, zarr_format=zarr_format)
    assert isinstance(planned, ImagePlan)
    assert [array.key for array in planned.arrays] == ["0/0", "1/0", "2/0"]
    assert "3 images, each with its full-size array, in the layout of bioformats2raw" in str(planned)
    made = bp.copy(tiff, out, zarr_format=zarr_format, num_workers=2)
    assert made.metadata.channel_names == ("dna", "actin")
    for n, voxels in enumerate((VOXELS, *IMAGES[1:])):
        np.testing.assert_array_equal(open_source(out, f"{n}/0")[...], voxels)
        assert check_ome_zarr(out, str(n)) == "Image"
    assert open_source(out, "1").metadata.voxel_size == (2.0, 0.5, 0.5)
    top, order = (attributes_of(folder, zarr_format) for folder in (out, out / "OME"))
    assert top.get("ome", top)["bioformats2raw.layout"] == 3
    assert order.get("ome", order)["series"] == ["0", "1", "2"]
    root = ET.parse(out / "OME/METADATA.ome.xml").getroot()
    assert [one.get("Name") for one in root if one.tag.endswith("Image")] == ["first", "second", "third"]
    # It is a container as any other one.
    bp.copy(out, tmp_path / "again.zarr")
    assert bp.verify(out, tmp_path / "again.zarr").arrays == 3
    with pytest.raises(OutputExistsError, match="is there already"):
        bp.copy(tiff, out)


def test_blocks_that_failed_are_copied_by_another_call(tiff: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    n_blocks = bp.plan(tiff, out).n_blocks  # the two smaller images have one each
    bp.copy(tiff, out, block_ids=[n_blocks - 2])
    assert [open_source(out, f"{n}/0")[...].any() for n in range(3)] == [False, True, False]
    bp.copy(tiff, out, block_ids=[*range(n_blocks - 2), n_blocks - 1])
    for n, voxels in enumerate((VOXELS, *IMAGES[1:])):
        np.testing.assert_array_equal(open_source(out, f"{n}/0")[...], voxels)
    with pytest.raises(InvalidArgumentError, match="codec can be given for a new output only"):
        bp.copy(tiff, out, block_ids=[0], codec="gzip")


def test_in_other_processes(tiff: Path, tmp_path: Path) -> None:
    bp.copy(tiff, tmp_path / "a.ome.zarr")
    bp.copy(tiff, tmp_path / "b.ome.zarr", job_type="subprocess", num_workers=2)
    assert bp.verify(tmp_path / "a.ome.zarr", tmp_path / "b.ome.zarr").arrays == 3


def test_where_one_image_is_meant(tiff: Path, tmp_path: Path) -> None:
    meant: list[tuple[str, dict[str, Any]]] = [
        ("out.zarr", {}),
        ("out.ome.zarr", {"dtype": "uint8"}),
        ("out.ome.zarr/labels/a", {}),
    ]
    for output, options in meant:
        with pytest.raises(AmbiguousSourceError, match="holds 3 series"):
            bp.copy(tiff, tmp_path / output, **options)
    bp.copy(open_source(tiff, "1"), tmp_path / "one.ome.zarr")
    assert list_ome_zarr(tmp_path / "one.ome.zarr")[0].levels == ("0",)
    assert not (tmp_path / "out.ome.zarr").exists()


def test_what_is_assumed_is_said_once(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "in.ome.tif", ome=True) as writer:
        for n in (2, 3):
            writer.write(VOXELS[0, :n], metadata={"axes": "ZYX"}, photometric="minisblack")
    with pytest.warns(AssumptionWarning, match="voxel size is not known") as told:
        bp.copy(tmp_path / "in.ome.tif", tmp_path / "out.ome.zarr")
    assert len(told) == 1


def test_a_plate_keeps_its_wells(tmp_path: Path) -> None:
    """Fields of an OME-TIFF whose OME-XML, written by ome-types, puts them into wells."""
    model = pytest.importorskip("ome_types.model", reason="ome-types is not installed")
    from ome_types import from_tiff

    path, out = tmp_path / "in.ome.tif", tmp_path / "out.ome.zarr"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for n in range(3):
            writer.write(
                VOXELS[0] + n, metadata={"axes": "ZYX", **SIZES}, photometric="minisblack", subifds=1
            )
            writer.write((VOXELS[0] + n)[:, ::2, ::2], subfiletype=1, photometric="minisblack")
    ome = from_tiff(path)
    # The second image comes first, in the second column of row AB.
    wells = [
        model.Well(
            row=r,
            column=1,
            well_samples=[model.WellSample(index=n, image_ref={"id": f"Image:{n}"}) for n in ns],
        )
        for r, ns in ((27, (1,)), (0, (0, 2)))
    ]
    ome.plates.append(model.Plate(name="screen", rows=32, columns=48, wells=wells))
    tifffile.tiffcomment(path, ome.to_xml().encode())
    assert "3 images, 6 levels, in the wells of a plate" in str(bp.plan(path, out))
    bp.copy(path, out, num_workers=2)
    assert [image.key for image in list_ome_zarr(out)] == ["A/2/0", "A/2/1", "AB/2/0"]
    for key, n in (("A/2/0", 0), ("A/2/1", 2), ("AB/2/0", 1)):
        np.testing.assert_array_equal(open_source(out, f"{key}/0")[...], VOXELS[0] + n)
        np.testing.assert_array_equal(open_source(out, f"{key}/1")[...], (VOXELS[0] + n)[:, ::2, ::2])
        assert open_source(out, f"{key}/1").metadata.voxel_size == (2.0, 1.0, 1.0)
    assert attributes_of(out / "OME", 3)["ome"]["series"] == ["A/2/0", "AB/2/0", "A/2/1"]
    models = pytest.importorskip("ome_zarr_models.v05", reason="ome-zarr-models is not installed")
    import zarr

    plate = models.HCS.from_zarr(zarr.open_group(out, mode="r")).ome_attributes.plate
    assert (plate.name, len(plate.rows), len(plate.columns), plate.field_count) == ("screen", 28, 2, 2)
    assert bp.check(out)
    bp.copy(out, tmp_path / "again.zarr")
    assert bp.verify(out, tmp_path / "again.zarr").arrays == 6
