"""What TensorStore's exceptions mean, in this package's errors."""

from __future__ import annotations

import re

from bioimage_py.errors import ReadOnlyError, StorageError

__all__ = ["ENGINE_ERRORS", "plain_message", "storage_error"]

ENGINE_ERRORS = (ValueError, NotImplementedError, OSError)
"""What TensorStore raises where a store fails, or a request is one that it does not know."""


def plain_message(error: BaseException) -> str:
    """Return TensorStore's text without its dump of the spec, which is long and may hold request headers."""
    return re.sub(r"\s*\[(tensorstore_spec|source locations)=.*", "", str(error), flags=re.DOTALL)


def storage_error(error: BaseException, what: str, *, writing: bool = False) -> StorageError | ReadOnlyError:
    """Return the error that tells a user what TensorStore's exception means; `what` is what could not be done."""
    text = plain_message(error)
    if writing and re.search(r"PERMISSION_DENIED|Permission denied|Read-only file system", text):
        return ReadOnlyError(f"{what}: {text}. Check the permissions of the place that is named")
    if re.search(r"No space left|Disk quota|RESOURCE_EXHAUSTED", text):
        return StorageError(f"{what}: {text}. The disk is full: free some space and run again")
    return StorageError(f"{what}: {text}")
