"""`create_ome_zarr`: a new OME-Zarr image of several levels, all opened for writing."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.metadata import Level
from bioimage_py.sources.base import Source
from bioimage_py.sources.new import plan_output
from bioimage_py.sources.opening import as_source


def create_ome_zarr(
    path: str | os.PathLike[str],
    *,
    like: Any = None,
    levels: Sequence[Sequence[float] | Level] = (),
    overwrite: bool = False,
    **new_array: Any,
) -> list[Source]:
    """Make an OME-Zarr image with all its levels and metadata; the voxels are the caller's to write.

    Parameters
    ----------
    path
        `"out.ome.zarr"`, or `"out.ome.zarr/labels/cells"` for a label image in it. Zarr v3 makes an OME-Zarr 0.5, and
        `zarr_format=2` a 0.4.
    like
        An array, handle, path or source, for shape, dtype and metadata.
    levels
        The levels below the full-size one: by how much their voxels are larger than full-size voxels, per axis, such as
        `[(1, 2, 2), (2, 4, 4)]`. Shapes are the ceilings of the divisions, and the first voxel lies where the mean of a window of
        voxels lies. A `Level` says otherwise.
    overwrite
        Whether an image that is there is replaced; its labels stay.
    **new_array
        As for `create_output`: shape, dtype, chunks, shards, codec, zarr_format, fill_value, attributes, axes, voxel_size, units.

    Returns
    -------
    list of Source
        The levels, full size first, under the keys "0", "1", ….

    Raises
    ------
    InvalidArgumentError
        If a level has another number of factors than there are axes, one is below 1, or OME-Zarr cannot describe the axes.
    OutputExistsError
        If an image is there and `overwrite` is False, or something else is.

    Examples
    --------
    >>> import tempfile
    >>> image = tempfile.mkdtemp() + "/a.ome.zarr"
    >>> made = create_ome_zarr(image, shape=(9, 64, 64), dtype="uint8", voxel_size=(2, 0.5, 0.5), levels=[(1, 2, 2)])
    >>> [(level.key, level.shape, level.metadata.voxel_size, level.metadata.origin) for level in made]
    [('0', (9, 64, 64), (2.0, 0.5, 0.5), None), ('1', (9, 32, 32), (2.0, 1.0, 1.0), (0.0, 0.25, 0.25))]
    """
    planned = plan_output(path, like=None if like is None else as_source(like), **new_array)
    if planned.image_key is None:
        raise InvalidArgumentError(
            f"{planned.name!r} is no place for an OME-Zarr image: give a path that ends in .ome.zarr, or the key labels/… in one"
        )
    coarser = [_level(n, given, len(planned.spec.shape)) for n, given in enumerate(levels, 1)]
    return planned.create_levels(coarser, overwrite=overwrite)


def _level(number: int, given: Any, ndim: int) -> Level:
    level = given if isinstance(given, Level) else Level(str(number), tuple(given))
    if len(level.factors) != ndim or not all(math.isfinite(f) and f >= 1 for f in level.factors):
        raise InvalidArgumentError(
            f"level {number} needs one factor of at least 1 per axis, {ndim} in all, got {level.factors}"
        )
    return level
