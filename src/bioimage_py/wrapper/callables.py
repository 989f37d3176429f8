"""Functions as JSON: by name where another process can import them, else pickled by value.

Security: both forms run code when they are read. A name imports a module, a pickle runs whatever it was made to run.
"""

from __future__ import annotations

import base64
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError, MissingDependencyError


def write_callable(function: Callable[..., Any]) -> dict[str, str]:
    """Return a function as JSON: `{"$function": "numpy.greater"}`, `{"$function": "module:name"}` or `{"$pickle": …}`.

    Raises
    ------
    MissingDependencyError
        If the function cannot be imported by name (a lambda, a local function, one of `__main__`) and cloudpickle is
        not installed.
    InvalidArgumentError
        If cloudpickle cannot pickle it.

    Examples
    --------
    >>> write_callable(np.greater), write_callable(np.gradient)
    ({'$function': 'numpy.greater'}, {'$function': 'numpy:gradient'})
    """
    if isinstance(function, np.ufunc) and getattr(np, function.__name__, None) is function:
        return {"$function": f"numpy.{function.__name__}"}
    name = importable_name(function)
    return {"$function": name} if name else {"$pickle": pickle_by_value(function)}


def importable_name(obj: Any) -> str | None:
    """Return `"module:qualified.name"` for what another process can import under that name, else None."""
    module, qualname = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module == "__main__":
        return None
    loaded = sys.modules.get(module)
    if loaded is None or getattr(loaded, "__spec__", None) is None:
        return None
    return f"{module}:{qualname}" if _attribute(loaded, qualname) is obj else None


def import_named(name: str) -> Any:
    """Import what `importable_name` or a numpy ufunc's name (`"numpy.greater"`) stands for.

    Raises
    ------
    InvalidArgumentError
        If the module cannot be imported here, or has nothing of that name.
    """
    module, _, qualname = name.partition(":") if ":" in name else name.rpartition(".")
    try:
        found = _attribute(importlib.import_module(module), qualname)
    except (ImportError, ValueError) as error:
        raise InvalidArgumentError(
            f"the function {name!r} cannot be imported in this process ({error}): install its module {module!r} or put "
            "its folder on PYTHONPATH"
        ) from error
    if found is None:
        raise InvalidArgumentError(
            f"the module {module!r} has no function {qualname!r}: is it another version of it?"
        )
    return found


def pickle_by_value(obj: Any) -> str:
    """Return an object cloudpickled and base64-encoded; raises as `write_callable` does."""
    try:
        return base64.b64encode(_cloudpickle(obj).dumps(obj)).decode("ascii")
    except MissingDependencyError:
        raise
    except Exception as error:
        raise InvalidArgumentError(
            f"{_called(obj)} cannot be pickled to be sent to another process ({type(error).__name__}: {error}); "
            "define it at the top of an importable module"
        ) from error


def unpickle(text: str) -> Any:
    """Return what `pickle_by_value` wrote. This runs code: only read what you or your own run wrote.

    Raises
    ------
    InvalidArgumentError
        If it cannot be read here, for example because a module that it needs is not installed.
    """
    module = _cloudpickle("a pickled function")
    try:
        return module.loads(base64.b64decode(text.encode("ascii"), validate=True))
    except Exception as error:
        raise InvalidArgumentError(
            f"the pickled function cannot be restored in this process ({type(error).__name__}: {error}); it needs the "
            "same Python version and the same modules as where it was pickled"
        ) from error


def _cloudpickle(obj: Any) -> ModuleType:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError as error:
        raise MissingDependencyError(
            f"{_called(obj)} is not importable by name, so it needs cloudpickle to reach another process: "
            "'pip install cloudpickle', or define it at the top of an importable module"
        ) from error


def _called(obj: Any) -> str:
    return obj if isinstance(obj, str) else getattr(obj, "__qualname__", None) or repr(obj)


def _attribute(obj: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        obj = getattr(obj, part, None)
    return obj
