"""Which part of an input a command takes, and on which scale: --crop, --channel, --time-points, --level, --scale-to."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.sources import open_source
from tests.cli.conftest import Call

CHANNELS = ["DAPI", "GFP", "RFP"]
VOXELS = (np.arange(2 * 3 * 6 * 20 * 30) % 4999).astype("uint16").reshape(2, 3, 6, 20, 30)


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    sizes = {f"PhysicalSize{axis}": size for axis, size in (("Z", 2.0), ("Y", 0.5), ("X", 0.5))}
    units = {f"PhysicalSize{axis}Unit": "µm" for axis in "ZYX"}
    about = {"axes": "TCZYX", **sizes, **units, "Channel": {"Name": CHANNELS, "Color": [255, 65535, -1]}}
    tifffile.imwrite(tmp_path / "movie.ome.tif", VOXELS, metadata=about)
    return tmp_path / "movie.ome.tif"


def test_a_part_keeps_voxel_size_place_and_channels(call: Call, movie: Path, tmp_path: Path) -> None:
    for channels, names, index in (("RFP,0", ("RFP", "DAPI"), [2, 0]), ("1,2", ("GFP", "RFP"), [1, 2])):
        out = tmp_path / f"{index[0]}.zarr"
        part = ("--crop", "-4:-1,:,10:", "--channel", channels, "--time-points", "-1")
        assert call("copy", movie, out, *part).code == 0
        with open_source(out) as made, open_source(movie) as whole:
            assert np.array_equal(made[...], VOXELS[-1:, index][:, :, -4:-1, :, 10:])
            assert made.metadata.channel_names == names
            assert made.metadata.channel_colors == tuple(
                (whole.metadata.channel_colors or ())[n] for n in index
            )
            assert (made.metadata.voxel_size or ())[2:] == (2.0, 0.5, 0.5)
            assert (made.metadata.origin or ())[2:] == (4.0, 0.0, 5.0)
        words = [f"{word}-a" if word.startswith("--") else word for word in part]
        assert call("verify", movie, out, *words).code == 0
    assert call("plan", movie, tmp_path / "z.zarr", "--crop", "z=3,x=:5", "--json").document["output"]["shape"] == [
        2, 3, 1, 20, 5,
    ]  # fmt: skip


def test_a_scale_by_numbers_and_by_percentiles(call: Call, movie: Path, tmp_path: Path) -> None:
    def expected(low: float, high: float) -> np.ndarray:
        return np.rint(np.clip((VOXELS.astype(float) - low) / (high - low), 0, 1) * 255).astype("uint8")

    by_numbers = call("copy", movie, tmp_path / "a.zarr", "--scale-to", "uint8", "--range", "-100,4000")
    assert by_numbers.code == 0
    assert np.array_equal(open_source(tmp_path / "a.zarr")[...], expected(-100, 4000))
    low, high = np.percentile(VOXELS, (1, 99), method="inverted_cdf")
    scale = ("--scale-to", "uint8", "--range", "1%,99%")
    measured = call("copy", movie, tmp_path / "b.zarr", *scale, "--job-type", "subprocess", "-j", 1)
    assert f"range of {movie}: {low:g} to {high:g}" in measured.out
    assert np.array_equal(open_source(tmp_path / "b.zarr")[...], expected(low, high))
    assert call("info", movie, *scale, "--json").document["range"] == [low, high]


def test_a_level_of_any_format(call: Call, tmp_path: Path) -> None:
    bp.pyramid(VOXELS[0, 0], tmp_path / "image.ome.zarr", levels=2, axes="zyx", voxel_size=1)
    with open_source(tmp_path / "image.ome.zarr", "1") as smaller:
        found = call("info", tmp_path / "image.ome.zarr", "--level", 1, "--json").document
        assert tuple(found["shape"]) == smaller.shape
    copied = call("copy", tmp_path / "image.ome.zarr", tmp_path / "out.ome.zarr", "--crop", "z=0:2")
    assert "levels and labels are left out" in copied.err
    wrong = call("info", tmp_path / "image.ome.zarr", "--level", 2)
    assert (wrong.code, "has no level 2: it has levels 0 to 1" in wrong.err) == (2, True)


def test_axes_that_the_input_lacks_can_be_named(call: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VOXELS[0, 0])
    words = (tmp_path / "a.npy", tmp_path / "b.zarr", "--axes", "zyx", "--voxel-size", 1, "--crop", "x=:10")
    assert call("copy", *words).code == 0
    rest = call(
        "copy", *words, "--into-existing", "--block-ids", 0
    )  # as the command is told that copies the rest
    assert (rest.code, rest.err) == (0, "")
    assert np.array_equal(open_source(tmp_path / "b.zarr")[...], VOXELS[0, 0, :, :, :10])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--crop 0:7,:,:", "is outside of"),
        ("--crop z=3:3", "leaves no voxel"),
        ("--crop 1:2,1:2", "which has 5 axes (t, c, z, y, x)"),
        ("--crop z=0:1,z=1:2", "each once"),
        ("--crop c=0:2 --channel 1", "both choose along the axis 'c'"),
        ("--crop 1:9:2", "takes ranges such as"),
        ("--crop q=1", "its axes are t, c, z, y, x"),
        ("--channel 3", "no channel 3; there are DAPI, GFP, RFP"),
        ("--channel Cy5", "no channel Cy5; there are DAPI, GFP, RFP"),
        ("--time-points 0:5", "is outside of"),
        ("--scene 4", "it has: 0"),
        ("--range 1,9", "--range needs --scale-to"),
        ("--range 9,1 --scale-to uint8", "the lower one first"),
        ("--range 0%,101% --scale-to uint8", "the lower one first"),
        ("--range 0 9 --scale-to uint8", "as one word: --range 0,9"),
    ],
)
def test_a_part_that_is_not_there(
    call: Call, movie: Path, tmp_path: Path, options: str, message: str
) -> None:
    found = call("copy", movie, tmp_path / "out.zarr", *options.split())
    assert (found.code, message in found.err) == (2, True), found.err
    assert not (tmp_path / "out.zarr").exists()


def test_clip_saturates_where_a_cast_would_wrap(call: Call, movie: Path, tmp_path: Path) -> None:
    planned = call("plan", movie, tmp_path / "a.zarr", "--dtype", "uint8")
    assert "uint8 cannot hold all values of uint16: they are 0 to 65535 at most" in planned.out
    clipped = call("copy", movie, tmp_path / "a.zarr", "--dtype", "uint8", "--clip", "-j", 2)
    assert (clipped.code, clipped.err) == (0, "")
    wanted = np.minimum(VOXELS, 255).astype("uint8")
    assert np.array_equal(open_source(tmp_path / "a.zarr")[...], wanted)
    assert (
        call("pyramid", movie, tmp_path / "b.ome.zarr", "--dtype", "uint8", "--clip", "--levels", 2).code == 0
    )
    assert np.array_equal(open_source(tmp_path / "b.ome.zarr", "0")[...], wanted)
    volume = VOXELS[0, 0].astype("float32").T
    image = nibabel.Nifti1Image(volume, np.eye(4))
    image.header["cal_min"], image.header["cal_max"] = 10, 4000
    nibabel.save(image, tmp_path / "c.nii")
    assert (
        "the metadata show 10 to 4000"
        in call("plan", tmp_path / "c.nii", tmp_path / "c.npy", "--dtype", "uint8").out
    )
    assert call("copy", tmp_path / "c.nii", tmp_path / "d.nii").err == ""
    header = nibabel.load(tmp_path / "d.nii").header
    assert (float(header["cal_min"]), float(header["cal_max"])) == (10, 4000)
