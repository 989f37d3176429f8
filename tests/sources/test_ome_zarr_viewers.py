"""OME-Zarr that is written, through the readers of ome-zarr-py and of napari."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import NumpySource
from bioimage_py.sources.ome_zarr import create_ome_zarr
from tests.sources.contract import textured

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])
SIZE = (1.0, 2.0, 0.5, 0.25)
ORIGIN = (0.0, 10.0, -1.0, 3.0)
SHAPE = (2, 6, 20, 24)
CELLS = textured(SHAPE[1:], "uint8")


@pytest.fixture
def image(tmp_path: Path, zarr_format: int) -> Path:
    """An image of two channels and two levels, with labels."""
    path = tmp_path / "out.ome.zarr"
    metadata = ImageMetadata(
        axes=tuple("czyx"),
        voxel_size=SIZE,
        units=(None, *("micrometer",) * 3),
        origin=ORIGIN,
        channel_names=("dna", "actin"),
        channel_colors=("0000FF", "00FF00"),
        contrast_limits=((10, 4000), (0, 65535)),
    )
    source = NumpySource(textured(SHAPE, "uint16"), metadata)
    levels = create_ome_zarr(path, like=source, levels=[(1, 1, 2, 2)], zarr_format=zarr_format)
    levels[0][...] = source[...]
    labels = create_ome_zarr(
        path / "labels/cells",
        like=CELLS,
        levels=[(1, 2, 2)],
        zarr_format=zarr_format,
        voxel_size=SIZE[1:],
        units="um",
    )
    labels[0][...] = CELLS
    return path


@FORMATS
def test_ome_zarr_py(image: Path) -> None:
    pytest.importorskip("ome_zarr", reason="ome-zarr is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of that library, about itself
        from ome_zarr.io import parse_url
        from ome_zarr.reader import Reader

        location = parse_url(str(image))
        assert location is not None
        pixels, _labels, *cells = list(Reader(location)())
    assert [level.shape for level in pixels.data] == [SHAPE, (2, 6, 10, 12)]
    np.testing.assert_array_equal(pixels.data[0], bp.open_source(image)[...])
    assert [axis["name"] for axis in pixels.metadata["axes"]] == list("czyx")
    full, half = pixels.metadata["coordinateTransformations"]
    assert full == [
        {"type": "scale", "scale": list(SIZE)},
        {"type": "translation", "translation": list(ORIGIN)},
    ]
    assert half[0]["scale"] == [1.0, 2.0, 1.0, 0.5]
    assert half[1]["translation"] == [0.0, 10.0, -0.75, 3.125]
    assert pixels.metadata["channel_names"] == ["dna", "actin"]
    assert pixels.metadata["contrast_limits"] == [[10, 4000], [0, 65535]]
    np.testing.assert_array_equal(cells[0].data[0], CELLS)


@FORMATS
def test_napari_ome_zarr(image: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of napari, about what it imports
        reader = pytest.importorskip(
            "napari_ome_zarr",
            reason="napari-ome-zarr is not installed: it brings all of napari, some 60 packages",
        )
        read = reader.napari_get_reader(str(image))
        assert read is not None
        pixels, cells = read(str(image))
    data, about, kind = pixels
    assert kind == "image"
    assert [level.shape for level in data] == [SHAPE, (2, 6, 10, 12)]
    assert about["channel_axis"] == 0
    scale, place = _scale_and_place(about)
    assert scale == list(SIZE[1:])
    # Releases from 0.9 on take the first transformation of the full-size level only, which is its scale.
    release = tuple(int(part) for part in version("napari-ome-zarr").split(".")[:2])
    assert place == (list(ORIGIN[1:]) if release < (0, 9) else [0.0, 0.0, 0.0])
    assert [name.rpartition(": ")[2] for name in about["name"]] == ["dna", "actin"]
    assert about["contrast_limits"] == [[10, 4000], [0, 65535]]
    data, about, kind = cells
    assert kind == "labels"
    assert len(data) == 2
    assert _scale_and_place(about)[0] == list(SIZE[1:])
    np.testing.assert_array_equal(data[0], CELLS)


def _scale_and_place(about: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Where napari puts a layer, whichever way the release of the reader says it."""
    scale = np.asarray(about.get("scale", 1.0), float)
    if "affine" not in about:
        return scale.tolist(), list(about.get("translate", [0.0] * len(scale)))
    affine = about["affine"]
    return (scale * affine.scale).tolist(), affine.translate.tolist()
