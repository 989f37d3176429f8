"""One model of axes, units, voxel size and channels; OME-NGFF from and to plain dicts."""

from bioimage_py.metadata.attributes import from_attributes, plain_value, to_attributes, with_resolution
from bioimage_py.metadata.model import ImageMetadata, normalise_unit
from bioimage_py.metadata.overrides import overridden
from bioimage_py.metadata.sanity import without_nonsense

__all__ = [
    "ImageMetadata",
    "from_attributes",
    "normalise_unit",
    "overridden",
    "plain_value",
    "to_attributes",
    "with_resolution",
    "without_nonsense",
]
