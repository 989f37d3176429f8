"""One image of two channels with anisotropic voxels, and its labels, in several formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

import bioimage_py as bp
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import NumpySource

SHAPE = (12, 192, 256)
VOXEL_SIZE = (2.0, 0.5, 0.5)
_UNITS = ("micrometer",) * 3
_OME = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", VOXEL_SIZE, strict=True)} | {
    f"PhysicalSize{axis}Unit": "µm" for axis in "ZYX"
}


def cells(shape: tuple[int, ...] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    """Two channels, and labels: balls that are bright inside, and their hulls."""
    z, y, x = np.indices(shape)
    image, labels = np.full((2, *shape), 100.0), np.zeros(shape, "uint32")
    places = [(3, 50, 60), (8, 60, 180), (6, 130, 110), (5, 145, 210)]
    for number, (at_z, at_y, at_x) in enumerate(places, start=1):
        distance = np.sqrt(((z - at_z) * 4) ** 2 + (y - at_y) ** 2 + (x - at_x) ** 2) / 32
        labels[distance < 0.8] = number
        image[0] += 3000 * np.exp(-((1.4 * distance) ** 2))
        image[1] += 2000 * np.exp(-(((distance - 1) / 0.1) ** 2))
    return image.astype("uint16"), labels


def write_ome_zarr(path: Path) -> Path:
    image, labels = cells()
    metadata = ImageMetadata(
        axes=tuple("czyx"),
        voxel_size=(1.0, *VOXEL_SIZE),
        units=(None, *_UNITS),
        origin=(0.0, 10.0, 20.0, 30.0),
        channel_names=("dna", "actin"),
        channel_colors=("00B4FF", "FF8000"),
        contrast_limits=((100.0, 3000.0), (150.0, 2000.0)),
    )
    bp.pyramid(NumpySource(image, metadata), path, chunks=(1, 4, 64, 64))
    of_labels = ImageMetadata(tuple("zyx"), VOXEL_SIZE, _UNITS, (10.0, 20.0, 30.0))
    bp.pyramid(NumpySource(labels, of_labels), path / "labels" / "nuclei", chunks=(4, 64, 64))
    return path


def write_tiff(path: Path) -> Path:
    image, _ = cells()
    about = {"axes": "CZYX", "Channel": {"Name": ["dna", "actin"]}, **_OME}
    with tifffile.TiffWriter(path) as file:
        file.write(image, subifds=1, tile=(64, 64), photometric="minisblack", metadata=about)
        file.write(image[..., ::2, ::2], subfiletype=1, tile=(64, 64), photometric="minisblack")
    return path


def write_labels(path: Path) -> Path:
    tifffile.imwrite(path, cells()[1], metadata={"axes": "ZYX", **_OME})
    return path


def write_czi(path: Path) -> Path:
    """Write the channels with Zeiss' library."""
    from pylibCZIrw import czi

    image, _ = cells()
    sizes = {f"scale_{axis}": size * 1e-6 for axis, size in zip("zyx", VOXEL_SIZE, strict=True)}
    with czi.create_czi(str(path)) as document:
        for c, z in np.ndindex(image.shape[:2]):
            document.write(image[c, z][..., None], plane={"T": 0, "C": c, "Z": z})
        document.write_metadata("cells", channel_names={0: "dna", 1: "actin"}, **sizes)
    return path
