"""`pyramid`: an image and all its smaller levels in one pass over the input."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy.typing as npt

from bioimage_py.errors import OutputExistsError
from bioimage_py.kernels import Casting
from bioimage_py.operations import PyramidJob, PyramidOptions, carry_out, continued, with_arguments_of
from bioimage_py.planning import PyramidPlan
from bioimage_py.runner import Progress, RunnerConfig
from bioimage_py.sources import Codec, Source

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
    num_workers: int | None = 1,
    resume_from: str | os.PathLike[str] | None = None,
    casting: Casting = "unsafe",
    memory_limit: int | str | None = None,
    verify_encoded: bool = False,
    overwrite: bool = False,
    digest: bool = False,
    dtype: npt.DTypeLike | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | Literal["auto"] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
    zarr_format: int | None = None,
    ome_zarr_version: str | None = None,
    imagej: bool | None = None,
    skip_zeros: bool | None = None,
    fill_value: float | None = None,
    axes: Sequence[str] | None = None,
    voxel_size: float | Sequence[float] | None = None,
    units: str | Sequence[str | None] | None = None,
    endpoint: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
    profile: str | None = None,
    page: str | os.PathLike[str] | None = None,
    progress: Callable[[Progress], None] | bool | None = None,
) -> list[Source]:
    """Write an image as an OME-Zarr with smaller and smaller levels, reading the input once.

    Each level is computed from the level before as it is stored, so that the result does not depend on blocks, workers or
    backend. A block of the input yields its part of as many levels as it holds whole chunks or shards of; the rest is computed
    from the last of these levels.

    Parameters
    ----------
    input
        An array, a handle, a path or URL, or any `Source`, wrappers included.
    output
        Path of the new image, such as `"out.ome.zarr"`, or `"out.ome.zarr/labels/cells"` for a label image in one, `"out.precomputed"`,
        `"out.ome.tif"`. Default: levels
        are added to the input, an OME-Zarr image; its full-size level stays as it is.
    levels
        Number of levels, the full-size one included. Default: until the volume fits one chunk; labels in an OME-Zarr get the levels
        of their image.
    scale_factors
        For each level below the full-size one, how many voxels of the level before become one: an integer for all axes of
        space, or one per axis, as in `[(1, 2, 2), (2, 2, 2)]`. Default: 2 on the axes whose voxels are shortest, or longer by up
        to the square root of two, so that anisotropic voxels become cubes. Channels and time are never reduced.
    method
        `"mean"`, `"median"`, `"mode"`, `"min"`, `"max"`, `"stride"`, as for `downsample`, or `"auto"`: mode for labels, mean for
        images.
    kind
        `"labels"` or `"image"`, for `"auto"`. Default: judged by the input; everything written below `labels/` is labels.
    block_shape
        Shape of a block in voxels of the input, a multiple of the chunks or shards of the output. Default: planned.
    job_type, job_config, num_workers, resume_from, casting, memory_limit, verify_encoded
        As for `copy`.
    overwrite
        Whether to replace an image that exists; without an output, its smaller levels.
    digest
        Whether to keep a digest beside each level, as `copy` does: levels are read once more for it. Not for files, and not for runs that keep a folder.
    dtype, chunks, shards, codec, zarr_format, ome_zarr_version, imagej, skip_zeros, fill_value
        Layout of the levels, see `create_output`.
    axes, voxel_size, units
        Of the input, where its metadata lack them or are wrong; see `with_metadata`.
    endpoint, region, anonymous, profile
        How the `s3://` URLs of this call are reached, or its `az://` URLs (endpoint, anonymous): URL of a server that is not Amazon's, or of the
        account in Azure, region, whether to ask without keys, and the profile in `~/.aws` that has the keys. Default: the environment
        (`AWS_ENDPOINT_URL`, `AZURE_STORAGE_ACCOUNT_NAME`, …). Where two servers differ, open one of the sources with `open_source(url, endpoint=…)`.
    page
        File for a page about the run (HTML): its blocks in their place, speed over time, stages, tasks, errors. It is written at the end, also
        where blocks failed, and may replace another such page only.
    progress
        A function that is called with a `Progress` a few times a second and at the end; True for a bar, False for nothing. Default: a
        bar in notebooks and on terminals, unless `BIOIMAGE_PY_PROGRESS=0` or `progress = false` in the configuration file turns it off.

    Returns
    -------
    list of Source
        The levels, full size first.

    Raises
    ------
    InvalidArgumentError
        If the arguments do not fit together, or such a pyramid is not possible; nothing has been written.
    OutputExistsError
        If the image, or without an output one of its smaller levels, exists and `overwrite` is False.
    RunnerError
        If blocks failed; `failed_block_ids` lists them, and those that waited for them.

    Warns
    -----
    BioimagePyWarning
        If labels are averaged.
    AssumptionWarning
        Once, if metadata that the input file does not have are assumed and written, or integers are taken for labels.

    Notes
    -----
    `mask` and `block_ids` are not offered: a level that is computed from a part of the level before is wrong.

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
    asked = PyramidOptions.of(locals())
    with asked.reaching(input, output):
        levels_made: list[Source] = carry_out(PyramidJob(input, output, asked))
        return levels_made


@with_arguments_of(pyramid)
def pyramid_plan(input: Any, output: Any = None, **options: Any) -> PyramidPlan:
    """Return what `pyramid` would do with the same arguments; nothing is written and no voxel is read.

    All arguments are those of `pyramid`.

    Returns
    -------
    PyramidPlan
        Levels, blocks, what is read for which level, memory; `print` explains it.

    Raises
    ------
    BioimagePyError
        What `pyramid` would raise before it writes.

    Examples
    --------
    >>> import numpy as np
    >>> found = pyramid_plan(np.zeros((256, 256, 256), "uint8"), "out.ome.zarr", chunks=(64, 64, 64))
    >>> [level.shape for level in found.levels]
    [(256, 256, 256), (128, 128, 128), (64, 64, 64)]
    """
    asked = PyramidOptions(**options)
    with asked.reaching(input, output):
        job = PyramidJob(input, output, asked, quiet=True)
        try:
            job.check_free()
        except OutputExistsError:
            if continued(job) is job:
                raise
        return job.plan
