"""What is not stored, or not under the mask, is neither read nor decoded nor stored."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import bioimage_py as bp
from bioimage_py.geometry import Blocking, Box
from bioimage_py.kernels import CopyKernel, boxes_of, cells_all, cells_any, cells_of, cells_under
from bioimage_py.sources import open_source
from bioimage_py.sources.stores import TensorStoreSource
from bioimage_py.sources.zarr import ZarrFilesSource, files as zarr_files
from tests.counting import CountingSource
from tests.kernels.stored import Storing, files_below, make, read_by_others, store
from tests.sources.contract import textured

SHAPE = (32, 40, 48)
SMALL = Storing("v3", chunks=(4, 5, 6))
SOME = [(slice(4, 8), slice(0, 5), slice(6, 12)), (slice(28, 32), slice(35, 40), slice(42, 48))]


@pytest.fixture(params=[zarr_files.LEAST_BYTES, 1], ids=["TensorStore", "own steps"])
def reads(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> dict[str, list[Box]]:
    """The boxes that are read from stored arrays from now on, by the path of the array."""
    monkeypatch.setattr(zarr_files, "LEAST_BYTES", request.param)
    found: dict[str, list[Box]] = {}
    for kind in (TensorStoreSource, ZarrFilesSource):
        for name in ("_read", "_read_into"):
            real = getattr(kind, name)

            def recorded(self: Any, box: Box, *buffer: Any, real: Any = real) -> Any:
                found.setdefault(self.path, []).append(box)
                return real(self, box, *buffer)

            monkeypatch.setattr(kind, name, recorded)
    return found


def with_some(array: np.ndarray, fill: Any) -> np.ndarray:
    expected = np.full_like(array, fill)
    for box in SOME:
        expected[box] = array[box]
    return expected


@pytest.mark.parametrize(
    "how", [SMALL, replace(SMALL, keys="."), replace(SMALL, kind="v2", keys="."), replace(SMALL, fill=7)]
)
@pytest.mark.parametrize("shards", [None, (8, 10, 12)])
def test_only_chunks_that_are_there_are_decoded_and_encoded(
    tmp_path: Path, reads: dict[str, list[Box]], how: Storing, shards: Any
) -> None:
    array = textured(SHAPE, "uint16")
    store(tmp_path / "in", how, array, SOME)
    how_out = {"codec": "gzip", "shards": shards, "chunks": how.chunks}
    assert bp.plan(tmp_path / "in", tmp_path / "out.zarr", **how_out).road == "recode"  # type: ignore[arg-type]
    bp.copy(tmp_path / "in", tmp_path / "out.zarr", **how_out)  # type: ignore[arg-type]
    assert sum(box.size for box in reads[str(tmp_path / "in")]) == 2 * 4 * 5 * 6
    assert len(files_below(tmp_path / "out.zarr")) == 2
    np.testing.assert_array_equal(
        read_by_others(tmp_path / "out.zarr", Storing("v3"))[0], with_some(array, how.fill)
    )


@pytest.mark.parametrize("fill", [0, 7])
def test_what_an_output_held_goes_where_the_input_stores_nothing(
    tmp_path: Path, reads: dict[str, list[Box]], fill: int
) -> None:
    array = textured(SHAPE, "uint16")
    store(tmp_path / "in", replace(SMALL, fill=fill), array, SOME)
    into = replace(SMALL, codec="gzip")
    store(tmp_path / "out", into, array + 1)
    bp.copy(tmp_path / "in", open_source(tmp_path / "out", mode="r+"))
    assert sum(box.size for box in reads[str(tmp_path / "in")]) == 2 * 4 * 5 * 6
    for found in read_by_others(tmp_path / "out", into):
        np.testing.assert_array_equal(found, with_some(array, fill))
    assert len(files_below(tmp_path / "out")) == (2 if fill == 0 else 512)


def test_a_region_and_a_cast(tmp_path: Path, reads: dict[str, list[Box]]) -> None:
    array = textured(SHAPE, "uint8")
    source = store(tmp_path / "in", SMALL, array, SOME)
    region = bp.wrapper.RoiSource(source, (slice(3, 31), slice(2, 39), slice(5, 47)))
    out = bp.copy(region, tmp_path / "out.zarr", dtype="float32", chunks=(7, 8, 9))
    np.testing.assert_array_equal(np.asarray(out), with_some(array, 0)[3:31, 2:39, 5:47].astype("float32"))
    out.close()
    reads.pop(str(tmp_path / "out.zarr"))
    assert sum(box.size for box in reads[str(tmp_path / "in")]) <= 2 * 8 * 8 * 4 * 5 * 6


def ball(shape: tuple[int, ...], share: float) -> np.ndarray:
    """A mask of one ball that takes up a share of the volume, off the grid."""
    radius = (share * np.prod(shape) * 3 / 4 / np.pi) ** (1 / 3)
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    return sum((a - 0.43 * n) ** 2 for a, n in zip(axes, shape, strict=True)) <= radius**2


@pytest.mark.parametrize(("codec", "missing"), [("zstd", True), ("gzip", False)])
def test_a_mask_of_one_percent_reads_two_percent_at_most(
    tmp_path: Path, reads: dict[str, list[Box]], codec: str, missing: bool
) -> None:
    """In a volume of 31 chunks a side, as 2000³ has of 64³; with a mask that has no chunks where it is empty, or with all."""
    shape, chunks = (124, 124, 124), (4, 4, 4)
    selected = ball(shape, 0.01)
    assert 0.009 < selected.mean() < 0.011
    image = np.zeros(shape, "uint16")
    image[28:80, 28:80, 28:80] = textured((52, 52, 52), "uint16")
    source = bp.create_output(tmp_path / "in.zarr", shape=shape, dtype="uint16", chunks=chunks, codec="zstd")
    source[28:80, 28:80, 28:80] = image[28:80, 28:80, 28:80]
    mask: Any = selected
    if missing:
        mask = bp.create_output(tmp_path / "mask.zarr", shape=shape, dtype="uint8", chunks=(16, 16, 16))
        mask[...] = selected
    out = bp.create_output(tmp_path / "out.zarr", shape=shape, dtype="uint16", chunks=chunks, codec=codec)
    bp.copy(source, out, mask=mask)
    assert 0 < sum(box.size for box in reads[str(tmp_path / "in.zarr")]) <= 0.02 * selected.size
    if missing:
        assert sum(box.size for box in reads[str(tmp_path / "mask.zarr")]) <= 0.07 * selected.size
    np.testing.assert_array_equal(out[...], image * selected)
    counted = CountingSource(source)  # of which nothing can be listed
    again = np.zeros(shape, "uint16")
    bp.copy(counted, again, mask=mask)
    assert sum(box.size for box in counted.reads) <= 0.02 * selected.size
    np.testing.assert_array_equal(again, image * selected)


def test_far_voxels_in_one_block_do_not_cost_the_block(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    source = CountingSource(array, chunks=(4, 5, 6))
    mask = np.zeros(SHAPE, bool)
    mask[1, 1, 1] = mask[30, 38, 47] = True
    for chunks in ((4, 5, 6), (16, 20, 24)):
        source.reads.clear()
        sink = CountingSource(np.zeros(SHAPE, "uint16"), chunks=chunks)
        bp.copy(source, sink, mask=mask, block_shape=SHAPE)
        assert source.reads == [Box((0, 0, 0), (4, 5, 6)), Box((28, 35, 42), (32, 40, 48))]
        assert sum(box.size for box in sink.writes) == 2 * np.prod(chunks)
        np.testing.assert_array_equal(sink.wrapped[...], array * mask)


def test_no_chunk_of_the_input_is_decoded_twice_for_a_mask() -> None:
    array = textured(SHAPE, "uint16")
    source = CountingSource(array, chunks=(16, 20, 24))
    mask = np.zeros(SHAPE, bool)
    mask[1, 1, 1] = mask[5, 6, 20] = mask[14, 19, 23] = True
    sink = CountingSource(np.zeros(SHAPE, "uint16"), chunks=(4, 5, 6))
    bp.copy(source, sink, mask=mask, block_shape=SHAPE)
    assert source.reads == [Box((0, 0, 0), (16, 20, 24))]
    np.testing.assert_array_equal(sink.wrapped[...], array * mask)


def test_chunks_that_the_mask_fills_are_moved_though_it_cuts_others_in_the_block(tmp_path: Path) -> None:
    array = textured(SHAPE, "uint16")
    store(tmp_path / "in", SMALL, array)
    mask = np.zeros(SHAPE, bool)
    mask[4:21, 5:10, 6:18] = True
    make(tmp_path / "out", SMALL, SHAPE, "uint16")
    bp.copy(tmp_path / "in", open_source(tmp_path / "out", mode="r+"), mask=mask, block_shape=SHAPE)
    before, after = files_below(tmp_path / "in"), files_below(tmp_path / "out")
    assert len(after) == 5 * 2
    assert sum(after[name] == before[name] for name in after) == 4 * 2
    np.testing.assert_array_equal(open_source(tmp_path / "out")[...], array * mask)


@settings(max_examples=60)
@given(st.data())
def test_cells(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    grid = tuple(data.draw(st.integers(1, 4)) for _ in range(ndim))
    begin = tuple(data.draw(st.integers(0, 6)) for _ in range(ndim))
    box = Box(begin, tuple(b + data.draw(st.integers(1, 9)) for b in begin))
    voxels = np.random.default_rng(data.draw(st.integers(0, 999))).random(box.shape) < data.draw(
        st.floats(0, 1)
    )
    cells = cells_of(box, grid)
    some, every = cells_any(voxels, box, grid), cells_all(voxels, box, grid)
    covered = np.zeros(box.shape, int)
    for part in boxes_of(some, box, grid):
        covered[part.relative_to(begin).slices] += 1
    for at in np.ndindex(cells.shape):
        corner = tuple((a + c) * g for a, c, g in zip(at, cells.begin, grid, strict=True))
        inside = Box(corner, tuple(c + g for c, g in zip(corner, grid, strict=True))).intersect(box)
        part = voxels[inside.relative_to(begin).slices]
        assert (some[at], every[at]) == (part.any(), part.all())
        assert (covered[inside.relative_to(begin).slices] == part.any()).all()
        alone = cells_under([inside], box, grid)
        assert alone[at]
        assert alone.sum() == 1


@settings(max_examples=60)
@given(st.data())
def test_sparse_copies_are_those_of_numpy(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    shape = tuple(data.draw(st.integers(1, 12)) for _ in range(ndim))
    dtype = data.draw(st.sampled_from(["uint8", "float32"]))
    fills = st.sampled_from([0, 1, float("nan"), -0.0] if dtype == "float32" else [0, 3])

    def storing() -> Storing:
        chunks = tuple(data.draw(st.integers(1, 4)) for _ in shape)
        kind = data.draw(st.sampled_from(["v2", "v3", "shards"]))
        shards = tuple(2 * c for c in chunks) if kind == "shards" else None
        return Storing(
            kind.replace("shards", "v3"), data.draw(st.sampled_from(["zstd", "gzip"])), chunks, shards,
            fill=data.draw(fills), keys=data.draw(st.sampled_from("/.")),
        )  # fmt: skip

    how, into = storing(), storing()
    blocks = list(Blocking(shape, how.chunks))
    some = data.draw(st.lists(st.sampled_from(blocks), unique=True, max_size=4))
    array = textured(shape, dtype)
    image = np.full(shape, how.fill, dtype)
    for block in some:
        image[block.slices] = array[block.slices]
    mask = data.draw(st.sampled_from([None, 0.05, 0.5]))
    selected = np.ones(shape, bool)
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    with tempfile.TemporaryDirectory() as folder:
        store(Path(folder, "in"), how, image, [b.slices for b in some])
        before = np.full(shape, into.fill, dtype)
        held = data.draw(
            st.lists(st.sampled_from(list(Blocking(shape, into.chunks))), unique=True, max_size=4)
        )
        for block in held:
            before[block.slices] = array[block.slices][..., ::-1]
        store(Path(folder, "out"), into, before, [b.slices for b in held])
        options: dict[str, Any] = {}
        if mask is not None:
            selected = rng.random(shape) < mask
            store(Path(folder, "mask"), Storing("v3", chunks=how.chunks), selected.astype("uint8"))
            options["mask"] = Path(folder, "mask")
        bp.copy(Path(folder, "in"), open_source(Path(folder, "out"), mode="r+"), **options)
        expected = np.where(selected, image, before)
        for found in read_by_others(Path(folder, "out"), into):
            assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("fill_value", [0, 1])
def test_a_block_where_the_mask_stores_no_chunk_is_left_out_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill_value: int
) -> None:
    values = np.arange(1, 257, dtype="uint16").reshape(16, 16)
    mask = bp.create_output(
        tmp_path / "mask.zarr", shape=(16, 16), dtype="uint8", chunks=(4, 4), fill_value=fill_value
    )
    mask[0:4, 0:4] = 1 - fill_value
    sink = bp.create_output(tmp_path / "out.zarr", shape=(16, 16), dtype="uint16", chunks=(4, 4))
    kernel = CopyKernel(bp.as_source(values), sink, mask)
    read: list[Box] = []
    look = CopyKernel.selected
    monkeypatch.setattr(CopyKernel, "selected", lambda self, box: (read.append(box), look(self, box))[1])
    blocks = [Box((r, c), (r + 8, c + 8)) for r in (0, 8) for c in (0, 8)]
    for block in blocks:
        kernel.copy_box(block)
    assert read == (blocks if fill_value else blocks[:1])
    expected = np.where(np.asarray(mask) != 0, values, 0)
    np.testing.assert_array_equal(sink[...], expected)
