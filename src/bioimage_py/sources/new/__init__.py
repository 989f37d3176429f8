"""New arrays: where they go, how they look, and which chunks and codec they keep from their input."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
