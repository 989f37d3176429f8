"""`preview`: a picture of an image of any size, from as few voxels as will do."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import BioimagePyWarning, Hint, InvalidArgumentError
from bioimage_py.planning import format_bytes, parse_bytes
from bioimage_py.report.appearance import (
    ChannelLook,
    blended,
    channel_looks,
    label_colors,
    percentile_limits,
    rgb_colors,
)
from bioimage_py.report.axes import ShownAxes, open_levels, shown_axes
from bioimage_py.report.look import Look
from bioimage_py.report.preview.page import (
    Panel,
    Picture,
    Proportions,
    check_free,
    compose,
    drawn_sizes,
    picture_format,
    scale_bar,
)
from bioimage_py.report.preview.plane import Plane
from bioimage_py.sources import FileSource, Source, as_source, family_entry, is_file_of, leaves
from bioimage_py.storage import is_url
from bioimage_py.wrapper.resampling import looks_like_labels

_LONGEST_NAME = 40
_View = tuple[int, int, int | None]
"""The axes of a panel that go down, across, and into it."""


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
        `"labels"` or `"image"`. Default: decided as in `downsample`.
    contrast
        The values that become black and full colour. Default: those in the metadata, else percentiles.
    percentiles
        The percentiles of what is shown that are used where no contrast is known.
    size
        Pixels of the longest edge of the panels, 64 to 4096.
    read_limit
        Bytes of decoded chunks that may be read for it. Side views that would exceed it are left out, with a warning.
    overwrite
        Whether an existing file is replaced. Inputs never are.

    Returns
    -------
    Picture
        Its `pixels`, its `path` if it was written, and `save`.

    Raises
    ------
    InvalidArgumentError
        If there is nothing to show: fewer than two axes of space, no voxels, a position, time or channel outside; for an
        unknown picture format; if even one panel would exceed `read_limit`; for the mean of labels.
    OutputExistsError
        If the file exists and `overwrite` is not given.

    Examples
    --------
    >>> import numpy as np
    >>> preview(np.zeros((20, 30), "uint8")).pixels.shape[2]
    3
    """
    look = Look(position, projection, time, channels, kind, contrast, percentiles, size, read_limit)
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
        picture = picture_of(opened, look)
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
    except OSError:  # a broken link is not an input
        same = False
    if same or not place.is_dir():
        return same
    parent, folder = output.parent.resolve(), place.resolve()
    if family_entry(source.kind).patterns:  # the folder of slices may be one that people work in
        return parent == folder and fnmatch(output.name, source.key or "*")
    return parent.is_relative_to(folder)


def picture_of(source: Source, look: Look) -> Picture:
    shown = shown_axes(source, look)
    are_labels = _are_labels(source, shown, look)
    sizes = drawn_sizes(source.shape, shown.space, source.metadata, look.size)
    with ExitStack() as opened:
        planes, left_out = _planes(source, shown, look, sizes, are_labels, opened)
        values = [plane.read() for plane in planes]
        level, n_bytes = planes[0].source.name, sum(plane.n_bytes for plane in planes)
    looks, main = channel_looks(source, shown), planes[0]
    panels = []
    for plane, colors in zip(planes, _colors(source, shown, looks, look, values, are_labels), strict=True):
        down, across = plane.rows, plane.columns
        title, into = "", next((axis for axis in shown.space if axis not in (down, across)), None)
        if into is not None:
            name, index = shown.names[into], shown.at[into]
            title = f"{name} = {index}" if look.projection is None else f"{name}: {look.projection}"
        y, x = ((shown.at[axis] + 0.5) / source.shape[axis] for axis in (down, across))
        panels.append(
            Panel(
                row=int(down != main.rows),
                column=int(across != main.columns),
                title=title,
                axes=(shown.names[down], shown.names[across]),
                colors=colors,
                size=(sizes.pixels[down], sizes.pixels[across]),
                ticks=(y, x) if len(planes) > 1 else None,
                smooth=not are_labels,
            )
        )
    bar = scale_bar(sizes.meters_per_pixel, sizes.pixels[main.columns], sizes.unit)
    legend = []
    if not are_labels and not shown.is_rgb and len(looks) > 1:
        names = [one.name for one in looks]
        short = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in names]
        legend = [(name, f"#{one.color}") for name, one in zip(short, looks, strict=True)]
    font_size = max(12, round(look.size / 34))
    pixels, placed = compose(panels, bar, legend, _notes(source, shown, left_out), font_size)
    return Picture(pixels, tuple(placed), bar, level, n_bytes)


def _are_labels(source: Source, shown: ShownAxes, look: Look) -> bool:
    """Whether labels are shown; raise InvalidArgumentError for what cannot be projected, or is not labels."""
    labels = looks_like_labels(source) if look.kind is None else look.kind == "labels"
    labels = labels and not shown.is_rgb
    if labels and source.dtype.kind not in "biu":
        raise InvalidArgumentError(
            f"labels are integers, and {source.name} holds {source.dtype}",
            hints=[Hint.of("leave out {}", kind=...)],
        )
    if labels and look.projection == "mean":
        raise InvalidArgumentError(
            f"the mean of labels means nothing, and {source.name} is taken for labels ({source.dtype} voxels)",
            hints=[
                Hint.of("give {}", projection="max"),
                Hint.of("or, if it is an image, give {}", kind="image"),
            ],
        )
    if look.projection is not None and len(shown.space) == 2:
        raise InvalidArgumentError(
            f"{source.name} has two axes of space, so there is none to project along",
            hints=[Hint.of("leave out {}", projection=...)],
        )
    return labels


def _planes(
    source: Source, shown: ShownAxes, look: Look, sizes: Proportions, are_labels: bool, opened: ExitStack
) -> tuple[list[Plane], list[int]]:
    """Return the planes to read, the main one first, and the axes along which a side view would be too much to read."""
    views = _views(source, shown, look.projection)
    level = _good_enough(source, shown, views, sizes, opened)
    planes = [
        Plane(
            source=level,
            rows=down,
            columns=across,
            at=index_in_level(shown.at, source.shape, level.shape),
            channel_axis=shown.channel_axis,
            channels=shown.channels,
            depth=None if look.projection is None else into,
            size=(sizes.pixels[down], sizes.pixels[across]),
            how="nearest" if are_labels else look.projection or "mean",
        )
        for down, across, into in views
    ]
    limit = parse_bytes(look.read_limit, "read_limit")
    costs = [plane.n_bytes for plane in planes]
    kept = _within(costs, limit, source)
    left_out = [into for n, (_, _, into) in enumerate(views) if n not in kept and into is not None]
    if left_out:
        names = " and ".join(shown.names[axis] for axis in left_out)
        warnings.warn(
            f"{source.name} is shown without its view along {names}: all views would take {format_bytes(sum(costs))} of "
            f"decoded chunks, more than the read_limit of {format_bytes(limit)}",
            BioimagePyWarning,
            stacklevel=4,
        )
    return [planes[n] for n in kept], left_out


def _views(source: Source, shown: ShownAxes, projection: str | None) -> list[_View]:
    if len(shown.space) == 2:
        return [(*shown.space, None)]
    z, y, x = shown.space
    if projection is not None or source.shape[z] == 1:
        return [(y, x, z)]
    return [(y, x, z), (y, z, x), (z, x, y)]


def _good_enough(
    source: Source, shown: ShownAxes, views: Sequence[_View], sizes: Proportions, opened: ExitStack
) -> Source:
    """Return the coarsest level that has a voxel for each pixel, or as many as the full size has."""
    least = {axis: n for axis, n in enumerate(source.shape) if axis not in shown.space}
    for axis in {axis for view in views for axis in view[:2]}:
        least[axis] = min(sizes.pixels[axis], source.shape[axis])
    for level in reversed(open_levels(source, opened)):
        whole = all(level.shape[axis] == n for axis, n in least.items() if axis not in shown.space)
        if whole and all(level.shape[axis] >= n for axis, n in least.items()):
            return level
    return source


def _within(costs: Sequence[int], read_limit: int, source: Source) -> list[int]:
    """Return the panels that can be read below the limit: the main one, and of the others as many as fit."""
    if costs[0] > read_limit:
        raise InvalidArgumentError(
            f"a picture of {source.name} would take {format_bytes(costs[0])} of decoded chunks, more than the read_limit of "
            f"{format_bytes(read_limit)}",
            hints=[
                Hint.of("allow more with {}", read_limit=...),
                Hint("show less of it (RoiSource)"),
                Hint("or give it coarser levels"),
            ],
        )
    kept, total = [0], costs[0]
    for n in sorted(range(1, len(costs)), key=lambda n: costs[n]):
        total += costs[n]
        if total <= read_limit:
            kept.append(n)
    return sorted(kept)


def _colors(
    source: Source,
    shown: ShownAxes,
    looks: Sequence[ChannelLook],
    look: Look,
    values: Sequence[AnyArray],
    are_labels: bool,
) -> list[AnyArray]:
    """Return red, green and blue bytes of each panel."""
    if are_labels:
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


def _notes(source: Source, shown: ShownAxes, left_out: Sequence[int]) -> list[str]:
    """Return what is not shown: other indices of axes such as time, more channels, side views."""
    notes = [
        f"{shown.names[axis]} = {index}"
        for axis, index in shown.at.items()
        if axis not in shown.space and source.shape[axis] > 1
    ]
    if shown.channel_axis is not None and len(shown.channels) < shown.n_channels and not shown.is_rgb:
        names = ", ".join(map(str, shown.channels))
        notes.append(f"{shown.names[shown.channel_axis]} = {names} of {shown.n_channels}")
    return notes + [f"too much to read: the view along {shown.names[axis]}" for axis in left_out]


def index_in_level(at: Mapping[int, int], full: Sequence[int], level: Sequence[int]) -> dict[int, int]:
    """Return the indices of a coarser level that lie where indices of the full array do."""
    return {
        axis: min(level[axis] - 1, (2 * index + 1) * level[axis] // (2 * full[axis]))
        for axis, index in at.items()
    }
