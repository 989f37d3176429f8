from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.wrapper import ThresholdSource
from bioimage_py.wrapper.shape import ExpandDimsSource
from tests.wrapper.stored import ZYX, ChunkedSource


@pytest.mark.parametrize(
    "threshold", [np.uint8(3), np.float64(3), np.array(3), 3.0, -1, 300, float("inf"), True]
)
def test_numbers_of_every_kind(threshold: Any) -> None:
    image = np.arange(6, dtype="uint8")
    assert ThresholdSource(image, threshold)[...].tolist() == (image > threshold).tolist()


@pytest.mark.parametrize(
    "threshold", ["3", None, [3], np.array([1, 2]), float("nan"), np.float32("nan"), object()]
)
def test_refuses_what_is_no_number(threshold: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="threshold must be a number"):
        ThresholdSource(np.zeros(3), threshold)


def test_operators_can_be_functions_and_may_change_their_block() -> None:
    image = np.array([1, 5, 9])

    def close_to(block: np.ndarray, threshold: float) -> np.ndarray:
        block -= 5
        return abs(block) <= threshold

    assert ThresholdSource(image, 1, close_to)[...].tolist() == [False, True, False]
    assert image.tolist() == [1, 5, 9]
    assert ThresholdSource(image, 5, operator.le)[...].tolist() == [True, True, False]


@pytest.mark.parametrize("made", [np.add, lambda block, threshold: (block > threshold).astype("uint8")])
def test_operators_must_return_booleans(made: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="must return booleans"):
        ThresholdSource(np.zeros(3, "uint8"), 1, made)


def test_operators_must_be_callable() -> None:
    with pytest.raises(InvalidArgumentError, match="operator must be a comparison"):
        ThresholdSource(np.zeros(3), 1, ">")  # type: ignore[arg-type]


def test_the_mask_keeps_chunks_and_metadata() -> None:
    mask = ThresholdSource(ChunkedSource(np.zeros((3, 4, 5)), (1, 2, 5), ZYX), 1)
    assert mask.chunks == (1, 2, 5)
    assert mask.dtype == bool
    assert mask.metadata == ZYX


@pytest.mark.parametrize("axis", [3, -4, (0, 0), (0, -4), 1.0, "0", True, (0, 1, 9)])
def test_expand_dims_refuses(axis: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="axis"):
        ExpandDimsSource(np.zeros((2, 2)), axis)


def test_expand_dims_keeps_what_is_known() -> None:
    source = ExpandDimsSource(ChunkedSource(np.zeros((3, 4, 5)), (1, 2, 5), ZYX), 1)
    assert source.chunks == (1, 1, 2, 5)
    assert source.metadata.voxel_size == (1.0, 1.0, 0.5, 0.25)
    assert source.metadata.origin == (0.0, 0.0, 10.0, 20.0)
