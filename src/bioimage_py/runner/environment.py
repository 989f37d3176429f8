"""Which Python and libraries a run was made with, and whether a worker's are near enough."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError

_LIBRARIES = ("bioimage-py", "numpy", "tensorstore", "zarr", "h5py", "tifffile", "imagecodecs", "cloudpickle")


def describe_environment(names: Iterable[str] = _LIBRARIES) -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide what a worker does, without those that are missing."""
    listed = _versions_below(tuple(sys.path))
    found = {"python": sys.version.split()[0]}
    for name in names:
        version = listed.get(_normal(name))
        if not version:
            from importlib import metadata

            try:
                version = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        found[name] = version
    return found


def check_environment(submitted: Mapping[str, str]) -> None:
    """Raise InvalidArgumentError if a major version (of Python: a minor one) is not that of the process that submitted the run."""
    here = describe_environment(name for name in submitted if name != "python")
    for name, version in submitted.items():
        mine = here.get(name)
        if mine is None:
            raise InvalidArgumentError(
                f"{name} {version} was there when the run was submitted, and is missing in the worker's Python: give "
                "python_executable= the interpreter of the same environment, or start the worker with it"
            )
        if mine == version:
            continue
        decisive = 2 if name == "python" or version.startswith("0.") else 1
        if mine.split(".")[:decisive] != version.split(".")[:decisive]:
            raise InvalidArgumentError(
                f"the worker has {name} {mine}, the run was submitted with {version}: give python_executable= the "
                "interpreter of the same environment, or start the worker with it"
            )
        warnings.warn(
            f"the worker has {name} {mine}, the run was submitted with {version}",
            BioimagePyWarning,
            stacklevel=2,
        )


def import_path() -> list[str]:
    """Return from where this process imports modules that are not installed, such as the folder of the user's script."""
    import sysconfig  # not for workers

    installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    found = []
    for entry in sys.path:
        try:
            place = Path(entry).absolute()
        except FileNotFoundError:
            continue  # the working directory was removed
        standard = any(str(folder) in installed for folder in (place, *place.parents))
        if not standard and place.name not in ("site-packages", "dist-packages") and place.exists():
            found.append(str(place))
    return found


def extend_import_path(places: Iterable[str]) -> None:
    """Import from these places too, after all others: a module of the user does not hide an installed one."""
    sys.path.extend(place for place in places if place not in sys.path)


@cache
def _versions_below(places: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of what is installed by normal names, as far as the names of metadata folders tell them.

    To parse the metadata itself, and to import what that takes, costs a worker more than all else that it does to begin.
    """
    found: dict[str, str] = {}
    for place in places:
        try:
            names = [entry.name for entry in Path(place).iterdir()]
        except OSError:
            continue  # an archive, or nothing: those are asked in the slow way
        here: dict[str, set[str]] = {}
        for entry in names:
            if entry.endswith(".dist-info"):
                name, _, version = entry.removesuffix(".dist-info").partition("-")
                here.setdefault(_normal(name), set()).add(version)
        for name, versions in here.items():
            # What an update left behind stands beside what it installed: then the slow way has to tell.
            found.setdefault(name, versions.pop() if len(versions) == 1 else "")
    return found


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")
