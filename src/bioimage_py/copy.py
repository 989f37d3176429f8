"""`copy` and `plan`: from any source into any writable one, block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from bioimage_py.kernels import Casting
from bioimage_py.operations import ArrayCopy, CopyOptions, finishing
from bioimage_py.planning import CopyPlan, ImagePlan
from bioimage_py.runner import Progress, RunnerConfig
from bioimage_py.runner.run import log_account
from bioimage_py.sources import Codec, may_be_zarr
from bioimage_py.sources.stores import marking_new

if TYPE_CHECKING:
    from bioimage_py.operations import ImageCopy

__all__ = ["copy", "plan"]


def copy(
    input: Any,
    output: Any = None,
    *,
    block_shape: Sequence[int] | None = None,
    job_type: str = "local",
    job_config: RunnerConfig | None = None,
    num_workers: int = 1,
    mask: Any = None,
    block_ids: Sequence[int] | None = None,
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
) -> Any:
    """Copy an array into another, one block at a time; or an OME-Zarr whole, all its arrays in one run.

    Parameters
    ----------
    input
        An array, a handle, a path or URL, or any `Source`, wrappers included: shape and dtype are taken from it. The path of an
        OME-Zarr image, of a container of images, a plate or a well is copied whole where the output is the path of a Zarr container:
        all images, levels and labels with their metadata. Where `mask`, another `dtype`, `axes`, `voxel_size` or `units` are
        given, or the output is a key in a container or of another format, that is the full-size array alone, with a warning.
    output
        The array to write into. Its dtype governs: voxels are cast as numpy assignment does. A path makes a new
        array with the input's shape, dtype, axes and attributes (see `create_output`). Omitted: a numpy array is
        allocated.
    block_shape
        Extent of a processing block in voxels; whole chunks of the output. Default: planned from both sides.
    job_type
        `"local"`: threads of this process; `"subprocess"`: worker processes on this machine.
    job_config
        Settings of the backend.
    num_workers
        Threads, or worker processes.
    mask
        A source of the input's shape. Only voxels where it is non-zero are copied; all others keep their value.
        Blocks with none are neither read nor written.
    block_ids
        Process only these blocks, numbered from 0 in C order in the blocking of this call. In an OME-Zarr that is copied whole
        they are numbered through all arrays, as the plan lists them: image by image, of each the levels, full size first,
        then those of its labels. They are written into a copy that is there already.
    resume_from
        Run folder of a failed run: its missing blocks are copied, and nothing else.
    casting
        `"unsafe"` casts whatever comes, with one warning where the dtypes cannot hold each other's values;
        `"same_kind"` and `"safe"` refuse such dtypes as numpy does; `"check"` raises at the first voxel that would change.
    memory_limit
        Bytes that the copy may hold, or a text such as `"512MiB"`. Default: 2 GiB or half of the free memory,
        whichever is less.
    verify_encoded
        Where encoded chunks are moved without decoding them (the plan says so): whether each is decoded once, to fail on
        one that is corrupt. Without it, lengths, headers and the checksums of the store are checked.
    overwrite
        Whether an array that is there already at the output path is replaced.
    dtype, chunks, shards, codec, zarr_format
        How a new stored output looks, see `create_output` (a new numpy array takes `dtype` only); in an OME-Zarr that is copied whole, all arrays of it. Chunks and codec that are not given are those of the input where
        the output can have them, so that encoded chunks are moved and need not be decoded. The format is 3, and that of the input for a whole OME-Zarr.
    fill_value
        What voxels of a new output read as that are never written, a number that its dtype holds: those that `mask` or `block_ids` leaves
        out. Default: 0 for these; without a mask and `block_ids` all voxels are written, and the new array keeps the input's fill value.
    axes, voxel_size, units
        What the input's own metadata say wrongly or not at all, for a new output: names of the axes, such as `"zyx"`, size of a
        voxel, and its unit, such as `"um"`; see `with_metadata`. An OME-Zarr gets its axes in the order of the
        standard: time, channels, space.
    progress
        Called with a `Progress` a few times a second and at the end.

    Returns
    -------
    array
        The very object given as `output`, or the array or `Source` that was made; of a whole OME-Zarr, the full-size array of
        its first image.

    Raises
    ------
    InvalidArgumentError
        If the arguments do not fit together; nothing has been written then.
    OutputExistsError
        If the output path is there and `overwrite` is False.
    RunnerError
        If blocks failed; `failed_block_ids` lists them, all others are written.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(24).reshape(2, 3, 4)
    >>> bool((copy(image) == image).all())
    True
    """
    return copy_as(input, output, CopyOptions.of(locals()))


def plan(
    input: Any,
    output: Any = None,
    *,
    block_shape: Sequence[int] | None = None,
    job_type: str = "local",
    job_config: RunnerConfig | None = None,
    num_workers: int = 1,
    mask: Any = None,
    block_ids: Sequence[int] | None = None,
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
) -> CopyPlan | ImagePlan:
    """Return what `copy` would do with the same arguments; nothing is written and no voxel is read.

    All arguments are those of `copy`.

    Returns
    -------
    CopyPlan or ImagePlan
        Road, blocks, bytes, files, peak memory, read amplification; it prints well. For an OME-Zarr that is copied whole it has all
        that of each array.

    Raises
    ------
    BioimagePyError
        Whatever `copy` would raise before it writes anything: an output that is there, or cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> plan(np.zeros((64, 64, 64), "uint8"), block_shape=(32, 32, 32)).n_blocks
    8
    """
    job = _planned(input, output, CopyOptions.of(locals()), quiet=True)
    job.check_free()
    return job.plan


def copy_as(input: Any, output: Any, options: CopyOptions) -> Any:
    """Copy as the options say, see `copy`."""
    job = _planned(input, output, options)
    with marking_new() as marks:
        job.open(marks)
    with finishing(job):
        journal = job.run()
    marks.remove()
    log_account(journal.account)
    return job.result()


def _planned(input: Any, output: Any, options: CopyOptions, *, quiet: bool = False) -> ArrayCopy | ImageCopy:
    """Return what is copied into what, checked and planned: one array, or an OME-Zarr whole."""
    if type(input).__module__.startswith("zarr."):
        from bioimage_py.sources.zarr import group_path

        input = group_path(input) or input
    paths = isinstance(input, (str, os.PathLike)) and isinstance(output, (str, os.PathLike))
    if paths and may_be_zarr(input):
        # It needs the libraries of Zarr, which most other copies can do without.
        from bioimage_py.operations import ImageCopy, is_image_copy

        if is_image_copy(input, output, options):
            return ImageCopy(input, output, options)
    return ArrayCopy(input, output, options, quiet=quiet)
