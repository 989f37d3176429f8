"""The kernel of the road `verbatim`: each encoded chunk becomes a file of its own, and nothing is decoded."""

from __future__ import annotations

import itertools

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.kernels.moving import MovingKernel, slabs

__all__ = ["MoveKernel"]


class MoveKernel(MovingKernel):
    """Moves chunks into an output without shards; the input's may be files, inside shards, or in an HDF5 file."""

    def _move_box(self, box: Box) -> None:
        for cells in slabs(self._cells(box, self._made.chunks)):
            self._move_cells(cells)

    def _move_cells(self, cells: Box) -> None:
        stored = set[tuple[int, ...]]()
        n_bytes = moved = 0
        try:
            for position in self._candidates(cells):
                pieces = self._take(position)
                if pieces is None:
                    continue
                stored.add(position)
                if isinstance(pieces, bool):
                    self._recode(self._voxels(position, self._made.chunks))
                    continue
                try:
                    n_bytes += self._writer.write(position, *pieces)
                except StorageError as error:
                    raise self._refused(position, error) from error
                moved += 1
        finally:
            self._count(moved=moved, n_bytes=n_bytes)
        if self.match.recodes_missing:
            for position in itertools.product(*map(range, *cells)):
                if position not in stored:
                    self._recode(self._voxels(position, self._made.chunks))
        elif not self.options.output_is_new:
            for position in list(self._writer.candidates(cells)):
                if position not in stored:
                    self._writer.remove(position)
