from .axes import (
    ExpandDimsSource as ExpandDimsSource,
    FlipSource as FlipSource,
    TransposeSource as TransposeSource,
    axis_number as axis_number,
)
from .extension import ConcatenateSource as ConcatenateSource, PadSource as PadSource
from .selection import RoiSource as RoiSource, SelectSource as SelectSource
