"""The wrappers that resample, rearrange and rescale are sources like any other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from bioimage_py.sources import Source
from bioimage_py.wrapper.resampling import AffineSource, ProjectionSource, ReducedSource, ResizedSource
from bioimage_py.wrapper.shape import ConcatenateSource, FlipSource, SelectSource, TransposeSource
from bioimage_py.wrapper.values import CastSource, LabelLookupSource, PercentileNormalizeSource, RescaleSource
from tests.sources.contract import textured
from tests.wrapper.test_contract import WrapperContract

SHIFTED = ((1, 0, 0, 0.5), (0, 0.8, -0.6, 3), (0, 0.6, 0.8, -2))


class Case(NamedTuple):
    wrap: Callable[[Any], Source]
    numpy: Callable[[np.ndarray], np.ndarray] | None = None
    dtype: str = "uint16"


CASES = {
    "resized": Case(lambda s: ResizedSource(s, (5, 14, 9))),
    "resized linear": Case(lambda s: ResizedSource(s, (5, 14, 9), 1, True), dtype=">i4"),
    "resized cubic": Case(lambda s: ResizedSource(s, (9, 5, 20), 3), dtype="float32"),
    "resized mask": Case(lambda s: ResizedSource(s, (3, 4, 5), 1), dtype="bool"),
    "affine": Case(lambda s: AffineSource(s, (6, 9, 8), affine_matrix=SHIFTED, fill_value=7)),
    "affine linear": Case(
        lambda s: AffineSource(s, affine_matrix=SHIFTED, order=1, fill_value=float("nan")), dtype="float64"
    ),
    "affine quintic": Case(lambda s: AffineSource(s, affine_matrix=SHIFTED, order=5)),
    "mean": Case(lambda s: ReducedSource(s, (2, 3, 4))),
    "mode": Case(lambda s: ReducedSource(s, 2, "mode"), dtype=">u4"),
    "stride": Case(lambda s: ReducedSource(s, (1, 3, 4), "stride"), lambda a: a[:, ::3, ::4]),
    "cast": Case(lambda s: CastSource(s, "uint8"), lambda a: np.clip(a, 0, 255).astype("uint8")),
    "rescale": Case(
        lambda s: RescaleSource(s, (0, 65535), (0, 255), "uint8"), lambda a: np.rint(a / 257).astype("uint8")
    ),
    "transpose": Case(lambda s: TransposeSource(s, (1, 2, 0)), lambda a: a.transpose(1, 2, 0)),
    "flip": Case(lambda s: FlipSource(s, (0, -1)), lambda a: a[::-1, :, ::-1]),
    "select": Case(lambda s: SelectSource(s, -2, 1), lambda a: a[:, -2]),
    "select several": Case(lambda s: SelectSource(s, [3, 0, 1], 1), lambda a: a[:, [3, 0, 1]]),
    "concatenate": Case(
        lambda s: ConcatenateSource([s, ConcatenateSource([s, s], 1)], 1),
        lambda a: np.concatenate([a, a, a], 1),
    ),
    "projection": Case(lambda s: ProjectionSource(s, 0), lambda a: a.max(axis=0)),
    "sum": Case(lambda s: ProjectionSource(s, 2, "sum"), lambda a: a.sum(axis=2)),
    "percentiles": Case(lambda s: PercentileNormalizeSource(s, 5, 95)),
    "lookup": Case(lambda s: LabelLookupSource(s, {0: 3, 2: 200}, 9), dtype="uint8"),
    "lookup of int64": Case(
        lambda s: LabelLookupSource(s, {5: 2**40}), lambda a: np.where(a == 5, 2**40, a), ">i8"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestEveryOther(WrapperContract):
    """Where numpy has no word for a wrapper, what it reads at once from memory is expected; tests of its own check that."""

    @pytest.fixture(autouse=True)
    def take_case(self, case: Case) -> None:
        self.case = case
        self.dtype = case.dtype

    @pytest.fixture
    def expected(self, take_case: None) -> np.ndarray:
        stored = textured(self.shape, self.dtype)
        return np.array(self.case.wrap(stored)[...]) if self.case.numpy is None else self.case.numpy(stored)

    def wrap(self, source: Source) -> Source:
        return self.case.wrap(source)
