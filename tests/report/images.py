"""Images with something in a place that is known, and what is needed to find it in a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.report.preview import Panel, Picture
from bioimage_py.sources import NumpySource, Source


def described(
    array: np.ndarray, axes: str, size: Any = None, unit: str | None = "micrometer", **more: Any
) -> Source:
    """An array with metadata."""
    units = tuple(unit if a in "zyx" else None for a in axes)
    return NumpySource(array, ImageMetadata(tuple(axes), size, units if size else None, **more))


def inside(picture: Picture, number: int = 0) -> np.ndarray:
    """The pixels of a panel, as they are on the page."""
    panel: Panel = picture.panels[number]
    height, width = panel.size
    return picture.pixels[panel.top : panel.top + height, panel.left : panel.left + width]


def bright_box(pixels: np.ndarray) -> tuple[float, float, float, float]:
    """Where bright pixels begin and end, as shares of height and width: top, bottom, left, right."""
    rows, columns = np.nonzero(pixels.max(axis=2) > 127)
    height, width = pixels.shape[:2]
    return rows.min() / height, (rows.max() + 1) / height, columns.min() / width, (columns.max() + 1) / width


def pyramid(
    path: Path, shape: tuple[int, ...] = (64, 512, 512), levels: int = 4, dtype: str = "uint16"
) -> Path:
    """An OME-Zarr in chunks of 32³ voxels, whose voxels are 1000 in full size and 100 more in each coarser level.

    The upper half of each level, along y, is 0.
    """
    datasets: list[dict[str, Any]] = []
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    for n in range(levels):
        scale = [0.5 * 2**n] * 3
        datasets.append({"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group = zarr.open_group(path, mode="w", zarr_format=3, attributes={"ome": ome})
    for n in range(levels):
        extents = tuple(max(1, extent >> n) for extent in shape)
        made = group.create_array(str(n), shape=extents, chunks=(32, 32, 32), dtype=dtype)
        made[:, extents[1] // 2 :] = 1000 + 100 * n
    return path


@contextmanager
def counted_reads() -> Iterator[list[tuple[str, Box]]]:
    """Every region that is read while the block lasts, with the name of what it was read from."""
    reads: list[tuple[str, Box]] = []
    plain = Source.read

    def read(self: Source, box: Box) -> Any:
        reads.append((self.name, box))
        return plain(self, box)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Source, "read", read)
        yield reads
