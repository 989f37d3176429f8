"""Per-block functions: what a worker does with the blocks it is given."""

from bioimage_py.kernels.casting import Casting, can_hold, cast, check_casting
from bioimage_py.kernels.compare_blocks import CompareKernel, Difference
from bioimage_py.kernels.copy_blocks import CopyKernel
from bioimage_py.kernels.moving import MoveCounts, MovingKernel
from bioimage_py.kernels.moving_origin import encoding_to_move, moving_origin
from bioimage_py.kernels.moving_roads import kernel_for_road

__all__ = [
    "Casting",
    "CompareKernel",
    "CopyKernel",
    "Difference",
    "MoveCounts",
    "MovingKernel",
    "can_hold",
    "cast",
    "check_casting",
    "encoding_to_move",
    "kernel_for_road",
    "moving_origin",
]
