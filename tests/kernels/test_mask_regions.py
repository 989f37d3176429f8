"""Regions that a mask does not store are known to be empty without reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bioimage_py as bp
from bioimage_py.geometry import Box
from bioimage_py.kernels import CopyKernel
from bioimage_py.kernels.mask_regions import MaskRegions
from bioimage_py.wrapper import ThresholdSource
from tests.counting import CountingSource
from tests.wrapper.stored import boxes

SHAPE, CHUNKS = (11, 8, 13), (3, 4, 5)
STORES: dict[str, tuple[str, dict[str, Any]]] = {
    "zarr v3": ("mask.zarr", {}),
    "zarr v2": ("mask.zarr", {"zarr_format": 2}),
    "shards": ("mask.zarr", {"shards": (6, 8, 10)}),
    "n5": ("mask.n5/raw", {}),
    "hdf5": ("mask.h5:/raw", {}),
}


def made(folder: Path, name: str, **more: Any) -> bp.Source:
    path, options = STORES[name]
    return bp.create_output(
        f"{folder}/{path}", shape=SHAPE, dtype="uint8", chunks=CHUNKS, overwrite=True, **{**options, **more}
    )


@pytest.mark.parametrize("name", STORES)
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_no_selected_voxel_is_missed(name: str, data: st.DataObject, tmp_path_factory: Any) -> None:
    mask = made(tmp_path_factory.mktemp("mask"), name)
    expected = np.zeros(SHAPE, "uint8")
    for _ in range(data.draw(st.integers(0, 3))):
        part = data.draw(boxes(SHAPE))
        mask[part.slices] = np.ones(part.shape, "uint8")
        expected[part.slices] = 1
    mask.flush()
    regions = MaskRegions(mask)
    for _ in range(5):
        box = data.draw(boxes(SHAPE))
        assert regions.may_select(box) or not expected[box.slices].any()
    if name != "hdf5":  # a file that is open for writing has no index yet
        assert regions.may_select(Box.whole(SHAPE)) == bool(expected.any())


@pytest.mark.parametrize("name", [name for name in STORES if name != "hdf5"])
def test_a_mask_that_stores_nothing_there_is_not_read(name: str, tmp_path: Path) -> None:
    mask = made(tmp_path, name)
    mask[0:3, 0:4, 0:5] = 1
    source, sink = (
        CountingSource(np.ones(SHAPE, "uint8")),
        CountingSource(np.zeros(SHAPE, "uint8"), chunks=CHUNKS),
    )
    kernel = CopyKernel(source, sink, mask)
    far = Box((6, 0, 10), (11, 8, 13))
    assert kernel.masks_out(far)
    assert kernel.copy_box(far) == kernel.copy_parts(far, [far]) == 0
    assert kernel.copy_box(Box((0, 0, 0), (3, 4, 5))) == 60
    assert (source.reads, sink.writes) == ([Box((0, 0, 0), (3, 4, 5))], [Box((0, 0, 0), (3, 4, 5))])


def test_what_is_not_known_is_read(tmp_path: Path) -> None:
    box = Box.whole(SHAPE)
    mask = made(tmp_path, "zarr v3")
    assert not MaskRegions(mask).may_select(box)
    assert MaskRegions(ThresholdSource(mask, 0)).may_select(box)
    assert MaskRegions(bp.as_source(np.zeros(SHAPE))).may_select(box)
    filled = bp.create_output(tmp_path / "ones.zarr", shape=SHAPE, dtype="uint8", chunks=CHUNKS, fill_value=1)
    assert MaskRegions(filled).may_select(box)
    out = bp.copy(np.full(SHAPE, 7, "uint8"), np.zeros(SHAPE, "uint8"), mask=filled)
    assert (out == 7).all()
