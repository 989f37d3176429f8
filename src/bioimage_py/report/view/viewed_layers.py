"""What a viewer shows of a source: one layer per channel with its colour and contrast, or one of labels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata, Level, axes_for_ngff, ngff_order
from bioimage_py.report.preview import CHANNEL_COLORS, channel_limits
from bioimage_py.report.view.served_image import ServedImage, served_dtype
from bioimage_py.report.view.viewed_levels import viewed_levels
from bioimage_py.sources import FileSource, Source
from bioimage_py.wrapper.resampling import looks_like_labels
from bioimage_py.wrapper.shape import SelectSource, TransposeSource

_CHANNEL = ("c", "channel", "channels", "s")
_MOST_SHOWN = 4
_SAMPLE_EDGE = 128
_PERCENTILES = (0.1, 99.8)
_GRAY, _RGB = ("FFFFFF",), ("FF0000", "00FF00", "0000FF", "FFFFFF")


@dataclass(frozen=True)
class ViewedLayer:
    """One layer.

    Attributes
    ----------
    image
        What is served for it.
    are_labels
        Whether it is a segmentation.
    color
        Six hexadecimal digits, for images.
    limits
        The values that become black and full colour, for images.
    shown
        Whether it is switched on from the start.
    """

    image: ServedImage
    are_labels: bool
    color: str = "FFFFFF"
    limits: tuple[float, float] = (0.0, 1.0)
    shown: bool = True


def viewed_layers(
    source: Source,
    are_labels: bool | None,
    *,
    like: ImageMetadata | None,
    threads: int,
    opened: ExitStack,
) -> list[ViewedLayer]:
    """Return the layers of a source.

    Parameters
    ----------
    source
        What is shown.
    are_labels
        Whether it holds labels; None: as `looks_like_labels` tells.
    like
        Metadata of the first image shown: a source that says nothing of its voxel size lies as that one lies.
    threads
        How many may decode at once.
    opened
        Takes what is to be closed when the layers are not needed any more.

    Raises
    ------
    InvalidArgumentError
        If a source has fewer than two or more than five axes, axes that a viewer has no place for, or no voxels; for labels
        that are no integers.
    UnsupportedFormatError
        If it is complex.
    """
    if not source.size:
        raise InvalidArgumentError(
            f"there is nothing to view: {source.name} of shape {source.shape} is empty"
        )
    labels = looks_like_labels(source) if are_labels is None else are_labels
    if labels and source.dtype.kind not in "biu":
        raise InvalidArgumentError(f"labels are integers, and {source.name} holds {source.dtype}")
    dtype = served_dtype(source.dtype, source.name, are_labels=labels)
    axes, channel = _axes(source)
    known = replace(source.metadata.fitting(source.ndim), axes=axes, attributes={})
    known = _placed(known, like)
    levels = viewed_levels(source, known, are_labels=labels, threads=threads, opened=opened)
    n_channels = 1 if channel is None else source.shape[channel]
    said = known.for_channels(n_channels)
    names = said.channel_names or tuple(f"channel {n}" for n in range(n_channels))
    is_rgb = channel == source.ndim - 1 and n_channels in (3, 4) and said.channel_colors is None
    palette = said.channel_colors or (_RGB if is_rgb else _GRAY if n_channels == 1 else CHANNEL_COLORS)
    found = []
    for n in range(n_channels):
        metadata, arrays = _of_channel(known, levels, channel, n)
        name = _short_name(source) if n_channels == 1 else f"{_short_name(source)} {names[n]}"
        image = ServedImage(name, metadata, arrays, dtype)
        if labels:
            found.append(ViewedLayer(image, are_labels=True, shown=n < _MOST_SHOWN))
            continue
        limits = _said_limits(said, n, source.dtype) or _limits(image, is_rgb=is_rgb)
        found.append(ViewedLayer(image, False, palette[n % len(palette)], limits, n < _MOST_SHOWN))
    return found


def _axes(source: Source) -> tuple[tuple[str, ...], int | None]:
    """Return the names of the axes, and which one is that of the channels."""
    known = source.metadata.fitting(source.ndim).axes
    if known is None:
        shape = source.shape
        like_color = source.ndim == 3 and shape[-1] in (3, 4) and source.dtype == np.uint8
        known = tuple("yxc") if like_color else axes_for_ngff(None, source.ndim, source.name)
    names = tuple(name.lower() for name in known)
    channel = next((n for n, name in enumerate(names) if name in _CHANNEL), None)
    rest = tuple(name for n, name in enumerate(names) if n != channel)
    order = ngff_order(rest) or range(len(rest))
    axes_for_ngff([rest[n] for n in order], len(rest), source.name)
    return names, channel


def _placed(metadata: ImageMetadata, like: ImageMetadata | None) -> ImageMetadata:
    """Return metadata of an image that says nothing of its voxel size as if it lay where the first one lies."""
    axes = metadata.axes or ()
    if like is None or like.axes is None or metadata.voxel_size is not None or like.voxel_size is None:
        return metadata
    at = [like.axes.index(axis) if axis in like.axes else None for axis in axes]
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
    order = ngff_order([axes[n] for n in kept]) or tuple(range(len(kept)))
    found = []
    for source, level in levels:
        array = source if channel is None else SelectSource(source, index, channel)
        if order != tuple(range(len(kept))):
            array = TransposeSource(array, order)
        at = [kept[n] for n in order]
        offset = None if level.offset is None else tuple(level.offset[n] for n in at)
        found.append((array, replace(level, factors=tuple(level.factors[n] for n in at), offset=offset)))
    picked = metadata.with_axes_selected([kept[n] for n in order])
    return replace(picked, channel_names=None, channel_colors=None, contrast_limits=None), found


def _said_limits(metadata: ImageMetadata, channel: int, dtype: np.dtype[Any]) -> tuple[float, float] | None:
    """Return the limits that the metadata give a channel; all values of a wide dtype are nobody's choice."""
    if metadata.contrast_limits is None:
        return None
    low, high = metadata.contrast_limits[channel]
    wide = dtype.kind in "iu" and dtype.itemsize > 1
    if low >= high or (wide and low <= np.iinfo(dtype).min and high >= np.iinfo(dtype).max):
        return None
    return low, high


def _limits(image: ServedImage, *, is_rgb: bool) -> tuple[float, float]:
    """Return contrast limits by percentiles in the middle of the coarsest level; a picture in colour has its dtype's range."""
    coarsest = image.levels[-1]
    if is_rgb and image.dtype.kind == "u":
        return 0.0, float(np.iinfo(image.dtype).max)
    axes = image.metadata.axes or ()
    extents = [
        min(n, _SAMPLE_EDGE if axis in "zyx" else 1) for n, axis in zip(coarsest.shape, axes, strict=True)
    ]
    begin = tuple((n - m) // 2 for n, m in zip(coarsest.shape, extents, strict=True))
    end = tuple(b + m for b, m in zip(begin, extents, strict=True))
    values = coarsest.read(Box(begin, end)).astype(image.dtype, copy=False)
    low, high = channel_limits([values[..., None]], 0, _PERCENTILES)
    return (low, high) if low < high else (low, low + 1)


def _short_name(source: Source) -> str:
    """Return what a layer is called: the last part of its path, and the key."""
    if not isinstance(source, FileSource):
        return source.format if not source.name else PurePosixPath(source.name).name[-60:]
    name = PurePosixPath(source.path.rstrip("/")).name
    return f"{name}/{source.key}" if source.key else name
