"""Several inputs of one command, and `bioimage-py downsample`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bioimage_py as bp
from bioimage_py.sources import open_source
from tests.cli.conftest import Call


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for n, name in enumerate(("a.npy", "b.npy")):
        np.save(folder / name, np.full((4, 8, 8), n, "uint8"))
    bp.copy(np.full((4, 8, 8), 2, "uint8"), folder / "c.ome.tif", axes="zyx", voxel_size=1)
    (folder / "broken.npy").write_bytes(b"\x93NUMPY")
    return folder


def test_each_input_becomes_an_output_whatever_becomes_of_others(
    call: Call, inputs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "converted"
    words = (f"{inputs}/*.npy", "--to", "ome-zarr", inputs / "c.ome.tif", out)
    axes = ("--axes", "zyx", "--voxel-size", 1)
    planned = call("copy", *words, *axes, "--dry-run", "--json").document["files"]
    assert [one["outcome"] for one in planned] == ["done", "done", "failed", "done"]
    assert not out.exists()
    first = call("copy", *words, *axes, "--digest")
    assert first.code == 1
    assert [line.split()[:2] for line in first.out.splitlines()] == [
        ["done", f"{inputs}/a.npy"],
        ["done", f"{inputs}/b.npy"],
        ["failed", f"{inputs}/broken.npy"],
        ["done", f"{inputs}/c.ome.tif"],
        ["3", "of"],
    ]
    assert "bioimage-py: error: " in first.err
    for n, name in enumerate("abc"):
        assert (open_source(out / f"{name}.ome.zarr")[...] == n).all()
    assert not (out / "broken.ome.zarr").exists()
    again = call("copy", *words, *axes, "--json").document["files"]
    assert [one["outcome"] for one in again] == ["failed"] * 4
    assert again[0]["error"]["type"] == "OutputExistsError"
    (inputs / "broken.npy").unlink()
    np.save(inputs / "d.npy", np.zeros((4, 8, 8), "uint8"))
    updated = call("copy", *words, *axes, "--update", "--json")
    assert (updated.code, [one["result"]["blocks"] for one in updated.document["files"]]) == (0, [0, 0, 1, 0])


@pytest.mark.parametrize("ending", ["tiff", "hdf5", "npy", ".nii.gz", "zarr"])
def test_files_in_a_new_folder(call: Call, inputs: Path, tmp_path: Path, ending: str) -> None:
    made = call(
        "copy",
        inputs / "a.npy",
        inputs / "b.npy",
        tmp_path / "x/y",
        "--to",
        ending,
        "--axes",
        "zyx",
        "--voxel-size",
        1,
    )
    assert made.code == 0, made.err
    paths = sorted(path for path in (tmp_path / "x/y").iterdir() if path.name[:2] in ("a.", "b."))
    assert [int(open_source(path)[0, 0, 0]) for path in paths if "bioimage" not in path.name] == [0, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{in}/a.npy", "{in}/b.npy", "out"), "with --to FORMAT"),
        (("{in}/*.czi", "out", "--to", "zarr"), "no file or folder matches"),
        (("{in}/a.npy", "{in}/./a.npy", "out", "--to", "zarr"), "would both become"),
        (("{in}/a.npy", "out", "--to", "jpeg2000"), "--to takes ome-zarr"),
        (("{in}/a.npy", "out.zarr", "--to", "zarr"), "is the folder in which"),
        (("{in}/a.npy", "out", "--to", "zarr", "--page", "p.html"), "a single output only"),
    ],
)
def test_several_inputs_that_make_no_sense(
    call: Call,
    inputs: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found = call("copy", *(word.replace("{in}", str(inputs)) for word in words))
    assert (found.code, message in found.err) == (2, True), found.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_downsample(call: Call, zarr: Path, image: object, tmp_path: Path) -> None:
    made = call("downsample", zarr, tmp_path / "small.zarr", "--scale-factor", 2, "--json")
    assert made.document["output"]["shape"] == [20, 25, 30]
    assert np.array_equal(open_source(tmp_path / "small.zarr")[...], bp.downsample(image, 2, method="mean"))
    turned = call(
        "downsample", zarr, tmp_path / "b.npy", "--scale-factor", "1,2,3", "--order", 1, "--crop", "z=:4"
    )
    assert turned.code == 0
    assert np.array_equal(
        np.load(tmp_path / "b.npy"), bp.downsample(open_source(zarr)[:4], (1, 2, 3), order=1)
    )
    for words, message in ((("--scale-factor", "0"), "positive number"), ((), "--scale-factor is needed")):
        wrong = call("downsample", zarr, tmp_path / "c.zarr", *words)
        assert (wrong.code, message in wrong.err) == (2, True), wrong.err
