"""One model of axes, units, voxel size and channels; OME-NGFF from and to plain dicts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
