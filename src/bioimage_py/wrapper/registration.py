"""The names under which wrapper classes travel in specs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.wrapper.callables import importable_name, pickle_by_value, unpickle

if TYPE_CHECKING:
    from bioimage_py.wrapper.base import WrapperSource

_OWN = "bioimage_py.wrapper."
_W = TypeVar("_W", bound="type[WrapperSource]")
_CLASSES: dict[str, type[WrapperSource]] = {}


def register_wrapper(name: str) -> Callable[[_W], _W]:
    """Give a `WrapperSource` subclass the name under which its specs find it again in another process.

    The class is found by importing the module that it was registered in. A class of a script or a notebook
    (`__main__`) has no such module: it travels pickled in the spec, which needs cloudpickle.

    Parameters
    ----------
    name
        Unique among registered wrappers; prefix it with your package's name.

    Returns
    -------
    callable
        A class decorator that returns the class unchanged.

    Raises
    ------
    InvalidArgumentError
        If the name is empty or another class has it.

    Examples
    --------
    >>> import numpy as np
    >>> from bioimage_py.wrapper import WrapperSource, register_wrapper
    >>> @register_wrapper("doctest.negative")
    ... class NegativeSource(WrapperSource):
    ...     def _read(self, box):
    ...         return -self.read_input(box)
    >>> NegativeSource(np.arange(3))[...].tolist()
    [0, -1, -2]
    """
    if not isinstance(name, str) or not name:
        raise InvalidArgumentError(
            f"register_wrapper takes a name, got {name!r}: use @register_wrapper('my.name')"
        )

    def register(cls: _W) -> _W:
        before = _CLASSES.get(name)
        if before is not None and _place(before) != _place(cls):
            raise InvalidArgumentError(
                f"the wrapper name {name!r} is taken by {before.__module__}.{before.__qualname__}; "
                f"choose another one for {cls.__module__}.{cls.__qualname__}"
            )
        _CLASSES[name] = cls
        return cls

    return register


def _place(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__


def describe_class(cls: type[WrapperSource]) -> dict[str, str]:
    """Return the entries of a spec that lead to a class: `wrapper`, and for a user's class `module` or `class`.

    Raises
    ------
    InvalidArgumentError
        If the class is not registered: it can be used in local runs only.
    """
    name = next((n for n, c in _CLASSES.items() if c is cls), None)
    if name is None:
        raise InvalidArgumentError(
            f"the wrapper class {cls.__qualname__} is not registered, so it can be used in local runs only: "
            "decorate it with @register_wrapper('a.unique.name') for distributed runs"
        )
    if cls.__module__.startswith(_OWN):
        return {"wrapper": name}
    if importable_name(cls) is not None:
        return {"wrapper": name, "module": cls.__module__}
    return {"wrapper": name, "class": pickle_by_value(cls)}


def find_class(spec: dict[str, Any]) -> type[WrapperSource]:
    """Return the class that `describe_class` described, importing or unpickling it where it is not known yet.

    Raises
    ------
    InvalidArgumentError
        If there is no wrapper of that name, also after importing the module that the spec names.
    """
    name, module, pickled = spec.get("wrapper"), spec.get("module"), spec.get("class")
    if not isinstance(name, str):
        raise InvalidArgumentError(f"a wrapper's spec has its name as 'wrapper', got {name!r}")
    if name not in _CLASSES and module is None:
        _import_own()
    if name not in _CLASSES and isinstance(module, str):
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise InvalidArgumentError(
                f"the module {module!r} of the wrapper {name!r} cannot be imported in this process ({error}): "
                "install it or put its folder on PYTHONPATH"
            ) from error
    if name not in _CLASSES and isinstance(pickled, str):
        _CLASSES[name] = unpickle(pickled)
    if name not in _CLASSES:
        raise InvalidArgumentError(
            f"no wrapper is called {name!r}; there are {', '.join(sorted(_CLASSES))}. A wrapper of your own is "
            "registered with @register_wrapper in a module that can be imported"
        )
    return _CLASSES[name]


def _import_own() -> None:
    """Import the modules of all wrappers of this package, which registers them."""
    door = importlib.import_module(_OWN.rstrip("."))
    for name in door.__all__:
        getattr(door, name)
