"""Boxes copied by TensorStore from one array into another: the same voxels, the same counts, the same errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from bioimage_py import create_output, open_source
from bioimage_py.errors import ReadOnlyError, StorageError
from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels import CopyKernel, StoreToStore
from bioimage_py.sources import Source
from bioimage_py.sources.stores import TensorStoreSource

FORMATS: dict[str, dict[str, Any]] = {
    "v3.zarr": {"codec": "blosc"},
    "v2.zarr": {"zarr_format": 2, "codec": "gzip"},
    "n5.n5": {"codec": "gzip"},
}


def made(path: Path, shape: tuple[int, ...], dtype: str = "uint16", **options: Any) -> Source:
    key = "raw" if path.suffix == ".n5" else None
    return create_output(path, shape=shape, dtype=dtype, key=key, **options)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Box]:
    """The boxes that TensorStore copies by itself."""
    made: list[Box] = []
    write_from = TensorStoreSource.write_from

    def counted(self: TensorStoreSource, box: Box, source: TensorStoreSource) -> None:
        made.append(box)
        write_from(self, box, source)

    monkeypatch.setattr(TensorStoreSource, "write_from", counted)
    return made


def pair(
    folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str = "uint16", **options: Any
) -> tuple[Source, Source]:
    source = made(folder / "in.zarr", shape, dtype, chunks=chunks, codec="zstd:1")
    return source, made(folder / "out.zarr", shape, dtype, chunks=chunks, **{"codec": "blosc", **options})


@settings(max_examples=30)
@given(data=st.data())
def test_the_output_holds_the_voxels_of_the_input(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    kind, other = data.draw(st.sampled_from(list(FORMATS))), data.draw(st.sampled_from(list(FORMATS)))
    shape = data.draw(st.lists(st.integers(1, 13), min_size=1, max_size=3).map(tuple))
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    block = tuple(c * data.draw(st.integers(1, 3)) for c in chunks)
    dtype = data.draw(st.sampled_from(["uint8", "int16", "float32", "float64"]))
    folder = tmp_path_factory.mktemp("pair")
    random = np.random.default_rng(data.draw(st.integers(0, 9)))
    values = random.integers(0, 3, shape).astype(dtype)
    source = made(folder / f"in-{kind}", shape, dtype, chunks=chunks, **FORMATS[kind])
    sink = made(folder / f"out-{other}", shape, dtype, chunks=chunks, **FORMATS[other])
    source[...] = values
    # What the output holds from before has to go, also where the input has no chunk.
    sink[...] = np.ones(shape, dtype)
    through = StoreToStore.of(source, sink)
    assert through is not None
    kernel = CopyKernel(source, sink)
    blocks = Blocking(shape, block)
    for number in range(blocks.n_blocks):
        kernel.copy_box(blocks[number])
    np.testing.assert_array_equal(sink[...], values)
    assert kernel.tally().bytes_in <= kernel.tally().bytes_out == values.nbytes


def test_one_layer_of_the_first_box_is_taken_apart(tmp_path: Path, calls: list[Box]) -> None:
    source, sink = pair(tmp_path, (8, 32), (4, 4))
    source[...] = np.arange(1, 257).reshape(8, 32)
    kernel = CopyKernel(source, sink)
    for begin in range(0, 32, 8):
        kernel.copy_box(Box((0, begin), (8, begin + 8)))
    assert calls == [
        Box((4, 0), (8, 8)),
        Box((0, 8), (8, 16)),
        Box((0, 16), (8, 24)),
        Box((0, 24), (8, 32)),
    ]
    tally = kernel.tally()
    assert tally.chunks_recoded == 16
    assert tally.bytes_in == tally.bytes_out == 512
    assert tally.reading > 0
    assert tally.writing > 0
    np.testing.assert_array_equal(sink[...], source[...])


def test_a_box_of_one_chunk_is_taken_apart_whole(tmp_path: Path, calls: list[Box]) -> None:
    source, sink = pair(tmp_path, (5, 3), (5, 3))
    source[...] = 7
    CopyKernel(source, sink).copy_box(Box((0, 0), (5, 3)))
    assert calls == []
    assert (sink[...] == 7).all()


def test_a_damaged_chunk_is_named_as_one_that_cannot_be_read(tmp_path: Path, calls: list[Box]) -> None:
    source, sink = pair(tmp_path, (4, 12), (4, 4))
    source[...] = np.arange(48).reshape(4, 12)
    (tmp_path / "in.zarr" / "c" / "0" / "1").write_bytes(b"no zstd frame")
    kernel = CopyKernel(source, sink)
    kernel.copy_box(Box((0, 0), (4, 4)))
    with pytest.raises(StorageError, match=r"in\.zarr.*cannot read the region \[0:4, 4:8\]"):
        kernel.copy_box(Box((0, 4), (4, 8)))
    assert calls == [Box((0, 4), (4, 8))]
    kernel.copy_box(Box((0, 8), (4, 12)))
    np.testing.assert_array_equal(sink[:, 8:], source[:, 8:])
    assert kernel.tally().bytes_out == 2 * 32


def test_an_output_that_is_read_only_refuses(tmp_path: Path) -> None:
    source, _ = pair(tmp_path, (4, 4), (4, 4))
    sink = open_source(tmp_path / "out.zarr")
    assert isinstance(source, TensorStoreSource)
    assert isinstance(sink, TensorStoreSource)
    with pytest.raises(ReadOnlyError, match="mode='r\\+'"):
        sink.write_from(Box((0, 0), (4, 4)), source)


@pytest.mark.parametrize(
    ("shape", "chunks", "options"),
    [
        ((8, 8), (4, 4), {"dtype": "uint8"}),
        ((8, 8), (4, 4), {"chunks": (8, 8)}),
        ((8, 8), (4, 4), {"shards": (8, 8)}),
        ((2, 4, 4, 4), (1, 4, 4, 4), {}),
    ],
    ids=["another dtype", "other chunks", "shards", "four axes"],
)
def test_others_go_by_memory(
    tmp_path: Path,
    calls: list[Box],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    options: dict[str, Any],
) -> None:
    source = made(tmp_path / "in.zarr", shape, "uint16", chunks=chunks, codec="zstd:1")
    sink = made(
        tmp_path / "out.zarr", shape, **{"dtype": "uint16", "chunks": chunks, "codec": "blosc", **options}
    )
    source[...] = np.arange(source.size).reshape(shape) % 200
    assert StoreToStore.of(source, sink) is None
    kernel = CopyKernel(source, sink)
    for _ in range(2):
        kernel.copy_box(Box.whole(shape))
    assert calls == []
    np.testing.assert_array_equal(sink[...], source[...])
