"""`copy` and `plan`: from any source into any writable one, block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from bioimage_py.errors import AmbiguousSourceError, OutputExistsError
from bioimage_py.kernels import Casting
from bioimage_py.operations import ArrayCopy, CopyOptions, carry_out, continued, with_arguments_of
from bioimage_py.planning import CopyPlan, ImagePlan
from bioimage_py.runner import Progress, RunnerConfig
from bioimage_py.sources import Codec, may_be_zarr

if TYPE_CHECKING:
    from bioimage_py.operations import LevelsCopy, WholeCopy

__all__ = ["copy", "plan"]


def copy(
    input: Any,
    output: Any = None,
    *,
    block_shape: Sequence[int] | None = None,
    job_type: str = "local",
    job_config: RunnerConfig | None = None,
    num_workers: int | None = 1,
    mask: Any = None,
    block_ids: Sequence[int] | None = None,
    resume_from: str | os.PathLike[str] | None = None,
    casting: Casting = "unsafe",
    memory_limit: int | str | None = None,
    verify_encoded: bool = False,
    update: bool | Literal["content"] = False,
    record: bool | Literal["full"] = False,
    digest: bool = False,
    overwrite: bool = False,
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
) -> Any:
    """Copy an array block by block, or a whole OME-Zarr with all its arrays in one run.

    Parameters
    ----------
    input
        An array, a handle, a path or URL, or any `Source`, wrappers included. The path of an OME-Zarr (an image, a container of
        images, a plate or a well) is copied whole into a path that ends in `.zarr` or names no format: all images, levels and
        labels, with their metadata. With `mask`, another `dtype`, `axes`, `voxel_size` or `units`, or an output that is a key in a
        container or of another format, only the full-size array is copied, with a warning; an OME-TIFF or a precomputed volume takes the levels too. All images of a file that holds
        several, such as an OME-TIFF, are copied into a path that ends in `.ome.zarr`, and so is an image of Imaris or BigDataViewer with its levels.
    output
        The array to write into; voxels are cast to its dtype as numpy assignment does. A path makes a new array with the shape,
        dtype, axes and attributes of the input, see `create_output`. Default: a new numpy array.
    block_shape
        Shape of a block in voxels, a multiple of the chunks of the output. Default: planned from the layouts of both sides.
    job_type
        Where blocks are copied: `"local"` (threads of this process), `"subprocess"` (worker processes on this machine), `"slurm"`,
        `"dask"`, or `"external"` (workers that you start with `bioimage-py worker RUN --join`).
    job_config
        Settings of the backend.
    num_workers
        Threads, worker processes, or tasks at once; None for all cores that this process may use, as the command does by itself. 1
        unless given: a call takes no more of a shared machine than it was asked to.
    mask
        A source of the input's shape. Only voxels where it is not zero are copied, all others keep their value; blocks
        without any are neither read nor written.
    block_ids
        Copy only these blocks, numbered from 0 in C order in the blocking of this call. In a whole OME-Zarr the numbers run
        through all arrays as the plan lists them: image by image, the levels from full size down, then those of its labels; the
        blocks are written into a copy that exists already.
    resume_from
        Run folder of a run that failed: only its missing blocks are copied.
    casting
        `"unsafe"` casts all voxels, with a warning if the output's dtype cannot hold all values of the input's; `"same_kind"` and
        `"safe"` refuse such dtypes as numpy does; `"check"` raises an error at the first voxel that would change; `"clip"` gives what
        an integer dtype cannot hold its least or greatest value, NaN 0, and cuts off fractions, as numpy does.
    memory_limit
        Most bytes that the copy may hold, or a text such as `"512MiB"`. Default: the smaller of 2 GiB and half of the free memory.
    verify_encoded
        Whether chunks that are moved without decoding (see the plan) are each decoded once, to find corrupt ones. Otherwise
        only lengths, headers and the checksums of the store are checked.
    update
        Whether to bring the output of an earlier copy up to date: only blocks are read and written whose voxels may have changed in the
        input since, by the times and sizes of its chunk files or slices, or the etags of its objects. What cannot be told is copied. The
        output gets longer where one axis of the input has grown. `"content"` compares all voxels instead, by their digests.
        Where there is no output yet, all is copied.
    record
        Whether to write what was done beside the output: an RO-Crate (`ro-crate-metadata.json`) with the names of input and output, digests
        where they are kept, the plan, versions, the call, what the copy did and when. `"full"` adds whole paths, user and host.
    digest
        Whether to keep a digest of the voxels that are written, see `bioimage_py.digest`, beside each array: `verify(output)` then proves it
        without the input. It is computed in the same pass where blocks are whole tiles of 64³ voxels, which are preferred; the plan says where
        the output is read once more instead. It goes when the array is written again without it.
    overwrite
        Whether to replace an array that exists at the output path.
    dtype, chunks, shards, codec, zarr_format, ome_zarr_version, imagej, skip_zeros
        Layout of a new output, or of all arrays of a new OME-Zarr, see `create_output`; a new numpy array takes `dtype` only.
        Default: chunks and codec of the input where the output can have them, so that encoded chunks can be moved; Zarr format
        3, and that of the input for a whole OME-Zarr.
    fill_value
        Value of the voxels that `mask` or `block_ids` leave out of a new output. Default: 0. Without `mask` and `block_ids`
        all voxels are written, and the new array has the fill value of the input.
    axes, voxel_size, units
        Names of the axes, such as `"zyx"`, size of a voxel and its unit, such as `"um"`, where the metadata of the input lack
        them or are wrong; for a new output only, see `with_metadata`. An OME-Zarr gets its axes in the order of the standard:
        time, channels, space.
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
    array
        The object given as `output`, or the array or `Source` that was made; for a whole OME-Zarr, the full-size array of its
        first image.

    Raises
    ------
    InvalidArgumentError
        If the arguments do not fit together; nothing has been written.
    OutputExistsError
        If the output path exists and `overwrite` is False.
    RunnerError
        If blocks failed; `failed_block_ids` lists them, all others are written.
    StorageError
        If metadata cannot be read; of an OME-Zarr with several images all others have been copied, and the message names it.

    Warns
    -----
    AssumptionWarning
        Once, if metadata that the input file does not have are assumed and written, such as the distance of slices; `plan` lists them.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(24).reshape(2, 3, 4)
    >>> bool((copy(image) == image).all())
    True
    """
    return copy_as(input, output, CopyOptions.of(locals()))


@with_arguments_of(copy)
def plan(input: Any, output: Any = None, **options: Any) -> CopyPlan | ImagePlan:
    """Return what `copy` would do with the same arguments; nothing is written and no voxel is read.

    All arguments are those of `copy`.

    Returns
    -------
    CopyPlan or ImagePlan
        Road, blocks, bytes, files, peak memory and read amplification, of each array for a whole OME-Zarr; `print` explains it.

    Raises
    ------
    BioimagePyError
        What `copy` would raise before it writes: for an output that exists, or cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> plan(np.zeros((64, 64, 64), "uint8"), block_shape=(32, 32, 32)).n_blocks
    8
    """
    asked = CopyOptions(**options)
    with asked.reaching(input, output, asked.mask):
        job = _planned(input, output, asked, quiet=True)
        try:
            job.check_free()
        except OutputExistsError:
            if continued(job) is job:
                raise
        return job.plan


def copy_as(input: Any, output: Any, options: CopyOptions) -> Any:
    """Copy as the options say, see `copy`."""
    with options.reaching(input, output, options.mask):
        return carry_out(_planned(input, output, options))


def _planned(
    input: Any, output: Any, options: CopyOptions, *, quiet: bool = False
) -> ArrayCopy | LevelsCopy | WholeCopy:
    """Check and plan the copy: of one array, of an image with its levels, of a whole OME-Zarr, or of all images of a file."""
    if type(input).__module__.startswith("zarr."):
        from bioimage_py.sources.zarr import group_path

        input = group_path(input) or input
    paths = isinstance(input, (str, os.PathLike)) and isinstance(output, (str, os.PathLike))
    if paths and may_be_zarr(output):
        from bioimage_py.operations import SeriesCopy, images_to_copy

        if images := images_to_copy(input, output, options, with_levels=True):
            return SeriesCopy(input, images, output, options, quiet=quiet)
    elif paths:
        from bioimage_py.operations import LevelsCopy, levels_to_copy

        if levels := levels_to_copy(input, output, options, quiet=quiet):
            return LevelsCopy(levels, output, options, quiet=quiet)
    if paths and may_be_zarr(input):
        # Needs the libraries of Zarr, which other copies do without.
        from bioimage_py.operations import ImageCopy, is_image_copy

        if is_image_copy(input, output, options):
            return ImageCopy(input, output, options)
    try:
        job = ArrayCopy(input, output, options, quiet=quiet)
    except AmbiguousSourceError:
        from bioimage_py.operations import SeriesCopy, images_to_copy

        images = images_to_copy(input, output, options)
        if not images:
            raise
    else:
        if job.update is not None:
            from bioimage_py.operations import follow_levels

            job.follow = follow_levels
        return job
    return SeriesCopy(input, images, output, options, quiet=quiet)
