"""From values to colours: contrast, channels over one another, labels, and pictures that are in colour already."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from bioimage_py.chunks import AnyArray

CHANNEL_COLORS = ("FF00FF", "00FF00", "00B4FF", "FFC800", "FF3C3C", "8C78FF")
"""Colours of several channels that have none; magenta and green first, which nearly everybody can tell apart."""
_GRAY = "FFFFFF"
_GOLDEN = 0x9E3779B97F4A7C15
"""2⁶⁴ divided by the golden ratio: multiples of it spread evenly over the circle of hues, however many there are."""


def channel_limits(
    panels: Sequence[AnyArray], channel: int, percentiles: tuple[float, float]
) -> tuple[float, float]:
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


def blended(panel: AnyArray, limits: Sequence[tuple[float, float]], colors: Sequence[str] | None) -> AnyArray:
    """Return a panel of rows, columns and channels as red, green and blue bytes: the sum of its channels in their colours."""
    n_channels = panel.shape[2]
    chosen = colors or ((_GRAY,) if n_channels == 1 else CHANNEL_COLORS)
    total = np.zeros((*panel.shape[:2], 3))
    for channel in range(n_channels):
        color = np.frombuffer(bytes.fromhex(chosen[channel % len(chosen)]), np.uint8) / 255
        total += _share(panel[..., channel], limits[channel])[..., None] * color
    return _bytes(total)


def rgb_colors(panel: AnyArray, limits: tuple[float, float], opaque: float) -> AnyArray:
    """Return red, green, blue and perhaps opacity as red, green and blue bytes on a white ground.

    Parameters
    ----------
    panel
        Rows, columns, and three or four channels.
    limits
        The values that become none and all of a colour.
    opaque
        The value of full opacity.
    """
    colors = _share(panel[..., :3], limits)
    if panel.shape[2] == 4:
        opacity = _share(panel[..., 3:], (0, opaque))
        colors = colors * opacity + (1 - opacity)
    return _bytes(colors)


def label_colors(panel: AnyArray) -> AnyArray:
    """Return labels, rows by columns, as red, green and blue bytes: 0 is black, and each label has its colour everywhere.

    Examples
    --------
    >>> label_colors(np.array([[0, 1, 2]]))[0, 0].tolist()
    [0, 0, 0]
    """
    labels, where = np.unique(panel, return_inverse=True)
    colors = np.array([_label_color(int(label)) for label in labels], np.uint8).reshape(-1, 3)
    found: AnyArray = colors[where.reshape(panel.shape)]
    return found


def _label_color(label: int) -> tuple[int, int, int]:
    if label == 0:
        return 0, 0, 0
    mixed = (label * _GOLDEN) % 2**64
    hue = mixed / 2**64
    saturation = (0.55, 0.75, 0.95)[(mixed >> 20) % 3]
    value = (1.0, 0.8)[(mixed >> 10) % 2]
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def _share(values: AnyArray, limits: tuple[float, float]) -> AnyArray:
    """Return values as numbers from 0 to 1; what is no number is 0, and where there is no contrast, all but 0 is half."""
    low, high = limits
    known = np.where(np.isnan(values), low, values)
    if low >= high:
        return np.where(known == 0, 0.0, 0.5)
    # Halves, for the span of two numbers can be more than a number holds.
    return np.clip((known / 2 - low / 2) / (high / 2 - low / 2), 0.0, 1.0)


def _bytes(colors: AnyArray) -> AnyArray:
    found: AnyArray = np.rint(np.clip(colors, 0, 1) * 255).astype(np.uint8)
    return found
