"""What TensorStore's exceptions mean, in this package's errors."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from bioimage_py.errors import BioimagePyError, ReadOnlyError, StorageError

__all__ = ["ENGINE_ERRORS", "check_json", "plain_message", "reads_metadata", "storage_error"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_LONGEST = 600

ENGINE_ERRORS = (ValueError, NotImplementedError, OSError)
"""What TensorStore raises where a store fails, or a request is one that it does not know."""


def plain_message(error: BaseException) -> str:
    """Return TensorStore's text without its dump of the spec, which is long and may hold request headers."""
    text = re.sub(r"\s*\[(tensorstore_spec|source locations)=.*", "", str(error), flags=re.DOTALL)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


def reads_metadata(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Have a function of a path raise a StorageError that names the path, for what malformed metadata make Python raise."""

    @functools.wraps(function)
    def named(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except BioimagePyError:
            raise
        except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
            raise StorageError(f"the metadata of {args[0]} are malformed: {plain_message(error)}") from error

    return named


def check_json(value: Any, place: str, name: str = "") -> None:
    """Raise StorageError for integers beyond 64 bits and texts that are no Unicode, which TensorStore does not take.

    Parameters
    ----------
    value
        Of the metadata, and what is in it.
    place
        What holds it.
    name
        Of the entry.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_json(key, place, name)
            check_json(item, place, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_json(item, place, name)
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        many = f"an integer of {value.bit_length()} bits"
        raise StorageError(
            f"the metadata of {place} are malformed: {name[:80]!r} holds {many}, and 64 is the limit"
        )
    elif isinstance(value, str) and not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
        raise StorageError(
            f"the metadata of {place} are malformed: {name[:80]!r} holds {value[:80]!a}, which is not Unicode"
        )


def storage_error(error: BaseException, what: str, *, writing: bool = False) -> StorageError | ReadOnlyError:
    """Return the error that tells a user what TensorStore's exception means; `what` is what could not be done."""
    text = plain_message(error)
    if writing and re.search(r"PERMISSION_DENIED|Permission denied|Read-only file system", text):
        return ReadOnlyError(f"{what}: {text}. Check the permissions of the place that is named")
    if re.search(r"No space left|Disk quota|RESOURCE_EXHAUSTED", text):
        return StorageError(f"{what}: {text}. The disk is full: free some space and run again")
    return StorageError(f"{what}: {text}")
