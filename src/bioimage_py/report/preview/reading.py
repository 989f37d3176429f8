"""What a picture shows, read: the level that is good enough, and in it a plane for each panel."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError
from bioimage_py.planning import format_bytes
from bioimage_py.report.preview.look import Look
from bioimage_py.report.preview.plane import Plane
from bioimage_py.report.proportions import Proportions, drawn_sizes, index_in_level
from bioimage_py.report.shown_axes import ShownAxes
from bioimage_py.sources import DescribedSource, Source, coarser_levels
from bioimage_py.wrapper.resampling import looks_like_labels


class ReadPanel(NamedTuple):
    """A plane that was read: the axes that go down, across, and into it, and its values by rows, columns and channels."""

    down: int
    across: int
    into: int | None
    values: AnyArray


@dataclass(frozen=True)
class ReadPanels:
    """All that was read for a picture.

    Attributes
    ----------
    panels
        The main one first.
    proportions
        How large the axes are drawn.
    are_labels
        Whether the values are labels.
    level
        Name of the array that was read.
    n_bytes
        How many bytes were decoded.
    left_out
        Axes along which a side view would have looked, had it not been too much to read.
    """

    panels: tuple[ReadPanel, ...]
    proportions: Proportions
    are_labels: bool
    level: str
    n_bytes: int
    left_out: tuple[int, ...]


def read_panels(source: Source, shown: ShownAxes, look: Look, read_limit: int) -> ReadPanels:
    """Read what a picture shows.

    Raises
    ------
    InvalidArgumentError
        If the main panel alone would exceed the limit; for the mean of labels.
    """
    are_labels = not shown.is_rgb and (
        looks_like_labels(source) if look.kind is None else look.kind == "labels"
    )
    _check_labels(source, are_labels, look)
    if look.projection is not None and len(shown.space) == 2:
        raise InvalidArgumentError(
            f"{source.name} has two axes of space, so there is none to project along: leave out projection="
        )
    proportions = drawn_sizes(source.shape, shown.space, source.metadata, look.size)
    views = _views(source, shown, look.projection)
    how = "nearest" if are_labels else look.projection or "mean"
    with ExitStack() as opened:
        level = _good_enough(source, shown, views, proportions, opened)
        planes = [
            _plane(level, source, shown, view, proportions, how=how, projected=look.projection is not None)
            for view in views
        ]
        kept = _within(planes, read_limit, source)
        left_out = tuple(into for n, (_, _, into) in enumerate(views) if n not in kept and into is not None)
        if left_out:
            _warn_of(left_out, planes, source, shown, read_limit)
        read = tuple(ReadPanel(*views[n], planes[n].read()) for n in kept)
        n_bytes = sum(planes[n].n_bytes for n in kept)
        return ReadPanels(read, proportions, are_labels, level.name, n_bytes, left_out)


def _check_labels(source: Source, are_labels: bool, look: Look) -> None:
    if are_labels and source.dtype.kind not in "biu":
        raise InvalidArgumentError(
            f"labels are integers, and {source.name} holds {source.dtype}: leave out kind="
        )
    if are_labels and look.projection == "mean":
        raise InvalidArgumentError(
            f"the mean of labels means nothing, and {source.name} is taken for labels ({source.dtype} voxels): "
            "use projection='max', or say kind='image' if it is an image"
        )


def _views(source: Source, shown: ShownAxes, projection: str | None) -> list[tuple[int, int, int | None]]:
    """Return for each panel the axes that go down, across and into it."""
    if len(shown.space) == 2:
        return [(shown.space[0], shown.space[1], None)]
    z, y, x = shown.space
    if projection is not None or source.shape[z] == 1:
        return [(y, x, z)]
    return [(y, x, z), (y, z, x), (z, x, y)]


def _good_enough(
    source: Source,
    shown: ShownAxes,
    views: Sequence[tuple[int, int, int | None]],
    proportions: Proportions,
    opened: ExitStack,
) -> Source:
    """Return the coarsest level that has a voxel for each pixel, or as many as the full size has."""
    stored = source
    while isinstance(stored, DescribedSource):
        stored = stored.inputs[0]
    levels = coarser_levels(stored)
    for level in levels:
        opened.enter_context(level)
    axes = {axis for down, across, _ in views for axis in (down, across)}
    others = [axis for axis in range(source.ndim) if axis not in shown.space]
    for level in reversed(levels):
        whole = all(level.shape[axis] == source.shape[axis] for axis in others)
        if whole and all(
            level.shape[axis] >= min(proportions.pixels[axis], source.shape[axis]) for axis in axes
        ):
            return level
    return source


def _plane(
    level: Source,
    source: Source,
    shown: ShownAxes,
    view: tuple[int, int, int | None],
    proportions: Proportions,
    *,
    how: str,
    projected: bool,
) -> Plane:
    down, across, into = view
    at = index_in_level(shown.at, source.shape, level.shape)
    return Plane(
        source=level,
        rows=down,
        columns=across,
        at=at,
        channel_axis=shown.channel_axis,
        channels=shown.channels,
        depth=into if projected else None,
        size=(proportions.pixels[down], proportions.pixels[across]),
        how=how,
    )


def _within(planes: Sequence[Plane], read_limit: int, source: Source) -> list[int]:
    """Return the panels that can be read below the limit: the main one, and of the others as many as go."""
    main = planes[0].n_bytes
    if main > read_limit:
        raise InvalidArgumentError(
            f"a picture of {source.name} would take {format_bytes(main)} of decoded chunks, more than the read_limit of "
            f"{format_bytes(read_limit)}: allow more with read_limit=, show less of it (RoiSource), or give it levels that are "
            "coarser"
        )
    kept, total = [0], main
    for n in sorted(range(1, len(planes)), key=lambda n: planes[n].n_bytes):
        total += planes[n].n_bytes
        if total <= read_limit:
            kept.append(n)
    return sorted(kept)


def _warn_of(
    left_out: Sequence[int], planes: Sequence[Plane], source: Source, shown: ShownAxes, read_limit: int
) -> None:
    needed = format_bytes(sum(plane.n_bytes for plane in planes))
    names = " and ".join(shown.names[axis] for axis in left_out)
    warnings.warn(
        f"{source.name} is shown without its view along {names}: all views would take {needed} of decoded chunks, more than the "
        f"read_limit of {format_bytes(read_limit)}",
        BioimagePyWarning,
        stacklevel=6,
    )
