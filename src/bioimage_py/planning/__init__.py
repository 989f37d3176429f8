"""Pure decisions, no I/O beyond metadata: road, block shape, memory, dry run."""

from bioimage_py.planning.block_shape import choose_block_shape, read_amplification
from bioimage_py.planning.byte_size import default_memory_limit, format_bytes, parse_bytes
from bioimage_py.planning.copy_plan import CopyPlan, PlanOptions, checked_blocks, plan_copy
from bioimage_py.planning.image_passes import image_in_passes
from bioimage_py.planning.image_plan import ImagePlan, PlannedArray
from bioimage_py.planning.layout import ArrayLayout
from bioimage_py.planning.memory import COMPARED_AT_ONCE, MemoryModel
from bioimage_py.planning.passes import RoomBeside, in_one_or_two_passes
from bioimage_py.planning.pyramid_levels import PyramidLevel, choose_levels
from bioimage_py.planning.pyramid_plan import PyramidPlan, plan_pyramid
from bioimage_py.planning.road import choose_road

__all__ = [
    "COMPARED_AT_ONCE",
    "ArrayLayout",
    "CopyPlan",
    "ImagePlan",
    "MemoryModel",
    "PlanOptions",
    "PlannedArray",
    "PyramidLevel",
    "PyramidPlan",
    "RoomBeside",
    "checked_blocks",
    "choose_block_shape",
    "choose_levels",
    "choose_road",
    "default_memory_limit",
    "format_bytes",
    "image_in_passes",
    "in_one_or_two_passes",
    "parse_bytes",
    "plan_copy",
    "plan_pyramid",
    "read_amplification",
]
