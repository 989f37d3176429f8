"""What is assumed of files that do not say it: told by `info`, by plans, and once when it is written."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.errors import AssumptionWarning
from bioimage_py.metadata import ImageMetadata, assumptions
from bioimage_py.sources import NumpySource, open_source
from bioimage_py.wrapper import RoiSource
from tests.cli.conftest import Call, call

__all__ = ["call"]

VOXELS = np.arange(5 * 32 * 32, dtype="uint16").reshape(5, 32, 32)
IMAGEJ: dict[str, Any] = {"imagej": True, "resolution": (4, 4)}


def said_of(source: Any) -> list[str]:
    return [str(hint) for hint in assumptions(source.metadata, source.shape)]


def warned(verb: Any, *arguments: Any, **options: Any) -> list[str]:
    """Return the text of each hint of the one warning that a call issues; none without a warning."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        verb(*arguments, **options)
    found = [one.message for one in seen if isinstance(one.message, AssumptionWarning)]
    assert len(found) <= 1
    return [str(hint) for one in found for hint in one.hints]


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """An ImageJ stack that says how far pixels are apart, and nothing of its slices."""
    tifffile.imwrite(tmp_path / "flat.tif", VOXELS, metadata={"unit": "um", "axes": "ZYX"}, **IMAGEJ)
    return tmp_path / "flat.tif"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Pages of which nothing is said."""
    tifffile.imwrite(tmp_path / "bare.tif", VOXELS, photometric="minisblack", metadata=None)
    return tmp_path / "bare.tif"


Z_IS_ONE = "the voxel size along z is not known and taken as 1: state it with voxel_size and units"
ALL_IS_ONE = "the voxel size is not known and taken as 1: state it with voxel_size and units"
PAGES = "its pages do not say what they are and are taken for z: state the axes with axes='zyx'"


def test_sources_say_it(flat: Path, bare: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VOXELS)
    tifffile.imwrite(
        tmp_path / "whole.tif", VOXELS, metadata={"unit": "um", "axes": "ZYX", "spacing": 2}, **IMAGEJ
    )
    assert said_of(open_source(flat)) == [Z_IS_ONE]
    assert said_of(open_source(bare)) == [PAGES, ALL_IS_ONE]
    assert said_of(open_source(tmp_path / "whole.tif")) == []
    axes = "its axes have no names and are taken as z, y, x: state them with axes='zyx'"
    assert said_of(open_source(tmp_path / "a.npy")) == [axes, ALL_IS_ONE]


def test_slices_channels_and_sections(tmp_path: Path) -> None:
    (tmp_path / "slices").mkdir()
    for n in range(3):
        tifffile.imwrite(tmp_path / f"slices/s{n}.tif", VOXELS[n])
        tifffile.imwrite(tmp_path / f"slices/Z{n}.tiff", VOXELS[n])
    unnamed, named = open_source(tmp_path / "slices", "*.tif"), open_source(tmp_path / "slices", "*.tiff")
    assert said_of(unnamed)[0].startswith("names of files do not say along which axis the slices lie")
    assert said_of(unnamed)[0].endswith("taken as z, y, x: state them with axes='zyx'")
    assert said_of(named) == [ALL_IS_ONE]
    tifffile.imwrite(
        tmp_path / "samples.tif", np.zeros((16, 16, 4), "u1"), photometric="minisblack", planarconfig="contig"
    )
    assert (
        "taken for channels, c: state the axes with axes='yxc'"
        in said_of(open_source(tmp_path / "samples.tif"))[0]
    )
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((16, 16, 3), "u1"), photometric="rgb")
    assert said_of(open_source(tmp_path / "rgb.tif")) == [ALL_IS_ONE]
    for name, what, axes in (("a.mrc", "one volume", "zyx"), ("a.mrcs", "a stack of images", "nyx")):
        with mrcfile.new(tmp_path / name) as made:
            made.set_data(VOXELS.astype("f4"))
            made.set_image_stack()
            made.voxel_size = 2.0
        (found,) = said_of(open_source(tmp_path / name))
        assert what in found
        assert f"axes={axes!r}" in found


def test_what_the_user_states_is_not_assumed(flat: Path, bare: Path) -> None:
    assert said_of(open_source(flat, voxel_size=(1, 0.25, 0.25), units="um")) == []
    unit = "the unit of the voxel size along z is not known: state it with units"
    assert said_of(open_source(flat, voxel_size=(1, 0.25, 0.25))) == [unit]
    assert said_of(open_source(bare, axes="zyx")) == [ALL_IS_ONE]
    assert said_of(open_source(bare, axes="tyx", voxel_size=1, units="nm")) == []
    assert said_of(bp.with_metadata(open_source(bare, axes="zyx"), voxel_size=2, units="nm")) == []
    assert said_of(RoiSource(open_source(flat), (slice(0, 1),))) == []  # of one slice it does not matter


def test_it_is_told_once_where_it_is_written(flat: Path, bare: Path, tmp_path: Path) -> None:
    assert warned(bp.copy, flat, tmp_path / "a.ome.zarr") == [Z_IS_ONE]
    assert warned(bp.copy, flat, tmp_path / "a.zarr") == [Z_IS_ONE]
    assert warned(bp.copy, bare, tmp_path / "b.ome.zarr") == [PAGES, ALL_IS_ONE]
    assert warned(bp.copy, bare, tmp_path / "b.n5") == [PAGES]  # which need not say a size
    assert warned(bp.copy, bare, tmp_path / "b.npy") == []
    assert warned(bp.copy, bare) == []
    assert warned(bp.copy, VOXELS, tmp_path / "c.ome.zarr") == []
    assert warned(bp.copy, flat, tmp_path / "d.ome.zarr", voxel_size=(1, 0.25, 0.25), units="um") == []
    assert warned(bp.copy, bare, tmp_path / "g.ome.zarr", axes="zyx", voxel_size=1) == []
    unit = "the unit of the voxel size is not known: state it with units"
    assert warned(bp.copy, bare, tmp_path / "e.precomputed", axes="zyx", voxel_size=1) == [unit]
    assert warned(open_source, bare) == []
    assert warned(bp.plan, bare, tmp_path / "e.ome.zarr") == []
    assert warned(bp.pyramid, flat, tmp_path / "f.ome.zarr") == [Z_IS_ONE]


def test_labels_or_image(tmp_path: Path) -> None:
    labels, image = NumpySource(VOXELS.astype("u4")), NumpySource(VOXELS)
    taken = "its voxels are uint32 and taken for labels; if they are not, give kind='image'"
    assert warned(bp.pyramid, labels, tmp_path / "a.ome.zarr") == [taken]
    assert [str(one) for one in bp.pyramid_plan(image, tmp_path / "b.ome.zarr").assumed] == [
        "its voxels are uint16 and taken for an image; if they are not, give kind='labels'"
    ]
    assert warned(bp.pyramid, image, tmp_path / "b.ome.zarr") == []
    for n, said in enumerate([{"kind": "image"}, {"method": "mode"}, {"kind": "labels"}]):
        assert warned(bp.pyramid, labels, tmp_path / f"{n}.ome.zarr", **said) == []
    assert warned(bp.pyramid, labels, tmp_path / "b.ome.zarr/labels/cells") == []


def test_plans_and_the_command_say_it(call: Call, flat: Path, bare: Path, tmp_path: Path) -> None:
    plan = bp.plan(bare, tmp_path / "a.ome.zarr")
    assert f"assumed: {PAGES}\n         {ALL_IS_ONE}" in str(plan)
    assert plan.to_json()["assumed"] == [PAGES, ALL_IS_ONE]
    options = "the voxel size along z is not known and taken as 1: state it with --voxel-size and --units"
    assert f"assumed:    {options}" in call("info", flat).out
    assert call("info", flat, "--json").document["assumed"] == [options]
    assert options in call("plan", flat, tmp_path / "a.ome.zarr").out
    told = call("copy", flat, tmp_path / "a.ome.zarr").err
    assert told.lower().count(options) == 1
    assert (
        call("copy", flat, tmp_path / "b.ome.zarr", "--voxel-size", "2,0.25,0.25", "--units", "um").err == ""
    )


def test_a_wrapper_says_what_its_input_does(flat: Path, tmp_path: Path) -> None:
    assert warned(bp.copy, RoiSource(open_source(flat), (slice(0, 3),)), tmp_path / "a.ome.zarr") == [
        Z_IS_ONE
    ]
    known = NumpySource(VOXELS, ImageMetadata(("z", "y", "x"), (2.0, 1.0, 1.0), ("micrometer",) * 3))
    bp.copy(known, tmp_path / "known.zarr")
    assert warned(bp.copy, tmp_path / "known.zarr", tmp_path / "b.ome.zarr") == []
