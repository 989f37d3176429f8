"""How large things are drawn: panels in the proportion of the object, and a scale bar of a round length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bioimage_py.metadata import SPACE_UNITS, ImageMetadata

_LARGEST_VOXEL = 8
"""Pixels to which the finest voxels are enlarged at most."""
METERS = {
    "angstrom": 1e-10, "picometer": 1e-12, "nanometer": 1e-9, "micrometer": 1e-6, "millimeter": 1e-3, "centimeter": 1e-2,
    "decimeter": 1e-1, "meter": 1.0, "kilometer": 1e3, "inch": 0.0254, "foot": 0.3048, "yard": 0.9144, "mile": 1609.344,
}  # fmt: skip
_SHOWN = (("km", 1e3), ("m", 1.0), ("mm", 1e-3), ("µm", 1e-6), ("nm", 1e-9), ("pm", 1e-12))
_BAR = 1 / 3


class Proportions(NamedTuple):
    """How axes are drawn.

    Attributes
    ----------
    pixels
        Extent of each axis in pixels.
    meters_per_pixel
        How large a pixel is, or None where the unit is not known.
    unit
        The unit of the axes, where all of them have the same.
    """

    pixels: dict[int, int]
    meters_per_pixel: float | None
    unit: str | None = None


class ScaleBar(NamedTuple):
    """A bar of a round length: how long it is drawn, and what is written beside it."""

    pixels: int
    text: str


def drawn_sizes(
    shape: Sequence[int], axes: Sequence[int], metadata: ImageMetadata, longest: int
) -> Proportions:
    """Return how many pixels each axis takes, the longest one at most `longest`.

    Axes keep the proportion of their voxel sizes, units included. Where a voxel size is not known, voxels are cubes.
    """
    known = metadata.fitting(len(shape))
    size = dict.fromkeys(axes, 1.0)
    meters: float | None = None
    if known.voxel_size is not None:
        size = {axis: known.voxel_size[axis] for axis in axes}
        factors = {axis: _factor(known.units, axis) for axis in axes}
        if all(factor is not None for factor in factors.values()):
            size = {axis: size[axis] * (factors[axis] or 1.0) for axis in axes}
            meters = 1.0
    finest = min(size.values())
    per_length = min(longest / max(shape[axis] * size[axis] for axis in axes), _LARGEST_VOXEL / finest)
    pixels = {axis: max(1, round(shape[axis] * size[axis] * per_length)) for axis in axes}
    units = {known.units[axis] for axis in axes} if known.units is not None else {None}
    unit = units.pop() if len(units) == 1 else None
    return Proportions(pixels, None if meters is None else meters / per_length, unit)


def _factor(units: Sequence[str | None] | None, axis: int) -> float | None:
    unit = None if units is None else units[axis]
    return METERS.get(unit) if unit in SPACE_UNITS else None


def scale_bar(meters_per_pixel: float | None, widest: int, unit: str | None = None) -> ScaleBar | None:
    """Return the longest bar of 1, 2 or 5 times a power of ten that takes a third of `widest` pixels at most.

    Its length is said in a unit of SI, or in Å where that is the `unit` of the image and the bar is shorter than 10 nm.

    Returns
    -------
    ScaleBar or None
        None where the unit is not known, or where a bar would be shorter than a few pixels.

    Examples
    --------
    >>> scale_bar(0.65e-6, 512)
    ScaleBar(pixels=154, text='100 µm')
    """
    if meters_per_pixel is None:
        return None
    most = meters_per_pixel * widest * _BAR
    power = math.floor(math.log10(most))
    # A limit that is itself a round length must not be missed by the last bit.
    digit = max(d for d in (1, 2, 5, 10) if d * 10.0**power <= most * (1 + 1e-9) or d == 1)
    length = digit * 10.0**power
    pixels = round(length / meters_per_pixel)
    return ScaleBar(pixels, _length_text(length, unit)) if pixels >= 4 else None


def _length_text(length: float, unit: str | None) -> str:
    if unit == "angstrom" and length < 0.99e-8:
        return f"{length / 1e-10:g} Å"
    symbol, factor = next(
        ((symbol, factor) for symbol, factor in _SHOWN if length >= factor * (1 - 1e-9)), _SHOWN[-1]
    )
    return f"{length / factor:g} {symbol}"


def index_in_level(at: Mapping[int, int], full: Sequence[int], level: Sequence[int]) -> dict[int, int]:
    """Return the indices of a coarser level that lie where indices of the full array do."""
    return {
        axis: min(level[axis] - 1, (2 * index + 1) * level[axis] // (2 * full[axis]))
        for axis, index in at.items()
    }
