"""`bioimage-py info`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bioimage_py.sources import create_output
from tests.cli.conftest import Call, Image


def lines(text: str) -> dict[str, str]:
    return {label: value.strip() for label, _, value in (line.partition(":") for line in text.splitlines())}


def test_all_that_is_known_is_told(call: Call, zarr: Path) -> None:
    outcome = call("info", zarr)
    assert outcome.code == 0
    told = lines(outcome.out)
    assert told["image"] == str(zarr)
    assert told["format"] == "zarr v2"
    assert told["shape"] == "40 × 50 × 60  (axes z, y, x)"
    assert told["data type"] == "uint16"
    assert told["voxel size"] == "2 × 0.5 × 0.5 µm"
    assert told["chunks"] == "16 × 20 × 20  (12.5 KiB each before compression, 27 in all)"
    assert told["codec"]
    assert told["fill value"] == "0"
    assert told["attributes"] == "sample = leaf"
    assert told["size"] == "234 KiB uncompressed"
    assert "files (" in told["stored"]


def test_json_tells_the_same(call: Call, zarr: Path) -> None:
    document = call("info", zarr, "--json").document
    assert document["command"] == "info"
    assert document["shape"] == [40, 50, 60]
    assert document["voxel_size"] == [2.0, 0.5, 0.5]
    assert document["units"] == ["micrometer"] * 3
    assert document["n_bytes"] == 240_000
    assert document["stored_files"] >= 27
    assert document["attributes"] == {"sample": "leaf"}


def test_a_fill_value_that_is_no_number_is_valid_json(call: Call, tmp_path: Path) -> None:
    create_output(tmp_path / "a.zarr", shape=(4, 4), dtype="float32", fill_value=float("nan")).close()
    assert call("info", tmp_path / "a.zarr", "--json").document["fill_value"] == "NaN"


def test_many_and_long_attributes_are_shortened(call: Call, tmp_path: Path) -> None:
    attributes = {f"entry {n:02}": "x" * 500 for n in range(20)}
    create_output(tmp_path / "a.zarr", shape=(4, 4), dtype="uint8", attributes=attributes).close()
    out = call("info", tmp_path / "a.zarr").out
    assert "… and 8 more; --json shows them all" in out
    assert max(map(len, out.splitlines())) < 120
    assert len(call("info", tmp_path / "a.zarr", "--json").document["attributes"]) == 20


def test_the_arrays_of_a_container_are_listed(call: Call, shared_data: Path) -> None:
    outcome = call("info", shared_data / "z5py.n5")
    assert outcome.code == 0
    assert "holds 2 arrays" in outcome.out
    assert "gzip  512 × 512 × 3  uint8  chunks 100 × 100 × 1" in outcome.out
    assert "--key gzip" in outcome.out
    document = call("info", shared_data / "z5py.n5", "--json").document
    assert [entry["key"] for entry in document["arrays"]] == ["gzip", "raw"]


def test_a_key_chooses_one_of_them(call: Call, shared_data: Path) -> None:
    assert call("info", shared_data / "z5py.n5", "--key", "raw", "--json").document["key"] == "raw"
    assert call("info", shared_data / "z5py.n5" / "raw", "--json").document["key"] == "raw"


def test_the_arrays_of_a_group_in_a_container_are_listed(call: Call, tmp_path: Path, image: Image) -> None:
    for key in ("a/one", "a/two", "b/three"):
        create_output(tmp_path / "box.n5", key=key, like=image).close()
    document = call("info", tmp_path / "box.n5", "--key", "a", "--json").document
    assert [entry["key"] for entry in document["arrays"]] == ["a/one", "a/two"]


def test_an_array_that_cannot_be_opened_does_not_hide_the_others(
    call: Call, tmp_path: Path, image: Image
) -> None:
    for key in ("good", "bad", "better"):
        create_output(tmp_path / "box.h5", key=key, like=image).close()
    for key in ("good", "bad", "better"):
        create_output(tmp_path / "box.zarr", key=key, like=image, zarr_format=2).close()
    metadata = tmp_path / "box.zarr" / "bad" / ".zarray"
    metadata.write_text(metadata.read_text().replace("<u2", "<z2"))
    outcome = call("info", tmp_path / "box.zarr")
    assert outcome.code == 0
    assert "bad     cannot be opened: " in outcome.out
    assert "good    40 × 50 × 60" in outcome.out


def test_files_of_other_programs(call: Call, shared_data: Path) -> None:
    told = lines(call("info", shared_data / "EMD-3001.map").out)
    assert told["shape"].startswith("25 × 43 × 73")
    assert told["data type"] == "float32"
    assert sorted(told["voxel size"].removesuffix(" Å").split(" × ")) == ["0.3925", "0.44825", "0.45875"]
    assert lines(call("info", shared_data / "reference_image.png").out)["shape"].startswith("512 × 512 × 3")


def test_an_empty_array_and_one_without_axes(call: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "empty.npy", np.zeros((0, 5), np.uint8))
    np.save(tmp_path / "single.npy", np.float32(3))
    assert lines(call("info", tmp_path / "empty.npy").out)["size"] == "0 B uncompressed"
    assert lines(call("info", tmp_path / "single.npy").out)["shape"] == "a single value (no axes)"


def test_a_path_that_is_not_there(call: Call, tmp_path: Path) -> None:
    outcome = call("info", tmp_path / "nothing.tif")
    assert (outcome.code, outcome.out) == (2, "")
    assert "nothing.tif" in outcome.err
    assert outcome.err.count("\n") == 1
