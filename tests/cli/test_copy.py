"""`bioimage-py copy` and `bioimage-py plan`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

import bioimage_py as bp
from bioimage_py.planning import format_bytes
from bioimage_py.sources import create_output, open_source
from tests.cli.conftest import Call, Image


def voxels(path: Path | str, key: str | None = None) -> Any:
    with open_source(path, key) as source:
        return np.asarray(source[...])


def test_a_copy_says_what_was_written_where_and_how_fast(
    call: Call, zarr: Path, image: Image, tmp_path: Path
) -> None:
    outcome = call("copy", zarr, tmp_path / "out.zarr")
    assert outcome.code == 0
    assert outcome.err == ""
    copied, chunks, times = outcome.out.splitlines()
    assert copied.startswith(
        f"copied 40 × 50 × 60 uint16 from {zarr} to {tmp_path / 'out.zarr'} (zarr v3): 234 KiB in "
    )
    assert copied.endswith(" MB/s")
    encoded = sum(p.stat().st_size for p in (tmp_path / "out.zarr" / "c").rglob("*") if p.is_file())
    assert chunks.startswith(f"27 chunks moved, 0 recoded, 234 KiB ({format_bytes(encoded)} encoded) in, ")
    assert chunks.endswith(" MB/s")
    assert times.startswith("time of workers: reading chunks ")
    assert "; the limit was " in times or times.endswith("; most of it without work")
    assert np.array_equal(voxels(tmp_path / "out.zarr"), image)


def test_quiet_prints_nothing(call: Call, npy: Path, tmp_path: Path) -> None:
    assert call("copy", npy, tmp_path / "out.zarr", "--quiet", "--verify") == (0, "", "")


def test_json_is_one_document(call: Call, zarr: Path, tmp_path: Path) -> None:
    outcome = call("copy", zarr, tmp_path / "out.zarr", "--json", "--verify", "--workers", 2)
    document = outcome.document
    assert (outcome.code, outcome.err) == (0, "")
    assert document["command"] == "copy"
    assert document["input"]["path"] == str(zarr)
    assert document["output"]["shape"] == [40, 50, 60]
    assert document["bytes"] == 40 * 50 * 60 * 2
    assert document["verify"]["equal"] is True
    account = document["account"]
    assert (account["chunks_moved"], account["chunks_recoded"]) == (27, 0)
    assert account["bytes_in"] == account["bytes_out"] == 40 * 50 * 60 * 2
    assert set(account["stages"]) | {"idle"} == set(account["shares"])
    assert account["limit"] in account["shares"]
    assert sum(account["shares"].values()) == pytest.approx(1)


def test_the_layout_of_the_output_is_what_was_asked_for(
    call: Call, zarr: Path, image: Image, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    words = ["--chunks", "16", "--shards", "32x32x64", "--codec", "gzip:2", "--zarr-format", "3"]
    assert call("copy", zarr, out, *words).code == 0
    with open_source(out) as source:
        assert source.chunks == (16, 16, 16)
        assert source.shards == (32, 32, 64)
        assert source.codec.startswith("gzip")
        assert source.metadata.voxel_size == (2.0, 0.5, 0.5)
        assert np.array_equal(source[...], image)


def test_an_array_in_a_container_is_written_and_read_by_its_key(
    call: Call, npy: Path, image: Image, tmp_path: Path
) -> None:
    box = tmp_path / "box.n5"
    assert call("copy", npy, box, "--output-key", "a/raw").code == 0
    assert np.array_equal(voxels(box, "a/raw"), image)
    assert call("copy", box, tmp_path / "out.h5", "--key", "a/raw", "--output-key", "raw").code == 0
    assert np.array_equal(voxels(tmp_path / "out.h5", "raw"), image)


def test_a_key_needs_a_container(call: Call, npy: Path, tmp_path: Path) -> None:
    outcome = call("copy", npy, tmp_path / "out.npy", "--output-key", "raw")
    assert outcome.code == 2
    assert "can hold several arrays" in outcome.err


def test_a_folder_of_slices_is_chosen_by_a_pattern(call: Call, shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "slices"
    folder.mkdir()
    for n in (1, 2, 10):
        (folder / f"s{n}.png").symlink_to(shared_data / "reference_image.png")
    (folder / "notes.txt").write_text("not a slice")
    outcome = call("copy", folder, tmp_path / "out.zarr", "--pattern", "*.png", "--json")
    assert outcome.document["output"]["shape"] == [3, 512, 512, 3]


@pytest.mark.parametrize("place", ["ein Ordner/Größe 1 µm.zarr", "-dash.zarr", "%d {}'\".zarr"])
def test_names_with_blanks_dashes_signs_and_letters_of_any_language(
    place: str, call: Call, npy: Path, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("copy", "--quiet", "--", npy, place).code == 0
    assert np.array_equal(voxels(tmp_path / place), image)
    assert call("info", "--", place).code == 0


def test_an_existing_output_is_not_touched_unless_asked(
    call: Call, npy: Path, image: Image, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    with create_output(out, shape=(2, 2), dtype="uint8") as existing:
        existing[...] = 7
    refused = call("copy", npy, out)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert "--into-existing" in refused.err
    assert (voxels(out) == 7).all()
    assert call("copy", npy, out, "--overwrite").code == 0
    assert np.array_equal(voxels(out), image)


def test_chosen_blocks_go_into_the_array_that_is_there(
    call: Call, npy: Path, image: Image, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    create_output(out, like=npy, chunks=(20, 50, 60)).close()
    assert (
        call("copy", npy, out, "--into-existing", "--block-shape", "20,50,60", "--block-ids", "1").code == 0
    )
    written = voxels(out)
    assert not written[:20].any()
    assert np.array_equal(written[20:], image[20:])


def test_into_existing_keeps_the_layout_that_is_there(call: Call, npy: Path, tmp_path: Path) -> None:
    outcome = call(
        "copy", npy, tmp_path / "out.zarr", "--into-existing", "--chunks", "16", "--zarr-format", "2"
    )
    assert outcome.code == 2
    assert "leave out --chunks and --zarr-format" in outcome.err


def test_only_the_masked_voxels_are_copied(call: Call, npy: Path, image: Image, tmp_path: Path) -> None:
    mask = np.zeros(image.shape, bool)
    mask[5:30, :, 3:9] = True
    np.save(tmp_path / "mask.npy", mask)
    assert call("copy", npy, tmp_path / "out.zarr", "--mask", tmp_path / "mask.npy").code == 0
    assert np.array_equal(voxels(tmp_path / "out.zarr"), np.where(mask, image, 0))


def test_another_dtype_is_cast_with_one_warning(call: Call, zarr: Path, image: Image, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    outcome = call("copy", zarr, out, "--dtype", "uint8")
    assert outcome.code == 0
    assert outcome.err.count("bioimage-py: warning: ") == 1
    assert "--casting check" in outcome.err
    assert np.array_equal(voxels(out), image.astype(np.uint8))
    with open_source(out) as source:
        assert source.metadata.axes == ("z", "y", "x")


def test_a_cast_that_changes_voxels_can_be_refused(call: Call, npy: Path, tmp_path: Path) -> None:
    outcome = call("copy", npy, tmp_path / "a.zarr", "--dtype", "uint8", "--casting", "check")
    assert outcome.code == 3
    assert "leave out --casting check" in outcome.err
    assert call("copy", npy, tmp_path / "b.zarr", "--dtype", "uint8", "--casting", "safe").code == 2
    assert not (tmp_path / "b.zarr").exists()


def test_a_dtype_does_not_let_an_output_replace_its_input(call: Call, zarr: Path, image: Image) -> None:
    outcome = call("copy", zarr, zarr, "--dtype", "uint8", "--overwrite")
    assert outcome.code == 2
    assert np.array_equal(voxels(zarr), image)


def test_verify_after_a_lossy_copy_finds_the_difference(call: Call, npy: Path, tmp_path: Path) -> None:
    outcome = call("copy", npy, tmp_path / "out.zarr", "--dtype", "uint8", "--verify", "--quiet")
    assert outcome.code == 1
    assert "verified: different: " in outcome.out


@pytest.mark.parametrize("option", [["--mask", "m.npy"], ["--block-ids", "0"]])
def test_verify_compares_whole_images_only(option: list[str], call: Call, npy: Path, tmp_path: Path) -> None:
    outcome = call("copy", npy, tmp_path / "out.zarr", "--verify", *option)
    assert outcome.code == 2
    assert not (tmp_path / "out.zarr").exists()


def test_what_cannot_be_done_is_said_before_anything_is_written(
    call: Call, npy: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    for words in (
        ["--chunks", "16", "--block-shape", "24"],
        ["--block-shape", "1,2"],
        ["--block-ids", "0-99999"],
    ):
        outcome = call("copy", npy, out, *words)
        assert (outcome.code, outcome.out) == (2, ""), words
        assert outcome.err.startswith("bioimage-py: error: ")
    assert not out.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_failed_blocks_are_listed_and_the_command_that_is_told_finishes_them(
    workers: int, call: Call, zarr: Path, image: Image, tmp_path: Path
) -> None:
    out = tmp_path / "out put.zarr"
    chunk = zarr / "1" / "1" / "1"
    good = chunk.read_bytes()
    chunk.write_bytes(b"rubbish")
    words = ["copy", zarr, out, "--chunks", "16,20,20", "--block-shape", "16,20,20", "--workers", workers]
    failed = call(*words, "--json")
    assert failed.code == 3
    assert failed.err == ""
    error = failed.document["error"]
    assert error["type"] == "RunnerError"
    assert error["failed_block_ids"] == [[13, 14]]
    with bp.open_source(out, mode="r+") as written:
        assert np.array_equal(written[:16], image[:16])

    told = call(*words, "--overwrite")
    assert told.code == 3
    command = told.err.strip().splitlines()[-1].partition(": ")[2]
    assert shlex.split(command) == error["finish_command"]

    chunk.write_bytes(good)
    assert call(*error["finish_command"][1:]).code == 0
    assert np.array_equal(voxels(out), image)


def test_the_finishing_command_counts_blocks_as_the_planned_copy_did(
    call: Call, zarr: Path, image: Image, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    chunk = zarr / "2" / "2" / "2"
    good = chunk.read_bytes()
    chunk.write_bytes(b"rubbish")
    failed = call("copy", zarr, out, "--json", "--workers", 1, "--chunks", 16, "--memory-limit", "2MiB")
    assert failed.code == 3
    chunk.write_bytes(good)
    assert call(*failed.document["error"]["finish_command"][1:]).code == 0
    assert np.array_equal(voxels(out), image)


def test_a_plan_prints_and_writes_nothing(call: Call, zarr: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    plan = call("plan", zarr, out, "--chunks", "20")
    assert plan.code == 0
    for word in ("input:", "output:", "blocks:", "memory:", "20×20×20"):
        assert word in plan.out
    assert call("copy", zarr, out, "--chunks", "20", "--dry-run").out == plan.out
    assert not out.exists()
    document = call("plan", zarr, out, "--chunks", "20", "--json").document
    assert document["command"] == "plan"
    assert document["output"]["chunks"] == [20, 20, 20]


def test_a_plan_knows_another_dtype(call: Call, zarr: Path, tmp_path: Path) -> None:
    document = call("plan", zarr, tmp_path / "out.zarr", "--dtype", "uint8", "--json").document
    assert document["bytes_in"] == 2 * document["bytes_out"]
    assert not (tmp_path / "out.zarr").exists()


def test_a_plan_into_an_array_that_is_there(call: Call, zarr: Path, npy: Path) -> None:
    document = call("plan", npy, zarr, "--into-existing", "--json").document
    assert document["output"]["chunks"] == [16, 20, 20]


def test_voxels_that_a_mask_leaves_out_have_the_fill_value(
    call: Call, npy: Path, image: Image, tmp_path: Path
) -> None:
    mask = np.zeros(image.shape, "uint8")
    mask[:10] = 1
    np.save(tmp_path / "mask.npy", mask)
    masked = ("copy", npy, tmp_path / "out.zarr", "--mask", tmp_path / "mask.npy", "--quiet")
    assert call(*masked, "--fill-value", 7).code == 0
    assert np.array_equal(voxels(tmp_path / "out.zarr"), np.where(mask, image, 7))
    refused = call(*masked, "--fill-value", "-1", "--overwrite")
    assert refused.code == 2
    assert "--fill-value=-1 cannot be held by uint16" in refused.err
    assert "give a number" in call(*masked, "--fill-value", "none").err


def test_turned_axes_are_verified_by_name(call: Call, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    voxels = np.arange(4 * 4 * 4, dtype="i2").reshape(4, 4, 4)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "a.nii")
    assert call("copy", tmp_path / "a.nii", tmp_path / "a.ome.zarr", "--verify").code == 0
    assert call("verify", tmp_path / "a.nii", tmp_path / "a.ome.zarr").code == 0
    words = ["--axes", "zyx", "--verify"]
    assert call("copy", tmp_path / "a.nii", tmp_path / "b.ome.zarr", *words).code == 0
    np.testing.assert_array_equal(open_source(tmp_path / "b.ome.zarr")[...], voxels)


def _inputs_with_keys(folder: Path) -> dict[str, tuple[Path, str]]:
    """What has keys: name, path and a key in it, each of another kind, none of them ending as a container."""
    values = np.arange(3 * 8 * 8, dtype="u2").reshape(3, 8, 8)
    with tifffile.TiffWriter(folder / "two.tif") as tiff:
        for image in (values[:, :4].astype("f4"), values):
            tiff.write(image, metadata=None, photometric="minisblack", contiguous=False)
    with h5py.File(folder / "a.nwb", "w") as file:
        file["k/x"], file["k/y"] = values, values[0]
    (folder / "slices").mkdir()
    for z, plane in enumerate(values):
        tifffile.imwrite(folder / "slices" / f"{z}.tif", plane)
    (folder / "slices" / "notes.png").write_bytes(b"")
    for key in ("a", "b"):
        bp.copy(values, folder / "c.zarr" / key)
    (folder / "c.zarr").rename(folder / "store")
    bp.pyramid(values, folder / "i.ome.zarr", levels=2)
    (folder / "i.ome.zarr").rename(folder / "image")
    return {
        "series": (folder / "two.tif", "1"),
        "hdf5": (folder / "a.nwb", "k/x"),
        "slices": (folder / "slices", "*.tif"),
        "store": (folder / "store", "b"),
        "level": (folder / "image", "0"),
    }


@pytest.mark.parametrize("kind", ["series", "hdf5", "slices", "store", "level"])
def test_a_key_of_any_input(call: Call, tmp_path: Path, kind: str) -> None:
    path, key = _inputs_with_keys(tmp_path)[kind]
    out = tmp_path / "out.zarr"
    assert call("plan", path, out, "--key", key).code == 0
    copied = call("copy", path, out, "--key", key, "--axes", "zyx")
    assert (copied.code, copied.err) == (0, "")
    assert open_source(out).shape == (3, 8, 8)
    assert call("verify", path, out, "--key-a", key).code == 0


def test_an_image_in_a_folder_of_any_name_by_its_key(call: Call, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    bp.pyramid(np.zeros((64, 64), "u1"), tmp_path / "i.ome.zarr", levels=2)
    (tmp_path / "i.ome.zarr").rename(tmp_path / "set" / "image")
    assert call("copy", tmp_path / "set", tmp_path / "out.zarr", "--key", "image").code == 0
    assert open_source(tmp_path / "out.zarr", "1").shape == (32, 32)
    assert "2 levels" in call("plan", tmp_path / "set", tmp_path / "new.zarr", "--key", "image").out
