"""What a person looks at: pictures of images of any size, read from as few voxels as will do."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
