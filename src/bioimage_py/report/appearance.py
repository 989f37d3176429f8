"""How values look: names, colours and contrast of channels, labels, and pictures that are in colour already."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.report.axes import ShownAxes
from bioimage_py.sources import Source

_PALETTE = ("FF00FF", "00FF00", "00B4FF", "FFC800", "FF3C3C", "8C78FF")
"""Colours of several channels that have none; magenta and green first, which nearly everybody can tell apart."""
_WHITE = "FFFFFF"
_RGB = ("FF0000", "00FF00", "0000FF", _WHITE)
_GOLDEN = 0x9E3779B97F4A7C15
"""2⁶⁴ divided by the golden ratio: multiples of it spread evenly over the circle of hues, however many there are."""
PERCENTILES = (0.1, 99.8)

Limits = tuple[float, float]


class ChannelLook(NamedTuple):
    """A channel's name, its colour as six hexadecimal digits, and its contrast limits if the metadata have them."""

    name: str
    color: str
    limits: Limits | None


def channel_looks(source: Source, shown: ShownAxes) -> list[ChannelLook]:
    """Return how the channels shown look."""
    metadata = source.metadata.for_channels(shown.n_channels)
    usual = _RGB if shown.is_rgb else (_WHITE,) if len(shown.channels) == 1 else _PALETTE
    found = []
    for n, channel in enumerate(shown.channels):
        name = metadata.channel_names[channel] if metadata.channel_names else f"channel {channel}"
        color = metadata.channel_colors[channel] if metadata.channel_colors else usual[n % len(usual)]
        limits = metadata.contrast_limits[channel] if metadata.contrast_limits else None
        found.append(ChannelLook(name, color, limits if _is_chosen(limits, source.dtype) else None))
    return found


def _is_chosen(limits: Limits | None, dtype: np.dtype) -> bool:
    """Whether contrast limits were chosen: programs write the whole range of a wide dtype by default."""
    if limits is None or limits[0] >= limits[1]:
        return False
    wide = dtype.kind in "iu" and dtype.itemsize > 1
    return not wide or limits[0] > np.iinfo(dtype).min or limits[1] < np.iinfo(dtype).max


def percentile_limits(panels: Sequence[AnyArray], channel: int, percentiles: Limits = PERCENTILES) -> Limits:
    """Return the values of a channel that become black and full colour, over all panels together.

    Where the two percentiles are one value, as in a picture of a few bright points, they are the least and the greatest value.
    NaN and infinities do not count.
    """
    values = np.concatenate([panel[..., channel].ravel() for panel in panels])
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, percentiles, method="inverted_cdf"))
    return (low, high) if low < high else (float(values.min()), float(values.max()))


def blended(panel: AnyArray, limits: Sequence[Limits], colors: Sequence[str]) -> AnyArray:
    """Return a panel of rows, columns and channels as red, green and blue bytes: the sum of its channels in their colours."""
    total = np.zeros((*panel.shape[:2], 3))
    for channel, (ends, name) in enumerate(zip(limits, colors, strict=True)):
        color = np.frombuffer(bytes.fromhex(name), np.uint8) / 255
        total += _share(panel[..., channel], ends)[..., None] * color
    return _bytes(total)


def rgb_colors(panel: AnyArray, limits: Limits, opaque: float) -> AnyArray:
    """Return red, green, blue and perhaps opacity, up to `opaque`, as red, green and blue bytes on a white ground."""
    colors = _share(panel[..., :3], limits)
    if panel.shape[2] == 4:
        opacity = _share(panel[..., 3:], (0, opaque))
        colors = colors * opacity + (1 - opacity)
    return _bytes(colors)


def label_colors(panel: AnyArray) -> AnyArray:
    """Return labels, rows by columns, as red, green and blue bytes: 0 is black, and each label has its colour everywhere."""
    labels, where = np.unique(panel, return_inverse=True)
    colors = np.array([_label_color(int(label)) for label in labels], np.uint8).reshape(-1, 3)
    found: AnyArray = colors[where.reshape(panel.shape)]
    return found


def _label_color(label: int) -> tuple[int, ...]:
    if label == 0:
        return 0, 0, 0
    mixed = (label * _GOLDEN) % 2**64
    saturation = (0.55, 0.75, 0.95)[(mixed >> 20) % 3]
    value = (1.0, 0.8)[(mixed >> 10) % 2]
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(mixed / 2**64, saturation, value))


def _share(values: AnyArray, limits: Limits) -> AnyArray:
    """Return values as numbers from 0 to 1; NaN is 0, and without contrast, all but 0 is half."""
    low, high = limits
    known = np.where(np.isnan(values), low, values)
    if low >= high:
        return np.where(known == 0, 0.0, 0.5)
    # Halves, for the span of two numbers can be more than a number holds.
    return np.clip((known / 2 - low / 2) / (high / 2 - low / 2), 0.0, 1.0)


def _bytes(colors: AnyArray) -> AnyArray:
    found: AnyArray = np.rint(np.clip(colors, 0, 1) * 255).astype(np.uint8)
    return found
