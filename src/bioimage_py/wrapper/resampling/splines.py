"""Weights of interpolation along one axis: B-splines, their prefilter, and the Gaussian of anti-aliasing.

An array continues beyond its borders as its mirror image about the centres of the outermost voxels. All weights depend
on integers and on the position in the whole array only, so a voxel comes out the same, bit by bit, whatever region it
is read with.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bioimage_py.wrapper.shape import repeated_voxels

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_TRUNCATION = 1e-8
"""The prefilter of a spline reaches over the whole axis; what is left out of it is less than this part of a voxel."""

_POLES = {
    2: (math.sqrt(8) - 3,),
    3: (math.sqrt(3) - 2,),
    4: (
        math.sqrt(664 - math.sqrt(438976)) + math.sqrt(304) - 19,
        math.sqrt(664 + math.sqrt(438976)) - math.sqrt(304) - 19,
    ),
    5: (
        math.sqrt(67.5 - math.sqrt(4436.25)) + math.sqrt(26.25) - 6.5,
        math.sqrt(67.5 + math.sqrt(4436.25)) - math.sqrt(26.25) - 6.5,
    ),
}


class AxisWeights(NamedTuple):
    """Which voxels of an axis a new voxel is made of (`taps`), and their shares (`weight`): one row per new voxel."""

    taps: Indices
    weight: Floats


def axis_weights(begin: int, end: int, extents: tuple[int, int], order: int, sigma: float) -> AxisWeights:
    """Return how the new voxels `begin` to `end` of an axis are made of the old ones.

    The extents are those before and after; the outer faces of both arrays coincide. A Gaussian of `sigma` old voxels is
    applied before, none for 0. Order 0 takes the nearest voxel.
    """
    old, new = extents
    # Integers: the position of a new centre is (numerator / 2·new) old voxels, and whole voxels are exact.
    numerator = (2 * np.arange(begin, end, dtype=np.int64) + 1) * old - new
    if order == 0:
        first = nearest(begin, end, extents)
        basis: Floats = np.ones((end - begin, 1))
    else:
        whole, rest = np.divmod(numerator, 2 * new)
        reach = np.arange(-(order // 2), order // 2 + 2)
        first = whole + reach[0]
        basis = _bspline(order, (rest / (2 * new))[:, None] - reach)
    fir = _convolved(prefilter(order), gaussian(sigma))
    radius = len(fir) // 2
    width = basis.shape[1]
    weight = np.zeros((len(basis), width + 2 * radius))
    for k, factor in enumerate(fir):
        weight[:, k : k + width] += factor * basis
    taps = (first - radius)[:, None] + np.arange(weight.shape[1])
    return AxisWeights(repeated_voxels(taps, old, "reflect"), weight)


def nearest(begin: int, end: int, extents: tuple[int, int]) -> Indices:
    """Return the old voxel that holds the centre of each new one; on the face between two, the later one."""
    old, new = extents
    return (2 * np.arange(begin, end, dtype=np.int64) + 1) * old // (2 * new)


def gaussian(sigma: float) -> list[float]:
    """Return the weights of a Gaussian cut at four standard deviations; `[1.0]` for 0."""
    if sigma == 0:
        return [1.0]
    radius = int(4 * sigma + 0.5)
    weights = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def prefilter(order: int) -> list[float]:
    """Return the filter that turns voxels into coefficients of a spline through them; `[1.0]` for orders 0 and 1."""
    fir = [1.0]
    for pole in _POLES.get(order, ()):
        radius = math.ceil(math.log(_TRUNCATION) / math.log(abs(pole)))
        decay = [pole ** abs(k) for k in range(-radius, radius + 1)]
        fir = _convolved(fir, decay)
    total = math.fsum(fir)
    return [weight / total for weight in fir]


def _convolved(a: list[float], b: list[float]) -> list[float]:
    return [
        math.fsum(a[i] * b[k - i] for i in range(max(0, k - len(b) + 1), min(k + 1, len(a))))
        for k in range(len(a) + len(b) - 1)
    ]


def _bspline(order: int, x: Floats) -> Floats:
    """Return the values of the centred B-spline, by its recursion over the order."""
    if order == 0:
        return ((x >= -0.5) & (x < 0.5)).astype(np.float64)
    half = (order + 1) / 2
    return ((half + x) * _bspline(order - 1, x + 0.5) + (half - x) * _bspline(order - 1, x - 0.5)) / order
