"""The backends and what they share: `get_runner`, configuration, progress.

A name is imported when it is first used: a worker, which is a module of this package, needs none of the backends.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
