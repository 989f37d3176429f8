"""Toy scans: files with a line of JSON before their voxels."""

import json
from pathlib import Path

import numpy as np

from bioimage_py.errors import ReadOnlyError, StorageError
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import Family, FamilyEntry, FileSource

FORMAT = FamilyEntry("toy", "toy_scan:ToyFamily", "Toy scan", suffixes=(".toy",))


class ToySource(FileSource):
    kind = format = "toy"
    metadata = ImageMetadata()

    def __init__(self, path):
        self.path = path
        try:
            with Path(path).open("rb") as file:
                about = json.loads(file.readline())
                begin = file.tell()
            self.shape, self.dtype = tuple(about["shape"]), np.dtype(about["dtype"])
            self._voxels = np.memmap(path, self.dtype, "r", begin, self.shape)
        except (KeyError, OSError, TypeError, ValueError) as error:
            raise StorageError(f"{path} is not a whole toy scan: {error!r}") from error
        if "pixel_um" in about:
            self.metadata = ImageMetadata(("z", "y", "x"), (about["pixel_um"],) * 3, ("micrometer",) * 3)

    def _read(self, box):
        return np.array(self._voxels[box.slices])


class ToyFamily(Family):
    def open_path(self, path, key, mode):
        del key  # one file holds one array
        if mode != "r":
            raise ReadOnlyError(f"{path} cannot be written: toy scans are only read")
        return ToySource(path)
