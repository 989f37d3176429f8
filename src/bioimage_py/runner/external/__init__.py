"""The external backend: a run folder that any process may join, and the process that waits for them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
