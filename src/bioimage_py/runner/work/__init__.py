"""What a run computes: copies, pyramids, functions of blocks or items, and several of them as one run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
