"""Casts: numpy's assignment, and the check that no voxel changes."""

from __future__ import annotations

import itertools
import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import bioimage_py as bp
from bioimage_py.errors import CastingError, InvalidArgumentError
from bioimage_py.kernels import can_hold, cast, check_casting, differing
from bioimage_py.sources import as_source, create_output
from bioimage_py.wrapper import SimpleTransformationSource
from tests.sources.contract import textured

DTYPES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
    "complex64", "complex128",
)  # fmt: skip


def edges(dtype: str) -> np.ndarray:
    """Values around everything that another dtype may not hold."""
    kind = np.dtype(dtype)
    whole = sorted(
        {
            s * 2**p + d
            for p in (0, 7, 8, 11, 15, 16, 24, 31, 32, 53, 62, 63, 64)
            for d in (-1, 0, 1)
            for s in (1, -1)
        }
    )
    if kind.kind == "b":
        return np.array([False, True])
    if kind.kind in "iu":
        info = np.iinfo(kind)
        return np.array([n for n in whole if info.min <= n <= info.max], kind)
    with np.errstate(all="ignore"):
        found = np.array([*(float(n) for n in whole), 0.5, -0.0, 1e-30, np.inf, -np.inf, np.nan]).astype(kind)
    if kind.kind == "c":
        found = np.concatenate([found, np.array([1j, 2 + 0.5j, complex(np.nan, 1)], kind)])
    return found


def exactly(value: Any) -> Any:
    """The number that a voxel stands for, as Python knows it without rounding."""
    plain = value.item()
    real, imaginary = (plain.real, plain.imag) if isinstance(plain, complex) else (plain, 0)
    return tuple(
        repr(x) if isinstance(x, float) and (x != x or abs(x) == np.inf) else Fraction(x)
        for x in (real, imaginary)
    )


@pytest.mark.parametrize("source", DTYPES)
def test_check_refuses_each_voxel_that_would_change_and_no_other(source: str) -> None:
    for target, value in itertools.product(DTYPES, edges(source)):
        array = np.array([value])
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            became = array.astype(target)
        if np.isnan(value) and np.isnan(became[0]):
            continue
        if exactly(became[0]) == exactly(array[0]):
            assert cast(array, np.dtype(target), "check", (0,)).tobytes() == became.tobytes()
        else:
            with pytest.raises(CastingError, match="would become"):
                cast(array, np.dtype(target), "check", (0,))


@cache
def plain(dtype: str) -> list[Any]:
    """The numbers at the edges of a type without rounding; all that are not a number are one."""
    return ["nan" if np.isnan(x) else exactly(x) for x in edges(dtype)]


@pytest.mark.parametrize("a", DTYPES)
def test_values_are_compared_exactly(a: str) -> None:
    for b in DTYPES:
        found = differing(*np.meshgrid(edges(a), edges(b), indexing="ij"))
        for (n, x), (m, y) in itertools.product(enumerate(plain(a)), enumerate(plain(b))):
            assert found[n, m] == (x != y), (x, y)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.integers(0, 2**31))
def test_what_can_be_held_never_changes(source: str, target: str, seed: int) -> None:
    values = textured((5, 4), source, seed)
    if can_hold(np.dtype(source), np.dtype(target)):
        result = cast(values, np.dtype(target), "check", (0, 0))
        assert result.dtype == target
        np.testing.assert_array_equal(result, values)


def test_integers_that_a_float_would_round_cannot_be_held() -> None:
    held = {(s, t) for s in DTYPES for t in DTYPES if can_hold(np.dtype(s), np.dtype(t))}
    assert ("int32", "float64") in held
    assert ("uint16", "float32") in held
    assert ("uint8", "float16") in held
    assert not held & {
        ("int64", "float64"),
        ("uint64", "complex128"),
        ("uint32", "float32"),
        ("uint16", "float16"),
    }
    assert not held & {
        ("uint8", "int8"),
        ("int8", "uint64"),
        ("float64", "float32"),
        ("complex64", "float64"),
        ("uint8", "bool"),
    }


def test_the_same_dtype_is_the_same_array() -> None:
    values = np.arange(5)
    assert cast(values, np.dtype("int64"), "unsafe", (0,)) is values
    assert cast(values, np.dtype(">i8"), "unsafe", (0,)).dtype == np.dtype(">i8")


def test_the_message_names_the_voxel_in_the_array() -> None:
    values = np.zeros((2, 3), "int16")
    values[1, 2] = 300
    values[1, 1] = -5
    with pytest.raises(
        CastingError, match=r"voxel \(11, 21\) is -5 as int16 and would become 251 as uint8 \(2 voxels"
    ) as caught:
        cast(values, np.dtype("uint8"), "check", (10, 20))
    assert isinstance(caught.value, ValueError)
    with pytest.raises(CastingError, match=r"voxel \(\) is 300 "):
        cast(np.array(300), np.dtype("uint8"), "check", ())


def test_rules_are_numpys() -> None:
    for source in DTYPES:
        for target in DTYPES:
            for rule in ("safe", "same_kind"):
                if np.can_cast(source, target, casting=rule):  # type: ignore[arg-type]
                    check_casting(rule, np.dtype(source), np.dtype(target))
                else:
                    with pytest.raises(CastingError, match=f"{source} → {target}"):
                        check_casting(rule, np.dtype(source), np.dtype(target))
            check_casting("unsafe", np.dtype(source), np.dtype(target))
            check_casting("check", np.dtype(source), np.dtype(target))
    with pytest.raises(InvalidArgumentError, match="casting must be one of"):
        check_casting("equiv", np.dtype("u1"), np.dtype("u1"))


def test_casting_in_threads_leaves_the_warning_filters_alone() -> None:
    values = np.arange(2000) * (1 + 1j)
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda _: cast(values, np.dtype("float32"), "unsafe", (0,)), range(400)):
            pass
    assert warnings.filters == before


class TestWhatNumpyLeavesOpen:
    """NaN is 0, and infinities and what is beyond 64 bits are the ends of the dtype, however many voxels are cast at once."""

    VALUES = (np.nan, np.inf, -np.inf, 1e30, -1e30, 2.0**64, -(2.0**64), 1.9, -1.5, 300.0, -0.5)

    @staticmethod
    def expected(value: float, dtype: str) -> int:
        info = np.iinfo(dtype)
        if np.isnan(value):
            return 0
        if not -(2.0**63) <= value < 2.0**63:
            return int(info.max if value > 0 else info.min)
        return int(np.int64(int(value)).astype(dtype))

    @pytest.mark.parametrize("dtype", [d for d in DTYPES if "int" in d])
    @pytest.mark.parametrize("source", ["float16", "float32", "float64", "longdouble", "complex64"])
    def test_is_defined_for_every_shape(self, source: str, dtype: str) -> None:
        with np.errstate(over="ignore"):
            values = np.array(self.VALUES).astype(source)
        real = values.real.astype("float64")
        wanted = np.array([self.expected(v, dtype) for v in real], dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for n in (1, 3, 8, 16, 37, 64):
                for whole in (
                    np.repeat(values, n).reshape(-1, n),
                    np.repeat(values, 2 * n).reshape(-1, 2 * n)[:, ::2],
                ):
                    found = cast(whole, np.dtype(dtype), "unsafe", (0, 0))
                    assert found.dtype == dtype
                    np.testing.assert_array_equal(found, np.repeat(wanted, n).reshape(-1, n))

    @pytest.mark.parametrize("source", ["float32", "float64"])
    def test_32_bits_without_sign_do_not_depend_on_the_shape(self, source: str) -> None:
        values = np.array([2.0**32 + 4096, -(2.0**31) - 4096, 2.0**40 + 2.0**20, 9e18], source)
        wanted = [cast(v.reshape(1), np.dtype("u4"), "unsafe", (0,))[0] for v in values]
        whole = cast(np.repeat(values, 37).reshape(-1, 37), np.dtype("u4"), "unsafe", (0, 0))
        assert (whole == np.array(wanted)[:, None]).all()

    def test_what_fits_64_bits_is_as_numpy_has_it(self) -> None:
        values = np.random.default_rng(0).uniform(-70_000, 70_000, (7, 37))
        for dtype in (d for d in DTYPES if "int" in d):
            np.testing.assert_array_equal(
                cast(values, np.dtype(dtype), "unsafe", (0, 0)), values.astype(dtype)
            )

    @pytest.mark.filterwarnings("ignore:float32 voxels are cast")
    @pytest.mark.parametrize("name", ["memory", "a.zarr", "a.n5", "a.h5", "a.npy"])
    def test_on_every_road(self, name: str, tmp_path: Path) -> None:
        values = np.resize(np.array(self.VALUES, "float32"), (16, 37))
        wanted = np.array([self.expected(v, "uint32") for v in values.ravel().tolist()], "uint32").reshape(
            values.shape
        )

        def new(n: int) -> Any:
            if name == "memory":
                return as_source(np.ones(values.shape, "uint32"))
            return create_output(
                tmp_path / f"{n}{name}", shape=values.shape, dtype="uint32", codec="none" if name == "a.h5" else None,
                chunks=None if name == "a.npy" else (8, 8),
            )  # fmt: skip

        with new(0) as out:
            out[...] = values
            out[3, 5] = values[3, 5]
            np.testing.assert_array_equal(out[...], wanted)
        for n, shape in enumerate([(16, 37), (8, 8), (16, 8)], 1):
            with new(n) as out:
                bp.copy(values, out, block_shape=shape)
                np.testing.assert_array_equal(out[...], wanted)

    def test_functions_with_a_dtype_and_numpy_arrays_of_sources(self) -> None:
        values = np.resize(np.array(self.VALUES, "float32"), (16, 37))
        wanted = cast(values, np.dtype("u4"), "unsafe", (0, 0))
        source = SimpleTransformationSource(values, lambda block: block, dtype="uint32")
        for box in ((slice(0, 1), slice(0, 1)), (slice(2, 9), slice(3, 37)), (slice(None), slice(None))):
            np.testing.assert_array_equal(source[box], wanted[box])
        np.testing.assert_array_equal(np.asarray(as_source(values), dtype="uint32"), wanted)

    def test_check_refuses_them(self) -> None:
        with pytest.raises(CastingError, match=r"\(1,\) is nan as float32 and would become 0 as uint8"):
            cast(np.array([1, np.nan], "f4"), np.dtype("u1"), "check", (0,))


def test_clip_saturates_and_cuts_off_fractions() -> None:
    floats = [
        0.0,
        -0.9,
        1.9,
        -1.9,
        254.5,
        255.9,
        300.0,
        -2e9,
        3e9,
        2.0**63,
        -1e30,
        1e30,
        np.inf,
        -np.inf,
        np.nan,
    ]
    for source in ("f2", "f4", "f8", ">f4", "i1", "i8", "u1", "u8", ">i4", "?"):
        dtype = np.dtype(source)
        if dtype.kind == "f":
            with np.errstate(over="ignore"):
                values = np.array([floats] * 2).astype(dtype)
        else:
            ends = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1, 100)
            values = np.array([ends] * 2, dtype)
        for target in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"):
            info = np.iinfo(target)

            def expected(value: Any, info: Any = info) -> int:
                if value != value:
                    return 0
                whole = (
                    value if isinstance(value, int) or math.isfinite(value) else math.copysign(2**70, value)
                )
                return int(min(max(int(whole), info.min), info.max))

            result = cast(values, np.dtype(target), "clip", (0, 0))
            assert result.tolist() == [[expected(one) for one in row] for row in values.tolist()], (
                source,
                target,
            )
    assert cast(np.zeros((0, 3)), np.dtype("u1"), "clip", (0, 0)).shape == (0, 3)
    turned = np.asfortranarray(np.arange(-3, 3).reshape(2, 3))
    assert cast(turned, np.dtype("u1"), "clip", (0, 0)).tolist() == [[0, 0, 0], [0, 1, 2]]
