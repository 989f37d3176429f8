"""Copy image volumes of any size, block by block, from any source into any chunked store.

>>> import numpy as np
>>> import bioimage_py as bp
>>> bp.copy(np.arange(6).reshape(2, 3)).tolist()
[[0, 1, 2], [3, 4, 5]]
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

import lazy_loader

__version__ = "1.0.0"

__getattr__, _, _names = lazy_loader.attach_stub(__name__, __file__)
_ROOMS = ("errors", "wrapper")
__all__ = [name for name in (*_names, "__version__") if name not in _ROOMS]
_OPERATIONS = ("bench", "check", "copy", "digest", "downsample", "pyramid", "resume", "status", "verify")


class _Package(ModuleType):
    """The package itself: an operation's name is its function, also after its module of the same name was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OPERATIONS and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be pickled by name, as a plain module is where a function that uses it is sent to other processes."""
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
