"""What the tests of wrappers read: arrays in files, a chunked source that keeps count, functions that can be imported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bioimage_py.geometry import Box
from bioimage_py.metadata import ImageMetadata
from bioimage_py.sources import Source, open_source
from bioimage_py.wrapper import WrapperSource, register_wrapper, spec, tiling
from tests.sources.contract import textured

written, parts = spec, tiling
"""The modules of specs and of parts, whose insides some tests look at."""
DTYPES = ("bool", "uint8", "int16", ">u2", "int64", "float16", "float32", ">f8")


def saved(array: np.ndarray, folder: Path, name: str = "input") -> Source:
    """Store an array as .npy and open it."""
    np.save(folder / f"{name}.npy", array)
    return open_source(folder / f"{name}.npy")


class ChunkedSource(Source):
    """An array in memory that claims chunks and metadata, and keeps account of reads, twins and closing."""

    format = "test"

    def __init__(
        self, array: np.ndarray, chunks: tuple[int, ...] | None = None, metadata: ImageMetadata | None = None
    ) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.chunks = chunks
        self._metadata = metadata or ImageMetadata()
        self.reads: list[Box] = []
        self.closed = 0
        self.tuned: tuple[int, int] | None = None

    @property
    def metadata(self) -> ImageMetadata:
        return self._metadata

    def _read(self, box: Box) -> np.ndarray:
        self.reads.append(box)
        assert Box.whole(self.shape).contains(box)
        return self.array[(*box.slices, ...)]

    def for_run(self, threads: int, cache_bytes: int) -> ChunkedSource:
        twin = ChunkedSource(self.array, self.chunks, self._metadata)
        twin.tuned = (threads, cache_bytes)
        return twin

    def close(self) -> None:
        self.closed += 1


ZYX = ImageMetadata(
    axes=("c", "y", "x"),
    voxel_size=(1.0, 0.5, 0.25),
    units=(None, "micrometer", "micrometer"),
    origin=(0.0, 10.0, 20.0),
    channel_names=("red", "green", "blue"),
    attributes={"made_by": "test"},
)


@st.composite
def arrays(draw: st.DrawFn, min_side: int = 0, dtypes: tuple[str, ...] = DTYPES) -> np.ndarray:
    """Arrays of 1 to 4 axes."""
    shape = tuple(draw(st.lists(st.integers(min_side, 6), min_size=1, max_size=4)))
    return textured(shape, draw(st.sampled_from(dtypes)), draw(st.integers(0, 99)))


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> Box:
    """Boxes inside an array, empty ones too."""
    ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return Box(tuple(e[0] for e in ends), tuple(e[1] for e in ends))


def check_reads(source: Source, expected: np.ndarray, data: st.DataObject) -> None:
    """The whole, and three regions drawn at random, are what numpy makes of the whole."""
    assert source.shape == expected.shape
    assert source.dtype == expected.dtype.newbyteorder("=")
    assert source.dtype.isnative
    for box in (Box.whole(source.shape), *(data.draw(boxes(source.shape)) for _ in range(3))):
        got = source.read(box)
        assert type(got) is np.ndarray
        assert got.dtype == source.dtype
        assert got.dtype.isnative
        np.testing.assert_array_equal(got, expected[(*box.slices, ...)])


def doubled(block: np.ndarray) -> np.ndarray:
    return block * 2


def summed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first.astype("int64") + second


def smoothed(block: np.ndarray) -> np.ndarray:
    """A mean over three voxels along every axis, edges repeated."""
    out = block.astype("float64")
    for axis in range(block.ndim):
        padded = np.pad(out, [(1, 1) if n == axis else (0, 0) for n in range(block.ndim)], mode="edge")
        parts = [padded.take(range(k, k + block.shape[axis]), axis=axis) for k in range(3)]
        out = (parts[0] + parts[1] + parts[2]) / 3
    return out


def flipped(source: Source, region: Box) -> np.ndarray:
    """The source mirrored along its first axis."""
    n = source.shape[0]
    return source[(slice(n - region.end[0], n - region.begin[0]), *region.slices[1:])][::-1]


def at_least(block: np.ndarray, threshold: float) -> np.ndarray:
    return block >= threshold


@register_wrapper("tests.power")
class PowerSource(WrapperSource):
    """A user's own wrapper in a module that can be imported."""

    def __init__(self, source: Any, exponent: int) -> None:
        super().__init__(source)
        self.exponent = exponent

    def parameters(self) -> dict[str, Any]:
        return {"exponent": self.exponent}

    def _read(self, box: Box) -> np.ndarray:
        return self.read_input(box) ** self.exponent
