"""From what was read to a picture: colours, titles, scale bar, legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.metadata import ImageMetadata
from bioimage_py.report.preview.coloring import (
    CHANNEL_COLORS,
    blended,
    channel_limits,
    label_colors,
    rgb_colors,
)
from bioimage_py.report.preview.look import Look
from bioimage_py.report.preview.page import Panel, compose
from bioimage_py.report.preview.picture import Picture
from bioimage_py.report.preview.reading import ReadPanel, ReadPanels
from bioimage_py.report.proportions import scale_bar
from bioimage_py.report.shown_axes import ShownAxes
from bioimage_py.sources import Source

_LONGEST_NAME = 40


def drawn(source: Source, shown: ShownAxes, look: Look, read: ReadPanels) -> Picture:
    """Return the picture of what was read."""
    colors = _colors(source, shown, look, read)
    panels = [_panel(source, shown, look, read, n, color) for n, color in enumerate(colors)]
    main = read.panels[0]
    sizes = read.proportions
    bar = scale_bar(sizes.meters_per_pixel, sizes.pixels[main.across], sizes.unit)
    legend = _legend(source, shown, read)
    notes = _notes(source, shown, read)
    pixels, placed = compose(panels, bar, legend, notes, max(12, round(look.size / 34)))
    return Picture(pixels, tuple(placed), bar, read.level, read.n_bytes)


def _notes(source: Source, shown: ShownAxes, read: ReadPanels) -> list[str]:
    """Return what is not shown: other indices of axes such as time, more channels, side views."""
    notes = [
        f"{shown.names[axis]} = {index}"
        for axis, index in shown.at.items()
        if axis not in shown.space and source.shape[axis] > 1
    ]
    if shown.channel_axis is not None and len(shown.channels) < shown.n_channels and not shown.is_rgb:
        names = ", ".join(map(str, shown.channels))
        notes.append(f"{shown.names[shown.channel_axis]} = {names} of {shown.n_channels}")
    return notes + [f"too much to read: the view along {shown.names[axis]}" for axis in read.left_out]


def _colors(source: Source, shown: ShownAxes, look: Look, read: ReadPanels) -> list[AnyArray]:
    """Return red, green and blue bytes of each panel."""
    values = [panel.values for panel in read.panels]
    if read.are_labels:
        return [label_colors(one[..., 0]) for one in values]
    if shown.is_rgb:
        opaque = float(np.iinfo(source.dtype).max)
        whole = (0.0, opaque)
        limits = look.contrast or (whole if source.dtype.itemsize == 1 else (0.0, _brightest(values, look)))
        return [rgb_colors(one, limits, opaque) for one in values]
    metadata = _of_channels(source, shown)
    limits_of = [
        look.contrast or _said(metadata, n) or channel_limits(values, n, look.percentiles)
        for n in range(len(shown.channels))
    ]
    colors = None if metadata is None or len(shown.channels) == 1 else metadata.channel_colors
    return [blended(one, limits_of, colors) for one in values]


def _brightest(values: Sequence[AnyArray], look: Look) -> float:
    """Return the value of full colour of pictures of more than 8 bits, which seldom use all of them."""
    return max(channel_limits(values, n, look.percentiles)[1] for n in range(3))


def _of_channels(source: Source, shown: ShownAxes) -> ImageMetadata | None:
    """Return what the metadata say of the channels shown, or None where they speak of others."""
    return source.metadata.for_channels(shown.n_channels).with_channels_selected(shown.channels)


def _said(metadata: ImageMetadata | None, channel: int) -> tuple[float, float] | None:
    limits = (
        None if metadata is None or metadata.contrast_limits is None else metadata.contrast_limits[channel]
    )
    return limits if limits is not None and limits[0] < limits[1] else None


def _panel(
    source: Source, shown: ShownAxes, look: Look, read: ReadPanels, number: int, colors: AnyArray
) -> Panel:
    plane = read.panels[number]
    pixels = read.proportions.pixels
    main = read.panels[0]
    return Panel(
        row=int(plane.down != main.down),
        column=int(plane.across != main.across),
        title=_title(shown, look, plane),
        axes=(shown.names[plane.down], shown.names[plane.across]),
        colors=colors,
        size=(pixels[plane.down], pixels[plane.across]),
        ticks=_ticks(source, shown, plane) if len(read.panels) > 1 else (None, None),
        smooth=not read.are_labels,
    )


def _title(shown: ShownAxes, look: Look, plane: ReadPanel) -> str:
    """Return where a panel is cut; the index of an axis that is not shown, such as time, is said too."""
    if plane.into is None:
        return ""
    name = shown.names[plane.into]
    return f"{name}: {look.projection}" if look.projection else f"{name} = {shown.at[plane.into]}"


def _ticks(source: Source, shown: ShownAxes, plane: ReadPanel) -> tuple[float, float]:
    down, across = ((shown.at[axis] + 0.5) / source.shape[axis] for axis in (plane.down, plane.across))
    return down, across


def _legend(source: Source, shown: ShownAxes, read: ReadPanels) -> list[tuple[str, str]]:
    """Return name and colour of each channel, where there are several."""
    if read.are_labels or shown.is_rgb or len(shown.channels) < 2:
        return []
    metadata = _of_channels(source, shown)
    names = metadata.channel_names if metadata is not None else None
    colors = (metadata.channel_colors if metadata is not None else None) or CHANNEL_COLORS
    found = []
    for n, channel in enumerate(shown.channels):
        name = names[n] if names is not None else f"channel {channel}"
        shortened = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
        found.append((shortened, f"#{colors[n % len(colors)]}"))
    return found
