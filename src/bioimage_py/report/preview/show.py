"""`preview`: a picture of an image of any size, from as few voxels as will do."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from bioimage_py.planning import parse_bytes
from bioimage_py.report.preview.drawing import drawn
from bioimage_py.report.preview.look import Look, checked_look
from bioimage_py.report.preview.own_inputs import check_not_an_input
from bioimage_py.report.preview.picture import Picture, check_free, picture_format
from bioimage_py.report.preview.reading import read_panels
from bioimage_py.report.shown_axes import Choice, shown_axes
from bioimage_py.sources import Source, as_source


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
    look = checked_look(kind, projection, contrast, percentiles, size)
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
            check_not_an_input(path, opened)
        picture = picture_of(opened, Choice(position, time, channels), look, limit)
    if path is None:
        return picture
    return replace(picture, path=picture.save(path, overwrite=overwrite))


def picture_of(source: Source, choice: Choice, look: Look, read_limit: int) -> Picture:
    """Return a picture of a source; what is asked for has been checked as far as that goes without the source."""
    shown = shown_axes(source, choice)
    return drawn(source, shown, look, read_panels(source, shown, look, read_limit))
