"""The kernel of the road `verbatim`: each encoded chunk becomes a file of its own, and nothing is decoded."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from functools import cached_property
from time import perf_counter

from bioimage_py.errors import StorageError
from bioimage_py.geometry import Box
from bioimage_py.kernels.cells import cells_of
from bioimage_py.kernels.moving import MovingKernel, slabs
from bioimage_py.kernels.parallel import side_by_side
from bioimage_py.kernels.small_files import SmallFiles


class MoveKernel(MovingKernel):
    """Moves chunks into an output without shards; the input's may be files, inside shards, or in an HDF5 file."""

    def _move_box(self, box: Box) -> None:
        for cells in slabs(cells_of(box, self._made.chunks)):
            self._move_cells(cells)

    def _move_cells(self, cells: Box) -> None:
        stored = set[tuple[int, ...]]()
        for position, done in self._move_all(self._candidates(cells)):
            if done is None:
                continue
            stored.add(position)
            if isinstance(done, bool):
                self._recode(self._voxels(position, self._made.chunks), [position])
        if self.match.recodes_missing:
            for position in itertools.product(*map(range, *cells)):
                if position not in stored:
                    self._recode(self._voxels(position, self._made.chunks))
        elif not self.options.output_is_new:
            for position in list(self._writer.candidates(cells)):
                if position not in stored:
                    self._writer.remove(position)

    def _move_all(
        self, positions: Iterable[tuple[int, ...]]
    ) -> Iterator[tuple[tuple[int, ...], int | bool | None]]:
        if self._small is None:
            for position, done in side_by_side(self._move_chunk, positions, self._pool, self._at_once):
                self._count(done)
                yield position, done
            return
        tally, move = self._tally, self._small.move
        for position in positions:
            n_bytes = move(self._at(position), position, tally)
            if n_bytes is not None:
                yield position, n_bytes
                continue
            _, done = self._move_chunk(position)
            self._count(done)
            yield position, done

    def _count(self, done: int | bool | None) -> None:
        if done is not None and not isinstance(done, bool):
            self._tally.encoded_out += done
            self._tally.chunks_moved += 1

    @cached_property
    def _small(self) -> SmallFiles | None:
        if self.options.verify_encoded or self._pool is not None:
            return None
        return SmallFiles.of(self._reader, self._writer, self._frames)

    def _move_chunk(self, position: tuple[int, ...]) -> tuple[tuple[int, ...], int | bool | None]:
        """Store what belongs at a position; return its bytes, None for nothing, False where it has to be recoded."""
        pieces = self._take(position)
        if pieces is None or isinstance(pieces, bool):
            return position, pieces
        began = perf_counter()
        try:
            n_bytes = self._writer.write(position, *pieces)
        except StorageError as error:
            raise self._refused(position, error) from error
        if self._pool is None:
            self._tally.moving_out += perf_counter() - began
        return position, n_bytes
