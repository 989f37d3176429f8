"""`pyramid`: an image and all its smaller levels in one pass over the input."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from bioimage_py.kernels import Casting
from bioimage_py.operations import PyramidJob, PyramidOptions, finishing
from bioimage_py.planning import PyramidPlan
from bioimage_py.runner import Progress, RunnerConfig
from bioimage_py.runner.run import log_account
from bioimage_py.sources import Codec, Source
from bioimage_py.sources.stores import marking_new

__all__ = ["pyramid", "pyramid_plan"]


def pyramid(
    input: Any,
    output: Any = None,
    *,
    levels: int | None = None,
    scale_factors: Sequence[int | Sequence[int]] | None = None,
    method: str = "auto",
    kind: str | None = None,
    block_shape: Sequence[int] | None = None,
    job_type: str = "local",
    job_config: RunnerConfig | None = None,
    num_workers: int = 1,
    resume_from: str | os.PathLike[str] | None = None,
    casting: Casting = "unsafe",
    memory_limit: int | str | None = None,
    verify_encoded: bool = False,
    overwrite: bool = False,
    dtype: npt.DTypeLike | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
    zarr_format: int | None = None,
    fill_value: float | None = None,
    axes: Sequence[str] | None = None,
    voxel_size: float | Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Source]:
    """Write an image as an OME-Zarr with smaller and smaller levels of it, reading the input once.

    Each level is the reduction of the one before as that is stored, so that the result does not depend on blocks, workers or
    backend. A block of the input makes its part of as many levels as it holds whole chunks or shards of; what is left is made
    from the last of these levels.

    Parameters
    ----------
    input
        An array, a handle, a path or URL, or any `Source`, wrappers included.
    output
        Path of the new image, `"out.ome.zarr"`, or `"out.ome.zarr/labels/cells"` for a label image in one. Omitted: the input is an
        OME-Zarr image, and levels are added to it; its full-size one stays as it is.
    levels
        How many levels, the full-size one included. Default: until the volume fits one chunk; labels in an OME-Zarr get the levels
        of their image.
    scale_factors
        For each level below the full-size one, how many voxels of the level before become one: one integer for all axes of
        space, or one per axis, as in `[(1, 2, 2), (2, 2, 2)]`. Default: 2 on the axes whose voxels are shortest, up to the square
        root of two longer included, so that anisotropic voxels become cubes. Channels and time are never reduced.
    method
        `"mean"`, `"median"`, `"mode"`, `"min"`, `"max"`, `"stride"`, as for `downsample`, or `"auto"`: mode for labels, mean for
        images.
    kind
        `"labels"` or `"image"`, for `"auto"`. Default: what the input looks like; what is written below `labels/` is labels.
    block_shape
        Extent of a processing block in voxels of the input; whole chunks, or shards, of the output. Default: planned.
    job_type, job_config, num_workers, resume_from
        As for `copy`.
    casting, memory_limit, verify_encoded
        As for `copy`.
    overwrite
        Whether an image that is there already is replaced; without an output, whether its smaller levels are.
    dtype, chunks, shards, codec, zarr_format, fill_value
        How the levels look, see `create_output`. `zarr_format=2` makes an OME-Zarr 0.4, 3 a 0.5.
    axes, voxel_size, units
        Of the input, where its own metadata are wrong or silent; see `with_metadata`.
    progress
        Called with a `Progress` a few times a second and at the end.

    Returns
    -------
    list of Source
        The levels, full size first.

    Raises
    ------
    InvalidArgumentError
        If the arguments do not fit together, or there is no such pyramid; nothing has been written then.
    OutputExistsError
        If the image, or without an output a smaller level of it, is there and `overwrite` is False.
    RunnerError
        If blocks failed; `failed_block_ids` lists them, and those that waited for them.

    Warns
    -----
    BioimagePyWarning
        If labels are averaged.

    Notes
    -----
    There is no `mask` and there are no `block_ids`: a level that is not made from the whole of the one before it is wrong.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> out = tempfile.mkdtemp() + "/a.ome.zarr"
    >>> image = np.zeros((16, 128, 128), "uint8")
    >>> made = pyramid(image, out, chunks=(32, 32, 32), voxel_size=(2, 0.5, 0.5))
    >>> [(level.shape, level.metadata.voxel_size) for level in made]
    [((16, 128, 128), (2.0, 0.5, 0.5)), ((16, 64, 64), (2.0, 1.0, 1.0)), ((16, 32, 32), (2.0, 2.0, 2.0))]
    """
    job = PyramidJob(input, output, PyramidOptions.of(locals()))
    with marking_new() as marks:
        job.open(marks)
    with finishing(job):
        journal = job.run()
    marks.remove()
    log_account(journal.account)
    return job.result()


def pyramid_plan(
    input: Any,
    output: Any = None,
    *,
    levels: int | None = None,
    scale_factors: Sequence[int | Sequence[int]] | None = None,
    method: str = "auto",
    kind: str | None = None,
    block_shape: Sequence[int] | None = None,
    job_type: str = "local",
    job_config: RunnerConfig | None = None,
    num_workers: int = 1,
    casting: Casting = "unsafe",
    memory_limit: int | str | None = None,
    overwrite: bool = False,
    dtype: npt.DTypeLike | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
    zarr_format: int | None = None,
    fill_value: float | None = None,
    axes: Sequence[str] | None = None,
    voxel_size: float | Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
) -> PyramidPlan:
    """Return what `pyramid` would do with the same arguments; nothing is written and no voxel is read.

    Returns
    -------
    PyramidPlan
        Levels, blocks, what is read for what, memory; it prints well.

    Raises
    ------
    BioimagePyError
        Whatever `pyramid` would raise before it writes anything.

    Examples
    --------
    >>> import numpy as np
    >>> found = pyramid_plan(np.zeros((256, 256, 256), "uint8"), "out.ome.zarr", chunks=(64, 64, 64))
    >>> [level.shape for level in found.levels]
    [(256, 256, 256), (128, 128, 128), (64, 64, 64)]
    """
    job = PyramidJob(input, output, PyramidOptions.of(locals()), quiet=True)
    job.check_free()
    return job.plan
