"""The kernel of a verification: count the voxels of a block that differ, and find the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bioimage_py.geometry import Box
from bioimage_py.kernels.exact_values import differing
from bioimage_py.sources import Source

__all__ = ["CompareKernel", "Difference"]


@dataclass(frozen=True)
class Difference:
    """Voxels of a block that differ: how many, where the first is in C order, and what stands there."""

    count: int
    first: tuple[int, ...]
    values: tuple[Any, Any]


@dataclass(frozen=True)
class CompareKernel:
    """Compares two sources of one shape by value; NaN equals NaN."""

    a: Source
    b: Source

    def compare(self, box: Box) -> Difference | None:
        """Return what differs in a box, or None."""
        a, b = self.a.read(box), self.b.read(box)
        if a.dtype == b.dtype and np.array_equal(a, b):
            return None
        differs = differing(a, b)
        count = int(np.count_nonzero(differs))
        if count == 0:
            return None
        at = np.unravel_index(int(np.argmax(differs)), differs.shape)
        where = tuple(int(i) + o for i, o in zip(at, box.begin, strict=True))
        return Difference(count, where, (a[at].item(), b[at].item()))
