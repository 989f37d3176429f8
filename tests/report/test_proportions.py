"""Sizes on the page, and scale bars."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from bioimage_py.metadata import ImageMetadata
from bioimage_py.report.preview import drawn_sizes, index_in_level, scale_bar

UNITS = {"km": 1e3, "m": 1, "mm": 1e-3, "µm": 1e-6, "nm": 1e-9, "pm": 1e-12, "Å": 1e-10}


@given(st.floats(1e-11, 1e3), st.integers(64, 4096), st.sampled_from([None, "angstrom", "micrometer"]))
def test_a_bar_is_round_fits_and_is_as_long_as_it_says(size: float, width: int, unit: str | None) -> None:
    bar = scale_bar(size, width, unit)
    assert bar is not None
    number, symbol = bar.text.split()
    assert re.fullmatch(r"(1|2|5)0*", number) or symbol == "pm"
    assert bar.pixels == pytest.approx(float(number) * UNITS[symbol] / size, abs=0.51)
    assert width / 8.5 - 1 <= bar.pixels <= width / 3 + 1


def test_there_is_no_bar_without_a_unit_or_without_room() -> None:
    assert scale_bar(None, 512) is None
    assert scale_bar(1e-6, 8) is None


def test_axes_that_have_no_unit_keep_the_proportion_of_the_numbers() -> None:
    sizes = drawn_sizes((10, 10), (0, 1), ImageMetadata(("y", "x"), (2.0, 1.0), ("micrometer", None)), 100)
    assert sizes.pixels == {0: 100, 1: 50}
    assert sizes.meters_per_pixel is None


@given(st.integers(1, 5000), st.integers(0, 6), st.data())
def test_an_index_of_a_level_is_in_it_and_at_the_same_place(
    full: int, halvings: int, data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, full - 1))
    level = max(1, full >> halvings)
    found = index_in_level({0: index}, (full,), (level,))[0]
    assert found / level <= (index + 0.5) / full <= (found + 1) / level
