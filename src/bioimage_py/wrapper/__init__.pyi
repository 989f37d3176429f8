from .arguments import checked_whole as checked_whole
from .base import WrapperSource as WrapperSource
from .functions import (
    MultiTransformationSource as MultiTransformationSource,
    SimpleTransformationSource as SimpleTransformationSource,
    SimpleTransformationWithHaloSource as SimpleTransformationWithHaloSource,
    TransformationSource as TransformationSource,
)
from .resampling.affine import AffineSource as AffineSource
from .resampling.project import ProjectionSource as ProjectionSource
from .resampling.reduced import ReducedSource as ReducedSource
from .resampling.resized import ResizedSource as ResizedSource
from .shape.axes import (
    ExpandDimsSource as ExpandDimsSource,
    FlipSource as FlipSource,
    TransposeSource as TransposeSource,
)
from .shape.concatenate import ConcatenateSource as ConcatenateSource
from .shape.pad import PadSource as PadSource
from .shape.roi import RoiSource as RoiSource
from .shape.select import SelectSource as SelectSource
from .spec import register_wrapper as register_wrapper
from .values.cast import CastSource as CastSource, RescaleSource as RescaleSource
from .values.label_lookup import LabelLookupSource as LabelLookupSource
from .values.normalize import (
    NormalizeSource as NormalizeSource,
    PercentileNormalizeSource as PercentileNormalizeSource,
)
from .values.threshold import ThresholdSource as ThresholdSource
