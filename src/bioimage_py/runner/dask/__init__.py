"""The Dask backend: tasks on a cluster that is there, or on one that is started for the run."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
