from .creating import (
    PlannedOutput as PlannedOutput,
    checked_fill as checked_fill,
    checked_new_dtype as checked_new_dtype,
    checked_overwrite as checked_overwrite,
    create_output as create_output,
    finish_images as finish_images,
    plan_output as plan_output,
    wanted_order as wanted_order,
    writable_family as writable_family,
)
from .grids import checked_extents as checked_extents
