"""Which Python and libraries a run was made with, and whether a worker's are near enough."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping
from importlib import metadata

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError

__all__ = ["check_environment", "describe_environment"]

_LIBRARIES = ("bioimage-py", "numpy", "tensorstore", "zarr", "h5py", "tifffile", "imagecodecs", "cloudpickle")


def describe_environment() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide what a worker does."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def check_environment(submitted: Mapping[str, str]) -> None:
    """Compare this process with the one that submitted the run.

    Raises
    ------
    InvalidArgumentError
        If a major version differs (of Python: a minor one), or a library is missing here.
    """
    here = describe_environment()
    for name, version in submitted.items():
        mine = here.get(name)
        if mine is None:
            raise InvalidArgumentError(
                f"{name} {version} was there when the run was submitted, and is missing in the worker's Python: give "
                "python_executable= the interpreter of the same environment"
            )
        if mine == version:
            continue
        decisive = 2 if name == "python" or version.startswith("0.") else 1
        if mine.split(".")[:decisive] != version.split(".")[:decisive]:
            raise InvalidArgumentError(
                f"the worker has {name} {mine}, the run was submitted with {version}: give python_executable= the "
                "interpreter of the same environment"
            )
        warnings.warn(
            f"the worker has {name} {mine}, the run was submitted with {version}",
            BioimagePyWarning,
            stacklevel=2,
        )
