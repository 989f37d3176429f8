"""`preview`: a picture of an image of any size, from as few voxels as will do."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.planning import parse_bytes
from bioimage_py.report.appearance import (
    PERCENTILES,
    ChannelLook,
    blended,
    channel_looks,
    label_colors,
    percentile_limits,
    rgb_colors,
)
from bioimage_py.report.axes import Choice, ShownAxes, shown_axes
from bioimage_py.report.preview.page import Panel, compose
from bioimage_py.report.preview.picture import Picture, check_free, picture_format
from bioimage_py.report.preview.reading import ReadPanels, read_panels
from bioimage_py.report.proportions import scale_bar
from bioimage_py.sources import FileSource, Source, as_source, family_entry, is_file_of, leaves
from bioimage_py.storage import is_url
from bioimage_py.wrapper.resampling import KINDS

_PROJECTIONS = ("max", "mean")
_SIZES = (64, 4096)
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Look:
    """How a picture is to look, checked; see `preview`."""

    kind: str | None = None
    projection: str | None = None
    contrast: tuple[float, float] | None = None
    percentiles: tuple[float, float] = PERCENTILES
    size: int = 512

    def __post_init__(self) -> None:
        for name, known in (("kind", KINDS), ("projection", _PROJECTIONS)):
            if (value := getattr(self, name)) is not None and value not in known:
                raise InvalidArgumentError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if self.contrast is not None:
            object.__setattr__(self, "contrast", _pair("contrast", self.contrast))
        low, high = _pair("percentiles", self.percentiles)
        object.__setattr__(self, "percentiles", (low, high))
        if low < 0 or high > 100:
            raise InvalidArgumentError(f"percentiles are from 0 to 100, got {self.percentiles!r}")
        whole = isinstance(self.size, (int, np.integer)) and not isinstance(self.size, bool)
        if not whole or not _SIZES[0] <= self.size <= _SIZES[1]:
            raise InvalidArgumentError(
                f"size is a whole number of pixels from {_SIZES[0]} to {_SIZES[1]}, got {self.size!r}"
            )


def _pair(name: str, values: Any) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in values)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidArgumentError(f"{name} is two numbers, the lower one first, got {values!r}")
    return low, high


def preview(
    source: Any,
    output: str | os.PathLike[str] | None = None,
    *,
    position: Sequence[int] | Mapping[str, int] | None = None,
    projection: str | None = None,
    time: int | None = None,
    channels: int | Sequence[int] | None = None,
    kind: str | None = None,
    contrast: tuple[float, float] | None = None,
    percentiles: tuple[float, float] = (0.1, 99.8),
    size: int = 512,
    read_limit: int | str = "8GiB",
    overwrite: bool = False,
) -> Picture:
    """Make a picture of an image: three slices of a volume that meet in a point, or a projection, or a plane as it is.

    Parameters
    ----------
    source
        Source, array, handle, path or URL, with two axes of space or more. Of an image with levels (OME-Zarr, N5 with s0, s1,
        …, precomputed, a pyramid in a TIFF) the coarsest is read that has a voxel for each pixel.
    output
        File to write; its ending chooses the format: .png, .jpg, .tif, .webp, .pdf and others. Default: none.
    position
        Where a volume is cut: one index per axis of space, slowest first, or by the names of the axes, which may be others
        too. Counted in voxels of the full size. Default: the middle.
    projection
        `"max"` or `"mean"` along the slowest axis of space, instead of slices.
    time
        Index along the axis "t". Default: the first.
    channels
        One channel or several. Default: all, of more than six the first six; three or four bytes that end an array are colours.
    kind
        `"labels"` or `"image"`. Default: as `downsample` tells them apart.
    contrast
        The values that become black and full colour. Default: what the metadata say of a channel, else percentiles.
    percentiles
        The two percentiles of what is shown that are used where contrast is not known.
    size
        Pixels of the longest edge of the panels, 64 to 4096.
    read_limit
        Bytes of decoded chunks that may be read for it. Side views that would exceed it are left out, with a warning.
    overwrite
        Whether a file that is there is replaced. An input never is.

    Returns
    -------
    Picture
        Its `pixels`, its `path` if it was written, and `save`.

    Raises
    ------
    InvalidArgumentError
        If there are fewer than two axes of space, or no voxels; if a position, time or channel is outside; for a format of
        pictures that is not known; if even one panel would exceed `read_limit`; for the mean of labels.
    OutputExistsError
        If the file is there and `overwrite` is not said.

    Examples
    --------
    >>> import numpy as np
    >>> preview(np.zeros((20, 30), "uint8")).pixels.shape[2]
    3
    """
    look = Look(kind, projection, contrast, percentiles, size)
    limit = parse_bytes(read_limit, "read_limit")
    path = None
    if output is not None:
        path, _ = picture_format(output)
        check_free(path, overwrite=overwrite)
    with ExitStack() as stack:
        opened = as_source(source)
        if opened is not source:
            stack.enter_context(opened)
        if path is not None:
            _check_not_an_input(path, opened)
        picture = picture_of(opened, Choice(position, time, channels), look, limit)
    if path is None:
        return picture
    return replace(picture, path=picture.save(path, overwrite=overwrite))


def _check_not_an_input(path: str, source: Source) -> None:
    """Raise InvalidArgumentError if a picture at a path would replace an input, or become a part of one."""
    for leaf in leaves(source):
        inside = isinstance(leaf, FileSource) and not is_url(leaf.path) and _is_within(path, leaf)
        if inside or is_file_of(path, leaf):
            raise InvalidArgumentError(
                f"{path!r} belongs to the input {leaf.name}, which is never written to: give the picture another name"
            )


def _is_within(path: str, source: FileSource) -> bool:
    output, place = Path(path), Path(source.path)
    try:
        same = os.path.lexists(path) and output.samefile(place)
    except OSError:  # a link that leads nowhere is no input
        same = False
    if same or not place.is_dir():
        return same
    parent, folder = output.parent.resolve(), place.resolve()
    if family_entry(source.kind).patterns:  # the folder of slices may be one that people work in
        return parent == folder and fnmatch(output.name, source.key or "*")
    return parent.is_relative_to(folder)


def picture_of(source: Source, choice: Choice, look: Look, read_limit: int) -> Picture:
    """Return a picture of a source."""
    shown = shown_axes(source, choice)
    read = read_panels(source, shown, look.kind, look.projection, look.size, read_limit)
    looks = channel_looks(source, shown)
    sizes, main = read.proportions, read.panels[0]
    panels = []
    for plane, colors in zip(read.panels, _colors(source, shown, looks, look, read), strict=True):
        down, across, into = plane[:3]
        title = f"{shown.names[into]} = {shown.at[into]}" if into is not None else ""
        if into is not None and look.projection is not None:
            title = f"{shown.names[into]}: {look.projection}"
        y, x = ((shown.at[axis] + 0.5) / source.shape[axis] for axis in (down, across))
        panels.append(
            Panel(
                row=int(down != main.down),
                column=int(across != main.across),
                title=title,
                axes=(shown.names[down], shown.names[across]),
                colors=colors,
                size=(sizes.pixels[down], sizes.pixels[across]),
                ticks=(y, x) if len(read.panels) > 1 else None,
                smooth=not read.are_labels,
            )
        )
    bar = scale_bar(sizes.meters_per_pixel, sizes.pixels[main.across], sizes.unit)
    legend = []
    if not read.are_labels and not shown.is_rgb and len(looks) > 1:
        names = [one.name for one in looks]
        short = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in names]
        legend = [(name, f"#{one.color}") for name, one in zip(short, looks, strict=True)]
    font_size = max(12, round(look.size / 34))
    pixels, placed = compose(panels, bar, legend, _notes(source, shown, read), font_size)
    return Picture(pixels, tuple(placed), bar, read.level, read.n_bytes)


def _colors(
    source: Source, shown: ShownAxes, looks: Sequence[ChannelLook], look: Look, read: ReadPanels
) -> list[AnyArray]:
    """Return red, green and blue bytes of each panel."""
    values = [panel.values for panel in read.panels]
    if read.are_labels:
        return [label_colors(one[..., 0]) for one in values]
    if shown.is_rgb:
        opaque = float(np.iinfo(source.dtype).max)
        # Pictures of more than 8 bits seldom use all of them.
        brightest = (
            opaque
            if source.dtype.itemsize == 1
            else max(percentile_limits(values, n, look.percentiles)[1] for n in range(3))
        )
        return [rgb_colors(one, look.contrast or (0.0, brightest), opaque) for one in values]
    limits = [
        look.contrast or one.limits or percentile_limits(values, n, look.percentiles)
        for n, one in enumerate(looks)
    ]
    colors = [one.color for one in looks] if len(looks) > 1 else ["FFFFFF"]
    return [blended(one, limits, colors) for one in values]


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
