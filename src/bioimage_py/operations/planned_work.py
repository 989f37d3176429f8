"""The copy of one array as it was planned, as work for a backend: by itself, or with others of an OME-Zarr."""

from __future__ import annotations

from bioimage_py.kernels import CopyKernel, kernel_for_road
from bioimage_py.planning import CopyPlan
from bioimage_py.runner.work import CopyWork


def planned_work(
    kernel: CopyKernel, planned: CopyPlan, *, verify_encoded: bool, output_is_new: bool
) -> CopyWork:
    """Return the copy of one array as work for a backend, on the road that is planned.

    Parameters
    ----------
    kernel
        What is copied into what, opened for the run.
    planned
        Its plan.
    verify_encoded, output_is_new
        As in `MoveOptions`.
    """
    on_road = kernel_for_road(
        kernel, planned.road, verify_encoded=verify_encoded, output_is_new=output_is_new
    )
    return CopyWork(on_road, planned.blocking, planned.group_shape, planned.block_ids)
