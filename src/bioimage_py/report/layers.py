"""The layers of a viewer that images are shown as: one per channel, or labels, each with its levels and how it looks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError, UnsupportedFormatError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, Level, axes_for_ngff, ngff_order
from bioimage_py.planning import choose_levels
from bioimage_py.report.appearance import channel_looks, percentile_limits
from bioimage_py.report.axes import (
    ShownAxes,
    axis_names,
    channel_axis,
    is_color,
    open_levels,
    stored_source,
)
from bioimage_py.sources import FileSource, Source, as_source, place_of_level
from bioimage_py.sources.ome_zarr import labels_beside
from bioimage_py.wrapper.resampling import ReducedSource, looks_like_labels
from bioimage_py.wrapper.shape import SelectSource, TransposeSource

_MOST_SHOWN = 4
_SAMPLE_EDGE = 128
_MOST_READ = 64
"""Voxels that are read at most for one voxel of a level that is not stored."""
_SMALL = 128
"""An image whose axes of space are no longer than this needs no smaller copies."""
_CACHE_BYTES = 2**27


@dataclass(frozen=True)
class Layer:
    """One channel of an image, or labels, or a picture in colour.

    Attributes
    ----------
    name
        Of the file, and of the channel where there are several.
    metadata
        Of the full size: axes in the order of OME-NGFF and what is known per axis.
    levels
        The image and smaller copies of it, each with its place in the full size.
    source
        The image that the layer is a part of.
    are_labels
        Whether the voxels are numbers of objects.
    is_rgb
        Whether the last axis, which the metadata do not count, holds red, green and blue.
    color
        Six hexadecimal digits.
    limits
        The values that are black and full colour.
    shown
        Whether it is switched on from the start.
    """

    name: str
    metadata: ImageMetadata
    levels: tuple[tuple[Source, Level], ...]
    source: Source
    are_labels: bool = False
    is_rgb: bool = False
    color: str = "FFFFFF"
    limits: tuple[float, float] = (0.0, 1.0)
    shown: bool = True


def image_layers(
    given: Iterable[tuple[Any, bool | None]], opened: ExitStack, *, split_colors: bool = True
) -> list[Layer]:
    """Return the layers of several images, the lowest first, with those of labels that are stored with them.

    Parameters
    ----------
    given
        Sources, arrays, handles or paths, each with whether it is labels; None judges by the source.
    opened
        Closes what is opened for the layers when they are not needed any more.
    split_colors
        Whether red, green and blue are three layers, and not one.
    """
    found: list[Layer] = []
    for one, are_labels in given:
        source = as_source(one)
        if source is not one:
            opened.enter_context(source)
        found += _layers_of(source, are_labels, found, opened, split_colors)
        stored = stored_source(source)
        for label in labels_beside(stored) if isinstance(stored, FileSource) else ():
            found += _layers_of(opened.enter_context(label), True, found, opened, split_colors)
    return found


def _layers_of(
    source: Source, are_labels: bool | None, below: Sequence[Layer], opened: ExitStack, split_colors: bool
) -> list[Layer]:
    """Return the layers of one image. If it has no voxel size, it is placed like the lowest layer."""
    if not source.size:
        raise InvalidArgumentError(
            f"there is nothing to view: {source.name} of shape {source.shape} is empty"
        )
    labels = looks_like_labels(source) if are_labels is None else are_labels
    if labels and source.dtype.kind not in "biu":
        raise InvalidArgumentError(f"labels are integers, and {source.name} holds {source.dtype}")
    if source.dtype.kind not in "biuf":
        raise UnsupportedFormatError(
            f"{source.name} has voxels of dtype {source.dtype}, which viewers cannot show: view a wrapper of it that takes the "
            "magnitude, such as SimpleTransformationSource(source, numpy.abs)"
        )
    shown = _shown(source)
    known = replace(source.metadata.fitting(source.ndim), axes=shown.names, attributes={})
    if below:
        known = _placed(known, below[0].metadata)
    levels = _levels(source, known, are_labels=labels, opened=opened)
    whole_range = (0.0, float(np.iinfo(source.dtype).max)) if shown.is_rgb else None
    if not labels and not split_colors and _is_picture(source, shown):
        metadata, arrays = _of_channel(known, levels, shown.channel_axis, None)
        limits = 0.0, float(np.iinfo(source.dtype).max)
        return [Layer(_short_name(source), metadata, arrays, source, is_rgb=True, limits=limits)]
    found = []
    for n, look in enumerate(channel_looks(source, shown)):
        metadata, arrays = _of_channel(known, levels, shown.channel_axis, n)
        name = _short_name(source) if shown.n_channels == 1 else f"{_short_name(source)} {look.name}"
        layer = Layer(name, metadata, arrays, source, labels, shown=n < _MOST_SHOWN)
        if not labels:
            limits = look.limits or whole_range or _limits(layer)
            layer = replace(layer, color=look.color, limits=limits)
        found.append(layer)
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


def _is_picture(source: Source, shown: ShownAxes) -> bool:
    """Whether the last axis holds red, green and blue, whether or not the metadata say so."""
    said = source.metadata.channel_colors == ("FF0000", "00FF00", "0000FF") and source.dtype in ("u1", "u2")
    return shown.is_rgb or (said and shown.channel_axis == source.ndim - 1)


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
    metadata: ImageMetadata, levels: Sequence[tuple[Source, Level]], channel: int | None, index: int | None
) -> tuple[ImageMetadata, tuple[tuple[Source, Level], ...]]:
    """Return one channel, or all of them along the last axis, with the other axes in the order of OME-NGFF."""
    axes = metadata.axes or ()
    kept = [n for n in range(len(axes)) if n != channel]
    order = ngff_order([axes[n] for n in kept])
    at = [kept[n] for n in order or range(len(kept))]
    found = []
    for source, level in levels:
        array = source if channel is None or index is None else SelectSource(source, index, channel)
        if order is not None:
            array = TransposeSource(
                array, order if channel is None or array is not source else [*at, channel]
            )
        offset = None if level.offset is None else tuple(level.offset[n] for n in at)
        found.append((array, replace(level, factors=tuple(level.factors[n] for n in at), offset=offset)))
    picked = metadata.with_axes_selected(at)
    return replace(picked, channel_names=None, channel_colors=None, contrast_limits=None), tuple(found)


def _limits(layer: Layer) -> tuple[float, float]:
    """Return contrast limits by percentiles in the middle of the coarsest level."""
    (coarsest, _), axes = layer.levels[-1], layer.metadata.axes or ()
    extents = [
        min(n, _SAMPLE_EDGE if axis in "zyx" else 1) for n, axis in zip(coarsest.shape, axes, strict=True)
    ]
    begin = tuple((n - m) // 2 for n, m in zip(coarsest.shape, extents, strict=True))
    end = tuple(b + m for b, m in zip(begin, extents, strict=True))
    values = coarsest.read(Box(begin, end))
    values = values.view("uint8") if values.dtype.kind == "b" else values
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
    places = [Level("", (1.0,) * source.ndim), *(place_of_level(source, level) for level in coarser)]
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
