"""Axes, voxel size and attributes of a dataset in HDF5 attributes, ours and those of ilastik, vigra and ImageJ."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import h5py
import numpy as np

from bioimage_py.errors import BioimagePyWarning
from bioimage_py.metadata import (
    ImageMetadata,
    bdv_metadata,
    bdv_view,
    channel_count,
    from_attributes,
    is_number,
    to_attributes,
    with_resolution,
    without_nonsense,
)
from bioimage_py.sources.hdf5.files import FOREIGN_ERRORS, hdf5_words

_AS_JSON = "bioimage_py_json"
_ELEMENT_SIZE = "element_size_um"
_AXISTAGS = "axistags"
_SPATIAL = ("z", "y", "x")
_MICROMETERS = {
    "angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6,
}  # fmt: skip
# Attributes of HDF5's dimension scales, which are valid in their own file only.
_HDF5_OWN = ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates")


def read_metadata(dataset: h5py.Dataset, ndim: int) -> ImageMetadata:
    """Return the metadata in the attributes of a dataset; attributes without a plain JSON value are left out."""
    found = _plain_attributes(dataset.attrs)
    name = f"{dataset.file.filename}:{dataset.name}"
    axes, sizes = _pop_axistags(found, ndim)
    metadata = from_attributes(found, ndim, name)
    if metadata.axes is None and axes is not None:
        metadata = replace(metadata, axes=axes)
    metadata = with_resolution(metadata, ndim)
    metadata = _with_element_size(metadata, ndim, name)
    if metadata.voxel_size is None and sizes is None and ndim == 3:
        metadata = _from_bdv(dataset, metadata, name)
    if metadata.voxel_size is None and sizes is not None:
        metadata = without_nonsense(replace(metadata, voxel_size=sizes), ndim, name)
    return metadata.for_channels(channel_count(metadata.axes, dataset.shape))


def _from_bdv(dataset: h5py.Dataset, metadata: ImageMetadata, name: str) -> ImageMetadata:
    """Take the voxel size of a view of BigDataViewer from the XML file beside it, for the level that this is."""
    view = bdv_view(str(dataset.name))
    if view is None:
        return metadata
    factors = bdv_factors(dataset.file, view.setup) or [(1.0, 1.0, 1.0)] * (view.level + 1)
    if view.level >= len(factors):
        return metadata
    found = bdv_metadata(str(dataset.file.filename), view.setup, factors[view.level])
    if found is None:
        return metadata
    return without_nonsense(replace(found, attributes=metadata.attributes), 3, name)


def bdv_factors(file: h5py.File, setup: int) -> list[tuple[float, ...]]:
    """Return by how much the voxels of the levels of a setup are larger along z, y, x; none where the file does not say it."""
    try:
        return checked_factors(file[f"s{setup:02d}/resolutions"][...].tolist())
    except FOREIGN_ERRORS:
        return []


def checked_factors(listed: Any) -> list[tuple[float, ...]]:
    """Return what is listed along x, y, z for each level along z, y, x; none where that is not so."""
    levels: list[Any] = listed if isinstance(listed, list) else [None]
    fit = all(
        isinstance(one, list) and len(one) == 3 and all(is_number(n) and n > 0 for n in one) for one in levels
    )
    return [tuple(float(factor) for factor in one[::-1]) for one in levels] if fit else []


def write_metadata(dataset: h5py.Dataset, metadata: ImageMetadata) -> None:
    """Write metadata as attributes of a dataset; `read_metadata` returns the same again.

    A value that HDF5 cannot hold is left out, with a BioimagePyWarning that names it.
    """
    attributes = to_attributes(metadata, numbers_as_text=False)
    sizes = _sizes_in_micrometers(metadata)
    if sizes is not None and _ELEMENT_SIZE not in attributes:
        attributes[_ELEMENT_SIZE] = sizes
    native = {name: _stored_value(value) for name, value in attributes.items()}
    as_json = [name for name, value in native.items() if value is None]
    native |= {name: json.dumps(attributes[name]) for name in as_json}
    if as_json:
        native[_AS_JSON] = as_json
    for name, value in native.items():
        try:
            dataset.attrs[name] = value
        except FOREIGN_ERRORS as error:
            warnings.warn(
                f"attribute {name!r} is not in {dataset.file.filename!r}: HDF5 cannot hold it ({hdf5_words(error)})",
                BioimagePyWarning,
                stacklevel=2,
            )


def _stored_value(value: Any) -> Any:
    """Return a value that HDF5 stores natively and returns unchanged, None if it has to be stored as JSON text."""
    if isinstance(value, str):
        plain = "\0" not in value and not any(0xD800 <= ord(c) < 0xE000 for c in value)
        return value if plain else None
    if isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        unsigned = 2**63 <= value < 2**64
        return np.uint64(value) if unsigned else value if -(2**63) <= value < 2**63 else None
    if not isinstance(value, (list, tuple)) or not 0 < len(value) <= 1000:
        return None
    for kind in (bool, int, float, str):
        if all(type(v) is type(_stored_value(v)) is kind for v in value):
            return list(value) if kind is str else np.array(value)
    return None


def _plain_attributes(attrs: h5py.AttributeManager) -> dict[str, Any]:
    found = {}
    for name in attrs:
        # The voxels can be read though numpy has no type for an attribute.
        with suppress(*FOREIGN_ERRORS):
            found[name] = _plain(attrs[name])
    found = {name: value for name, value in found.items() if value is not None and name not in _HDF5_OWN}
    as_json = found.pop(_AS_JSON, None)
    for name, value in found.items():
        if isinstance(as_json, list) and name in as_json and isinstance(value, str):
            found[name] = _from_json(value)
    return found


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    """Return a value as plain JSON, None for references, records and empty attributes."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        items = [_plain(v) for v in value.tolist()] if value.dtype.kind in "biufSO" else None
        return None if items is None or any(v is None for v in items) else items
    if isinstance(value, np.generic):
        return _plain(value.item()) if value.dtype.kind in "biufSU" else None
    if isinstance(value, list):
        items = [_plain(v) for v in value]
        return None if any(v is None for v in items) else items
    return value if isinstance(value, (str, bool, int, float)) else None


def _pop_axistags(
    attributes: dict[str, Any], ndim: int
) -> tuple[tuple[str, ...] | None, tuple[float, ...] | None]:
    """Take names and sizes out of vigra's axis tags, which ilastik writes too; tags that do not fit stay."""
    tags = _from_json(attributes[_AXISTAGS]) if isinstance(attributes.get(_AXISTAGS), str) else None
    if not isinstance(tags, Mapping) or not isinstance(tags.get("axes"), list):
        return None, None
    entries = [tag for tag in tags["axes"] if isinstance(tag, Mapping)]
    keys = tuple(str(tag.get("key") or "") for tag in entries)
    if len(keys) != ndim or len(set(keys)) != ndim or "" in keys:
        return None, None
    del attributes[_AXISTAGS]
    sizes = [tag.get("resolution") for tag in entries]
    # vigra writes 0 for an unknown resolution.
    known = any(is_number(size) and size != 0 for size in sizes)
    return keys, tuple(float(s) if is_number(s) and s != 0 else 1.0 for s in sizes) if known else None


def _spatial_axes(axes: Sequence[str] | None, ndim: int) -> dict[str, int] | None:
    """Return the indices of the axes z, y and x that exist, None if they are not known."""
    if axes is None:
        return {name: n for n, name in enumerate(_SPATIAL[-ndim:])} if ndim in (2, 3) else None
    lowered = [name.lower() for name in axes]
    return {name: lowered.index(name) for name in _SPATIAL if name in lowered} or None


def _sizes_in_micrometers(metadata: ImageMetadata) -> list[float] | None:
    """Return the voxel size along z, y, x in micrometers, None where an axis or its unit is unknown."""
    if metadata.voxel_size is None or metadata.units is None:
        return None
    spatial = _spatial_axes(metadata.axes, len(metadata.voxel_size))
    if spatial is None or len(spatial) != len(_SPATIAL):
        return None
    sizes = []
    for axis in spatial.values():
        factor = _MICROMETERS.get(metadata.units[axis] or "")
        if factor is None:
            return None
        sizes.append(metadata.voxel_size[axis] * factor)
    return sizes


def _with_element_size(metadata: ImageMetadata, ndim: int, name: str) -> ImageMetadata:
    """Move `element_size_um` into the voxel size if there is none; drop it if it agrees with the voxel size."""
    sizes = metadata.attributes.get(_ELEMENT_SIZE)
    spatial = _spatial_axes(metadata.axes, ndim)
    if not isinstance(sizes, list) or len(sizes) != 3 or not all(map(is_number, sizes)) or spatial is None:
        return metadata
    left = {key: value for key, value in metadata.attributes.items() if key != _ELEMENT_SIZE}
    if metadata.voxel_size is not None:
        return replace(metadata, attributes=left) if _sizes_in_micrometers(metadata) == sizes else metadata
    size_of = {spatial[key]: size for key, size in zip(_SPATIAL, sizes, strict=True) if key in spatial}
    found = replace(
        metadata,
        voxel_size=tuple(float(size_of.get(axis, 1.0)) for axis in range(ndim)),
        units=tuple("micrometer" if axis in size_of else None for axis in range(ndim)),
    )
    sane = without_nonsense(found, ndim, name)
    return sane if sane.voxel_size is None else replace(sane, attributes=left)
