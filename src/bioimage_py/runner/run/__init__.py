"""The run folder: what a run was asked for, what is done, and what each attempt logged."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
