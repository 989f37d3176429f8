"""Bytes at a place: local files and folders, object stores, new files and what is left of unfinished ones. Knows no arrays."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
