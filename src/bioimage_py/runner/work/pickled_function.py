"""The function that a user handed in, as a file of the run folder; its checksum is in the run's plan."""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

from bioimage_py.errors import MissingDependencyError, NotPortableError, StorageError
from bioimage_py.runner.run import RunFolder


def store_function(function: Any, folder: RunFolder) -> str:
    """Write a function into the run folder and return the checksum of its pickle.

    Raises
    ------
    MissingDependencyError
        Without cloudpickle.
    NotPortableError
        If the function, or what it holds, cannot be pickled.
    """
    try:
        import cloudpickle
    except ImportError as error:
        raise MissingDependencyError(
            "sending a function to other processes needs cloudpickle: pip install cloudpickle"
        ) from error
    try:
        pickled = cloudpickle.dumps(function)
    except Exception as error:  # whatever the objects that the function holds raise
        raise NotPortableError(
            f"the function {getattr(function, '__name__', function)!r} cannot be sent to other processes: {error}. Make what it "
            "needs inside of it, or hand it over as files"
        ) from error
    check = hashlib.sha256(pickled).hexdigest()
    folder.write_function(pickled, check)
    return check


def load_function(check: str, folder: RunFolder) -> Any:
    """Return the function whose checksum this is; what is pickled by name needs no cloudpickle.

    Raises
    ------
    StorageError
        If it is not what the run wrote.
    NotPortableError
        If what it needs is not in this process.
    """
    pickled = folder.read_function(check)
    if hashlib.sha256(pickled).hexdigest() != check:
        raise StorageError(
            f"{folder.function_file(check)} is not as the run wrote it: it is damaged, or another's"
        )
    # It is this user's own, nobody else can write into it, and it is what the run's plan says: all of that was checked.
    try:
        return pickle.loads(pickled)  # noqa: S301
    except Exception as error:  # whatever the modules raise that it needs
        raise NotPortableError(
            f"the function of the run cannot be restored here: {type(error).__name__}: {error}. Its modules must be installed for the "
            "workers, or be in a folder that they see too, under a name that no installed module has"
        ) from error
