from __future__ import annotations

import traceback
from typing import Any

import numpy as np
import pytest

from bioimage_py.errors import InvalidArgumentError, SourceNotFoundError
from bioimage_py.geometry import Box
from bioimage_py.sources import Source
from bioimage_py.wrapper import (
    MultiTransformationSource,
    SimpleTransformationSource,
    SimpleTransformationWithHaloSource,
    TransformationSource,
)
from tests.wrapper.stored import ZYX, ChunkedSource, doubled

IMAGE = np.arange(24, dtype="uint8").reshape(4, 6)


def make_all(function: Any, dtype: Any = None) -> list[Source]:
    """Every wrapper of a user's function, the function taking one array."""
    return [
        SimpleTransformationSource(IMAGE, function, dtype),
        SimpleTransformationWithHaloSource(IMAGE, function, 1, dtype),
        MultiTransformationSource([IMAGE], function, dtype),
        TransformationSource(IMAGE, lambda source, region: function(source[region.slices]), dtype=dtype),
    ]


def test_a_wrong_shape_is_an_error_that_names_both() -> None:
    def sum_of_rows(block: np.ndarray) -> np.ndarray:
        return block.sum(axis=0) if block.size > 1 else block

    for source in make_all(sum_of_rows):
        with pytest.raises(
            InvalidArgumentError, match=r"in shape \(4, 6\) for the region \[0:4, 0:6\].*of shape \(6,\)"
        ):
            source[...]
    with pytest.raises(InvalidArgumentError, match=r"in shape \(1, 1\).*of shape \(1,\)"):
        SimpleTransformationSource(IMAGE, lambda block: block.sum(axis=0))


@pytest.mark.parametrize("returned", [None, "voxels", np.array([["a"]]), np.array([[None]])])
def test_what_are_no_numbers_is_an_error(returned: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="must return numbers in shape"):
        SimpleTransformationSource(IMAGE, lambda block: returned)


def test_an_error_of_the_function_keeps_its_type_and_traceback() -> None:
    def fails_on_large(block: np.ndarray) -> np.ndarray:
        if block.size > 1:
            raise ZeroDivisionError("my own words")
        return block

    for source in make_all(fails_on_large):
        with pytest.raises(ZeroDivisionError, match="my own words") as caught:
            source[1:3, 2:4]
        assert any(type(source).__name__ in note for note in caught.value.__notes__)
        assert any("[1:3, 2:4]" in note or "[0:4, 1:5]" in note for note in caught.value.__notes__)
        assert "fails_on_large" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]


def test_an_error_on_one_voxel_says_how_to_avoid_it() -> None:
    def needs_more(block: np.ndarray) -> np.ndarray:
        if block.size < 2:
            raise IndexError("too small")
        return block

    with pytest.raises(IndexError, match="too small") as caught:
        SimpleTransformationSource(IMAGE, needs_more)
    assert any("dtype=" in note for note in caught.value.__notes__)
    np.testing.assert_array_equal(SimpleTransformationSource(IMAGE, needs_more, "uint8")[...], IMAGE)


def test_a_function_may_change_its_block() -> None:
    def negate_in_place(block: np.ndarray) -> np.ndarray:
        assert block.flags.c_contiguous
        assert block.flags.writeable
        assert block.dtype.isnative
        np.negative(block, out=block)
        return block

    for image in (IMAGE.copy(), np.asfortranarray(IMAGE), IMAGE.astype(">i4")):
        before = image.copy()
        expected = -image
        for source in (
            SimpleTransformationSource(image, negate_in_place),
            SimpleTransformationWithHaloSource(image, negate_in_place, (1, 0)),
            MultiTransformationSource([image], negate_in_place),
        ):
            np.testing.assert_array_equal(source[...], expected)
            np.testing.assert_array_equal(image, before)


def test_dtype_is_learnt_without_reading_and_without_warnings() -> None:
    source = ChunkedSource(IMAGE)
    made = SimpleTransformationSource(source, lambda block: block / block.max())
    assert made.dtype == "float64"
    assert source.reads == []
    assert MultiTransformationSource([IMAGE, IMAGE.astype("float32")], lambda a, b: a * b).dtype == "float32"


def test_dtype_given_casts_and_dtype_learnt_does_not_lose_values() -> None:
    for source in make_all(lambda block: block * 1.9, "uint8"):
        assert source.dtype == "uint8"
        assert source[0, 3] == 5

    def changes_its_mind(block: np.ndarray) -> np.ndarray:
        return block.astype("int64") if block.size > 1 else block

    for source in make_all(changes_its_mind):
        with pytest.raises(
            InvalidArgumentError, match=r"returned int64, which does not fit the dtype uint8.*dtype='int64'"
        ):
            source[...]
    widened = SimpleTransformationSource(IMAGE, lambda block: block / 2 if block.size == 1 else block)
    assert widened.dtype == "float64"
    assert widened[0, :2].dtype == "float64"


@pytest.mark.parametrize("dtype", ["no such", object, "U3", "M8[s]"])
def test_refuses_dtypes_that_are_no_voxels(dtype: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="dtype must be"):
        SimpleTransformationSource(IMAGE, doubled, dtype)


def test_refuses_what_is_no_function() -> None:
    for make in (SimpleTransformationSource, TransformationSource):
        with pytest.raises(InvalidArgumentError, match="transformation must be a function, got int 3"):
            make(IMAGE, 3)
    with pytest.raises(InvalidArgumentError, match="transformation must be a function"):
        MultiTransformationSource([IMAGE], None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("halo", "says"),
    [
        ((1,), "got 1 for 2 axes"),
        ((1, 1, 1), "got 3 for 2 axes"),
        (-1, "0 or more, got -1"),
        ((0, -2), "axis 1 must be 0 or more"),
        (1.5, "integer, got 1.5"),
        ("1", "integer"),
        (None, "integer"),
    ],
)
def test_refuses_a_wrong_halo(halo: Any, says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"halo.*{says}"):
        SimpleTransformationWithHaloSource(IMAGE, doubled, halo)


def test_the_halo_is_read_and_cut_at_the_array() -> None:
    source = ChunkedSource(IMAGE)
    SimpleTransformationWithHaloSource(source, doubled, (1, 2))[3:, 1:3]
    assert source.reads == [Box((2, 0), (4, 5))]


def test_sources_must_have_one_shape() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"one shape, got \(4, 6\) of .*, \(6, 4\) of .*, \(4, 6\) of"
    ):
        MultiTransformationSource([IMAGE, IMAGE.T, IMAGE], lambda a, b, c: a)


@pytest.mark.parametrize("sources", ["a.npy", IMAGE])
def test_several_sources_are_a_list(sources: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="takes a list of sources"):
        MultiTransformationSource(sources, doubled)


def test_several_sources_are_at_least_one() -> None:
    with pytest.raises(InvalidArgumentError, match="at least one input"):
        MultiTransformationSource([], doubled)


def test_chunks_of_several_sources_are_those_of_the_first_that_has_some() -> None:
    sources = [IMAGE, ChunkedSource(IMAGE, (2, 3)), ChunkedSource(IMAGE, (1, 6))]
    assert MultiTransformationSource(sources, lambda a, b, c: a).chunks == (2, 3)


def test_a_function_of_the_position_makes_any_shape() -> None:
    def coordinates(source: Source, region: Box) -> np.ndarray:
        assert type(region) is Box
        axes = [np.arange(b, e) for b, e in zip(region.begin, region.end, strict=True)]
        return sum(
            axis.reshape([-1 if n == d else 1 for n in range(3)]) * 100**d for d, axis in enumerate(axes)
        )

    source = TransformationSource(
        ChunkedSource(IMAGE, (2, 3), ZYX), coordinates, shape=(3, 4, 5), dtype="int32"
    )
    assert source.chunks is None
    whole = source[...]
    assert whole[2, 3, 4] == 40302
    np.testing.assert_array_equal(source[1:, 2, 3:], whole[1:, 2, 3:])
    assert source.metadata.voxel_size is None
    assert source.metadata.attributes == {"made_by": "test"}


def test_a_function_of_the_position_keeps_the_shape_by_default() -> None:
    image = ChunkedSource(np.zeros((3, 4, 5)), (1, 2, 5), ZYX)
    source = TransformationSource(image, lambda source, region: source.read(region))
    assert (source.shape, source.chunks, source.metadata) == ((3, 4, 5), (1, 2, 5), ZYX)


@pytest.mark.parametrize("shape", [5, (1, -1), (1.5,), "ab"])
def test_refuses_what_is_no_shape(shape: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="shape"):
        TransformationSource(IMAGE, doubled, shape=shape)


def test_a_path_that_is_not_there() -> None:
    with pytest.raises(SourceNotFoundError):
        SimpleTransformationSource("not/there.npy", doubled)
