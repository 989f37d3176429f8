"""How large things are drawn: panels in the proportion of the object, and a scale bar of a round length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bioimage_py.metadata import ImageMetadata, unit_ratio

_LARGEST_VOXEL = 8
"""Pixels to which the finest voxels are enlarged at most."""
_SHOWN = (("km", 1e3), ("m", 1.0), ("mm", 1e-3), ("µm", 1e-6), ("nm", 1e-9), ("pm", 1e-12))
_BAR = 1 / 3


class Proportions(NamedTuple):
    """How axes are drawn: the extent of each in pixels, how large a pixel is, and the unit that all of them have."""

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
    units = {axis: known.units[axis] if known.units else None for axis in axes}
    size = {axis: known.voxel_size[axis] if known.voxel_size else 1.0 for axis in axes}
    factors = [unit_ratio(unit, "meter") for unit in units.values()]
    in_meters = known.voxel_size is not None and None not in factors
    if in_meters:
        size = {axis: size[axis] * (factor or 1.0) for axis, factor in zip(axes, factors, strict=True)}
    per_length = min(
        longest / max(shape[axis] * size[axis] for axis in axes), _LARGEST_VOXEL / min(size.values())
    )
    pixels = {axis: max(1, round(shape[axis] * size[axis] * per_length)) for axis in axes}
    unit = units[axes[0]] if len(set(units.values())) == 1 else None
    return Proportions(pixels, 1 / per_length if in_meters else None, unit)


def scale_bar(meters_per_pixel: float | None, widest: int, unit: str | None = None) -> ScaleBar | None:
    """Return the longest bar of 1, 2 or 5 times a power of ten that takes a third of `widest` pixels at most.

    Its length is in a unit of SI, or in Å where that is the `unit` of the image and the bar is shorter than 10 nm. There is
    none where the size of a pixel is not known, or where it would be shorter than a few pixels.
    """
    if meters_per_pixel is None:
        return None
    most = meters_per_pixel * widest * _BAR
    power = math.floor(math.log10(most))
    # A limit that is itself a round length must not be missed by the last bit.
    digit = max(d for d in (1, 2, 5, 10) if d * 10.0**power <= most * (1 + 1e-9) or d == 1)
    length = digit * 10.0**power
    pixels = round(length / meters_per_pixel)
    if pixels < 4:
        return None
    if unit == "angstrom" and length < 0.99e-8:
        return ScaleBar(pixels, f"{length / 1e-10:g} Å")
    symbol, factor = next((one for one in _SHOWN if length >= one[1] * (1 - 1e-9)), _SHOWN[-1])
    return ScaleBar(pixels, f"{length / factor:g} {symbol}")


def index_in_level(at: Mapping[int, int], full: Sequence[int], level: Sequence[int]) -> dict[int, int]:
    """Return the indices of a coarser level that lie where indices of the full array do."""
    return {
        axis: min(level[axis] - 1, (2 * index + 1) * level[axis] // (2 * full[axis]))
        for axis, index in at.items()
    }
