"""Filters that HDF5 itself must have for a dataset that is not decoded here."""

from __future__ import annotations

import importlib
import logging

import h5py

from bioimage_py.errors import UnsupportedFormatError
from bioimage_py.sources.hdf5.dataset import DatasetDescription

_log = logging.getLogger(__name__)


def need_filters(described: DatasetDescription) -> None:
    """Make HDF5 know the filters of a dataset, with hdf5plugin where it is installed."""
    missing = _missing(described)
    if missing:
        try:
            importlib.import_module("hdf5plugin")
        except ImportError:
            _log.debug("hdf5plugin is not installed")
        missing = _missing(described)
    if missing:
        raise UnsupportedFormatError(
            f"{described.name!r} is encoded with {', '.join(missing)}, which this HDF5 library does not know; "
            "'pip install hdf5plugin' adds many filters"
        )


def _missing(described: DatasetDescription) -> list[str]:
    return [
        f"{used.text} (filter {used.number})"
        for used in described.filters
        if not h5py.h5z.filter_avail(used.number)
    ]
