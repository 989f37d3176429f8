"""Reopening a wrapper from its spec.

Security: a wrapper's spec names modules to import and functions to call, and may hold pickled functions. Reopening it
runs that code with your rights. Reopen only specs that you, or your own runs, have written.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.sources import Family, Source, SourceSpec, from_spec
from bioimage_py.wrapper.parameters import read_parameter
from bioimage_py.wrapper.registration import find_class

if TYPE_CHECKING:
    from bioimage_py.wrapper.base import WrapperSource


class WrapperFamily(Family):
    """Wrappers, in specs."""

    def open_spec(self, spec: SourceSpec) -> Source:
        return open_spec(spec)


def open_spec(spec: SourceSpec) -> WrapperSource:
    """Return the wrapper that `to_spec` described, on inputs that it opens, and closes with itself.

    This imports modules and unpickles functions that the spec names, hence runs code: reopen only your own specs.

    Raises
    ------
    InvalidArgumentError
        If the spec is malformed, or its wrapper or function is not known in this process.
    SourceNotFoundError
        If an input is gone.
    MissingDependencyError
        If it holds a pickled function and cloudpickle is not installed.
    """
    cls = find_class(spec)
    inputs, written = spec.get("inputs"), spec.get("parameters", {})
    if not isinstance(inputs, list) or not inputs or not isinstance(written, dict):
        raise InvalidArgumentError(
            f"the spec of wrapper {spec['wrapper']!r} needs 'inputs', a list of specs, and 'parameters', a dict; "
            f"got {inputs!r} and {written!r}"
        )
    parameters: dict[str, Any] = {name: read_parameter(value) for name, value in written.items()}
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
