from .base import WrapperSource as WrapperSource
from .functions import (
    MultiTransformationSource as MultiTransformationSource,
    SimpleTransformationSource as SimpleTransformationSource,
    SimpleTransformationWithHaloSource as SimpleTransformationWithHaloSource,
    ThresholdSource as ThresholdSource,
    TransformationSource as TransformationSource,
)
from .mosaic.source import MosaicSource as MosaicSource
from .resampling.affine import AffineSource as AffineSource
from .resampling.reduced import ProjectionSource as ProjectionSource, ReducedSource as ReducedSource
from .resampling.resized import ResizedSource as ResizedSource
from .shape.axes import (
    ExpandDimsSource as ExpandDimsSource,
    FlipSource as FlipSource,
    TransposeSource as TransposeSource,
)
from .shape.extension import ConcatenateSource as ConcatenateSource, PadSource as PadSource
from .shape.selection import RoiSource as RoiSource, SelectSource as SelectSource
from .spec import register_wrapper as register_wrapper
from .values.label_lookup import LabelLookupSource as LabelLookupSource
from .values.rescale import (
    CastSource as CastSource,
    NormalizeSource as NormalizeSource,
    PercentileNormalizeSource as PercentileNormalizeSource,
    RescaleSource as RescaleSource,
)
