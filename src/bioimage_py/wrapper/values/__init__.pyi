from .cast import CastSource as CastSource, RescaleSource as RescaleSource
from .label_lookup import LabelLookupSource as LabelLookupSource
from .normalize import (
    NormalizeSource as NormalizeSource,
    PercentileNormalizeSource as PercentileNormalizeSource,
)
from .threshold import ThresholdSource as ThresholdSource
