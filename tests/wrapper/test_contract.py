"""Every wrapper is a source like any other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bioimage_py.sources import Source
from bioimage_py.wrapper import (
    MultiTransformationSource,
    SimpleTransformationSource,
    SimpleTransformationWithHaloSource,
    ThresholdSource,
    TransformationSource,
)
from bioimage_py.wrapper.shape import ExpandDimsSource, PadSource, RoiSource
from bioimage_py.wrapper.values import NormalizeSource
from tests.sources.contract import SourceContract, textured
from tests.wrapper import stored


class WrapperContract(SourceContract):
    """A subclass says what is stored (`stored`), how it is wrapped, and what numpy makes of it (`array`)."""

    def stored(self) -> np.ndarray:
        return textured(self.shape, self.dtype)

    def make(self, array: np.ndarray, folder: Path) -> Source:
        source = self.wrap(stored.saved(self.stored(), folder))
        source.owned = source.inputs  # so that the fixture closes the files
        return source

    def wrap(self, source: Source) -> Source:
        raise NotImplementedError


class TestThreshold(WrapperContract):
    def array(self) -> np.ndarray:
        return self.stored() > 30000

    def wrap(self, source: Source) -> Source:
        return ThresholdSource(source, 30000)


class TestThresholdWithFunction(WrapperContract):
    dtype = ">f4"

    def array(self) -> np.ndarray:
        return self.stored() >= 0.5

    def wrap(self, source: Source) -> Source:
        return ThresholdSource(source, 0.5, operator=stored.at_least)


class TestNormalize(WrapperContract):
    def array(self) -> np.ndarray:
        values = self.stored().astype("float32")
        return (values - values.min()) / (values.max() - values.min())

    def wrap(self, source: Source) -> Source:
        return NormalizeSource(source)


class TestRoi(WrapperContract):
    dtype = ">i4"

    def array(self) -> np.ndarray:
        return self.stored()[2:6, 3, 1:]

    def wrap(self, source: Source) -> Source:
        return RoiSource(source, (slice(2, 6), 3, slice(1, None)), squeeze=True)


class TestRoiOfOneVoxel(WrapperContract):
    def array(self) -> np.ndarray:
        return np.asarray(self.stored()[2, 3, 4])

    def wrap(self, source: Source) -> Source:
        return RoiSource(source, (2, 3, 4), squeeze=True)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
class TestPad(WrapperContract):
    shape = (3, 5, 4)

    @pytest.fixture(autouse=True)
    def take_mode(self, mode: str) -> None:
        self.mode = mode

    @pytest.fixture
    def expected(self, take_mode: None) -> np.ndarray:
        return np.pad(self.stored(), ((2, 7), (0, 0), (3, 1)), mode=self.mode)

    def wrap(self, source: Source) -> Source:
        return PadSource(source, ((2, 7), 0, (3, 1)), mode=self.mode)


class TestExpandDims(WrapperContract):
    def array(self) -> np.ndarray:
        return np.expand_dims(self.stored(), (0, -1))

    def wrap(self, source: Source) -> Source:
        return ExpandDimsSource(source, (0, -1))


class TestSimpleTransformation(WrapperContract):
    def array(self) -> np.ndarray:
        return self.stored() * 2

    def wrap(self, source: Source) -> Source:
        return SimpleTransformationSource(source, stored.doubled)


class TestSimpleTransformationWithHalo(WrapperContract):
    def array(self) -> np.ndarray:
        return stored.smoothed(self.stored()).astype("float32")

    def wrap(self, source: Source) -> Source:
        return SimpleTransformationWithHaloSource(source, stored.smoothed, 1, dtype="float32")


class TestTransformation(WrapperContract):
    def array(self) -> np.ndarray:
        return self.stored()[::-1]

    def wrap(self, source: Source) -> Source:
        return TransformationSource(source, stored.flipped)


class TestMultiTransformation(WrapperContract):
    def array(self) -> np.ndarray:
        return self.stored().astype("int64") * 2

    def wrap(self, source: Source) -> Source:
        return MultiTransformationSource([source, source], stored.summed)


class TestScalars(WrapperContract):
    shape = ()

    def array(self) -> np.ndarray:
        return np.asarray(self.stored() * 2)

    def wrap(self, source: Source) -> Source:
        return SimpleTransformationSource(source, stored.doubled)


class TestEmptyAxis(WrapperContract):
    shape = (3, 0, 4)

    def array(self) -> np.ndarray:
        return self.stored() > 5

    def wrap(self, source: Source) -> Source:
        return ThresholdSource(source, 5)


class TestStacked(WrapperContract):
    """A mask of a normalised, padded region."""

    def array(self) -> np.ndarray:
        padded = np.pad(self.stored()[1:5], (0, 2)).astype("float32")
        return (padded - padded.min()) / (padded.max() - padded.min()) > 0.5

    def make(self, array: np.ndarray, folder: Path) -> Source:
        file = stored.saved(self.stored(), folder)
        source = ThresholdSource(NormalizeSource(PadSource(RoiSource(file, slice(1, 5)), 2)), 0.5)
        source.owned = (file,)
        return source


class TestUsersWrapper(WrapperContract):
    def array(self) -> np.ndarray:
        return self.stored() ** 3

    def wrap(self, source: Source) -> Source:
        return stored.PowerSource(source, 3)


class TestInMemory(SourceContract):
    has_spec = False

    def make(self, array: np.ndarray, folder: Path) -> Source:
        return SimpleTransformationSource(array // 2, stored.doubled, dtype="uint16")

    def array(self) -> np.ndarray:
        return super().array() // 2 * 2
