"""What a picture shows, read: the level that is good enough, and in it a plane for each panel."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from bioimage_py.chunks import AnyArray
from bioimage_py.errors import BioimagePyWarning, Hint, InvalidArgumentError
from bioimage_py.planning import format_bytes
from bioimage_py.report.axes import ShownAxes, open_levels
from bioimage_py.report.preview.plane import Plane
from bioimage_py.report.proportions import Proportions, drawn_sizes, index_in_level
from bioimage_py.sources import Source
from bioimage_py.wrapper.resampling import looks_like_labels

View = tuple[int, int, int | None]
"""The axes of a panel that go down, across, and into it."""


class ReadPanel(NamedTuple):
    """A panel's axes that go down, across, and into it, and its values by rows, columns and channels."""

    down: int
    across: int
    into: int | None
    values: AnyArray


@dataclass(frozen=True)
class ReadPanels:
    """All that was read for a picture, the main panel first."""

    panels: tuple[ReadPanel, ...]
    proportions: Proportions
    are_labels: bool
    level: str  # name of the array that was read
    n_bytes: int  # how many bytes were decoded
    left_out: tuple[int, ...]  # axes along which a side view would have been too much to read


def read_panels(
    source: Source, shown: ShownAxes, kind: str | None, projection: str | None, size: int, read_limit: int
) -> ReadPanels:
    """Read what a picture shows; raise InvalidArgumentError if even the main panel exceeds the limit, or for means of labels."""
    are_labels = not shown.is_rgb and (looks_like_labels(source) if kind is None else kind == "labels")
    if are_labels and source.dtype.kind not in "biu":
        raise InvalidArgumentError(
            f"labels are integers, and {source.name} holds {source.dtype}",
            hints=[Hint.of("leave out {}", kind=...)],
        )
    if are_labels and projection == "mean":
        raise InvalidArgumentError(
            f"the mean of labels means nothing, and {source.name} is taken for labels ({source.dtype} voxels)",
            hints=[
                Hint.of("give {}", projection="max"),
                Hint.of("or, if it is an image, give {}", kind="image"),
            ],
        )
    if projection is not None and len(shown.space) == 2:
        raise InvalidArgumentError(
            f"{source.name} has two axes of space, so there is none to project along",
            hints=[Hint.of("leave out {}", projection=...)],
        )
    proportions = drawn_sizes(source.shape, shown.space, source.metadata, size)
    views = _views(source, shown, projection)
    with ExitStack() as opened:
        level = _good_enough(source, shown, views, proportions, opened)
        planes = [
            Plane(
                source=level,
                rows=down,
                columns=across,
                at=index_in_level(shown.at, source.shape, level.shape),
                channel_axis=shown.channel_axis,
                channels=shown.channels,
                depth=None if projection is None else into,
                size=(proportions.pixels[down], proportions.pixels[across]),
                how="nearest" if are_labels else projection or "mean",
            )
            for down, across, into in views
        ]
        costs = [plane.n_bytes for plane in planes]
        kept = _within(costs, read_limit, source)
        left_out = tuple(into for n, (_, _, into) in enumerate(views) if n not in kept and into is not None)
        if left_out:
            names = " and ".join(shown.names[axis] for axis in left_out)
            warnings.warn(
                f"{source.name} is shown without its view along {names}: all views would take {format_bytes(sum(costs))} of "
                f"decoded chunks, more than the read_limit of {format_bytes(read_limit)}",
                BioimagePyWarning,
                stacklevel=5,
            )
        read = tuple(ReadPanel(*views[n], planes[n].read()) for n in kept)
        return ReadPanels(read, proportions, are_labels, level.name, sum(costs[n] for n in kept), left_out)


def _views(source: Source, shown: ShownAxes, projection: str | None) -> list[View]:
    if len(shown.space) == 2:
        return [(*shown.space, None)]
    z, y, x = shown.space
    if projection is not None or source.shape[z] == 1:
        return [(y, x, z)]
    return [(y, x, z), (y, z, x), (z, x, y)]


def _good_enough(
    source: Source, shown: ShownAxes, views: Sequence[View], sizes: Proportions, opened: ExitStack
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
