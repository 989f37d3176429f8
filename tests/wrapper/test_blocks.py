"""Block by block, whatever the chunks and the blocks, every wrapper gives what it gives as a whole.

That the whole is what numpy, SciPy or scikit-image make of it is tested for each wrapper in a module of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bioimage_py.geometry import Blocking
from bioimage_py.sources import Source
from bioimage_py.wrapper import (
    MultiTransformationSource,
    SimpleTransformationSource,
    SimpleTransformationWithHaloSource,
    ThresholdSource,
    TransformationSource,
)
from bioimage_py.wrapper.resampling import AffineSource, ProjectionSource, ReducedSource, ResizedSource
from bioimage_py.wrapper.shape import (
    ConcatenateSource,
    ExpandDimsSource,
    FlipSource,
    PadSource,
    RoiSource,
    SelectSource,
    TransposeSource,
)
from bioimage_py.wrapper.values import (
    CastSource,
    LabelLookupSource,
    NormalizeSource,
    PercentileNormalizeSource,
    RescaleSource,
)
from tests.sources.contract import textured
from tests.wrapper import stored

TURNED = ((0.9, 0.3, 0, -1), (-0.3, 1.1, 0, 2), (0, 0, 1.3, 0.5))
MAKERS: dict[str, Any] = {
    **{
        f"affine {order}": lambda s, d, order=order: AffineSource(s, affine_matrix=TURNED, order=order) for order in (0, 1, 3)
    },
    "cast": lambda s, d: CastSource(s, "int8"),
    "concatenate": lambda s, d: ConcatenateSource([s, s, s], d(st.integers(0, 2))),
    "expand dims": lambda s, d: ExpandDimsSource(s, d(st.integers(0, 3))),
    "flip": lambda s, d: FlipSource(s, d(st.sampled_from([None, 1, (0, 2)]))),
    "lookup": lambda s, d: LabelLookupSource(CastSource(s, "uint16"), {0: 7, 5: 1}, d(st.sampled_from([None, 3]))),
    "several": lambda s, d: MultiTransformationSource([s, s], stored.summed),
    "normalize": lambda s, d: NormalizeSource(s),
    "pad": lambda s, d: PadSource(s, 3, d(st.sampled_from(["constant", "edge", "reflect", "symmetric"]))),
    "percentiles": lambda s, d: PercentileNormalizeSource(s, 5, 90),
    "projection": lambda s, d: ProjectionSource(s, d(st.integers(0, 2)), d(st.sampled_from(["max", "mean", "sum"]))),
    **{
        method: lambda s, d, method=method: ReducedSource(s, d(st.tuples(*(st.integers(1, n) for n in s.shape))), method)
        for method in ("mean", "median", "mode", "min", "max", "stride")
    },
    "rescale": lambda s, d: RescaleSource(s, (0, 50), (0, 1), "float32"),
    **{
        f"resized {order}": lambda s, d, order=order: ResizedSource(
            s, d(st.tuples(*[st.integers(1, 20)] * 3)), order, d(st.booleans())
        )
        for order in range(6)
    },
    "roi": lambda s, d: RoiSource(s, d(stored.boxes(s.shape).filter(lambda box: not box.is_empty()))),
    "select": lambda s, d: SelectSource(s, d(st.sampled_from([0, [-1, 0], [0, 0, -1]])), d(st.integers(0, 2))),
    "function": lambda s, d: SimpleTransformationSource(s, stored.doubled),
    "halo": lambda s, d: SimpleTransformationWithHaloSource(s, stored.smoothed, 1),
    "threshold": lambda s, d: ThresholdSource(s, 20),
    "region": lambda s, d: TransformationSource(s, stored.flipped),
    "transpose": lambda s, d: TransposeSource(s, d(st.permutations(range(3)))),
}  # fmt: skip


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_blocks_put_together_are_the_whole(make: Any, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(2, 12)] * 3))
    dtype = data.draw(st.sampled_from(["uint8", "int16", ">u2", "float32"]))
    array = textured(shape, dtype, data.draw(st.integers(0, 99)))
    chunks = data.draw(st.none() | st.tuples(*(st.integers(1, n) for n in shape)))
    source: Source = make(stored.ChunkedSource(array, chunks), data.draw)
    whole = source[...]
    out = np.empty(source.shape, source.dtype)
    blocking = Blocking(source.shape, data.draw(st.tuples(*(st.integers(1, n) for n in source.shape))))
    before = stored.parts.parts_of.__defaults__
    stored.parts.parts_of.__defaults__ = (data.draw(st.integers(50, 5000)),)
    try:
        for block in blocking:
            out[block.slices] = source.read(block)
    finally:
        stored.parts.parts_of.__defaults__ = before
    np.testing.assert_array_equal(out, whole)
