"""Encoded chunks: how they are encoded, compared, checked, read, written, and packed in shards."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
