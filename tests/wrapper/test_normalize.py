from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from bioimage_py.errors import InvalidArgumentError, StorageError
from bioimage_py.wrapper.values import NormalizeSource
from tests.wrapper.stored import ChunkedSource


def test_given_bounds_read_nothing_else() -> None:
    source = ChunkedSource(np.arange(100, dtype="uint8").reshape(10, 10))
    normalised = NormalizeSource(source, 0, 50)
    assert normalised[2, 3:6].tolist() == pytest.approx([0.46, 0.48, 0.5])
    assert len(source.reads) == 1
    assert normalised[9, 9] == 1
    assert NormalizeSource(source, 0, 50, clip=False)[9, 9] == pytest.approx(1.98)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"min": 20}, [0, 0, 0.5, 1]),
        ({"max": 30}, [0, 0.5, 1, 1]),
        ({"min": 100}, [0, 0, 0, 0]),
        ({"max": 5}, [1, 1, 1, 1]),
        ({"min": 20, "max": 20}, [0, 0, 1, 1]),
        ({"min": 20, "max": 20, "clip": False}, [0, 0, 0, 0]),
    ],
)
def test_one_bound_or_no_range(bounds: dict[str, Any], expected: list[float]) -> None:
    assert NormalizeSource(np.array([10, 20, 30, 40]), **bounds)[...].tolist() == expected


@pytest.mark.parametrize("value", [0, 7, -1.5, np.nan, np.inf])
def test_constant_input_is_zero(value: float) -> None:
    whole = NormalizeSource(np.full((3, 4), value))[...]
    expected = np.nan if np.isnan(value) else 1 if value == np.inf else 0
    np.testing.assert_array_equal(whole, np.full((3, 4), expected, "float32"))


def test_bounds_leave_out_nan_and_infinities() -> None:
    values = np.array([np.nan, -np.inf, 2, 3, 4, np.inf], "float16")
    source = NormalizeSource(values)
    assert source.range == (2, 4)
    np.testing.assert_array_equal(source[...], np.array([np.nan, 0, 0, 0.5, 1, 1], "float32"))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([-1.7e308, 0, 1.7e308]), [0, 0.5, 1]),
        (np.array([0, 5e-324]), [0, 1]),
        (np.array([-128, 0, 127], "int8"), [0, 128 / 255, 1]),
        (np.array([0, 2**32 - 1], "uint32"), [0, 1]),
        (np.array([False, True]), [0, 1]),
        (np.array([1000.0, 1000.5, 1001.0], "float32"), [0, 0.5, 1]),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_ranges_of_every_dtype(array: np.ndarray, expected: list[float], dtype: str) -> None:
    whole = NormalizeSource(array, dtype=dtype)[...]
    assert whole.dtype == dtype
    np.testing.assert_allclose(whole, np.array(expected, dtype), rtol=1e-6)


def test_tiny_and_fractional_bounds_do_not_warn() -> None:
    image = np.array([0, 1, 200], "uint8")
    assert NormalizeSource(image, 0, 1e-300)[...].tolist() == [0, 1, 1]
    assert NormalizeSource(image, -1e300, 1e300)[...].tolist() == [0.5, 0.5, 0.5]


def test_the_range_is_found_once_whichever_thread_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).normal(size=(20, 30, 40)).astype("float32")
    monkeypatch.setattr("bioimage_py.wrapper.values.rescale._SCAN_BYTES", 40 * 30 * 4 * 3)
    source = ChunkedSource(array, (2, 10, 10))
    normalised = NormalizeSource(source)
    expected = ((array.astype("float64") - array.min()) / (float(array.max()) - array.min())).astype(
        "float32"
    )
    start = threading.Barrier(8)

    def read(z: int) -> np.ndarray:
        start.wait()
        return normalised[z]

    with ThreadPoolExecutor(8) as pool:
        for z, plane in enumerate(pool.map(read, range(8))):
            np.testing.assert_allclose(plane, expected[z], rtol=1e-6)
    scanned = [box for box in source.reads if box.shape != (1, 30, 40)]
    assert sum(box.size for box in scanned) == array.size
    assert len(scanned) > 5
    assert all(box.size * 4 <= 40 * 30 * 4 * 3 for box in scanned)
    assert normalised.for_run(2, 0).range == normalised.range
    assert sum(box.shape != (1, 30, 40) for box in source.reads) == len(scanned)


def test_a_scan_that_failed_is_tried_again() -> None:
    source = ChunkedSource(np.arange(4.0))
    works, source._read = source._read, None
    calls = []

    def fails(box: Any) -> np.ndarray:
        calls.append(box)
        raise StorageError("the disk is away")

    source._read = fails
    normalised = NormalizeSource(source)
    for _ in range(2):
        with pytest.raises(StorageError, match="away"):
            normalised[...]
    assert len(calls) == 2
    source._read = works
    assert normalised[-1] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"min": 5, "max": 4}, "min=5 and max=4"),
        ({"min": float("nan")}, "min must be a finite"),
        ({"max": float("inf")}, "max must be a finite"),
        ({"max": 10**400}, "max must be a finite"),
        ({"max": 1j}, "max must be a finite"),
        ({"min": "0"}, "min must be a number"),
        ({"dtype": "uint8"}, "dtype must be one of float, got uint8"),
        ({"dtype": "nonsense"}, "dtype must be a numpy dtype"),
    ],
)
def test_refuses(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidArgumentError, match=says):
        NormalizeSource(np.zeros(3), **arguments)


def test_refuses_complex_voxels() -> None:
    with pytest.raises(InvalidArgumentError, match="complex128"):
        NormalizeSource(np.zeros(3, complex))
