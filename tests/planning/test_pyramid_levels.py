"""Which levels a pyramid has: factors towards cubes, an end, and one clear error for what cannot be."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.planning import choose_levels


def steps(
    shape: tuple[int, ...], axes: str = "zyx", size: Any = None, chunk: int = 8, **asked: Any
) -> list[Any]:
    found = choose_levels(shape, (chunk,) * len(shape), axes, size, **asked)
    return [level.step for level in found[1:]]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (None, [(2, 2, 2)] * 3),
        ((1, 1, 1), [(2, 2, 2)] * 3),
        ((2, 0.5, 0.5), [(1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)]),
        ((1.4, 1, 1), [(2, 2, 2)] * 3),
        ((1.5, 1, 1), [(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)]),
        ((1, 4, 4), [(2, 1, 1), (2, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2)]),
    ],
)
def test_anisotropic_voxels_become_cubes(size: Any, expected: list[Any]) -> None:
    assert steps((64, 64, 64), size=size) == expected


def test_channels_and_time_are_never_reduced() -> None:
    assert steps((9, 3, 20, 20), "tcyx") == [(1, 1, 2, 2)] * 2
    assert steps((9, 3, 20, 20), "tcyx", scale_factors=[2, (1, 1, 5, 1)]) == [(1, 1, 2, 2), (1, 1, 5, 1)]


def test_levels_are_as_many_as_asked_for() -> None:
    assert steps((64, 64, 64), levels=1) == []
    assert len(steps((64, 64, 64), levels=6)) == 5
    assert steps((64, 64, 64), levels=3, scale_factors=[3, 2]) == [(3, 3, 3), (2, 2, 2)]


def test_an_axis_of_one_voxel_stays() -> None:
    assert steps((1, 40, 40)) == [(1, 2, 2)] * 3
    assert steps((3, 40, 40), size=(0.1, 1, 1))[:3] == [(2, 1, 1), (2, 1, 1), (1, 2, 2)]


@given(
    shape=st.tuples(*[st.integers(1, 5000)] * 3),
    size=st.tuples(*[st.floats(0.01, 100)] * 3),
    chunk=st.integers(1, 128),
)
def test_they_end_in_one_chunk(shape: tuple[int, ...], size: tuple[float, ...], chunk: int) -> None:
    levels = choose_levels(shape, (chunk,) * 3, "zyx", size)
    assert all(n <= chunk for n in levels[-1].shape)
    assert len(levels) == 1 or any(n > chunk for n in levels[-2].shape)
    for level in levels:
        assert level.shape == tuple(-(-n // f) for n, f in zip(shape, level.factors, strict=True))
    for above, level in itertools.pairwise(levels):
        assert max(level.step) == 2
        sizes = [s * f for s, f, n in zip(size, above.factors, above.shape, strict=True) if n > 1]
        halved = [s * f for s, f, k in zip(size, above.factors, level.step, strict=True) if k == 2]
        assert max(halved) <= min(sizes) * math.sqrt(2) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"levels": 0}, "levels must be 1 or more, got 0"),
        ({"levels": -2}, "levels must be 1 or more, got -2"),
        ({"levels": 2.5}, "levels must be an integer, got 2.5"),
        ({"levels": True}, "levels must be an integer, got True"),
        ({"levels": 9}, "Give levels=7 at most"),
        ({"scale_factors": 2}, "must be a list with one entry per level"),
        ({"scale_factors": [2, 0]}, "level 2 of the pyramid: the factor of axis 0 must be 1 or more, got 0"),
        ({"scale_factors": [-2]}, "level 1 of the pyramid: the factor of axis 0 must be 1 or more, got -2"),
        (
            {"scale_factors": [2, 33]},
            "level 2 of the pyramid: the factor 33 of axis 0 is larger than the axis",
        ),
        ({"scale_factors": [(2, 2)]}, "got 2 for 3 axes"),
        ({"scale_factors": [2, 1]}, "level 2 of the pyramid would be as large as the one before"),
        ({"scale_factors": [1.5]}, "must be an integer, got 1.5"),
        ({"levels": 2, "scale_factors": [2, 2]}, "2 scale_factors make 3 levels"),
    ],
)
def test_what_cannot_be(asked: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message.replace("(", r"\(")):
        steps((64, 64, 64), **asked)


def test_factors_of_channels_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"axis c cannot be reduced \(factor 2\)"):
        steps((4, 20, 20), "cyx", scale_factors=[(2, 2, 2)])
