"""What is kept beside an output: what it was copied from, which updates go by, and a record of the copy."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
