"""`bioimage-py preview` and `bioimage-py info --picture`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tests.cli.conftest import Call


def test_a_picture_is_made_and_named(call: Call, zarr: Path, tmp_path: Path) -> None:
    outcome = call("preview", zarr, "-o", tmp_path / "a.png")
    assert (outcome.code, outcome.err) == (0, "")
    with Image.open(tmp_path / "a.png") as picture:
        assert f"{picture.width} × {picture.height} pixels" in outcome.out
    assert str(zarr) in outcome.out


def test_json_tells_what_is_on_it(call: Call, zarr: Path, tmp_path: Path) -> None:
    words = ("--position", "z=1,x=59", "--size", "320", "--json")
    document = call("preview", zarr, "-o", tmp_path / "a.png", *words).document
    assert [panel["title"] for panel in document["panels"]] == ["z = 1", "x = 59", "y = 25"]
    # 40 voxels of 2 µm are more than 60 of 0.5 µm, which are enlarged to eight pixels at most.
    assert (document["panels"][1]["width"], document["panels"][0]["width"]) == (320, 120)
    assert document["scale_bar"] == {"pixels": 40, "text": "10 µm"}
    assert document["picture"] == str(tmp_path / "a.png")
    assert document["level"] == str(zarr)


def test_options_arrive(call: Call, tmp_path: Path) -> None:
    image = np.zeros((2, 3, 30, 40), "uint16")
    image[1, 2] = 100
    np.save(tmp_path / "a.npy", image)
    words = ("--axes", "tcyx", "--voxel-size", "0.5", "--units", "nm", "--time", "1", "--contrast", "0,200")
    outcome = call(
        "preview", tmp_path / "a.npy", "-o", tmp_path / "a.png", *words, "--channels", "2", "--json"
    )
    assert outcome.code == 0, outcome.err
    (panel,) = outcome.document["panels"]
    assert outcome.document["scale_bar"]["text"] == "5 nm"
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.getpixel((panel["left"] + 9, panel["top"] + 9)) == (128, 128, 128)


def test_wrong_words_say_what_is_right(call: Call, npy: Path, tmp_path: Path) -> None:
    for words, message in (
        ((), "-o/--output"),
        (("-o", tmp_path / "a.doc"), "'.doc'"),
        (("-o", tmp_path / "a.png", "--position", "99,0,0"), "0 to 39"),
        (("-o", tmp_path / "a.png", "--position", "here"), "0,2"),
        (("-o", tmp_path / "a.png", "--position", "z=here"), "z=64"),
        (("-o", tmp_path / "a.png", "--contrast", "5"), "100,4000"),
        (("-o", tmp_path / "a.png", "--time", "0"), "leave out --time"),
        (("-o", tmp_path / "a.png", "--size", "9"), "from 64 to 4096"),
        (("-o", tmp_path / "a.png", "--read-limit", "1KiB"), "read_limit of 1 KiB"),
    ):
        outcome = call("preview", npy, *words)
        assert (outcome.code, outcome.out) == (2, ""), words
        assert message in outcome.err
    assert [place.name for place in tmp_path.iterdir()] == ["in"]


def test_a_file_that_is_there_is_replaced_only_if_asked(call: Call, npy: Path, tmp_path: Path) -> None:
    place = tmp_path / "a.png"
    place.write_bytes(b"mine")
    outcome = call("preview", npy, "-o", place)
    assert outcome.code == 2
    assert "to replace it, give --overwrite" in outcome.err
    assert place.read_bytes() == b"mine"
    assert call("preview", npy, "-o", place, "--overwrite").code == 0
    assert place.read_bytes().startswith(b"\x89PNG")


def test_info_makes_the_picture_too(call: Call, zarr: Path, tmp_path: Path) -> None:
    place = tmp_path / "a.png"
    outcome = call("info", zarr, "--picture", place)
    assert outcome.code == 0
    assert f"picture:    {place}" in outcome.out
    assert place.stat().st_size > 1000
    assert call("info", zarr, "--picture", place).code == 2
    assert call("info", zarr, "--picture", place, "--overwrite", "--json").document["picture"] == str(place)


def test_info_of_a_container_makes_no_picture_of_an_array_that_was_not_chosen(
    call: Call, shared_data: Path, tmp_path: Path
) -> None:
    outcome = call("info", shared_data / "z5py.n5", "--picture", tmp_path / "a.png")
    assert outcome.code == 2
    assert "--key" in outcome.err
    assert not (tmp_path / "a.png").exists()
