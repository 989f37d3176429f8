"""Groups of blocks that share write units: written unit by unit, and failing unit by unit."""

from __future__ import annotations

import numpy as np

from bioimage_py.geometry import Blocking, Box, IdSet
from bioimage_py.kernels import CopyKernel
from bioimage_py.runner import Journal
from bioimage_py.runner.work import CopyWork
from bioimage_py.sources import NumpySource, Source, as_source


class FailsBelow(NumpySource):
    """Cannot be read before a row."""

    def __init__(self, array: np.ndarray, row: int) -> None:
        super().__init__(array)
        self.row = row

    def _read(self, box: Box) -> np.ndarray:
        if box.begin[0] < self.row:
            raise OSError(f"no row {box.begin[0]}")
        return super()._read(box)


class Sharded(NumpySource):
    """Says that it stores shards of six rows."""

    chunks = (1, 4)
    shards = (6, 4)


def work(source: Source, sink: Source) -> CopyWork:
    # Blocks of four rows and shards of six: twelve rows belong together.
    blocking = Blocking((24, 4), (4, 4))
    return CopyWork(CopyKernel(source, sink), blocking, (12, 4), IdSet.from_range(6))


def test_a_write_unit_that_fails_takes_only_its_own_blocks_with_it() -> None:
    image = np.arange(96).reshape(24, 4)
    target = np.zeros((24, 4), int)
    copying = work(FailsBelow(image, 4), Sharded(target))
    assert list(copying.group_ids()) == [0, 1]
    journal = Journal(6)
    for group in copying.group_ids():
        copying.process(copying.blocks_in(group), journal)
    # Block 0 cannot be read; block 1 shares the first shard with it, block 2 lies in the second one.
    assert journal.done_ids() == [2, 3, 4, 5]
    assert journal.first_error is not None
    assert str(journal.first_error[1]) == "no row 0"
    np.testing.assert_array_equal(target[6:], image[6:])
    assert not target[:6].any()


def test_everything_is_copied_where_nothing_fails() -> None:
    image, target = np.arange(96).reshape(24, 4), np.zeros((24, 4), int)
    copying = work(as_source(image), Sharded(target))
    journal = Journal(6)
    copying.process(copying.blocks_in(0), journal)
    copying.process(copying.blocks_in(1), journal)
    assert list(journal.done_ids()) == list(range(6))
    np.testing.assert_array_equal(target, image)
