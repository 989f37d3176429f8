"""Planes read in pieces: the same pixels however the store is cut, few reads, little memory."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bioimage_py.errors import InvalidArgumentError
from bioimage_py.geometry import Box
from bioimage_py.report.preview import Plane
from bioimage_py.sources import Source
from tests.counting import CountingSource


def plane(source: Source, size: tuple[int, int], how: str = "mean", **changed: Any) -> Plane:
    """The last two axes of a volume at the index 1 of the first."""
    said: dict[str, Any] = {"at": {0: 1}, "channel_axis": None, "channels": (0,), "depth": None, **changed}
    return Plane(source=source, rows=1, columns=2, size=size, how=how, **said)


def means(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The mean of the voxels of each pixel, written the slow way."""
    out = np.full(shape, np.nan)
    at = [np.arange(n) * m // n for n, m in zip(image.shape, shape, strict=True)]
    for i in range(shape[0]):
        for j in range(shape[1]):
            window = image[at[0] == i][:, at[1] == j]
            window = window[np.isfinite(window)]
            if window.size:
                out[i, j] = window.mean()
    return out


@given(
    shape=st.tuples(st.integers(2, 4), st.integers(1, 23), st.integers(1, 23)),
    chunks=st.none() | st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)),
    size=st.tuples(st.integers(1, 25), st.integers(1, 25)),
    how=st.sampled_from(["mean", "max", "nearest"]),
    projected=st.booleans(),
    piece=st.sampled_from([8, 64, 2**20]),
)
def test_pixels_do_not_depend_on_how_it_is_read(
    shape: Any, chunks: Any, size: Any, how: str, projected: bool, piece: int
) -> None:
    volume = np.random.default_rng(4).integers(0, 2**16, shape).astype("uint16")
    source = CountingSource(volume, chunks=chunks)
    asked = plane(source, size, how, depth=0 if projected else None, at={} if projected else {0: 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bioimage_py.report.preview.plane._PIECE", piece)
        got = asked.read()[..., 0]
    flat = (volume.mean(axis=0) if how == "mean" else volume.max(axis=0)) if projected else volume[1]
    if how == "nearest":
        rows, columns = (
            [(2 * i + 1) * n // (2 * m) for i in range(m)] for n, m in zip(flat.shape, got.shape, strict=True)
        )
        np.testing.assert_array_equal(got, flat[np.ix_(rows, columns)])
        assert got.dtype == volume.dtype
    elif how == "max":
        at = [np.arange(n) * m // n for n, m in zip(flat.shape, got.shape, strict=True)]
        expected = [
            [flat[at[0] == i][:, at[1] == j].max() for j in range(got.shape[1])] for i in range(got.shape[0])
        ]
        np.testing.assert_array_equal(got, expected)
    else:
        np.testing.assert_allclose(got, means(flat, got.shape), rtol=1e-6)
    assert all(m >= min(n, p) for m, n, p in zip(got.shape, flat.shape, size, strict=True))


def test_what_is_no_number_does_not_count() -> None:
    volume = np.ones((2, 4, 4))
    volume[1, :2, :2] = np.nan
    volume[1, 0, 2:] = (np.inf, -np.inf)
    got = plane(CountingSource(volume), (2, 2)).read()[..., 0]
    np.testing.assert_array_equal(got, [[np.nan, 1], [1, 1]])
    deepest = plane(CountingSource(volume), (2, 2), "max").read()[..., 0]
    np.testing.assert_array_equal(deepest, [[np.nan, np.inf], [1, 1]])


def test_only_the_chunks_of_the_plane_are_read() -> None:
    source = CountingSource(np.zeros((64, 40, 40), "uint8"), chunks=(8, 8, 8))
    asked = plane(source, (40, 40), at={0: 20})
    asked.read()
    assert all(box.begin[0] == 20 and box.end[0] == 21 for box in source.reads)
    assert sum(box.size for box in source.reads) == 40 * 40
    assert asked.n_bytes == 8 * 40 * 40


class Endless(Source):
    """An array of any size, in chunks, of which nothing is held; the value of a voxel is its row modulo 251."""

    format = "endless"
    dtype = np.dtype("uint8")

    def __init__(self, shape: tuple[int, ...], chunks: tuple[int, ...] | None) -> None:
        self.shape, self.chunks = shape, chunks
        self.reads: list[Box] = []

    def _read(self, box: Box) -> np.ndarray:
        self.reads.append(box)
        rows = np.arange(box.begin[1], box.end[1]) % 251
        return np.broadcast_to(rows[None, :, None].astype("uint8"), box.shape)


@pytest.mark.parametrize("chunks", [None, (1, 1, 50_000), (1, 64, 64), (16, 1024, 1024)])
def test_a_slice_of_50000_by_50000_is_never_held_at_once(chunks: Any) -> None:
    source = Endless((16, 50_000, 50_000), chunks)
    tracemalloc.start()
    try:
        got = plane(source, (50, 50)).read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got.shape == (50, 50, 1)
    np.testing.assert_array_equal(got[:, 7, 0], [(500 + 1000 * i) % 251 for i in range(50)])
    assert max(box.size for box in source.reads) <= 8 * 2**20
    assert peak < 256 * 2**20
    if chunks is None:  # rows between the pixels are not touched
        assert 0 < sum(box.size for box in source.reads) <= 50 * 50_000
    elif chunks[1] < 100:
        assert len(source.reads) <= 50 * 50


def test_a_chunk_as_large_as_a_slice_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"a chunk of .* is 2\.33 GiB large.*smaller chunks"):
        plane(Endless((16, 50_000, 50_000), (1, 50_000, 50_000)), (50, 50)).read()
