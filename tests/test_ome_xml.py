"""The OME-XML of an OME-TIFF in the OME-Zarr that is made of it, and in copies of containers that have one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.sources import open_source
from bioimage_py.sources.ome_zarr import check_ome_zarr, list_ome_zarr
from bioimage_py.storage import StoreFolder
from tests.s3_lab import s3_lab
from tests.sources.ome_trees import several_images

KEPT = "OME/METADATA.ome.xml"
VOXELS = np.arange(2 * 3 * 16 * 16, dtype="uint16").reshape(2, 3, 16, 16)
SAID: dict[str, Any] = {
    "axes": "CZYX",
    "Name": "embryo",
    "PhysicalSizeX": 0.5,
    "PhysicalSizeZ": 2.0,
    "Channel": {"Name": ["dna", "actin"]},
}
SPACE = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "in.ome.tif", VOXELS, metadata=SAID, photometric="minisblack")
    return tmp_path / "in.ome.tif"


def kept_in(path: Any) -> ET.Element:
    text = StoreFolder.at(str(path)).read(KEPT)
    assert text is not None
    return ET.fromstring(text)


def children(pixels: ET.Element) -> list[str]:
    return [child.tag.removeprefix(SPACE) for child in pixels]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_of_an_ome_tiff(tiff: Path, tmp_path: Path, zarr_format: int) -> None:
    out = tmp_path / "out.ome.zarr"
    bp.pyramid(tiff, out, levels=2, zarr_format=zarr_format)
    (image,) = kept_in(out).findall(f"{SPACE}Image")
    (pixels,) = image.findall(f"{SPACE}Pixels")
    assert (image.get("Name"), pixels.get("PhysicalSizeZ"), pixels.get("SizeZ")) == ("embryo", "2.0", "3")
    assert [one.get("Name") for one in pixels.findall(f"{SPACE}Channel")] == ["dna", "actin"]
    assert children(pixels) == ["Channel", "Channel", "MetadataOnly"]
    assert (out / KEPT).read_text().splitlines()[1].startswith("<OME ")
    assert check_ome_zarr(out) == "Image"
    bp.copy(out, tmp_path / "again.ome.zarr")
    assert (tmp_path / "again.ome.zarr" / KEPT).read_bytes() == (out / KEPT).read_bytes()


def test_ome_types_reads_it(tiff: Path, tmp_path: Path) -> None:
    ome_types = pytest.importorskip("ome_types", reason="ome-types is not installed")
    bp.copy(tiff, tmp_path / "out.ome.zarr")
    found = ome_types.from_xml((tmp_path / "out.ome.zarr" / KEPT).read_text())
    assert [channel.name for channel in found.images[0].pixels.channels] == ["dna", "actin"]
    assert found.images[0].pixels.metadata_only is not None


def test_of_one_image_of_several(tmp_path: Path) -> None:
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(VOXELS[0], metadata={"axes": "ZYX", "Name": "first"}, photometric="minisblack")
        writer.write(VOXELS[0, :2], metadata={"axes": "ZYX", "Name": "second"}, photometric="minisblack")
    bp.copy(open_source(path, "1"), tmp_path / "out.ome.zarr")
    (image,) = kept_in(tmp_path / "out.ome.zarr").findall(f"{SPACE}Image")
    assert image.get("Name") == "second"


def test_only_where_it_is_about_these_voxels(tiff: Path, tmp_path: Path) -> None:
    from bioimage_py.wrapper import RoiSource

    out = tmp_path / "out.ome.zarr"
    bp.copy(bp.with_metadata(tiff, voxel_size=(3, 1, 1), units="um"), out)
    assert kept_in(out)
    bp.copy(RoiSource(open_source(tiff), (0,), squeeze=True), out, overwrite=True)
    assert not (out / KEPT).exists()
    assert check_ome_zarr(out) == "Image"
    bp.copy(tiff, out, overwrite=True)
    assert kept_in(out)
    bp.copy(tiff, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr/OME").exists()
    bp.copy(VOXELS, tmp_path / "b.ome.zarr", axes="czyx")
    assert not (tmp_path / "b.ome.zarr/OME").exists()


def test_what_others_put_there_stays(tiff: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    bp.copy(tiff, out)
    (out / "OME/notes.txt").write_text("mine")
    with pytest.raises(bp.BioimagePyError, match=r"OME/notes\.txt"):
        bp.copy(tiff, out, overwrite=True)
    assert (out / "OME/notes.txt").read_text() == "mine"
    assert kept_in(out)


def test_on_s3(tiff: Path, tmp_path: Path) -> None:
    several_images(tmp_path / "several.ome.zarr")
    with s3_lab():
        bp.copy(tiff, "s3://lab/image.ome.zarr")
        assert kept_in("s3://lab/image.ome.zarr").find(f"{SPACE}Image") is not None
        bp.copy(tmp_path / "several.ome.zarr", "s3://lab/several.ome.zarr")
        bp.copy("s3://lab/several.ome.zarr", "s3://other/moved.ome.zarr")
        for path in ("s3://lab/several.ome.zarr", "s3://other/moved.ome.zarr"):
            folder = StoreFolder.at(path)
            assert folder.read(KEPT) == b"<OME>by hand</OME>"
            assert [image.key for image in list_ome_zarr(path)] == ["1", "0"]
            stored = folder.child("OME").read_json("zarr.json")
            assert stored is not None
            assert stored["attributes"]["ome"]["series"] == ["1", "0"]
        bp.copy("s3://other/moved.ome.zarr", tmp_path / "back.ome.zarr")
        assert (tmp_path / "back.ome.zarr" / KEPT).read_text() == "<OME>by hand</OME>"
