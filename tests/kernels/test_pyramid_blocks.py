"""The kernel of a pyramid: one piece of the input in memory at a time, and each level from the one before."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np

from bioimage_py.chunks import AnyArray
from bioimage_py.geometry import Box
from bioimage_py.kernels import PyramidKernel
from bioimage_py.sources import create_output
from bioimage_py.wrapper.resampling import ReducedSource
from tests.counting import CountingSource
from tests.sources.contract import textured

SHAPE = (32, 20, 24)


class Watched(CountingSource):
    """Notes whether what it gave before is still held when the next piece is asked for."""

    def __init__(self, array: AnyArray) -> None:
        super().__init__(array)
        self.given: list[weakref.ref[AnyArray]] = []
        self.held = 0

    def _read(self, box: Box) -> AnyArray:
        self.held = max(self.held, sum(ref() is not None for ref in self.given))
        values = np.array(super()._read(box))
        self.given.append(weakref.ref(values))
        return values


def test_one_piece_is_held_at_a_time(tmp_path: Path) -> None:
    image = textured(SHAPE, "uint16")
    shapes = [SHAPE, (16, 10, 12), (8, 5, 6)]
    levels = tuple(
        create_output(tmp_path / f"{n}.zarr", shape=shape, dtype="uint16", chunks=(8, 4, 4))
        for n, shape in enumerate(shapes)
    )
    source = Watched(image)
    steps = ((1, 1, 1), (2, 2, 2), (2, 2, 2))
    kernel = PyramidKernel(source, levels, steps, "mean", (8, 20, 24))
    assert kernel.make_box(Box.whole(SHAPE)) == sum(level.nbytes for level in levels)
    assert [box.begin for box in source.reads] == [(0, 0, 0), (8, 0, 0), (16, 0, 0), (24, 0, 0)]
    assert source.held == 0
    for level in levels:
        np.testing.assert_array_equal(level[...], image)
        image = ReducedSource(image, 2, "mean")[...]
