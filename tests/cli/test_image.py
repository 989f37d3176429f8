"""`bioimage-py` on whole OME-Zarrs: images with levels and labels, containers of several, plates."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from bioimage_py.sources.ome_zarr import list_ome_zarr
from tests.cli.conftest import Call
from tests.sources.ome_trees import chunks_in, image_with_labels, plate, several_images


@pytest.fixture
def image_group(tmp_path: Path) -> Path:
    image_with_labels(tmp_path / "in.ome.zarr")
    return tmp_path / "in.ome.zarr"


def test_a_whole_image_is_copied_and_compared(call: Call, image_group: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ome.zarr"
    outcome = call("copy", image_group, out, "--verify", "--workers", 2)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(
        f"copied 1 image, 3 levels, 1 label image from {image_group} to {out} (zarr v3): "
    )
    assert outcome.out.endswith("verified: all 6 arrays are equal\n")
    assert chunks_in(out) == chunks_in(image_group)
    outcome = call("copy", image_group, out)
    assert outcome.code == 2
    assert "to replace it, give --overwrite" in outcome.err
    document = call("copy", image_group, out, "--overwrite", "--json", "--verify").document
    assert (document["arrays"], document["blocks"], len(document["verify"])) == (6, 6, 6)
    assert document["account"]["chunks_moved"] == len(chunks_in(image_group))


def test_one_number_is_for_all_axes_and_labels_have_fewer(
    call: Call, image_group: Path, tmp_path: Path
) -> None:
    words = ["--chunks", "2", "--codec", "gzip", "--zarr-format", "2", "--block-shape", "8"]
    assert call("copy", image_group, tmp_path / "out.ome.zarr", *words, "--verify").code == 0
    assert list_ome_zarr(tmp_path / "out.ome.zarr")[0].version == "0.4"


def test_the_dry_run_tells_all_levels(call: Call, image_group: Path, tmp_path: Path) -> None:
    for words in (("plan",), ("copy", "--dry-run")):
        outcome = call(*words, image_group, tmp_path / "out.ome.zarr")
        assert outcome.code == 0
        assert (
            "array:   labels/cells/2  6×10×12 uint32, chunks 3×8×16; blocks 5 to 5; verbatim" in outcome.out
        )
    document = call("plan", image_group, tmp_path / "out.ome.zarr", "--json").document
    assert document["roads"] == {"verbatim": 6}
    assert not (tmp_path / "out.ome.zarr").exists()


def test_level_0_alone(call: Call, image_group: Path, tmp_path: Path) -> None:
    outcome = call("copy", image_group, tmp_path / "out.ome.zarr", "--dtype", "float32")
    assert outcome.code == 0
    assert "dtype can be applied to the full-size array only: level(s) 1, 2 and labels cells" in outcome.err
    assert list_ome_zarr(tmp_path / "out.ome.zarr")[0].levels == ("0",)


def test_what_failed_is_copied_by_the_command_that_is_told(
    call: Call, image_group: Path, tmp_path: Path
) -> None:
    bad = image_group / "1/c/0/0/0/0"
    kept = bad.read_bytes()
    bad.write_bytes(kept[:9])
    out = tmp_path / "out.ome.zarr"
    outcome = call("copy", image_group, out, "--block-shape", "1,3,8,16", "--verify-encoded")
    assert outcome.code == 3
    assert "the first failure is in 1" in outcome.err
    bad.write_bytes(kept)
    command = next(line for line in outcome.err.splitlines() if "--block-ids" in line)
    words = shlex.split(command[command.index("bioimage-py") :])
    assert call(*words[1:]).code == 0
    assert chunks_in(out) == chunks_in(image_group)


def test_info_tells_levels_and_labels(call: Call, image_group: Path) -> None:
    out = call("info", image_group).out
    assert "levels:     0  2 × 6 × 40 × 48\n            1  2 × 6 × 20 × 24\n" in out
    assert "labels:     labels/cells  6 × 40 × 48  3 levels\n" in out
    assert "levels:" not in call("info", image_group / "1").out
    document = call("info", image_group, "--json").document
    assert [level["key"] for level in document["levels"]] == ["0", "1", "2"]
    assert [label["key"] for label in document["labels"]] == ["labels/cells"]


def test_a_plate_is_listed_and_copied(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "plate.ome.zarr"
    plate(path)
    out = call("info", path).out
    assert "holds 4 images in 2 wells (OME-Zarr):" in out
    assert "  A/2/1  4 × 8 × 8  uint16  2 levels\n" in out
    assert "holds 2 images (OME-Zarr)" in call("info", path, "--key", "A/1").out
    document = call("info", path, "--json").document
    assert [entry["key"] for entry in document["images"]] == ["A/1/0", "A/1/1", "A/2/0", "A/2/1"]
    assert call("copy", path, tmp_path / "out.ome.zarr", "--verify").code == 0
    assert call("copy", path, tmp_path / "field.ome.zarr", "--key", "A/2/0").code == 0
    assert list_ome_zarr(tmp_path / "field.ome.zarr")[0].levels == ("0", "1")
    outcome = call("copy", path, tmp_path / "none.ome.zarr", "--key", "A/2/9")
    assert outcome.code == 2
    assert "there is A/1/0, A/1/1, A/2/0, A/2/1" in outcome.err


def test_an_image_that_is_broken_does_not_hide_the_others(call: Call, tmp_path: Path) -> None:
    several_images(tmp_path / "two.ome.zarr")
    (tmp_path / "two.ome.zarr/0/1/zarr.json").unlink()
    outcome = call("info", tmp_path / "two.ome.zarr")
    assert outcome.code == 0
    assert "  1  4 × 8 × 8  uint8  2 levels\n" in outcome.out
    assert "  0  cannot be copied whole: " in outcome.out
    assert "there is no array 0/1" in outcome.out


def test_many_images_are_not_all_printed(call: Call, tmp_path: Path) -> None:
    plate(tmp_path / "plate.ome.zarr", wells=30, levels=1)
    out = call("info", tmp_path / "plate.ome.zarr").out
    assert "… and 10 more; --json lists them all" in out
    assert len(call("info", tmp_path / "plate.ome.zarr", "--json").document["images"]) == 60
