"""Where an OME-Zarr image is made: the names of groups and arrays, and nothing that touches a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError

__all__ = ["FULL_SIZE", "ImageGroup"]

FULL_SIZE = "0"
"""Key of the full-size array of an image that is made here."""
_SUFFIX = ".ome.zarr"


@dataclass(frozen=True)
class ImageGroup:
    """Where a new OME-Zarr image is to be.

    Attributes
    ----------
    path
        Folder or URL of the container, whose name ends in `.ome.zarr`.
    key
        None for the image itself, `"labels/cells"` for a label image in it.
    """

    path: str
    key: str | None = None

    @classmethod
    def at(cls, path: str, key: str | None) -> ImageGroup | None:
        """Return the group that a path and a key mean, or None if they mean a plain array."""
        if not path.lower().rstrip("/").endswith(_SUFFIX):
            return None
        parts = (key or "").strip("/").split("/")
        if key is None or (len(parts) == 2 and parts[0] == "labels"):
            return cls(path, key)
        return None

    @property
    def name(self) -> str:
        """What the image is called: the name of the container, or of the labels."""
        last = (self.key or self.path.rstrip("/")).rpartition("/")[2]
        return last if self.key else last[: -len(_SUFFIX)]

    def level_key(self, path: str) -> str:
        """Return the key of a level in the container."""
        return path if self.key is None else f"{self.key}/{path}"

    def check_dtype(self, dtype: np.dtype[Any]) -> None:
        """Raise InvalidArgumentError for labels that are no integers."""
        if self.key is not None and dtype.kind not in "iub":
            raise InvalidArgumentError(
                f"labels are integers, and {self.path}/{self.key} would hold {dtype}: cast it, or choose a key outside of 'labels'"
            )
