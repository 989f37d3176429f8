"""Colours of values, channels and labels."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st

from bioimage_py.report import blended, label_colors, percentile_limits, rgb_colors


@given(st.integers(0, 2**64 - 2000))
def test_labels_in_a_row_have_colours_of_their_own(first: int) -> None:
    labels = np.arange(64, dtype="uint64")[None] + np.uint64(first)
    assert len({tuple(color) for color in label_colors(labels)[0].tolist()}) == 64


@given(st.integers(-(2**63), 2**63 - 1))
def test_only_the_background_is_dark(label: int) -> None:
    color = label_colors(np.array([[label]], "int64"))[0, 0]
    assert (color.max() >= 200) == (label != 0)


def test_limits_are_percentiles_over_all_panels() -> None:
    panels = [np.arange(50.0).reshape(5, 10, 1), np.arange(50.0, 101.0).reshape(3, 17, 1)]
    assert percentile_limits(panels, 0, (10, 90)) == (10, 90)
    panels[0][0, 0] = np.nan
    panels[1][0, 0] = np.inf
    assert percentile_limits(panels, 0, (0, 100)) == (1, 100)


def test_channels_that_meet_add_up_to_white_at_most() -> None:
    panel = np.ones((1, 1, 3))
    assert blended(panel, [(0, 1)] * 3, ("FF0000", "FFFF00", "0000FF"))[0, 0].tolist() == [255, 255, 255]
    assert blended(panel / 2, [(0, 1)] * 3, ("FF0000", "00FF00", "0000FF"))[0, 0].tolist() == [128, 128, 128]


def test_half_opaque_is_half_white() -> None:
    panel = np.array([[[255.0, 0.0, 0.0, 127.5]]])
    assert rgb_colors(panel, (0, 255), 255)[0, 0].tolist() == [255, 128, 128]
