"""Contrast limits of an OME-Zarr image for whose channels nobody has chosen any: percentiles of its smallest level."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.geometry import Box
from bioimage_py.metadata import PROVISIONAL, ome_of
from bioimage_py.sources.base import FileSource, Source
from bioimage_py.sources.ome_zarr.writing import write_attributes
from bioimage_py.sources.stores import group_attributes, update_consolidated
from bioimage_py.storage import StoreFolder, url_options

_PERCENTILES = (0.1, 99.8)
_SAMPLE = 2**22
"""How many voxels of a channel are read at most."""


def set_contrast_limits(levels: Sequence[FileSource]) -> None:
    """Write the contrast limits of an image whose voxels have been written, where it has provisional ones.

    The sample does not depend on how the voxels were written, so that the metadata are the same after every run.
    """
    level = min(levels, key=lambda one: one.size)
    spec = level.to_spec()
    root = StoreFolder.at(level.path, url_options(spec))
    group = root.child((level.key or "").rpartition("/")[0] or None)
    attributes = copy.deepcopy(dict(group_attributes(group)))
    omero = ome_of(attributes).get("omero")
    channels = omero.get("channels") if isinstance(omero, Mapping) else None
    windows = [
        channel.get("window") if isinstance(channel, Mapping) else None
        for channel in (channels if isinstance(channels, list) else ())
    ]
    axes = level.metadata.axes or ()
    axis = axes.index("c") if "c" in axes else None
    changed = False
    for number, window in enumerate(windows):
        if not isinstance(window, dict) or not window.pop(PROVISIONAL, False):
            continue
        changed = True
        values = _sample(level, axis, number)
        values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if not values.size:
            continue
        low, high = (v.item() for v in np.percentile(values, _PERCENTILES, method="inverted_cdf"))
        window["start"], window["end"] = low, high if low < high else low + 1
        if values.dtype.kind == "f":
            window["min"], window["max"] = values.min().item(), max(values.max().item(), window["end"])
    if changed:
        write_attributes(group, attributes, 3 if level.format.endswith("v3") else 2, fresh=False)
        update_consolidated([group])


def _sample(level: Source, axis: int | None, number: int) -> AnyArray:
    """Return voxels of a channel from chunks that are evenly spread over it."""
    unit = [min(c, max(1, n)) for c, n in zip(level.chunks or level.shape, level.shape, strict=True)]
    counts = [-(-n // u) for n, u in zip(level.shape, unit, strict=True)]
    if axis is not None:
        unit[axis], counts[axis] = 1, 1
    total = math.prod(counts)
    taken = max(1, min(total, _SAMPLE // max(1, math.prod(unit))))
    found = [np.empty(0, level.dtype.newbyteorder("="))]
    for n in range(taken if level.size else 0):
        place = np.unravel_index((2 * n + 1) * total // (2 * taken), counts)
        begin = [int(p) * u for p, u in zip(place, unit, strict=True)]
        end = [min(b + u, extent) for b, u, extent in zip(begin, unit, level.shape, strict=True)]
        if axis is not None:
            begin[axis], end[axis] = number, number + 1
        while math.prod(e - b for b, e in zip(begin, end, strict=True)) > _SAMPLE:
            widest = max(range(level.ndim), key=lambda one: end[one] - begin[one])
            quarter = (end[widest] - begin[widest]) // 4
            begin[widest], end[widest] = begin[widest] + quarter, end[widest] - quarter
        found.append(np.asarray(level.read(Box(tuple(begin), tuple(end))), found[0].dtype).ravel())
    return np.concatenate(found)
