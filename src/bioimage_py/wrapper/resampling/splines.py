"""Interpolation along one axis: B-splines, their prefilter, the Gaussian of anti-aliasing, and sums by these weights as products of matrices.

An array continues beyond its borders as its mirror image about the centres of the outermost voxels. All weights depend
on integers and on the position in the whole array only, so a voxel comes out the same, bit by bit, whatever region it
is read with.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bioimage_py.chunks import AnyArray
from bioimage_py.geometry import Box
from bioimage_py.wrapper.shape import repeated_voxels

Floats = npt.NDArray[Any]
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


_TILE, _PANEL = 16, 32
"""Voxels of a tile along the axis that is computed, and along another one: so small that no BLAS gives one product to several threads."""
_SLAB_BYTES = 2**19
FILTER_BYTES = 4 * _SLAB_BYTES
"""What computing an axis holds besides its voxels before and after."""


class AxisFilter(NamedTuple):
    """How the new voxels of an axis are made of the old ones."""

    extents: tuple[int, int]  # before and after; the outer faces coincide
    degree: int  # of the spline between the voxels; 0 takes the nearest one
    fir: tuple[float, ...]  # weights of a filter that is applied before

    @classmethod
    def of(cls, extents: tuple[int, int], order: int, sigma: float) -> AxisFilter:
        """Return what interpolates by a spline, after a Gaussian of `sigma` old voxels, none for 0."""
        return cls(extents, order, tuple(_convolved(prefilter(order), gaussian(sigma))))

    @property
    def tile(self) -> int:
        """Voxels of a tile: fewer where they are made of many."""
        old, new = self.extents
        return 1 if self.picks else max(1, min(_TILE, 4 * _TILE * new // old))

    @property
    def picks(self) -> bool:
        """Whether each new voxel is one of the old ones."""
        return self.degree == 0 and len(self.fir) == 1

    def taps(self, voxels: Indices) -> Indices:
        """Return which old voxels new ones are made of, one row for each."""
        first = self._place(voxels)[0] - self.degree // 2 if self.degree else nearest(voxels, self.extents)
        width = len(self.fir) + (self.degree // 2 * 2 + 1 if self.degree else 0)
        taps = (first - len(self.fir) // 2)[:, None] + np.arange(width)
        return repeated_voxels(taps, self.extents[0], "reflect")

    def _place(self, voxels: Indices) -> tuple[Indices, Floats]:
        """Return the old voxel before the centre of a new one, and how far it is behind: integers first, so that whole voxels are exact."""
        old, new = self.extents
        whole, rest = np.divmod((2 * voxels + 1) * old - new, 2 * new)
        return whole, rest / (2 * new)

    def span(self, begin: int, end: int) -> tuple[int, int]:
        """Return which old voxels the new ones from `begin` to `end` are made of."""
        taps = self.taps(np.array([begin, end - 1]))
        return int(taps.min()), int(taps.max()) + 1

    def weights(self, voxels: Indices) -> Floats:
        """Return the shares of the old voxels in new ones."""
        basis: Floats = np.ones((len(voxels), 1))
        if self.degree:
            reach = np.arange(-(self.degree // 2), self.degree // 2 + 2)
            basis = _bspline(self.degree, self._place(voxels)[1][:, None] - reach)
        width = basis.shape[1]
        shares = np.zeros((len(basis), width + len(self.fir) - 1))
        for k, factor in enumerate(self.fir):
            shares[:, k : k + width] += factor * basis
        return shares


@lru_cache(maxsize=256)
def _tile_matrix(along: AxisFilter, number: int) -> tuple[int, Floats]:
    """Return the first old voxel that a tile is made of, and its matrix, new voxels by old ones; never one row, which BLAS gives to threads."""
    voxels = np.arange(number * along.tile, min((number + 1) * along.tile, along.extents[1]))
    taps = along.taps(voxels)
    dense = np.zeros((max(2, len(taps)), int(np.ptp(taps)) + 1))
    np.add.at(dense, (np.arange(len(taps))[:, None], taps - taps.min()), along.weights(voxels))
    return int(taps.min()), dense


def filtered(
    block: AnyArray, box: Box, whole: tuple[int, ...], axis: int, along: AxisFilter, rows: tuple[int, int]
) -> AnyArray:
    """Return the new voxels `rows` of an axis, made of a block, in float64.

    The block is what is in the box of an array of the extents `whole`. What is not in it counts as 0: the voxels of `rows` that are wanted
    must not be made of that. Tiles and panels lie on a grid of the whole array, so that each product is of one shape, and a voxel comes out
    the same, bit by bit, with any block.
    """
    if block.ndim < 3:
        more = (1,) * (3 - block.ndim)
        outer = Box((0,) * len(more) + box.begin, more + box.end)
        made = filtered(block.reshape(more + block.shape), outer, more + whole, axis + len(more), along, rows)
        return made.reshape(made.shape[len(more) :])
    wide = np.dtype("complex128" if block.dtype.kind == "c" else "float64")
    across = max((n for n in range(block.ndim) if n != axis), key=lambda n: (whole[n] >= _PANEL, n))
    order = [*(n for n in range(block.ndim) if n not in (axis, across)), across, axis]
    last, panel = across < axis, min(_PANEL, whole[across])
    out = np.empty((*block.shape[:axis], rows[1] - rows[0], *block.shape[axis + 1 :]), wide)
    source, target = block.transpose(order), out.transpose(order)
    ready = block.dtype == wide and block.flags.c_contiguous and block.flags.aligned
    for tile in range(rows[0] // along.tile, -(-rows[1] // along.tile)):
        low, dense = _tile_matrix(along, tile)
        n_new, n_old = dense.shape
        to, made_rows = _shared(tile * along.tile, n_new, rows)
        taken, held = _shared(low, n_old, (box.begin[axis], box.end[axis]))
        for column in range(box.begin[across] // panel * panel, box.end[across], 16 * panel):
            columns, inside = _shared(column, 16 * panel, (box.begin[across], box.end[across]))
            width = -(-inside.stop // panel) * panel
            full = inside == slice(0, width)
            as_it_is, in_place = (
                ready and full and held == slice(0, n_old),
                full and made_rows == slice(0, n_new),
            )
            thick = max(1, _SLAB_BYTES // (n_old * width * wide.itemsize))
            scratch, made = (
                np.zeros((thick, width, n), wide)
                if last
                else np.zeros((thick, n, width), wide).swapaxes(1, 2)
                for n in (0 if as_it_is else n_old, 0 if in_place else n_new)
            )
            for lead in np.ndindex(source.shape[:-3]):
                for begin in range(0, source.shape[-3], thick):
                    slab = (*lead, slice(begin, begin + thick), columns)
                    voxels, wanted = source[(*slab, taken)], target[(*slab, to)]
                    m = len(voxels)
                    if not as_it_is:
                        scratch[:m, inside, held] = voxels
                        voxels = scratch[:m]
                    _multiply(voxels, dense, panel, wanted if in_place else made[:m], last=last)
                    if not in_place:
                        wanted[...] = made[:m, inside, made_rows]
    return out


def _shared(first: int, n: int, held: tuple[int, int]) -> tuple[slice, slice]:
    """Return what n voxels from `first` on and a range share: as positions in the range, and among the n."""
    begin = max(first, held[0])
    end = max(begin, min(first + n, held[1]))
    return slice(begin - held[0], end - held[0]), slice(begin - first, end - first)


def _multiply(voxels: Floats, matrix: Floats, panel: int, out: Floats, *, last: bool) -> None:
    """Apply a matrix to the last axis, panel by panel of the axis before, of which one is the last in memory."""

    def apply(to: Floats) -> None:
        panels, made = (a.reshape(len(a), -1, panel, a.shape[-1]) for a in (to, out))
        weights = matrix.astype(to.dtype, copy=False)
        if last:
            np.matmul(panels, weights.T, out=made)
        else:
            np.matmul(weights, panels.swapaxes(2, 3), out=made.swapaxes(2, 3))

    with np.errstate(all="ignore"):
        apply(voxels)
        if not np.isfinite(out[..., 0]).all():
            # Times 0 they are in every sum of a tile, and belong into few.
            clean = voxels.copy("K")
            clean[~np.isfinite(clean)] = 0
            apply(clean)
            for row, weights in enumerate(matrix):
                taps = np.flatnonzero(weights)
                found = (voxels[..., taps] * weights[taps]).sum(axis=-1)
                np.copyto(out[..., row], found, where=~np.isfinite(found))


def nearest(voxels: Indices, extents: tuple[int, int]) -> Indices:
    """Return the old voxel that holds the centre of each new one; on the face between two, the later one."""
    old, new = extents
    return (2 * voxels + 1) * old // (2 * new)


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
