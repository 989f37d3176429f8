"""An image as a browser asks for it: any source, dressed up as an OME-Zarr whose chunks are read when they are wanted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, Level, image_attributes
from bioimage_py.sources import Source

_CHUNK_BYTES = 2**17, 2**22
"""A stored chunk between these sizes is sent as it is; smaller ones are too many requests, larger ones too long a wait."""
_VOXELS = 2**18
_CHUNK_KEY = re.compile(r"(\d{1,18})/(\d{1,18}(?:\.\d{1,18})*)", re.ASCII)
_AS_SENT = {"b": "uint8", "f": "float32"}


def served_dtype(dtype: np.dtype[Any], name: str, *, are_labels: bool) -> np.dtype[Any]:
    """Return the dtype in which voxels are sent: little-endian, and one that Neuroglancer can show.

    Raises
    ------
    UnsupportedFormatError
        For complex voxels.
    """
    if dtype.kind in _AS_SENT:
        return np.dtype(_AS_SENT[dtype.kind])
    if dtype.kind not in "iu":
        raise UnsupportedFormatError(
            f"{name} has voxels of dtype {dtype}, which Neuroglancer cannot show: view a wrapper of it that takes the magnitude, "
            "such as SimpleTransformationSource(source, numpy.abs)"
        )
    if are_labels:
        return np.dtype("uint64" if dtype.itemsize == 8 else "uint32")
    # Neuroglancer knows no signed integers of 64 bits.
    return np.dtype("float32") if dtype == np.int64 else dtype.newbyteorder("<")


class ServedImage:
    """One layer's image, answering for the files of an OME-Zarr 0.4 that is nowhere on disk.

    Parameters
    ----------
    name
        What it is called.
    metadata
        Of the full size; the axes are as OME-NGFF has them, without channels.
    levels
        The image, and smaller copies of it, each with how it lies in the full size.
    dtype
        In which voxels are sent, as `served_dtype` returns it.
    """

    def __init__(
        self, name: str, metadata: ImageMetadata, levels: Sequence[tuple[Source, Level]], dtype: np.dtype[Any]
    ) -> None:
        self.name = name
        self.metadata = metadata
        self.levels = tuple(source for source, _ in levels)
        self.dtype = dtype
        axes = metadata.axes or ()
        self._chunks = tuple(_chunk_shape(level, axes) for level in self.levels)
        places = [replace(level, path=str(n)) for n, (_, level) in enumerate(levels)]
        first = self.levels[0]
        described = image_attributes(metadata, first.shape, dtype, places, version="0.4", name=name)
        self._files: dict[str, Any] = {".zgroup": {"zarr_format": 2}, ".zattrs": described}
        for number, (level, chunks) in enumerate(zip(self.levels, self._chunks, strict=True)):
            self._files[f"{number}/.zarray"] = {
                "zarr_format": 2,
                "shape": list(level.shape),
                "chunks": list(chunks),
                "dtype": dtype.str,
                "compressor": None,
                "filters": None,
                "fill_value": 0,
                "order": "C",
                "dimension_separator": ".",
            }

    def answer(self, path: str) -> bytes | None:
        """Return the content of a file, or None where there is none.

        Raises
        ------
        StorageError
            If the source cannot be read.
        """
        if path in self._files:
            return json.dumps(self._files[path]).encode()
        match = _CHUNK_KEY.fullmatch(path)
        if match is None or int(match[1]) >= len(self.levels):
            return None
        return self._chunk(int(match[1]), tuple(int(n) for n in match[2].split(".")))

    def _chunk(self, number: int, index: tuple[int, ...]) -> bytes | None:
        level, chunks = self.levels[number], self._chunks[number]
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


def _chunk_shape(source: Source, axes: Sequence[str]) -> tuple[int, ...]:
    """Return the chunks in which an array is sent: the stored ones where they are of a good size, else near cubes."""
    if source.chunks is not None:
        n_bytes = math.prod(source.chunks) * source.dtype.itemsize
        flat = source.ndim > 2 and sorted(source.chunks)[-3] == 1 and sorted(source.shape)[-3] > 1
        if _CHUNK_BYTES[0] <= n_bytes <= _CHUNK_BYTES[1] and not flat:
            return source.chunks
    space = [n for n, axis in enumerate(axes) if axis in "zyx"]
    edge = round(_VOXELS ** (1 / max(1, len(space))))
    return tuple(max(1, min(n, edge)) if axis in space else 1 for axis, n in enumerate(source.shape))
