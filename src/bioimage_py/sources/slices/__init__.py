"""Folders of slices, one file per plane: TIFF, PNG and JPEG."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
