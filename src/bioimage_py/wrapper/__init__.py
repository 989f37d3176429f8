"""Wrappers: sources that transform other sources when they are read.

Each takes sources, arrays, handles or paths and is a `Source` itself: it can be read by region, wrapped again, and
copied. Regions read one by one are the voxels of the whole read at once.
"""

from bioimage_py.wrapper.affine import AffineSource
from bioimage_py.wrapper.axes import FlipSource, TransposeSource
from bioimage_py.wrapper.base import WrapperSource
from bioimage_py.wrapper.cast import CastSource, RescaleSource
from bioimage_py.wrapper.concatenate import ConcatenateSource
from bioimage_py.wrapper.expand_dims import ExpandDimsSource
from bioimage_py.wrapper.label_lookup import LabelLookupSource
from bioimage_py.wrapper.normalize import NormalizeSource
from bioimage_py.wrapper.pad import PadSource
from bioimage_py.wrapper.percentiles import PercentileNormalizeSource
from bioimage_py.wrapper.project import ProjectionSource
from bioimage_py.wrapper.reduced import ReducedSource
from bioimage_py.wrapper.registration import register_wrapper
from bioimage_py.wrapper.resized import ResizedSource
from bioimage_py.wrapper.roi import RoiSource
from bioimage_py.wrapper.select import SelectSource
from bioimage_py.wrapper.simple import SimpleTransformationSource, SimpleTransformationWithHaloSource
from bioimage_py.wrapper.threshold import ThresholdSource
from bioimage_py.wrapper.transformation import MultiTransformationSource, TransformationSource

__all__ = [
    "AffineSource",
    "CastSource",
    "ConcatenateSource",
    "ExpandDimsSource",
    "FlipSource",
    "LabelLookupSource",
    "MultiTransformationSource",
    "NormalizeSource",
    "PadSource",
    "PercentileNormalizeSource",
    "ProjectionSource",
    "ReducedSource",
    "RescaleSource",
    "ResizedSource",
    "RoiSource",
    "SelectSource",
    "SimpleTransformationSource",
    "SimpleTransformationWithHaloSource",
    "ThresholdSource",
    "TransformationSource",
    "TransposeSource",
    "WrapperSource",
    "register_wrapper",
]
