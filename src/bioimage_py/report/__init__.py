"""What a person looks at: pictures of images, of any size, read from as few voxels as will do."""

from bioimage_py.report.picture import Picture
from bioimage_py.report.preview import preview

__all__ = ["Picture", "preview"]
