"""Options of the command line from the fields of a dataclass, as `bioimage_py.option` describes them."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterable
from dataclasses import Field, fields
from typing import Any

from bioimage_py.cli import values


def add_fields(group: Any, owner: type, *names: str, without: Iterable[str] = (), prefix: str = "") -> None:
    """Add options to a parser or a group of it: for the fields named, or for all that the class defines itself.

    A field without a help text has no option. An option that is not given is None. A prefix, such as `"dask_"`, goes before all names.
    """
    found = _options(owner)
    for name in names or inspect.get_annotations(owner):
        if name in found and name not in without:
            about = dict(found[name].metadata)
            spelled, read = _spelled(found[name], prefix), about.pop("read")
            del about["spelled"]
            if about["metavar"] is None and about["choices"] is None:
                group.add_argument(
                    spelled, dest=prefix + name, action="store_true", default=None, help=about["help"]
                )
            else:
                group.add_argument(
                    spelled, dest=prefix + name, type=getattr(values, read or "", str), **about
                )


def given_values(args: argparse.Namespace, *owners: type, prefix: str = "") -> dict[str, Any]:
    """Return what the command line gives for the fields of dataclasses, inherited ones included."""
    found = {name: getattr(args, prefix + name, None) for owner in owners for name in _options(owner)}
    return {name: value for name, value in found.items() if value is not None}


def given_options(args: argparse.Namespace, owner: type, *names: str, prefix: str = "") -> list[str]:
    """Return which options the command line gives, as they are spelled: of the fields named, or of all that the class defines itself."""
    found = _options(owner)
    asked = [name for name in names or inspect.get_annotations(owner) if name in found]
    return [_spelled(found[name], prefix) for name in asked if getattr(args, prefix + name, None) is not None]


def _options(owner: type) -> dict[str, Field[Any]]:
    return {one.name: one for one in fields(owner) if "help" in one.metadata}


def _spelled(field: Field[Any], prefix: str) -> str:
    return field.metadata["spelled"] or f"--{(prefix + field.name).replace('_', '-')}"
