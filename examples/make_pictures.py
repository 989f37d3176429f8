"""Make the pictures in docs/pictures from images that are made up: a stack, its labels, two channels, and a stained section.

    python examples/make_pictures.py docs/pictures

The same pixels every time. It takes some ten seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import bioimage_py as bp
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import NumpySource

Array = np.ndarray[Any, np.dtype[Any]]
SHAPE = (60, 360, 440)
VOXEL_SIZE_UM = (1.0, 0.25, 0.25)


def blurred(image: Array, sigmas: tuple[float, ...]) -> Array:
    """Return an image convolved with a Gaussian, as by the optics of a microscope; edges wrap around."""
    spectrum = np.fft.rfftn(image)
    for axis, sigma in enumerate(sigmas):
        is_last = axis == image.ndim - 1
        frequency = np.fft.rfftfreq(image.shape[axis]) if is_last else np.fft.fftfreq(image.shape[axis])
        response = np.exp(-2 * (np.pi * frequency * sigma) ** 2)
        spectrum *= response.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    return np.fft.irfftn(spectrum, image.shape, axes=range(image.ndim))


def tissue(n_cells: int = 70) -> tuple[Array, Array]:
    """Return labels of cells that touch, and of their nuclei."""
    rng = np.random.default_rng(3)
    centres: list[Array] = []
    extent = np.array(SHAPE) * VOXEL_SIZE_UM
    while len(centres) < n_cells:
        candidate = rng.uniform(0.02, 0.98, 3) * extent
        if all(np.linalg.norm(candidate - other) > 13 for other in centres):
            centres.append(candidate)
    grid = np.meshgrid(
        *(np.arange(n, dtype="float32") * s for n, s in zip(SHAPE, VOXEL_SIZE_UM, strict=True)),
        indexing="ij",
        sparse=True,
    )
    wobble = blurred(rng.normal(0, 1, SHAPE), (4, 16, 16))
    wobble *= 1.6 / wobble.std()
    nearest = np.full(SHAPE, np.inf, "float32")
    cells, nuclei = np.zeros(SHAPE, "uint16"), np.zeros(SHAPE, "uint16")
    for label, centre in enumerate(centres, start=1):
        stretch = rng.uniform(0.8, 1.25, 3)
        distance = np.sqrt(sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, stretch, strict=True)))
        distance = distance + wobble
        closer = distance < nearest
        nearest[closer] = distance[closer]
        cells[closer & (distance < 11)] = label
        nuclei[closer & (distance < 4.6)] = label
    return cells, nuclei


def recorded(light: Array, rng: np.random.Generator, photons: float, offset: float = 100) -> Array:
    """Return what a camera makes of light between 0 and 1: blur, shot noise, read-out noise."""
    sharp = blurred(light, (1.2, 1.4, 1.4)).clip(0)
    counts = rng.poisson(sharp * photons) * 12 + rng.normal(offset, 8, light.shape)
    return counts.clip(0, 65535).astype("uint16")


def channels(cells: Array, nuclei: Array) -> Array:
    """Return membranes and nuclei as two channels."""
    rng = np.random.default_rng(5)
    edges = np.zeros(cells.shape, bool)
    for axis in range(3):
        edges |= cells != np.roll(cells, 1, axis)
    membrane = edges * (0.75 + 0.25 * blurred(rng.normal(0, 30, cells.shape), (1, 6, 6)).clip(-1, 1))
    chromatin = (nuclei > 0) * (0.6 + 0.4 * blurred(rng.normal(0, 25, cells.shape), (1, 3, 3)).clip(-1, 1))
    brightness = rng.uniform(0.5, 1.0, int(nuclei.max()) + 1)
    return np.stack([recorded(membrane, rng, 260), recorded(chromatin * brightness[nuclei], rng, 160)])


def section(shape: tuple[int, int] = (520, 760)) -> Array:
    """Return a stained section: pink fibres, purple nuclei, and pale gaps, as red, green and blue."""
    rng = np.random.default_rng(11)
    fibres = blurred(rng.normal(0, 1, shape), (2.5, 14))
    fibres = (fibres / fibres.std()).clip(-2.5, 2.5) / 5 + 0.5
    gaps = blurred(rng.normal(0, 1, shape), (22, 30))
    gaps = 1 / (1 + np.exp(-6 * (gaps / gaps.std() - 1.1)))
    purple = np.zeros(shape)
    y, x = np.ogrid[: shape[0], : shape[1]]
    for _ in range(330):
        cy, cx = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        long, short, angle = rng.uniform(7, 11), rng.uniform(4, 6), rng.normal(0, 0.5)
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        across = -(x - cx) * np.sin(angle) + (y - cy) * np.cos(angle)
        radius = np.hypot(along / long, across / short)
        purple = np.maximum(purple, rng.uniform(0.7, 1) / (1 + np.exp(9 * (radius.clip(0, 5) - 1))))
    grain = blurred(rng.normal(0, 1, shape), (1.2, 1.2))
    purple = (purple * (1 + 0.2 * grain / grain.std())).clip(0, 1) * (1 - gaps)
    pink = (0.25 + 0.75 * fibres) * (1 - gaps) * (1 - 0.5 * purple)
    absorbed = np.exp(-pink[..., None] * (0.12, 0.95, 0.35) - 1.25 * purple[..., None] * (0.9, 1.1, 0.3))
    noisy = 244 * absorbed + rng.normal(0, 2.5, (*shape, 1))
    return noisy.clip(0, 255).astype("uint8")


def write(folder: str) -> None:
    """Write all pictures into a folder."""
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    cells, nuclei = tissue()
    both = channels(cells, nuclei)
    zyx = {"axes": "zyx", "voxel_size": VOXEL_SIZE_UM, "units": "um"}
    stack = bp.with_metadata(both[1], **zyx)
    bp.preview(stack, place / "volume.png", size=360, overwrite=True)
    bp.preview(stack, place / "projection.png", size=360, projection="max", overwrite=True)
    bp.preview(bp.with_metadata(cells, **zyx), place / "labels.png", size=360, kind="labels", overwrite=True)
    two = ImageMetadata(
        axes=("c", "z", "y", "x"),
        voxel_size=(1.0, *VOXEL_SIZE_UM),
        units=(None, "micrometer", "micrometer", "micrometer"),
        channel_names=("membrane", "nuclei"),
        channel_colors=("FF00FF", "00FF00"),
    )
    bp.preview(NumpySource(both, two), place / "channels.png", size=280, overwrite=True)
    slide = bp.with_metadata(section(), axes="yxc", voxel_size=0.5, units="um")
    bp.preview(slide, place / "section.png", size=440, overwrite=True)


if __name__ == "__main__":
    write(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")
