from .label_lookup import LabelLookupSource as LabelLookupSource
from .rescale import (
    CastSource as CastSource,
    NormalizeSource as NormalizeSource,
    PercentileNormalizeSource as PercentileNormalizeSource,
    RescaleSource as RescaleSource,
)
