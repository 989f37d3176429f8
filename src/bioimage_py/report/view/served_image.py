"""A layer served as an OME-Zarr that is nowhere on disk."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.geometry import Box
from bioimage_py.metadata import image_attributes
from bioimage_py.report.layers import Layer
from bioimage_py.sources import Source

_CHUNK_BYTES = 2**17, 2**22
"""A stored chunk between these sizes is sent as it is; smaller ones are too many requests, larger ones too long a wait."""
_CHUNK_VOXELS = 2**18
_CHUNK_KEY = re.compile(r"(\d{1,18})/(\d{1,18}(?:\.\d{1,18})*)", re.ASCII)


class ServedImage:
    """One layer's image and smaller copies of it, answering for the files of an OME-Zarr 0.4."""

    def __init__(self, layer: Layer) -> None:
        metadata = layer.metadata
        dtype = _served_dtype(layer.source.dtype, are_labels=layer.are_labels)
        self.layer = layer
        self.levels = tuple(source for source, _ in layer.levels)
        self.dtype = dtype
        self._chunks = tuple(_chunk_shape(level, metadata.axes or ()) for level in self.levels)
        places = [replace(level, path=str(n)) for n, (_, level) in enumerate(layer.levels)]
        shape = self.levels[0].shape
        described = image_attributes(metadata, shape, dtype, places, version="0.4", name=layer.name)
        self._files: dict[str, Any] = {".zgroup": {"zarr_format": 2}, ".zattrs": described}
        for number, (level, chunks) in enumerate(zip(self.levels, self._chunks, strict=True)):
            about = {
                "zarr_format": 2,
                "shape": level.shape,
                "chunks": chunks,
                "dtype": dtype.str,
                "order": "C",
            }
            no_filters = {"compressor": None, "filters": None, "fill_value": 0, "dimension_separator": "."}
            self._files[f"{number}/.zarray"] = about | no_filters

    def answer(self, path: str) -> bytes | None:
        """Return the content of a file, None if it does not exist. Raises StorageError if the source cannot be read."""
        if path in self._files:
            return json.dumps(self._files[path]).encode()
        match = _CHUNK_KEY.fullmatch(path)
        if match is None or int(match[1]) >= len(self.levels):
            return None
        level, chunks = self.levels[int(match[1])], self._chunks[int(match[1])]
        index = [int(n) for n in match[2].split(".")]
        begin = tuple(i * c for i, c in zip(index, chunks, strict=False))
        if len(index) != level.ndim or any(b >= n for b, n in zip(begin, level.shape, strict=True)):
            return None
        end = tuple(min(b + c, n) for b, c, n in zip(begin, chunks, level.shape, strict=True))
        box = Box(begin, end)
        values: AnyArray = level.read(box).astype(self.dtype, copy=False)
        if box.shape != chunks:  # the last chunk of an axis is sent whole too
            whole = np.zeros(chunks, self.dtype)
            whole[box.relative_to(begin).slices] = values
            values = whole
        return values.tobytes()


def _served_dtype(dtype: np.dtype[Any], *, are_labels: bool) -> np.dtype[Any]:
    """Return the dtype in which voxels are sent: little-endian, and one that Neuroglancer can show."""
    if dtype.kind in "bf":
        return np.dtype({"b": "uint8", "f": "float32"}[dtype.kind])
    if are_labels:
        return np.dtype("uint64" if dtype.itemsize == 8 else "uint32")
    # Neuroglancer has no signed integers of 64 bits.
    return np.dtype("float32") if dtype == np.int64 else dtype.newbyteorder("<")


def _chunk_shape(source: Source, axes: Sequence[str]) -> tuple[int, ...]:
    """Return the chunks in which an array is sent: the stored ones where they are of a good size, else near cubes."""
    if source.chunks is not None:
        n_bytes = math.prod(source.chunks) * source.dtype.itemsize
        flat = source.ndim > 2 and sorted(source.chunks)[-3] == 1 and sorted(source.shape)[-3] > 1
        if _CHUNK_BYTES[0] <= n_bytes <= _CHUNK_BYTES[1] and not flat:
            return source.chunks
    space = [n for n, axis in enumerate(axes) if axis in "zyx"]
    edge = round(_CHUNK_VOXELS ** (1 / max(1, len(space))))
    return tuple(max(1, min(n, edge)) if axis in space else 1 for axis, n in enumerate(source.shape))
