"""Sources of which a user says what their axes and voxel sizes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.errors import InvalidArgumentError
from bioimage_py.sources import Source, create_output, from_spec, open_source, with_metadata
from tests.sources.contract import WritableSourceContract, textured


class TestDescribed(WritableSourceContract):
    def make(self, array: np.ndarray, folder: Path) -> Source:
        with create_output(folder / "a.zarr", like=array, chunks=(3, 4, 5)) as made:
            made[...] = array
        return open_source(folder / "a.zarr", axes="zyx", voxel_size=np.array([2, 1, 1]), units="um")

    def make_empty(self, shape: tuple[int, ...], dtype: Any, folder: Path) -> Source:
        create_output(folder / "b.zarr", shape=shape, dtype=dtype, chunks=(3, 4, 5)).close()
        return open_source(folder / "b.zarr", mode="r+", voxel_size=2)

    def test_says_what_the_user_said(self, source: Source) -> None:
        for found in (source, from_spec(source.to_spec())):
            assert found.metadata.axes == ("z", "y", "x")
            assert found.metadata.voxel_size == (2.0, 1.0, 1.0)
            assert found.metadata.units == ("micrometer",) * 3


def test_what_a_copy_writes_is_what_the_user_said(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", textured((4, 20, 30), "uint8"), photometric="minisblack")
    source = open_source(tmp_path / "a.tif", axes="tyx", voxel_size=0.5, units="nm")
    bp.copy(source, tmp_path / "out.ome.zarr")
    found = open_source(tmp_path / "out.ome.zarr").metadata
    assert found.axes == ("t", "y", "x")
    assert (found.voxel_size, found.units) == ((1.0, 0.5, 0.5), (None, "nanometer", "nanometer"))
    assert open_source(tmp_path / "a.tif").metadata.voxel_size is None  # the file stays as it is


def test_a_new_array_is_what_the_user_said(tmp_path: Path) -> None:
    options: dict[str, Any] = {"axes": "zyx", "voxel_size": (2, 1, 1), "units": "nm"}
    made = create_output(tmp_path / "a.zarr", shape=(3, 4, 5), dtype="u1", **options)
    assert made.metadata == with_metadata(np.zeros((3, 4, 5)), **options).metadata
    with pytest.raises(InvalidArgumentError, match="voxel_size must have 3 entries"):
        create_output(tmp_path / "b.zarr", shape=(3, 4, 5), dtype="u1", voxel_size=(1, 2))
    assert not (tmp_path / "b.zarr").exists()


def test_closing_closes_what_was_opened_here_only() -> None:
    array = np.zeros((3, 4))

    class Closing(bp.Source):
        shape, dtype, closed = array.shape, array.dtype, False

        def _read(self, box: Any) -> Any:
            return array[box.slices]

        def close(self) -> None:
            self.closed = True

    source = Closing()
    assert with_metadata(source) is source
    twin = with_metadata(source, voxel_size=2)
    assert twin.for_run(1, 0) is twin
    twin.close()
    assert not source.closed
