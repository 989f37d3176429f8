"""Options of the command line from the fields of a dataclass, as `bioimage_py.option` describes them."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterable
from dataclasses import Field, fields
from typing import Any

from bioimage_py.cli import values


def add_fields(
    group: Any, owner: type, *names: str, without: Iterable[str] = (), prefix: str = "", suffix: str = ""
) -> None:
    """Add options to a parser or a group of it: for the fields named, or for all that the class defines itself.

    A field without a help text has no option. An option that is not given is None. A prefix, such as `"dask_"`, goes before all names, a
    suffix, such as `"_a"`, behind.
    """
    for field in _options(owner, names or inspect.get_annotations(owner)):
        if field.name not in without:
            about = {name: value for name, value in field.metadata.items() if name not in ("read", "spelled")}
            if about["metavar"] is None and about["choices"] is None:
                how: dict[str, Any] = {"action": "store_true", "default": None, "help": about["help"]}
            else:
                how = {"type": getattr(values, field.metadata["read"] or "", str), **about}
            spelled = _spelled(field, prefix) + suffix.replace("_", "-")
            group.add_argument(spelled, dest=prefix + field.name + suffix, **how)


def given_values(args: argparse.Namespace, *owners: type, prefix: str = "") -> dict[str, Any]:
    """Return what the command line gives for the fields of dataclasses, inherited ones included."""
    names = [field.name for owner in owners for field in _options(owner)]
    found = {name: getattr(args, prefix + name, None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def given_options(args: argparse.Namespace, owner: type, *names: str, prefix: str = "") -> list[str]:
    """Return which options the command line gives, as they are spelled: of the fields named, or of all that the class defines itself."""
    asked = _options(owner, names or inspect.get_annotations(owner))
    return [_spelled(one, prefix) for one in asked if getattr(args, prefix + one.name, None) is not None]


def _options(owner: type, names: Iterable[str] | None = None) -> list[Field[Any]]:
    """Return the fields named, or all, that have an option."""
    found = {field.name: field for field in fields(owner) if "help" in field.metadata}
    return [found[name] for name in (found if names is None else names) if name in found]


def _spelled(field: Field[Any], prefix: str) -> str:
    return field.metadata["spelled"] or f"--{(prefix + field.name).replace('_', '-')}"
