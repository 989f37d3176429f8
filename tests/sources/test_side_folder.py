"""Where what is kept beside stored voxels stands: one place per array, and none for arrays that have no place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.sources import as_source

VOXELS = np.arange(24, dtype="u2").reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("a.zarr", "a.zarr/.bioimage-py"),
        ("a.zarr/x/y", "a.zarr/x/y/.bioimage-py"),
        ("a.n5/x", "a.n5/x/.bioimage-py"),
        ("a.precomputed", "a.precomputed/.bioimage-py/s0"),
        ("a.npy", "a.npy.bioimage-py"),
        ("a.h5:/x/y", "a.h5.bioimage-py/x/y"),
    ],
)
def test_every_stored_array_has_a_side_folder(tmp_path: Path, output: str, expected: str) -> None:
    with bp.copy(VOXELS, tmp_path / output) as made:
        found = made.side_folder()
        assert found is not None
        assert Path(found.path) == tmp_path / expected
        assert not Path(found.path).exists()
        found.write_json("kept.json", {"a": 1})
        with bp.open_source(tmp_path / output, voxel_size=(2, 1, 1)) as again:
            assert again.side_folder() == found
            assert np.array_equal(again[...], VOXELS)


def test_arrays_without_a_place_of_their_own_have_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VOXELS)
    source = bp.open_source(tmp_path / "a.npy")
    assert as_source(VOXELS).side_folder() is None
    assert bp.wrapper.TransposeSource(source, (2, 1, 0)).side_folder() is None
    assert source.side_folder() is not None
