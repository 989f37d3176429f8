"""Where an OME-Zarr image is made: the names of groups and arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError

if TYPE_CHECKING:
    from bioimage_py.sources.location import Location

FULL_SIZE = "0"
"""Key of the full-size array of an image that is made here."""
_SUFFIX = ".ome.zarr"


@dataclass(frozen=True)
class ImageGroup:
    """Where a new OME-Zarr image is to be."""

    path: str  # folder or URL of the container
    key: str | None = None  # None for the image itself, `"labels/cells"` for a label image in it

    @classmethod
    def at(cls, path: str, key: str | None) -> ImageGroup | None:
        """Return the group that a path and a key mean, or None if they mean a plain array.

        What is below `labels/` belongs to an image whatever the container is called, if there is one in it.
        """
        named = path.lower().rstrip("/").endswith((_SUFFIX, ".ozx"))
        if key is None:
            return cls(path) if named else None
        parts = key.strip("/").split("/")
        of_labels = len(parts) == 2 and parts[0] == "labels"
        return cls(path, key) if of_labels and (named or _is_image(path)) else None

    @classmethod
    def for_copy(cls, place: Location, source: str) -> ImageGroup | None:
        """Return the group that a whole OME-Zarr becomes at a place; None where only an array can be.

        That is a container that ends in `.zarr`, a label image, or a path that names no format: one without an ending, or
        with that of the `source`.
        """
        path, key, family = place
        ending = PurePosixPath(path).suffix.lower()
        unnamed = family is None and ending in ("", PurePosixPath(source).suffix.lower())
        if key is None and (unnamed or path.lower().rstrip("/").endswith((".zarr", ".ozx"))):
            return cls(path)
        return cls.at(path, key)

    @property
    def name(self) -> str:
        last = (self.key or self.path.rstrip("/")).rpartition("/")[2]
        name = last if self.key or not last.lower().endswith(_SUFFIX) else last[: -len(_SUFFIX)]
        if name.startswith(".") and name.lower().endswith(".ozx"):  # the folder that is packed
            name = name[1 : -len(".ozx")]
        return name or last

    def level_key(self, path: str) -> str:
        return path if self.key is None else f"{self.key}/{path}"

    def check_dtype(self, dtype: np.dtype[Any]) -> None:
        if self.key is not None and dtype.kind not in "iub":
            raise InvalidArgumentError(
                f"labels are integers, and {self.path}/{self.key} would hold {dtype}: cast it, or choose a key outside of 'labels'"
            )


def _is_image(path: str) -> bool:
    if not path.lower().rstrip("/").endswith(".zarr"):
        return False
    from bioimage_py.sources.stores import first_dataset, group_attributes
    from bioimage_py.storage import StoreFolder

    return first_dataset(group_attributes(StoreFolder.at(path))) is not None
