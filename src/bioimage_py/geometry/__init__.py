"""Integers only: boxes, blocks and blockings, numpy-index normalisation, run-length sets of block ids.

A name is imported when it is first used: a worker that has items, not blocks, needs the sets of ids alone.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
