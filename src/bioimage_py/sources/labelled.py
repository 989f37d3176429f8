"""What an xarray.DataArray says about its axes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError
from bioimage_py.metadata import ImageMetadata, normalise_unit, plain_value

__all__ = ["metadata_of"]

_EVEN = 1e-3
"""By which part of a step coordinates may be uneven: what rounding to a few digits makes of even ones."""


def metadata_of(array: Any) -> ImageMetadata:
    """Return the axes of a DataArray, and voxel size, units and origin where its coordinates are numbers evenly spaced.

    Attributes that JSON cannot hold are left out with a BioimagePyWarning.
    """
    axes = tuple(str(name) for name in array.dims)
    spacing = [_spacing(array, name) for name in array.dims]
    units = [_unit(array, name) for name in array.dims]
    known = any(s is not None for s in spacing)
    origin = tuple(0.0 if s is None else s[0] for s in spacing)
    return ImageMetadata(
        axes=axes,
        voxel_size=tuple(1.0 if s is None else s[1] for s in spacing) if known else None,
        units=tuple(units) if any(units) else None,
        origin=origin if any(origin) else None,
        channel_names=_channel_names(array),
        attributes=_plain(array.attrs),
    ).fitting(array.ndim)


def _spacing(array: Any, name: Any) -> tuple[float, float] | None:
    """Return where the coordinates of a dimension start and their step, or None where they are not evenly spaced."""
    if name not in array.coords:
        return None
    values = np.asarray(array.coords[name].values)
    if values.ndim != 1 or values.size < 2 or values.dtype.kind not in "iuf":
        return None
    values = values.astype(float)
    step = (values[-1] - values[0]) / (values.size - 1)
    # A voxel has no negative size; coordinates that descend cannot be told.
    if not np.isfinite(values).all() or step <= 0 or np.abs(np.diff(values) - step).max() > _EVEN * step:
        return None
    return float(values[0]), float(step)


def _unit(array: Any, name: Any) -> str | None:
    unit = array.coords[name].attrs.get("units") if name in array.coords else None
    return normalise_unit(unit) if isinstance(unit, str) else None


def _channel_names(array: Any) -> tuple[str, ...] | None:
    if "c" not in array.dims or "c" not in array.coords:
        return None
    names = array.coords["c"].values.tolist()
    return tuple(names) if all(isinstance(n, str) for n in names) else None


def _plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    plain, lost = {}, []
    for name, value in attributes.items():
        try:
            plain[str(name)] = plain_value(value)
        except InvalidArgumentError:
            lost.append(str(name))
    if lost:
        warnings.warn(
            f"attributes that are not plain JSON are left out: {', '.join(lost)}",
            BioimagePyWarning,
            stacklevel=4,
        )
    return plain
