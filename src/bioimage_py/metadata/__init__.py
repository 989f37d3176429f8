"""One model of axes, units, voxel size and channels."""

from bioimage_py.metadata.attributes import from_attributes, to_attributes
from bioimage_py.metadata.model import ImageMetadata, normalise_unit

__all__ = ["ImageMetadata", "from_attributes", "normalise_unit", "to_attributes"]
