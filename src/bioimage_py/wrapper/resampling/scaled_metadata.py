"""What metadata becomes when voxels change their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bioimage_py.metadata import ImageMetadata


def rescaled(metadata: ImageMetadata, factors: Sequence[float], offset: Sequence[float]) -> ImageMetadata:
    """Return the metadata of an array whose voxels are `factors` times as large.

    Parameters
    ----------
    metadata
        Of the input, fitting its axes.
    factors
        Input voxels per voxel, per axis.
    offset
        Where the centre of the first voxel is, in input voxels from the centre of the input's first voxel.

    Examples
    --------
    >>> fine = ImageMetadata(voxel_size=(2.0, 0.5))
    >>> coarse = rescaled(fine, (1, 2), (0, 0.5))
    >>> coarse.voxel_size, coarse.origin
    ((2.0, 1.0), (0.0, 0.25))
    """
    axes = metadata.axes or ()
    if "c" in axes and factors[axes.index("c")] != 1:
        metadata = metadata.with_channels_selected(None)
    size = metadata.voxel_size
    if size is None:
        return metadata
    origin = metadata.origin
    if origin is not None or any(offset):
        start = origin or (0.0,) * len(size)
        origin = tuple(o + n * s for o, n, s in zip(start, offset, size, strict=True))
    return replace(
        metadata,
        voxel_size=tuple(s * f for s, f in zip(size, factors, strict=True)),
        origin=origin,
    )
