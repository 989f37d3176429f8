"""`copy` and `plan`: from any source into any writable one, block by block."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from bioimage_py.copy_target import Target, find_target
from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError, RunInterrupted
from bioimage_py.geometry import Box, IdSet, check_block_shape
from bioimage_py.kernels import Casting, CopyKernel, can_hold, check_casting
from bioimage_py.planning import ArrayLayout, CopyPlan, PlanOptions, parse_bytes, plan_copy
from bioimage_py.runner import (
    Journal,
    Progress,
    Runner,
    RunnerConfig,
    check_num_workers,
    get_runner,
    ids_from,
    raise_failures,
)
from bioimage_py.runner.copy_work import CopyWork
from bioimage_py.runner.twins import run_twin
from bioimage_py.sources import Codec, Source, as_source

__all__ = ["copy", "plan"]

_log = logging.getLogger(__name__)


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
    overwrite: bool = False,
    dtype: npt.DTypeLike | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
    zarr_format: int = 3,
    progress: Callable[[Progress], None] | None = None,
) -> Any:
    """Copy an array into another, one block at a time.

    Parameters
    ----------
    input
        An array, a handle, a path or URL, or any `Source`, wrappers included: shape and dtype are taken from it.
    output
        The array to write into. Its dtype governs: voxels are cast as numpy assignment does. A path makes a new
        array with the input's shape, dtype, axes and attributes (see `create_output`). Omitted: a numpy array is
        allocated.
    block_shape
        Extent of a processing block in voxels; whole chunks of the output. Default: planned from both sides.
    job_type
        `"local"`: threads of this process.
    job_config
        Settings of the backend.
    num_workers
        Threads.
    mask
        A source of the input's shape. Only voxels where it is non-zero are copied; all others keep their value.
        Blocks with none are neither read nor written.
    block_ids
        Process only these blocks, numbered from 0 in C order in the blocking of this call.
    resume_from
        Run folder of a failed distributed run.
    casting
        `"unsafe"` casts whatever comes, with one warning where the dtypes cannot hold each other's values;
        `"same_kind"` and `"safe"` refuse such dtypes as numpy does; `"check"` raises at the first voxel that would change.
    memory_limit
        Bytes that the copy may hold, or a text such as `"512MiB"`. Default: 2 GiB or half of the free memory,
        whichever is less.
    overwrite
        Whether an array that is there already at the output path is replaced.
    dtype, chunks, shards, codec, zarr_format
        How a new stored output looks, see `create_output`.
    progress
        Called with a `Progress` a few times a second and at the end.

    Returns
    -------
    array
        The very object given as `output`, or the array or `Source` that was made.

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
    request = _Request.check(
        input,
        output,
        mask,
        block_shape,
        job_type,
        job_config,
        num_workers,
        block_ids,
        resume_from,
        memory_limit,
    )
    new_array = {
        "dtype": dtype,
        "chunks": chunks,
        "shards": shards,
        "codec": codec,
        "zarr_format": zarr_format,
    }
    target = find_target(
        output, request.source, new_array, keep_values=mask is not None or block_ids is not None
    )
    request.check_apart(target, same_mask=mask is output and not isinstance(output, (str, os.PathLike)))
    planned = request.plan(target.layout, casting)
    result, sink = target.open(overwrite=overwrite)
    _execute(request, planned, sink, casting, progress)
    return result


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
    overwrite: bool = False,
    dtype: npt.DTypeLike | None = None,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    codec: str | Mapping[str, Any] | Codec | None = None,
    zarr_format: int = 3,
    progress: Callable[[Progress], None] | None = None,
) -> CopyPlan:
    """Return what `copy` would do with the same arguments; nothing is written and no voxel is read.

    Parameters
    ----------
    input, output, block_shape, job_type, job_config, num_workers, mask, block_ids, resume_from, memory_limit
        As for `copy`.
    overwrite, dtype, chunks, shards, codec, zarr_format, progress
        As for `copy`.

    Returns
    -------
    CopyPlan
        Road, blocks, bytes, files, peak memory, read amplification; it prints well.

    Examples
    --------
    >>> import numpy as np
    >>> plan(np.zeros((64, 64, 64), "uint8"), block_shape=(32, 32, 32)).n_blocks
    8
    """
    del overwrite, progress
    request = _Request.check(
        input,
        output,
        mask,
        block_shape,
        job_type,
        job_config,
        num_workers,
        block_ids,
        resume_from,
        memory_limit,
    )
    new_array = {
        "dtype": dtype,
        "chunks": chunks,
        "shards": shards,
        "codec": codec,
        "zarr_format": zarr_format,
    }
    target = find_target(output, request.source, new_array, keep_values=False)
    request.check_apart(target, same_mask=mask is output and not isinstance(output, (str, os.PathLike)))
    return request.plan(target.layout, casting, quiet=True)


@dataclass(frozen=True)
class _Request:
    """The arguments of a copy, checked as far as they can be without the output."""

    source: Source
    mask: Source | None
    block_shape: tuple[int, ...] | None
    runner: Runner
    num_workers: int
    block_ids: Sequence[int] | None
    memory_limit: int | None

    @classmethod
    def check(
        cls,
        input: Any,
        output: Any,
        mask: Any,
        block_shape: Sequence[int] | None,
        job_type: str,
        job_config: RunnerConfig | None,
        num_workers: int,
        block_ids: Sequence[int] | None,
        resume_from: str | os.PathLike[str] | None,
        memory_limit: int | str | None,
    ) -> _Request:
        check_num_workers(num_workers)
        if block_ids is not None and resume_from is not None:
            raise InvalidArgumentError("give block_ids or resume_from, not both")
        if job_type != "local" and output is None and job_type in _DISTRIBUTED:
            raise InvalidArgumentError(
                f"job_type {job_type!r} needs a writable, file-backed output such as a Zarr or N5 path: other processes cannot "
                "write into an array of this one"
            )
        runner = get_runner(job_type, job_config)
        if resume_from is not None:
            raise InvalidArgumentError(
                f"resume_from is for distributed runs, which keep a run folder; a {job_type!r} run has none. "
                "Give block_ids=error.failed_block_ids instead"
            )
        limit = runner.config.memory_limit_bytes if memory_limit is None else parse_bytes(memory_limit)
        source = as_source(input)
        masked = None if mask is None else as_source(mask)
        shape = None if block_shape is None else check_block_shape(block_shape, source.shape)  # type: ignore[arg-type]
        return cls(source, masked, shape, runner, num_workers, block_ids, limit)

    def check_apart(self, target: Target, *, same_mask: bool) -> None:
        """Refuse a target that leads to what the input or the mask reads.

        The very array that is written may be the mask: each block reads its part before it writes there.
        """
        target.check_apart(self.source)
        if self.mask is not None and not same_mask:
            target.check_mask_apart(self.mask)

    def plan(self, target: ArrayLayout, casting: str, *, quiet: bool = False) -> CopyPlan:
        """Plan the copy into a target; warn where the target's dtype cannot hold the input's values."""
        check_casting(casting, self.source.dtype, target.dtype)
        if casting == "unsafe" and not quiet and not can_hold(self.source.dtype, target.dtype):
            warnings.warn(
                f"{self.source.dtype} voxels are cast to {target.dtype}, which cannot hold all their values; "
                "casting='check' stops at the first voxel that would change",
                BioimagePyWarning,
                stacklevel=3,
            )
        ids = None
        if self.block_ids is not None:
            ids = ids_from(self.block_ids, None, "block_ids")
        options = PlanOptions(
            block_shape=self.block_shape,
            memory_limit=self.memory_limit,
            num_workers=self.num_workers,
            block_ids=ids,
            direct=self.num_workers == 1 and self.block_shape is None and self.mask is None and ids is None,
        )
        mask = None if self.mask is None else ArrayLayout.of(self.mask)
        return plan_copy(ArrayLayout.of(self.source), target, mask, options)


_DISTRIBUTED = ("subprocess", "slurm", "dask")


def _execute(
    request: _Request,
    planned: CopyPlan,
    sink: Source,
    casting: str,
    progress: Callable[[Progress], None] | None,
) -> None:
    if not planned.block_ids or 0 in sink.shape:
        if progress is not None:
            progress(Journal(0).progress())
        return
    with contextlib.ExitStack() as stack:
        kernel = CopyKernel(
            stack.enter_context(run_twin(request.source, planned.threads, planned.cache_bytes)),
            stack.enter_context(run_twin(sink, planned.threads)),
            None if request.mask is None else stack.enter_context(run_twin(request.mask, planned.threads)),
            casting,
        )
        if planned.direct and _copied_at_once(kernel, planned, progress):
            return
        work = CopyWork(kernel, planned.blocking, planned.group_shape, planned.block_ids)
        journal = request.runner.execute(
            work, planned.in_flight, n_bytes=planned.bytes_out, progress=progress
        )
    if journal.has_failures:
        raise_failures(journal, planned.block_ids, f"copy of {request.source.name} into {sink.name}")


def _copied_at_once(
    kernel: CopyKernel, planned: CopyPlan, progress: Callable[[Progress], None] | None
) -> bool:
    """Copy the whole array in one go; False if that failed, so that going block by block tells which blocks do."""
    journal = Journal(planned.n_blocks, planned.bytes_out)
    try:
        written = kernel.copy_box(Box.whole(kernel.output.shape))
    except KeyboardInterrupt as error:
        raise RunInterrupted(
            f"interrupted: none of {planned.n_blocks} blocks is done. Call again to copy them",
            IdSet(),
            planned.block_ids,
        ) from error
    except Exception as error:  # noqa: BLE001 - the blocks will meet it again, and their run reports it
        _log.info("copying the whole array at once failed (%s); going block by block", error)
        return False
    if progress is not None:
        journal.done(planned.block_ids, written)
        progress(journal.progress())
    return True
