"""What a field of an options dataclass says of itself, for the command line that is derived from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any


def option(
    help: str,
    *,
    default: Any = None,
    metavar: str | None = None,
    read: str | None = None,
    choices: Sequence[Any] | None = None,
    spelled: str | None = None,
) -> Any:
    """Return a dataclass field that the command line has an option for.

    Parameters
    ----------
    help
        Of the option.
    default
        Of the field.
    metavar
        What stands for the value in the help; an option without one, and without choices, is a flag.
    read
        The function of `bioimage_py.cli.values` that reads the text of the value, by name. Default: the text itself.
    choices
        The values that are allowed.
    spelled
        The option, such as `"--run-folders"`. Default: the name of the field.
    """
    said = {"help": help, "metavar": metavar, "read": read, "choices": choices, "spelled": spelled}
    return field(default=default, metadata=said)
