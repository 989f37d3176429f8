"""What Linux, macOS and Windows do differently: files, locks, owners, processes, memory. Nothing else names what one of them lacks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
