"""One pass or two for each array of an OME-Zarr that is copied whole: all of them share one file system and one memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bioimage_py.geometry import IdSet
from bioimage_py.planning.copy_plan import PlanOptions
from bioimage_py.planning.image_plan import ImagePlan, PlannedArray
from bioimage_py.planning.passes import RoomBeside, in_one_or_two_passes


def image_in_passes(
    plan: ImagePlan, asked: Sequence[PlanOptions], casting: str, room: RoomBeside
) -> ImagePlan:
    """Return the plan with those arrays in two passes for which one would read too much; blocks and their numbers stay the same."""
    arrays: list[PlannedArray] = []
    through_store = 0
    for number, (array, options) in enumerate(zip(plan.arrays, asked, strict=True)):
        alone = array.plan
        # What others of the run hold, and whether it is to be read at all, decides how often its chunks are decoded.
        in_run = replace(
            alone,
            block_ids=_ids_of(plan, number),
            in_flight=plan.in_flight,
            cache_bytes=min(alone.cache_bytes, plan.cache_bytes),
        )
        promised = max(0, plan.bytes_out - in_run.bytes_out) + through_store
        found = in_one_or_two_passes(in_run, options, casting, replace(room, promised_bytes=promised))
        if found.passes is None:
            arrays.append(replace(array, plan=replace(alone, hints=found.hints)))
            continue
        through_store += found.passes.n_bytes
        arrays.append(replace(array, plan=replace(found, block_ids=alone.block_ids)))
    return replace(plan, arrays=tuple(arrays))


def _ids_of(plan: ImagePlan, number: int) -> IdSet:
    """Return which blocks of an array are asked for, in its own numbers."""
    array, first = plan.arrays[number].plan, plan.offsets[number]
    if len(plan.block_ids) == plan.n_blocks:
        return array.block_ids
    inside = plan.block_ids & IdSet.from_range(first + array.n_blocks, first)
    return IdSet((begin - first, end - first) for begin, end in inside.runs)
