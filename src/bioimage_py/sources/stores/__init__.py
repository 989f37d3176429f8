"""What Zarr, N5 and precomputed share: arrays in folders or behind URLs, through TensorStore."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
