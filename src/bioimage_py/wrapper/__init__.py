"""Wrappers: sources that transform other sources when they are read.

Each takes sources, arrays, handles or paths and is a `Source` itself: it can be read by region, wrapped again, and
copied. Regions read one by one are the voxels of the whole read at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
