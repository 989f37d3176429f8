"""The function that a user handed in, as a file of the run folder; its checksum is in the run's plan."""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

from bioimage_py.errors import MissingDependencyError, NotPortableError, StorageError
from bioimage_py.runner.run.own_files import read_own, write_whole
from bioimage_py.runner.run.run_folder import RunFolder
from bioimage_py.storage import AnyPath

_FIRST = "function.pkl"


def store_function(function: Any, folder: RunFolder) -> str:
    """Write a function into the run folder and return the checksum of its pickle."""
    try:
        import cloudpickle
    except ImportError as error:
        raise MissingDependencyError.of(
            "sending a function to other processes needs cloudpickle", "cloudpickle"
        ) from error
    try:
        pickled = cloudpickle.dumps(function)
    except Exception as error:  # whatever the objects that the function holds raise
        raise NotPortableError(
            f"the function {getattr(function, '__name__', function)!r} cannot be sent to other processes: {error}. Make what it "
            "needs inside of it, or hand it over as files"
        ) from error
    check = hashlib.sha256(pickled).hexdigest()
    # One that is there stays, as workers may still be about to read it.
    first = folder.path / _FIRST
    write_whole(_given_later(folder, check) if first.exists() else first, pickled)
    return check


def load_function(check: str, folder: RunFolder) -> Any:
    """Return the function whose checksum this is; raises StorageError if it is not what the run wrote."""
    path = _given_later(folder, check)
    if not path.exists():
        path = folder.path / _FIRST
    pickled = read_own(path)
    if hashlib.sha256(pickled).hexdigest() != check:
        raise StorageError(f"{path} is not as the run wrote it: it is damaged, or another's")
    # Checked: it is this user's own, no other user can write into it, and it is what the run's plan names.
    try:
        return pickle.loads(pickled)  # noqa: S301
    except Exception as error:  # whatever the modules raise that it needs
        raise NotPortableError(
            f"the function of the run cannot be restored here: {type(error).__name__}: {error}. Its modules must be installed for the "
            "workers, or be in a folder that they see too, under a name that no installed module has"
        ) from error


def _given_later(folder: RunFolder, check: str) -> AnyPath:
    """Return where a function is that a run was given when it was resumed."""
    return folder.path / f"function-{check[:16]}.pkl"
