"""Where the temporary store of a copy in two passes is: a folder, or the objects below a URL; whether it is there, and its removal."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bioimage_py.errors import BioimagePyWarning
from bioimage_py.storage import is_url

TEMPORARY_MARK = ".rechunk-"
"""In the name of every temporary store: nothing else is removed as one."""

_METADATA = "zarr.json"
_WAITS = (0.1, 0.4, None)
"""Seconds before a removal that failed is tried again: a writer that was believed dead may have just made a file."""


@dataclass(frozen=True)
class TemporaryPlace:
    """Where a temporary store is: its folder or URL, and how a URL is reached, as in `StoreFolder`, without secrets."""

    path: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> TemporaryPlace:
        return cls(stored["path"], stored["options"])

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "options": dict(self.options)}

    def metadata(self) -> dict[str, Any] | None:
        """Return what the array or group at the place says of itself, None where the store is not there."""
        from bioimage_py.storage import StoreFolder

        return StoreFolder.at(self.path, self.options).read_json(_METADATA)

    def exists(self) -> bool:
        """Whether the temporary store is there, or its metadata at least; raises StorageError if its place cannot be reached."""
        if is_url(self.path):
            return self.metadata() is not None
        return Path(self.path, _METADATA).exists()

    def remove(self) -> None:
        """Remove the temporary store, if it is there; warns of what cannot be removed."""
        if TEMPORARY_MARK not in os.path.basename(self.path):  # noqa: PTH119 - a text stays a text
            raise ValueError(f"{self.path!r} is not a temporary store")
        for wait in _WAITS:
            try:
                self._remove_once()
            except FileNotFoundError:
                if not os.path.lexists(self.path):
                    return
            except OSError as error:
                if wait is None:
                    what = f"the temporary store {self.path!r} cannot be removed: {error.strerror}"
                    warnings.warn(
                        f"{what if error.strerror else f'a temporary store stays: {error}'}. Remove it by hand",
                        BioimagePyWarning,
                        stacklevel=3,
                    )
                    return
                time.sleep(wait)
            else:
                return

    def _remove_once(self) -> None:
        if not is_url(self.path):
            shutil.rmtree(self.path)
            return
        from bioimage_py.storage import StoreFolder, remove_objects

        remove_objects(StoreFolder.at(self.path, self.options))
