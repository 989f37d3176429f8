"""All objects of a store whose names begin alike, as a folder on a disk would hold them: found by name, and removed together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorstore as ts

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.sources.base import Source
from bioimage_py.sources.kvstore import URL_OPTIONS, StoreFolder, store_context
from bioimage_py.sources.store_errors import ENGINE_ERRORS, storage_error

__all__ = ["folders_beginning", "options_of", "remove_objects"]


def folders_beginning(folder: StoreFolder) -> list[str]:
    """Return the URLs of the folders beside this one whose names begin with its name, sorted.

    Parameters
    ----------
    folder
        Behind a URL that names more than a bucket. It need not be there.

    Raises
    ------
    StorageError
        If the store cannot be reached, or does not list its objects.
    """
    above = folder.parent()
    assert above is not None
    name = folder.path.rpartition("/")[2]
    after = name[:-1] + chr(ord(name[-1]) + 1)
    try:
        found = _store(above).list(ts.KvStore.KeyRange(name, after)).result()
    except ENGINE_ERRORS as error:
        raise storage_error(error, f"{folder.path}* cannot be listed") from error
    names = {key.decode("utf-8", "replace").partition("/")[0] for key in found}
    return sorted(f"{above.path.rstrip('/')}/{name}" for name in names)


def remove_objects(folder: StoreFolder) -> None:
    """Remove all objects below a URL; it is no error if there are none.

    Raises
    ------
    ReadOnlyError
        If they may not be removed.
    StorageError
        If the store cannot be reached.
    """
    try:
        _store(folder).delete_range(ts.KvStore.KeyRange()).result()
    except ENGINE_ERRORS as error:
        raise storage_error(error, f"{folder.path} cannot be removed", writing=True) from error


def options_of(source: Source) -> Mapping[str, Any] | None:
    """Return how the URL of a source is reached; None for a live handle, which knows that by itself."""
    try:
        spec = source.to_spec()
    except InvalidArgumentError:
        return None
    return None if "tensorstore" in spec else {name: spec[name] for name in URL_OPTIONS if name in spec}


def _store(folder: StoreFolder) -> Any:
    return ts.KvStore.open(folder.spec(), context=store_context(1, 0)).result()
