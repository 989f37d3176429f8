"""The sizes in which a viewer can have an image: those that are stored, or made while they are looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack

from bioimage_py.metadata import ImageMetadata, Level
from bioimage_py.sources import DescribedSource, Source, coarser_levels
from bioimage_py.wrapper.resampling import ReducedSource

_MOST_READ = 64
"""Voxels that are read at most for one voxel of a level that is not stored."""
_SMALL = 128
"""An image whose axes of space are no longer than this needs no smaller copies."""
_CACHE_BYTES = 2**27


def viewed_levels(
    source: Source, metadata: ImageMetadata, *, are_labels: bool, threads: int, opened: ExitStack
) -> list[tuple[Source, Level]]:
    """Return an image and smaller copies of it, each tuned for many small reads, with how it lies in the full size.

    Parameters
    ----------
    source
        The image.
    metadata
        What is known of it, with axes.
    are_labels
        Whether it holds labels: of those every so-manieth voxel is shown, of others the mean.
    threads
        How many may decode at once.
    opened
        Takes the stored levels, which are to be closed.
    """
    stored = source
    while isinstance(stored, DescribedSource):
        stored = stored.inputs[0]
    coarser = coarser_levels(stored)
    for level in coarser:
        opened.enter_context(level)
    places = [Level("", (1.0,) * source.ndim), *(_place(source, level) for level in coarser)]
    twins = [level.for_run(threads, _CACHE_BYTES) for level in (source, *coarser)]
    found = list(zip(twins, places, strict=True))
    if not coarser:
        method = "stride" if are_labels else "mean"
        for factors in _made_factors(source.shape, metadata):
            offset = (0.0,) * source.ndim if are_labels else None
            place = Level("", tuple(float(f) for f in factors), offset)
            found.append((ReducedSource(twins[0], factors, method), place))
    return found


def _place(full: Source, level: Source) -> Level:
    """Return how a stored level lies in the full size: as both say it, else as their shapes tell."""
    size, own = full.metadata.voxel_size, level.metadata.voxel_size
    if size is None or own is None:
        return Level("", tuple(float(round(n / m)) for n, m in zip(full.shape, level.shape, strict=True)))
    nowhere = (0.0,) * full.ndim
    at, first = level.metadata.origin or nowhere, full.metadata.origin or nowhere
    factors = tuple(a / b for a, b in zip(own, size, strict=True))
    return Level("", factors, tuple((a - b) / s for a, b, s in zip(at, first, size, strict=True)))


def _made_factors(shape: Sequence[int], metadata: ImageMetadata) -> list[tuple[int, ...]]:
    """Return factors that halve the axes of space again and again, the longest voxels last, as far as that is worth it."""
    axes = metadata.axes or ()
    space = [n for n, axis in enumerate(axes) if axis in "zyx"]
    sizes = metadata.voxel_size or (1.0,) * len(shape)
    found: list[tuple[int, ...]] = []
    factors = [1] * len(shape)
    while True:
        extents = {n: -(-shape[n] // factors[n]) for n in space}
        if max(extents.values()) <= _SMALL:
            return found
        finest = min(sizes[n] * factors[n] for n in space if extents[n] > 1)
        for n in space:
            if extents[n] > 1 and sizes[n] * factors[n] < 2 * finest:
                factors[n] *= 2
        if math.prod(factors) > _MOST_READ:
            return found
        found.append(tuple(factors))
