"""One model of axes, units, voxel size and channels."""

from bioimage_py.metadata.attributes import from_attributes, plain_value, to_attributes
from bioimage_py.metadata.model import ImageMetadata, normalise_unit

__all__ = ["ImageMetadata", "from_attributes", "normalise_unit", "plain_value", "to_attributes"]
