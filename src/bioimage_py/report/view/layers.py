"""What a viewer shows of a source: a layer per channel, or one of labels, each served as an OME-Zarr that is nowhere on disk."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, Level, axes_for_ngff, image_attributes, ngff_order
from bioimage_py.planning import choose_levels
from bioimage_py.report.appearance import channel_looks, percentile_limits
from bioimage_py.report.axes import ShownAxes, axis_names, channel_axis, is_color, open_levels
from bioimage_py.sources import FileSource, Source
from bioimage_py.wrapper.resampling import ReducedSource, looks_like_labels
from bioimage_py.wrapper.shape import SelectSource, TransposeSource

_MOST_SHOWN = 4
_SAMPLE_EDGE = 128
_MOST_READ = 64
"""Voxels that are read at most for one voxel of a level that is not stored."""
_SMALL = 128
"""An image whose axes of space are no longer than this needs no smaller copies."""
_CACHE_BYTES = 2**27
_CHUNK_BYTES = 2**17, 2**22
"""A stored chunk between these sizes is sent as it is; smaller ones are too many requests, larger ones too long a wait."""
_CHUNK_VOXELS = 2**18
_CHUNK_KEY = re.compile(r"(\d{1,18})/(\d{1,18}(?:\.\d{1,18})*)", re.ASCII)


@dataclass(frozen=True)
class ViewedLayer:
    """A layer: what is served for it, and how it looks."""

    image: ServedImage
    are_labels: bool
    color: str = "FFFFFF"
    limits: tuple[float, float] = (0.0, 1.0)
    shown: bool = True  # whether it is switched on from the start


def viewed_layers(
    source: Source, are_labels: bool | None, below: Sequence[ViewedLayer], opened: ExitStack
) -> list[ViewedLayer]:
    """Return the layers of a source; `opened` closes what they read when they are not needed any more.

    A source that has no voxel size is placed like the lowest layer.
    """
    if not source.size:
        raise InvalidArgumentError(
            f"there is nothing to view: {source.name} of shape {source.shape} is empty"
        )
    labels = looks_like_labels(source) if are_labels is None else are_labels
    if labels and source.dtype.kind not in "biu":
        raise InvalidArgumentError(f"labels are integers, and {source.name} holds {source.dtype}")
    dtype = _served_dtype(source, are_labels=labels)
    shown = _shown(source)
    known = replace(source.metadata.fitting(source.ndim), axes=shown.names, attributes={})
    if below:
        known = _placed(known, below[0].image.metadata)
    levels = _levels(source, known, are_labels=labels, opened=opened)
    found = []
    for n, look in enumerate(channel_looks(source, shown)):
        metadata, arrays = _of_channel(known, levels, shown.channel_axis, n)
        name = _short_name(source) if shown.n_channels == 1 else f"{_short_name(source)} {look.name}"
        image = ServedImage(name, metadata, arrays, dtype)
        if labels:
            found.append(ViewedLayer(image, are_labels=True, shown=n < _MOST_SHOWN))
        else:
            limits = look.limits or _limits(image, is_rgb=shown.is_rgb)
            found.append(ViewedLayer(image, False, look.color, limits, n < _MOST_SHOWN))
    return found


def _shown(source: Source) -> ShownAxes:
    """Return the part that each axis plays; raise InvalidArgumentError if a viewer cannot show them."""
    named = source.metadata.fitting(source.ndim).axes is not None
    if not named:
        axes_for_ngff(None, source.ndim, source.name)
    names = tuple(name.lower() for name in axis_names(source))
    channel = channel_axis(source, names)
    rest = [name for n, name in enumerate(names) if n != channel]
    axes_for_ngff([rest[n] for n in ngff_order(rest) or range(len(rest))], len(rest), source.name)
    n_channels = 1 if channel is None else source.shape[channel]
    is_rgb = channel is not None and is_color(source, channel)
    return ShownAxes(names, (), {}, channel, tuple(range(n_channels)), n_channels, is_rgb)


def _served_dtype(source: Source, *, are_labels: bool) -> np.dtype[Any]:
    """Return the dtype in which voxels are sent: little-endian, and one that Neuroglancer can show."""
    dtype = source.dtype
    if dtype.kind in "bf":
        return np.dtype({"b": "uint8", "f": "float32"}[dtype.kind])
    if dtype.kind not in "iu":
        raise UnsupportedFormatError(
            f"{source.name} has voxels of dtype {dtype}, which Neuroglancer cannot show: view a wrapper of it that takes the "
            "magnitude, such as SimpleTransformationSource(source, numpy.abs)"
        )
    if are_labels:
        return np.dtype("uint64" if dtype.itemsize == 8 else "uint32")
    # Neuroglancer has no signed integers of 64 bits.
    return np.dtype("float32") if dtype == np.int64 else dtype.newbyteorder("<")


def _placed(metadata: ImageMetadata, like: ImageMetadata) -> ImageMetadata:
    """Return the metadata of an image, placed like another one if it has no voxel size."""
    if like.axes is None or metadata.voxel_size is not None or like.voxel_size is None:
        return metadata
    at = [like.axes.index(axis) if axis in like.axes else None for axis in metadata.axes or ()]
    units, origin = like.units or (None,) * len(like.axes), like.origin or (0.0,) * len(like.axes)
    return replace(
        metadata,
        voxel_size=tuple(1.0 if n is None else like.voxel_size[n] for n in at),
        units=tuple(None if n is None else units[n] for n in at),
        origin=tuple(0.0 if n is None else origin[n] for n in at),
    )


def _of_channel(
    metadata: ImageMetadata, levels: Sequence[tuple[Source, Level]], channel: int | None, index: int
) -> tuple[ImageMetadata, list[tuple[Source, Level]]]:
    """Return one channel, with its axes in the order of OME-NGFF."""
    axes = metadata.axes or ()
    kept = [n for n in range(len(axes)) if n != channel]
    order = ngff_order([axes[n] for n in kept])
    at = [kept[n] for n in order or range(len(kept))]
    found = []
    for source, level in levels:
        array = source if channel is None else SelectSource(source, index, channel)
        array = array if order is None else TransposeSource(array, order)
        offset = None if level.offset is None else tuple(level.offset[n] for n in at)
        found.append((array, replace(level, factors=tuple(level.factors[n] for n in at), offset=offset)))
    picked = metadata.with_axes_selected(at)
    return replace(picked, channel_names=None, channel_colors=None, contrast_limits=None), found


def _limits(image: ServedImage, *, is_rgb: bool) -> tuple[float, float]:
    """Return contrast limits by percentiles in the middle of the coarsest level; a picture in colour has its dtype's range."""
    if is_rgb:
        return 0.0, float(np.iinfo(image.dtype).max)
    coarsest, axes = image.levels[-1], image.metadata.axes or ()
    extents = [
        min(n, _SAMPLE_EDGE if axis in "zyx" else 1) for n, axis in zip(coarsest.shape, axes, strict=True)
    ]
    begin = tuple((n - m) // 2 for n, m in zip(coarsest.shape, extents, strict=True))
    end = tuple(b + m for b, m in zip(begin, extents, strict=True))
    values = coarsest.read(Box(begin, end)).astype(image.dtype, copy=False)
    low, high = percentile_limits([values[..., None]], 0)
    return (low, high) if low < high else (low, low + 1)


def _short_name(source: Source) -> str:
    """Return what a layer is called: the last part of its path, and the key."""
    if not isinstance(source, FileSource):
        return source.format if not source.name else PurePosixPath(source.name).name[-60:]
    name = PurePosixPath(source.path.rstrip("/")).name
    return f"{name}/{source.key}" if source.key else name


def _levels(
    source: Source, metadata: ImageMetadata, *, are_labels: bool, opened: ExitStack
) -> list[tuple[Source, Level]]:
    """Return an image and smaller copies of it, stored or made, tuned for many small reads, each with its place."""
    coarser = open_levels(source, opened)
    places = [Level("", (1.0,) * source.ndim), *(_place(source, level) for level in coarser)]
    twins = [level.for_run(os.cpu_count() or 1, _CACHE_BYTES) for level in (source, *coarser)]
    found = list(zip(twins, places, strict=True))
    if not coarser:
        # Labels are sampled, other voxels averaged.
        method, offset = ("stride", (0.0,) * source.ndim) if are_labels else ("mean", None)
        small = (_SMALL,) * source.ndim
        for made in choose_levels(source.shape, small, metadata.axes or (), metadata.voxel_size)[1:]:
            if math.prod(made.factors) <= _MOST_READ:
                place = Level("", tuple(map(float, made.factors)), offset)
                found.append((ReducedSource(twins[0], made.factors, method), place))
    return found


def _place(full: Source, level: Source) -> Level:
    """Return how a stored level lies in the full size: by the voxel sizes of both, else by their shapes."""
    size, own = full.metadata.voxel_size, level.metadata.voxel_size
    if size is None or own is None:
        return Level("", tuple(float(round(n / m)) for n, m in zip(full.shape, level.shape, strict=True)))
    nowhere = (0.0,) * full.ndim
    at, first = level.metadata.origin or nowhere, full.metadata.origin or nowhere
    factors = tuple(a / b for a, b in zip(own, size, strict=True))
    return Level("", factors, tuple((a - b) / s for a, b, s in zip(at, first, size, strict=True)))


class ServedImage:
    """One layer's image and smaller copies of it, answering for the files of an OME-Zarr 0.4."""

    def __init__(
        self, name: str, metadata: ImageMetadata, levels: Sequence[tuple[Source, Level]], dtype: np.dtype[Any]
    ) -> None:
        self.name = name
        self.metadata = metadata
        self.levels = tuple(source for source, _ in levels)
        self.dtype = dtype
        self._chunks = tuple(_chunk_shape(level, metadata.axes or ()) for level in self.levels)
        places = [replace(level, path=str(n)) for n, (_, level) in enumerate(levels)]
        shape = self.levels[0].shape
        described = image_attributes(metadata, shape, dtype, places, version="0.4", name=name)
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
