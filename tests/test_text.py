"""Numbers as people read them."""

from __future__ import annotations

import pytest

from bioimage_py import text
from bioimage_py.report import shape_text, voxel_size_text


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.00 s"), (0.034, "0.03 s"), (0.999, "1.0 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (75, "1 min 15 s"),
        (3599.7, "1 h 0 min"), (7265, "2 h 1 min"), (86400, "1 d 0 h"), (200_000, "2 d 7 h"),
    ],
)  # fmt: skip
def test_a_duration_has_two_units_at_most(seconds: float, expected: str) -> None:
    assert text.duration(seconds) == expected


@pytest.mark.parametrize(
    ("n_bytes", "seconds", "expected"),
    [(1_500_000, 1, "1.50 MB/s"), (10**9, 0.5, "2,000 MB/s"), (0, 2, "0.00 MB/s"), (10**6, 0, "-- MB/s")],
)
def test_a_rate_is_in_millions_of_bytes_per_second(n_bytes: int, seconds: float, expected: str) -> None:
    assert text.rate(n_bytes, seconds) == expected


def test_a_voxel_size_says_a_common_unit_once() -> None:
    size = (0.45875, 0.3925, 0.44825)
    assert voxel_size_text(size, ("angstrom",) * 3) == "0.45875 × 0.3925 × 0.44825 Å"
    assert voxel_size_text((1.0, 0.5), (None, "micrometer")) == "1 × 0.5 µm"
    assert voxel_size_text((2.0, 0.5), ("second", "micrometer")) == "2 s × 0.5 µm"
    assert voxel_size_text((2.0, 0.5), None) == "2 × 0.5 (unit not known)"


def test_shapes_of_any_number_of_axes() -> None:
    assert shape_text((3, 4)) == "3 × 4"
    assert shape_text((7,)) == "7"
    assert shape_text(()) == "a single value (no axes)"


def test_a_long_text_is_cut_and_stays_on_one_line() -> None:
    assert text.shortened("a\nb  c", 20) == "a b c"
    assert text.shortened("abcdefgh", 5) == "abcd…"
    assert text.shortened("abcde", 5) == "abcde"
