"""The Slurm backend: one job array per round, watched through `squeue` and `sacct`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
