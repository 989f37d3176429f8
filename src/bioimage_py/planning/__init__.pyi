from .block_shape import (
    choose_block_shape as choose_block_shape,
    pieces as pieces,
    read_amplification as read_amplification,
)
from .byte_size import (
    default_memory_limit as default_memory_limit,
    format_bytes as format_bytes,
    parse_bytes as parse_bytes,
    times as times,
)
from .copy_plan import (
    TEMPORARY_CODEC as TEMPORARY_CODEC,
    WHILE_WRITTEN as WHILE_WRITTEN,
    CopyPlan as CopyPlan,
    PlanOptions as PlanOptions,
    TwoPasses as TwoPasses,
    changes_voxels as changes_voxels,
    choose_road as choose_road,
    digest_text as digest_text,
    plan_copy as plan_copy,
)
from .image_plan import (
    ImagePlan as ImagePlan,
    PlannedArray as PlannedArray,
    image_in_passes as image_in_passes,
)
from .layout import ArrayLayout as ArrayLayout, n_cells as n_cells
from .memory import COMPARED_AT_ONCE as COMPARED_AT_ONCE, MemoryModel as MemoryModel
from .passes import (
    MOST_READS_OF_ONE_PASS as MOST_READS_OF_ONE_PASS,
    RoomBeside as RoomBeside,
    in_one_or_two_passes as in_one_or_two_passes,
    reads_through_cache as reads_through_cache,
)
from .pyramid_levels import choose_levels as choose_levels
from .pyramid_plan import PyramidPart as PyramidPart, PyramidPlan as PyramidPlan, plan_pyramid as plan_pyramid
