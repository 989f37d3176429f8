"""OME-Zarr groups made by zarr-python with metadata written by hand, as other programs write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

AXES = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
SHAPE = (4, 8, 8)


def datasets(count: int, paths: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The entries of so many levels, each half as large in y and x as the one before."""
    return [
        {
            "path": str(n) if paths is None else paths[n],
            "coordinateTransformations": [{"type": "scale", "scale": [2.0, 0.5 * 2**n, 0.5 * 2**n]}],
        }
        for n in range(count)
    ]


def wrapped(version: str, content: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a group as a version of OME-NGFF has them."""
    return {"ome": {"version": "0.5", **content}} if version == "0.5" else content


def group(path: Path, version: str, content: dict[str, Any]) -> Any:
    """A new group with attributes."""
    zarr_format: Any = 3 if version == "0.5" else 2
    return zarr.open_group(path, mode="a", zarr_format=zarr_format, attributes=wrapped(version, content))


def image(
    path: Path, version: str = "0.5", levels: int = 2, value: int = 1, dtype: str = "u1", **content: Any
) -> None:
    """A new image whose full-size voxels are `value`, and those of coarser levels 1 more each."""
    entry: dict[str, Any] = {"name": "by hand", "axes": AXES, "datasets": datasets(levels)}
    if version == "0.4":
        entry["version"] = "0.4"
    made = group(path, version, {"multiscales": [entry], **content})
    for n in range(levels):
        shape = (SHAPE[0], SHAPE[1] >> n, SHAPE[2] >> n)
        names: Any = {"dimension_names": tuple("zyx")} if version == "0.5" else {}
        made.create_array(str(n), data=np.full(shape, value + n, dtype), chunks=(2, 4, 4), **names)
