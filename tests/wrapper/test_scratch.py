"""What plans are told of the memory that wrappers take is not less than what they take."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bioimage_py.geometry import Box
from bioimage_py.sources import Source
from bioimage_py.wrapper import SimpleTransformationWithHaloSource
from bioimage_py.wrapper.resampling import AffineSource, ProjectionSource, ReducedSource, ResizedSource
from bioimage_py.wrapper.shape import ConcatenateSource, PadSource, RoiSource, TransposeSource
from bioimage_py.wrapper.values import CastSource, LabelLookupSource, NormalizeSource, RescaleSource
from tests.counting import CountingSource
from tests.wrapper.stored import parts
from tests.wrapper.test_contract_more import CASES

TURNED = ((1, 0.1, 0, 0), (-0.1, 1, 0, 0), (0, 0, 1, 0))


def boxes(draw: Any, shape: tuple[int, ...]) -> Box:
    begin = tuple(draw(st.integers(0, n - 1)) for n in shape)
    return Box(begin, tuple(draw(st.integers(b + 1, n)) for b, n in zip(begin, shape, strict=True)))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_no_read_is_larger_than_is_said(case: Any, data: Any):
    dtype = np.dtype(getattr(case, "dtype", "uint16"))
    counted = CountingSource(
        np.ones((7, 11, 13), dtype), chunks=data.draw(st.sampled_from([(3, 4, 5), (7, 1, 13)]))
    )
    source = case.wrap(counted)
    box = boxes(data.draw, source.shape)
    counted.reads.clear()
    source.read(box)
    found = [read.shape for read in counted.reads if read.shape != counted.shape]
    for said in source.read_shapes(box.shape):
        assert tuple(map(max, zip(said, *found, strict=True))) == said


class Stored(Source):
    """Voxels that cost memory to read, as those of a file do."""

    format = "stored"

    def __init__(self, values: np.ndarray, chunks: tuple[int, ...] | None = None) -> None:
        self.values, self.shape, self.dtype, self.chunks = values, values.shape, values.dtype, chunks

    def _read(self, box: Box) -> np.ndarray:
        return self.values[box.slices].copy()


def heavy(voxels: Stored) -> dict[str, Source]:
    """Return one source of each way to compute, whose memory matters."""
    found: dict[str, Source] = {
        f"reduced by {n}, {method}": ReducedSource(voxels, n, method)
        for n in (2, 4)
        for method in ("mean", "median", "mode", "min", "stride")
    }
    return found | {
        "resized": ResizedSource(voxels, (24, 48, 96)),
        "resized linear": ResizedSource(voxels, (24, 48, 96), 1),
        "resized cubic": ResizedSource(voxels, (24, 48, 96), 3, True),
        "enlarged": ResizedSource(voxels, (48, 96, 384), 1),
        "affine": AffineSource(voxels, affine_matrix=TURNED),
        "affine linear": AffineSource(voxels, affine_matrix=TURNED, order=1),
        "affine cubic": AffineSource(voxels, affine_matrix=TURNED, order=3),
        "maximum": ProjectionSource(voxels, 0),
        "mean along an axis": ProjectionSource(voxels, 1, "mean"),
        "cast": CastSource(voxels, "uint8"),
        "rescaled": RescaleSource(voxels, (0, 1000), (0, 1)),
        "normalised": NormalizeSource(voxels, 0, 1000),
        "padded": PadSource(voxels, 8, "reflect"),
        "joined": ConcatenateSource([voxels, voxels], 0),
        "halo": SimpleTransformationWithHaloSource(voxels, np.copy, 4),
        "looked up": LabelLookupSource(CastSource(voxels, "int32"), {1: 2}),
        "chain": TransposeSource(RoiSource(ReducedSource(voxels, 2, "max"), np.s_[:, 3:, :])),
    }


@pytest.mark.parametrize(
    ("dtype", "chunks"),
    [("uint8", None), ("uint16", (1, 96, 192)), ("float32", None), ("uint64", (1, 96, 192))],
)
def test_no_more_memory_is_taken_than_is_said(dtype: str, chunks: tuple[int, ...] | None):
    values = np.random.default_rng(0).integers(0, 200, (48, 96, 192)).astype(dtype)
    for name, source in heavy(Stored(values, chunks)).items():
        source.read(Box((0,) * source.ndim, (2,) * source.ndim))  # what is imported or found once
        tracemalloc.start()
        result = source.read(Box.whole(source.shape))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        said = source.scratch_bytes(source.shape)
        assert peak <= said + result.nbytes + 2**17, f"{name}: {peak - result.nbytes} bytes, said {said}"


@given(data=st.data())
def test_the_largest_part_is_one_that_is_cut(data: Any):
    shape = data.draw(st.tuples(*[st.integers(1, 40)] * 3))
    grid = data.draw(st.none() | st.tuples(*[st.integers(1, 9)] * 3))
    limit = data.draw(st.integers(1, 4000))
    sizes = [part.size for part in parts.parts_of(Box.whole(shape), grid, lambda part: part.size, limit)]
    largest = Box.whole(parts.largest_part(shape, grid, lambda part: part.size, limit)).size
    over = [size for size in sizes if size > limit]
    assert largest == max(over) if over else largest <= limit
