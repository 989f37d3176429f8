"""Holding an OME-Zarr against the models of the specification, with the package ome-zarr-models."""

from __future__ import annotations

import os
import warnings
from typing import Literal

from bioimage_py.errors import MissingDependencyError, StorageError
from bioimage_py.sources.location import locate
from bioimage_py.sources.stores import group_attributes
from bioimage_py.storage import StoreFolder


def check_ome_zarr(path: str | os.PathLike[str], key: str | None = None) -> str:
    """Return what an OME-Zarr group is by the specification (`"Image"`, `"ImageLabel"`, `"HCS"`, …), after checking it whole.

    Parameters
    ----------
    path
        Local path of the container.
    key
        Of a group in it. Default: the container itself.

    Raises
    ------
    MissingDependencyError
        If ome-zarr-models is not installed (extra `ome`).
    StorageError
        If the group is not valid, with what is wrong.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about features of Zarr that arrays elsewhere have
            import ome_zarr_models
            import zarr
    except ImportError as error:
        raise MissingDependencyError(
            "checking OME-Zarr needs ome-zarr-models: pip install 'bioimage-py[ome]'"
        ) from error
    location = locate(path, key)
    folder = StoreFolder.at(location.path).child(location.key)
    version: Literal["0.4", "0.5"] = "0.5" if "ome" in group_attributes(folder) else "0.4"
    try:
        group = zarr.open_group(folder.path, mode="r", zarr_format=3 if version == "0.5" else 2)
        found = ome_zarr_models.open_ome_zarr(group, version=version)
    except (RuntimeError, ValueError, FileNotFoundError) as error:
        raise StorageError(f"{folder.path} is no valid OME-Zarr {version}: {error}") from error
    return type(found).__name__
