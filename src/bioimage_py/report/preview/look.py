"""How a picture is to look, checked before anything is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.wrapper.resampling import KINDS

_PROJECTIONS = ("max", "mean")
_SIZES = (64, 4096)


@dataclass(frozen=True)
class Look:
    """How a picture is to look.

    Attributes
    ----------
    kind
        `"labels"`, `"image"`, or None to tell by the source.
    projection
        `"max"`, `"mean"`, or None for slices.
    contrast
        The values that become black and full colour, or None.
    percentiles
        Where they are not known.
    size
        Pixels of the longest edge of a panel.
    """

    kind: str | None = None
    projection: str | None = None
    contrast: tuple[float, float] | None = None
    percentiles: tuple[float, float] = (0.1, 99.8)
    size: int = 512


def checked_look(
    kind: str | None,
    projection: str | None,
    contrast: Sequence[float] | None,
    percentiles: Sequence[float],
    size: int,
) -> Look:
    """Return how a picture is to look.

    Raises
    ------
    InvalidArgumentError
        For a kind or projection that is not known, values that are not in order, or a size out of bounds.
    """
    if kind is not None and kind not in KINDS:
        raise InvalidArgumentError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if projection is not None and projection not in _PROJECTIONS:
        raise InvalidArgumentError(f"projection must be one of {', '.join(_PROJECTIONS)}, got {projection!r}")
    limits = None if contrast is None else _pair("contrast", contrast)
    low, high = _pair("percentiles", percentiles)
    if low < 0 or high > 100:
        raise InvalidArgumentError(f"percentiles are from 0 to 100, got {percentiles!r}")
    whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    if not whole or not _SIZES[0] <= size <= _SIZES[1]:
        raise InvalidArgumentError(
            f"size is a whole number of pixels from {_SIZES[0]} to {_SIZES[1]}, got {size!r}"
        )
    return Look(kind, projection, limits, (low, high), int(size))


def _pair(name: str, values: Any) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in values)
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"{name} is two numbers, the lower one first, got {values!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidArgumentError(f"{name} is two numbers, the lower one first, got {values!r}")
    return low, high
