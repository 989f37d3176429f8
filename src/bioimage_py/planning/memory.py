"""What one block in flight costs in memory, and how many may be in flight under a limit.

A block is held once as read, and once more in the output's dtype where that differs. While it is read or written, encoded
chunks wait for their turn: they are counted like voxels, the worst case of what does not compress, but no more of them than an
engine is given at a time. Threads that decode or encode hold a chunk or two each on top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bioimage_py.planning.layout import ArrayLayout
from bioimage_py.sources.stores import IN_HAND_BYTES

COMPARED_AT_ONCE = 2**15
"""Voxels that a comparison holds its intermediate results of."""
_COMPARING = 24
"""Bytes of intermediate results per voxel: flags, and where integers are compared with floats two more arrays."""


@dataclass(frozen=True)
class MemoryModel:
    """The bytes that a copy holds."""

    input_layout: ArrayLayout
    output_layout: ArrayLayout
    mask_layout: ArrayLayout | None
    threads: int  # threads that decode and encode at once
    compares: bool = False  # both sides are read and compared, and nothing is written

    def block(self, block_shape: tuple[int, ...]) -> int:
        a, b = self.input_layout, self.output_layout
        inside = b.inside(block_shape)
        voxels = math.prod(inside)
        held = 0 if a.in_memory else a.itemsize * voxels
        if self.compares:
            held += (0 if b.in_memory else b.itemsize * voxels) + _COMPARING * min(voxels, COMPARED_AT_ONCE)
            return held + max(side.scratch(inside) + self._waiting(side, voxels) for side in (a, b))
        mask = 0 if self.mask_layout is None else self.mask_layout.scratch(inside)
        held += max(a.scratch(inside), mask)
        waiting = self._waiting(a, voxels)
        if a.dtype != b.dtype:
            held += b.itemsize * voxels
        if not b.in_memory:
            # From four axes on, TensorStore is given a copy to encode from (see `TensorStoreSource`).
            waiting = max(waiting, self._waiting(b, voxels) * (1 if len(b.shape) < 4 else 2))
        held += waiting
        if self.mask_layout is not None:
            held += (self.mask_layout.itemsize + 1 + 2 * b.itemsize) * voxels
        return held

    def base(self) -> int:
        """Return the bytes that the decoding and encoding threads hold, whatever the block shape."""
        sides = (self.input_layout, self.output_layout)
        return sum(2 * self.threads * side.decoded_chunk + side.kept_bytes for side in sides)

    @staticmethod
    def _waiting(layout: ArrayLayout, voxels: int) -> int:
        """Return the bytes of encoded chunks that wait to be decoded or stored."""
        if layout.in_memory or layout.chunks is None:
            return 0
        unit = math.prod(layout.inside(layout.write_unit))
        return layout.itemsize * min(voxels, max(unit, IN_HAND_BYTES // layout.itemsize))
