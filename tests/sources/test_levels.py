"""The coarser levels that formats hold of an array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorstore
import tifffile
import zarr

import bioimage_py as bp
from bioimage_py.errors import BioimagePyWarning
from bioimage_py.sources import Source, coarser_levels
from tests.sources import ome_groups


def shapes(source: Source) -> list[tuple[int, ...]]:
    found = coarser_levels(source)
    for level in found:
        level.close()
    return [level.shape for level in found]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    path = tmp_path / "a.ome.zarr"
    ome_groups.image(path, version, levels=3)
    assert shapes(bp.open_source(path)) == [(4, 4, 4), (4, 2, 2)]
    assert shapes(bp.open_source(path, "1")) == [(4, 2, 2)]
    assert shapes(bp.open_source(path, "2")) == []


def test_an_image_in_a_group_has_its_own_levels(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.open_group(path, mode="w")
    for name in ("one", "two"):
        ome_groups.image(path / name, levels=2, value={"one": 10, "two": 20}[name])
    (level,) = coarser_levels(bp.open_source(path, "two/0"))
    assert level[0, 0, 0] == 21


def test_n5_precomputed_and_tiff(tmp_path: Path) -> None:
    for n in range(3):
        bp.copy(np.zeros((8 >> n, 8 >> n), "uint8"), tmp_path / f"a.n5/raw/s{n}")
    assert shapes(bp.open_source(tmp_path / "a.n5/raw/s0")) == [(4, 4), (2, 2)]

    for n in range(2):
        tensorstore.open(
            {"driver": "neuroglancer_precomputed", "kvstore": f"file://{tmp_path}/a.precomputed/",
             "scale_metadata": {"size": [16 >> n] * 3, "resolution": [1 << n] * 3, "chunk_size": [8] * 3, "encoding": "raw"},
             "multiscale_metadata": {"type": "image", "data_type": "uint8", "num_channels": 1}},
            create=True,
        ).result()  # fmt: skip
    assert shapes(bp.open_source(tmp_path / "a.precomputed")) == [(8, 8, 8)]

    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((64, 64), "uint8"), subifds=2, tile=(16, 16))
        for n in (1, 2):
            file.write(np.zeros((64 >> n, 64 >> n), "uint8"), subfiletype=1, tile=(16, 16))
    assert shapes(bp.open_source(tmp_path / "a.tif")) == [(32, 32), (16, 16)]


def test_arrays_without_levels_have_none(tmp_path: Path) -> None:
    bp.copy(np.zeros((4, 4)), tmp_path / "a.zarr")
    bp.copy(np.zeros((4, 4)), tmp_path / "a.n5/raw")
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    for source in (tmp_path / "a.zarr", tmp_path / "a.n5/raw", tmp_path / "a.npy", np.zeros((4, 4))):
        assert shapes(bp.as_source(source)) == []


def test_a_level_that_is_not_there_is_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    ome_groups.image(path, levels=3)
    (path / "1" / "zarr.json").unlink()
    with pytest.warns(BioimagePyWarning, match="left out, it cannot be opened"):
        assert shapes(bp.open_source(path)) == [(4, 2, 2)]


def test_a_level_that_is_larger_or_another_dtype_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    ome_groups.image(path, levels=3)
    group = zarr.open_group(path)
    group.create_array("1", shape=(9, 9, 9), dtype="u1", overwrite=True)
    group.create_array("2", shape=(2, 2, 2), dtype="u2", overwrite=True)
    with pytest.warns(BioimagePyWarning, match="not a smaller copy"):
        assert shapes(bp.open_source(path)) == []
