"""Images as layers, which needs no napari."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from bioimage_py.errors import AmbiguousSourceError, InvalidArgumentError
from bioimage_py.napari import get_reader, open_layers
from bioimage_py.sources import Source, families, with_metadata


def test_a_picture_in_colour_is_one_layer(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 50, 3), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb")
    [(voxels, look, kind)] = open_layers(tmp_path / "a.tif")
    assert (kind, look["rgb"], look["axis_labels"], look["multiscale"]) == ("image", True, ("y", "x"), False)
    assert look["contrast_limits"] == (0, 255)
    np.testing.assert_array_equal(voxels[5:9, :, 0], picture[5:9, :, 0])


def test_channels_of_fortran_like_axes_are_layers_in_the_order_of_napari() -> None:
    array = np.arange(2 * 3 * 4 * 5, dtype="uint16").reshape(5, 4, 3, 2)
    layers = open_layers(with_metadata(array, axes="xyzc", voxel_size=(1, 2, 3), units="nm"))
    assert [look["colormap"] for _, look, _ in layers] == ["#FF00FF", "#00FF00"]
    for channel, (voxels, look, kind) in enumerate(layers):
        assert (kind, look["scale"], look["units"]) == ("image", (3.0, 2.0, 1.0), ("nanometer",) * 3)
        np.testing.assert_array_equal(voxels[...], array[..., channel].T)


@pytest.mark.parametrize("dtype", ["bool", ">u4", "<i8"])
def test_labels_are_integers_of_this_machine(dtype: str) -> None:
    array = np.eye(20).astype(dtype)
    [(voxels, look, kind)] = open_layers(array)
    assert kind == "labels"
    assert voxels.dtype.kind in "iu"
    assert voxels[3:5].dtype.isnative
    np.testing.assert_array_equal(voxels[3:5], array[3:5])
    assert look["units"] == ("pixel", "pixel")


def test_nothing_is_read_of_what_is_not_looked_at(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 700, 600), "uint8"), metadata={"axes": "ZYX"})
    [(levels, look, _)] = open_layers(str(tmp_path / "a.tif"))
    assert look["multiscale"]
    assert all(isinstance(level, Source) for level in levels)
    assert levels[0].shape == (5, 700, 600)
    assert levels[-1].shape[1] < 300


def test_a_container_opens_if_it_holds_a_few_images(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for n in range(3):
            file[f"image{n}"] = np.full((8, 9), n, "uint8")
    layers = open_layers(str(tmp_path / "a.h5"))
    assert [look["name"] for _, look, _ in layers] == ["a.h5/image0", "a.h5/image1", "a.h5/image2"]
    assert [int(voxels[0, 0]) for voxels, _, _ in layers] == [0, 1, 2]
    with h5py.File(tmp_path / "a.h5", "a") as file:
        for n in range(3, 10):
            file[f"image{n}"] = np.zeros((8, 9), "uint8")
    with pytest.raises(AmbiguousSourceError, match="image0"):
        open_layers(str(tmp_path / "a.h5"))


def test_what_cannot_be_shown_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="complex64, which viewers cannot show"):
        open_layers(np.zeros((4, 5), "complex64"))


def test_the_manifest_names_the_endings_of_all_formats() -> None:
    text = files("bioimage_py").joinpath("napari", "napari.yaml").read_text(encoding="utf-8")
    patterns = set(re.findall(r'"\*(\.[^"]+)"', text))
    zipped = {s + z for one in families() if one.zipped for s in one.suffixes for z in (".gz", ".bz2", ".xz")}
    # napari itself reads tables, as points and shapes; XML is rarely an image.
    own = {s for one in families() for s in one.suffixes} - {".csv", ".tsv", ".xml"}
    assert patterns == own | zipped


def test_several_paths_are_left_to_napari() -> None:
    assert get_reader(["a.tif", "b.tif"]) is None
    assert get_reader("a.tif") is open_layers
