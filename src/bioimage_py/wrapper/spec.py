"""Wrappers as plain JSON, and back: their names, their parameters, and functions among these.

Security: a spec names modules to import and functions to call, and may hold pickled ones. Reopening it runs that code with
your rights. Reopen only specs that you, or your own runs, have written.
"""

from __future__ import annotations

import base64
import importlib
import math
import pkgutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bioimage_py.errors import Hint, InvalidArgumentError, MissingDependencyError
from bioimage_py.geometry import Box
from bioimage_py.sources import Family, SourceSpec, from_spec

if TYPE_CHECKING:
    from bioimage_py.wrapper.base import WrapperSource

_OWN = "bioimage_py.wrapper"
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
        before = _CLASSES.get(name, cls)
        if (before.__module__, before.__qualname__) != (cls.__module__, cls.__qualname__):
            raise InvalidArgumentError(
                f"the wrapper name {name!r} is taken by {before.__module__}.{before.__qualname__}; "
                f"choose another one for {cls.__module__}.{cls.__qualname__}"
            )
        _CLASSES[name] = cls
        return cls

    return register


def describe_class(cls: type[WrapperSource]) -> dict[str, str]:
    """Return the entries of a spec that lead to a registered class: `wrapper`, and for a user's class `module` or `class`."""
    name = next((n for n, c in _CLASSES.items() if c is cls), None)
    if name is None:
        raise InvalidArgumentError(
            f"the wrapper class {cls.__qualname__} is not registered, so it can be used in local runs only: "
            "decorate it with @register_wrapper('a.unique.name') for distributed runs"
        )
    if cls.__module__.startswith(f"{_OWN}."):
        return {"wrapper": name}
    if _importable_name(cls) is not None:
        return {"wrapper": name, "module": cls.__module__}
    return {"wrapper": name, "class": _pickled(cls)}


class WrapperFamily(Family):
    def open_spec(self, spec: SourceSpec) -> WrapperSource:
        """Return the wrapper that `to_spec` described, on inputs that it opens, and closes with itself. This runs code."""
        cls = _find_class(spec)
        inputs, written = spec.get("inputs"), spec.get("parameters", {})
        if not isinstance(inputs, list) or not inputs or not isinstance(written, dict):
            raise InvalidArgumentError(
                f"the spec of wrapper {spec['wrapper']!r} needs 'inputs', a list of specs, and 'parameters', a dict; "
                f"got {inputs!r} and {written!r}"
            )
        parameters = {name: read_parameter(value) for name, value in written.items()}
        if spec.get("mode") == "r+":  # an output: a region of a stored array
            inputs = [{**one, "mode": "r+"} for one in inputs]
        with ExitStack() as opened:
            sources = [opened.enter_context(from_spec(one)) for one in inputs]
            try:
                wrapper = cls.from_parameters(sources, parameters)
            except TypeError as error:
                raise InvalidArgumentError(
                    f"the wrapper {spec['wrapper']!r} does not take the parameters {sorted(parameters)} of its spec: {error}"
                ) from error
            opened.pop_all()
        wrapper.owned = tuple(sources)
        return wrapper


def _find_class(spec: SourceSpec) -> type[WrapperSource]:
    """Return the class that `describe_class` described, importing or unpickling it where it is not known yet."""
    name, module, pickled = spec.get("wrapper"), spec.get("module"), spec.get("class")
    if not isinstance(name, str):
        raise InvalidArgumentError(f"a wrapper's spec has its name as 'wrapper', got {name!r}")
    if name not in _CLASSES and module is None:
        door = importlib.import_module(_OWN)
        for public in door.__all__:
            getattr(door, public)  # importing the modules of all wrappers registers them
    if name not in _CLASSES and isinstance(module, str):
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise InvalidArgumentError(
                f"the module {module!r} of the wrapper {name!r} cannot be imported in this process ({error}): "
                "install it or put its folder on PYTHONPATH"
            ) from error
    if name not in _CLASSES and isinstance(pickled, str):
        _CLASSES[name] = _unpickled(pickled)
    if name not in _CLASSES:
        raise InvalidArgumentError(
            f"no wrapper is called {name!r}; there are {', '.join(sorted(_CLASSES))}. A wrapper of your own is "
            "registered with @register_wrapper in a module that can be imported"
        )
    return _CLASSES[name]


def write_parameter(value: Any) -> Any:
    """Return a parameter as plain JSON; what JSON lacks becomes a dict with one key that begins with `$`."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if value is None or isinstance(value, (bool, int, str, float)):
        return value
    for kind, tag, write in _WRITERS:
        if isinstance(value, kind):
            return {tag: write(value)}
    if isinstance(value, list):
        return [write_parameter(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) and not key.startswith("$") for key in value):
            raise InvalidArgumentError(
                f"keys of a dict must be strings that do not begin with '$', got {list(value)}"
            )
        return {key: write_parameter(item) for key, item in value.items()}
    if callable(value):
        ufunc = isinstance(value, np.ufunc) and getattr(np, value.__name__, None) is value
        name = f"numpy.{value.__name__}" if ufunc else _importable_name(value)
        return {"$function": name} if name else {"$pickle": _pickled(value)}
    raise InvalidArgumentError(
        f"a wrapper's parameter of type {type(value).__name__} cannot be written as JSON; "
        "use numbers, strings, slices, dtypes, functions, and lists or dicts of them"
    )


def read_parameter(written: Any) -> Any:
    """Return what `write_parameter` was given. Functions are imported or unpickled, which runs code."""
    if isinstance(written, list):
        return [read_parameter(item) for item in written]
    if not isinstance(written, dict):
        return written
    tags = [key for key in written if key.startswith("$")]
    if not tags:
        return {key: read_parameter(item) for key, item in written.items()}
    reader = _READERS.get(tags[0])
    if reader is None or len(written) != 1:
        raise InvalidArgumentError(
            f"{written!r} is not a parameter of a wrapper; tags are {', '.join(_READERS)}"
        )
    try:
        return reader(written[tags[0]])
    except InvalidArgumentError:
        raise
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{written!r} is not a parameter of a wrapper: {error}") from error


def _importable_name(obj: Any) -> str | None:
    """Return `"module:qualified.name"` for what another process can import under that name, else None."""
    module, qualname = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(qualname, str) or module == "__main__":
        return None
    loaded, name = sys.modules.get(module), f"{module}:{qualname}"
    if loaded is None or getattr(loaded, "__spec__", None) is None:
        return None
    try:
        return name if pkgutil.resolve_name(name) is obj else None
    except (ImportError, AttributeError, ValueError):
        return None


def _imported(name: str) -> Any:
    """Import what `_importable_name` or a numpy ufunc's name (`"numpy.greater"`) stands for."""
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidArgumentError(
            f"the function {name!r} cannot be imported in this process ({error}): install its module, in the same version, or "
            "put its folder on PYTHONPATH"
        ) from error


def _pickled(obj: Any) -> str:
    called = getattr(obj, "__qualname__", None) or repr(obj)
    cloudpickle = _cloudpickle(called)
    try:
        return base64.b64encode(cloudpickle.dumps(obj)).decode("ascii")
    except Exception as error:
        raise InvalidArgumentError(
            f"{called} cannot be pickled to be sent to another process ({type(error).__name__}: {error}); "
            "define it at the top of an importable module"
        ) from error


def _unpickled(text: str) -> Any:
    """Return what `_pickled` wrote. This runs code: only read what you or your own run wrote."""
    cloudpickle = _cloudpickle("a pickled function")
    try:
        return cloudpickle.loads(base64.b64decode(text.encode("ascii"), validate=True))
    except Exception as error:
        raise InvalidArgumentError(
            f"the pickled function cannot be restored in this process ({type(error).__name__}: {error}); it needs the "
            "same Python version and the same modules as where it was pickled"
        ) from error


def _cloudpickle(called: str) -> ModuleType:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError as error:
        raise MissingDependencyError.of(
            f"{called} is not importable by name, so it needs cloudpickle to reach another process",
            "cloudpickle",
            hints=[Hint("or define it at the top of an importable module")],
        ) from error


_WRITERS: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (Box, "$box", lambda box: [list(box.begin), list(box.end)]),
    (tuple, "$tuple", lambda items: [write_parameter(item) for item in items]),
    (slice, "$slice", lambda part: [write_parameter(n) for n in (part.start, part.stop, part.step)]),
    (type(Ellipsis), "$ellipsis", lambda _: True),
    (np.dtype, "$dtype", lambda dtype: dtype.str),
    (complex, "$complex", lambda number: [write_parameter(part) for part in (number.real, number.imag)]),
)
_READERS: dict[str, Callable[[Any], Any]] = {
    "$tuple": lambda items: tuple(read_parameter(item) for item in items),
    "$slice": lambda bounds: slice(*bounds),
    "$ellipsis": lambda _: Ellipsis,
    "$dtype": np.dtype,
    "$float": float,
    "$complex": lambda parts: complex(*(read_parameter(part) for part in parts)),
    "$box": lambda ends: Box(tuple(ends[0]), tuple(ends[1])),
    "$function": _imported,
    "$pickle": _unpickled,
}
