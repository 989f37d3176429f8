from .axes import (
    ExpandDimsSource as ExpandDimsSource,
    FlipSource as FlipSource,
    TransposeSource as TransposeSource,
    axis_number as axis_number,
    turned_like as turned_like,
)
from .extension import (
    ConcatenateSource as ConcatenateSource,
    PadSource as PadSource,
    repeated_voxels as repeated_voxels,
)
from .selection import RoiSource as RoiSource, SelectSource as SelectSource
