"""`bioimage-py verify`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from tests.cli.conftest import Call, Image
from tests.sources.ome_trees import image_with_labels


def test_equal_images_end_with_0(call: Call, npy: Path, zarr: Path) -> None:
    outcome = call("verify", npy, zarr)
    assert outcome.code == 0
    assert outcome.out.startswith("equal: all 120,000 voxels")


def test_different_images_end_with_1_and_say_where(
    call: Call, zarr: Path, image: Image, tmp_path: Path
) -> None:
    image[3, 4, 5] += 1
    image[30, 4, 5] += 1
    np.save(tmp_path / "other.npy", image)
    outcome = call("verify", zarr, tmp_path / "other.npy")
    assert outcome.code == 1
    assert "2 of 120,000" in outcome.out
    assert "(3, 4, 5)" in outcome.out
    document = call("verify", zarr, tmp_path / "other.npy", "--json", "--workers", 1).document
    assert document["equal"] is False
    assert document["different"] == 2
    assert document["first_difference"] == [3, 4, 5]
    assert call("verify", zarr, tmp_path / "other.npy", "--quiet") == (1, "", "")


def test_arrays_in_containers_are_chosen_by_key(call: Call, shared_data: Path) -> None:
    box = shared_data / "z5py.n5"
    assert call("verify", box, box, "--key-a", "raw", "--key-b", "gzip").code == 0
    assert call("verify", box / "raw", shared_data / "reference_image.png").code == 0


def test_images_of_different_shape_are_an_error_and_not_a_difference(
    call: Call, npy: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "small.npy", np.zeros((2, 2)))
    outcome = call("verify", npy, tmp_path / "small.npy")
    assert outcome.code == 2
    assert "(40, 50, 60)" in outcome.err


def test_a_corrupt_chunk_ends_with_3(call: Call, zarr: Path, npy: Path) -> None:
    (zarr / "1" / "1" / "1").write_bytes(b"rubbish")
    outcome = call("verify", npy, zarr)
    assert outcome.code == 3
    assert "blocks failed" in outcome.err


def test_ome_zarrs_are_compared_whole(call: Call, tmp_path: Path) -> None:
    image_with_labels(tmp_path / "a.ome.zarr")
    assert call("copy", tmp_path / "a.ome.zarr", tmp_path / "b.zarr").code == 0
    outcome = call("verify", tmp_path / "a.ome.zarr", tmp_path / "b.zarr")
    assert outcome.code == 0
    assert "of 6 arrays" in outcome.out
    shutil.rmtree(tmp_path / "b.zarr/1")
    outcome = call("verify", tmp_path / "a.ome.zarr", tmp_path / "b.zarr")
    assert outcome.code == 1
    assert "1: is not in the second" in outcome.out
    document = call("verify", tmp_path / "a.ome.zarr", tmp_path / "b.zarr", "--json").document
    assert (document["arrays"], document["differing"]) == (6, [["1", "is not in the second"]])
    assert (
        call("verify", tmp_path / "a.ome.zarr", tmp_path / "b.zarr", "--key-a", "0", "--key-b", "0").code == 0
    )
    assert call("verify", tmp_path / "a.ome.zarr/2", tmp_path / "b.zarr/2").code == 0
