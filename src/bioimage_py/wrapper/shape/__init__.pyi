from .axes import (
    ExpandDimsSource as ExpandDimsSource,
    FlipSource as FlipSource,
    TransposeSource as TransposeSource,
    axis_number as axis_number,
)
from .concatenate import ConcatenateSource as ConcatenateSource
from .pad import PadSource as PadSource
from .roi import RoiSource as RoiSource
from .select import SelectSource as SelectSource
