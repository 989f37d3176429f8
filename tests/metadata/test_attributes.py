"""Axes, voxel size and attributes as the attributes of an array, and back."""

from __future__ import annotations

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bioimage_py.errors import BioimagePyWarning, InvalidArgumentError
from bioimage_py.metadata import ImageMetadata, from_attributes, plain_value, to_attributes

FULL = ImageMetadata(
    axes=("c", "y", "x"),
    voxel_size=(1.0, 0.5, 0.25),
    units=(None, "micrometer", "nanometer"),
    origin=(0.0, -3.0, 4.5),
    channel_names=("dapi", "gfp"),
    channel_colors=("0000FF", "00FF00"),
    contrast_limits=((0, 4095), (10.5, 20.0)),
    attributes={"microscope": "left", "settings": {"gain": [1, 2.5, None, True]}},
)


def test_what_is_written_is_read_again() -> None:
    written = json.loads(json.dumps(to_attributes(FULL)))
    assert from_attributes(written, 3) == FULL
    assert from_attributes(to_attributes(ImageMetadata()), 3) == ImageMetadata()


@pytest.mark.parametrize(
    "malformed",
    [
        {"axes": ["y", "y", "x"]},
        {"axes": ["y", "x"]},
        {"axes": "zyx"},
        {"axes": [0, 1, 2]},
        {"voxel_size": ["1", "1", "1"]},
        {"units": [1, 2, 3]},
        {"units": ["nm"]},
        {"channel_names": [3]},
        {"channel_colors": ["blue"]},
        {"contrast_limits": [[0, 1], [2]]},
    ],
)
def test_what_is_malformed_stays_an_attribute(malformed: dict[str, Any]) -> None:
    assert from_attributes(malformed, 3) == ImageMetadata(attributes=malformed)


@pytest.mark.parametrize("size", [0.0, -1.0, math.inf, math.nan])
def test_a_size_that_no_voxel_has_is_a_warning_and_stays_an_attribute(size: float) -> None:
    with pytest.warns(BioimagePyWarning, match=r"a\.zarr: voxel size \S+ of y makes no sense and is ignored"):
        found = from_attributes({"axes": ["z", "y", "x"], "voxel_size": [1.0, size, 1.0]}, 3, "a.zarr")
    assert found.voxel_size is None
    np.testing.assert_equal(found.attributes["voxel_size"], [1.0, size, 1.0])


def test_units_get_their_common_name_and_unknown_ones_are_a_warning() -> None:
    with pytest.warns(BioimagePyWarning, match="unit 'pixel' of axis 1"):
        found = from_attributes({"units": ["µm", "pixel", None]}, 3)
    assert found.units == ("micrometer", None, None)


def test_numbers_that_json_has_no_word_for_become_text_where_asked() -> None:
    odd = ImageMetadata(attributes={"a": [math.inf, {"b": -math.inf}], "c": math.nan, "d": 1.5})
    with pytest.warns(BioimagePyWarning, match="in the attributes a, c are written as text"):
        assert to_attributes(odd) == {"a": ["Infinity", {"b": "-Infinity"}], "c": "NaN", "d": 1.5}
    kept = to_attributes(odd, numbers_as_text=False)
    assert kept["a"][0] == math.inf
    assert math.isnan(kept["c"])


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1), values, max_size=4))
def test_attributes_are_always_strict_json(attributes: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BioimagePyWarning)
        written = to_attributes(ImageMetadata(attributes=attributes))
    assert json.loads(json.dumps(written, allow_nan=False)) == written


def test_plain_values_are_pythons_own() -> None:
    given = {"a": np.float32(0.5), "b": (np.arange(2), [np.True_]), "c": np.array(3)}
    plain = plain_value(given)
    assert plain == {"a": 0.5, "b": [[0, 1], [True]], "c": 3}
    assert json.loads(json.dumps(plain)) == plain


@pytest.mark.parametrize("value", [object(), 1j, {1: "a"}, [b"bytes"], np.array([1j]), {"a": {1, 2}}])
def test_what_cannot_be_an_attribute_is_named(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"of type \w+ cannot be stored as an attribute"):
        plain_value(value)
