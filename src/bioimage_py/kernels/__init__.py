"""Per-block functions: what a worker does with the blocks it is given."""

from bioimage_py.kernels.casting import Casting, can_hold, cast, check_casting
from bioimage_py.kernels.compare_blocks import CompareKernel, Difference
from bioimage_py.kernels.copy_blocks import CopyKernel

__all__ = ["Casting", "CompareKernel", "CopyKernel", "Difference", "can_hold", "cast", "check_casting"]
